"""The truth behind the generated shop, and what it could find at best."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from twotower.studio.ceiling import ceiling
from twotower.studio.listening import Choices, draw_choices, split_words
from twotower.studio.oracle import Oracle, draw_oracle, recall
from twotower.studio.settings import StudioSettings
from twotower.studio.shop import make_shop


@pytest.fixture(scope="module")
def drawn() -> tuple[Oracle, Choices]:
    """The shop as it ships, without its media."""
    rng, settings = np.random.default_rng(7), StudioSettings()
    oracle = draw_oracle(rng, settings)
    return oracle, draw_choices(rng, oracle, settings)


def test_recall_by_hand() -> None:
    utilities = np.array([[3.0, 2.0, 1.0, 0.0], [0.0, 1.0, 2.0, 3.0], [1.0, 1.0, 1.0, 1.0]])
    seen, targets = np.zeros((3, 4), bool), np.zeros((3, 4), bool)
    seen[0, 0] = True  # so listener 0 is shown 1, 2
    targets[0, [2, 3]] = True  # one of two found
    targets[1, [2, 3]] = True  # 3, 2: both found
    assert recall(utilities, seen, targets, k=2) == pytest.approx((0.5 + 1) / 2)


def test_utilities_by_hand() -> None:
    tastes = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    oracle = Oracle(np.array([[0, 1], [1, 1], [0, 0]]), tastes, np.array([0.5, 0.0], np.float32))
    assert oracle.part("image").tolist() == [[5, 5], [7, 7]]
    assert oracle.utilities(("text", "image")).tolist() == [[5.5, 6], [9.5, 10]]
    assert oracle.utilities().tolist() == [[13.5, 14], [19.5, 20]]


def test_the_parts_are_independent_and_matter_alike(drawn: tuple[Oracle, Choices]) -> None:
    oracle, _ = drawn
    assert [np.bincount(part).tolist() for part in oracle.classes] == [[200] * 8] * 3
    for one, other in ((0, 1), (0, 2), (1, 2)):
        table = np.zeros((8, 8))
        np.add.at(table, (oracle.classes[one], oracle.classes[other]), 1)
        assert ((table - 25) ** 2 / 25).sum() < 86  # chi-squared with 49 degrees of freedom: once in a thousand
        correlation = np.corrcoef(oracle.tastes[one].argmax(axis=1), oracle.tastes[other].argmax(axis=1))[0, 1]
        assert abs(correlation) < 0.07
    spread = oracle.tastes.std(axis=(1, 2))
    assert spread.max() / spread.min() < 1.05


def test_each_part_adds_to_what_can_be_found(drawn: tuple[Oracle, Choices]) -> None:
    """What the settings were fixed by: half is found with all parts, clearly less with one."""
    oracle, choices = drawn
    words = split_words(choices)
    seen, targets = np.zeros((2, 2400, 1600), bool)
    seen[choices.people[words != "test"], choices.items[words != "test"]] = True
    known = (words == "test") & ~choices.unseen[choices.people]
    targets[choices.people[known], choices.items[known]] = True
    parts = ((), ("text",), ("image",), ("audio",), ("text", "audio"), ("text", "image", "audio"))
    found = [recall(oracle.utilities(names), seen, targets) for names in parts]
    expected = [0.02, 0.07, 0.07, 0.07, 0.23, 0.48]
    assert found == pytest.approx(expected, abs=0.03)
    assert found[0] < min(found[1:4])


def test_choices_follow_a_multinomial_logit() -> None:
    """The first choice of many equal listeners, against the softmax of their utilities."""
    settings = StudioSettings(tracks=50, listeners=20_000, choices=(5, 5), new_listeners=0.0001, popularity=1.0)
    rng = np.random.default_rng(0)
    popularity = rng.normal(0, 1, 50).astype(np.float32)
    oracle = Oracle(np.zeros((3, 50), np.int64), np.zeros((3, 20_000, 1), np.float32), popularity)
    choices = draw_choices(rng, oracle, settings)
    assert not np.isin(choices.items, np.flatnonzero(choices.cold)).any()
    assert np.isin(choices.of_new, np.flatnonzero(choices.cold)).all()
    share = np.bincount(choices.items[::5], minlength=50) / 20_000
    expected = np.where(choices.cold, 0, np.exp(popularity))
    np.testing.assert_allclose(share, expected / expected.sum(), atol=0.012)


def test_split_words_by_hand() -> None:
    people = np.repeat([0, 1], 5)
    nothing = np.zeros(0)
    choices = Choices(nothing, np.array([False, True]), people, nothing, nothing, nothing)
    expected = ["train"] * 3 + ["validation", "test"] + ["history"] * 4 + ["test"]
    assert split_words(choices).tolist() == expected


def test_the_ceiling_where_choices_have_no_noise(tmp_path: Path) -> None:
    """The next choice is then the best track that is left, and only the six new ones can stand before it."""
    settings = StudioSettings(tracks=60, listeners=40, choices=(5, 9), seconds=1.0, side=32, noise=0.0)
    table = ceiling(make_shop(tmp_path / "shop", settings=settings, progress=False), k=7)
    assert list(table)[:2] + list(table)[-2:] == ["none", "text", "image+audio", "text+image+audio"]
    assert table["text+image+audio"]["known"] == table["text+image+audio"]["new listeners"] == 1.0
    assert 0 < table["none"]["known"] < table["image+audio"]["known"] < 1
    assert 0.5 < table["text+image+audio"]["new tracks"] < 1  # here old ones can stand before them
