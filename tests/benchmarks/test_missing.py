"""Who misses what, how it is taken away, and what the record says of the loss."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from benchmarks.missing import ALL, METHODS, SHARES, _filled, cases, fill, masked, zeroed
from benchmarks.record import Record
from towers.contents import Contents
from towers.item import ItemConfig, ItemTower
from towers.model import TwoTower
from towers.rejected import Rejected
from twotower.studio.exam import METRIC
from twotower.studio.settings import PARTS

TRACKS = 1600


def present(items: int) -> dict[str, torch.Tensor]:
    """Everything is there."""
    return {part: torch.ones(items, dtype=torch.bool) for part in PARTS}


def test_the_share_that_is_asked_for_misses_one_kind() -> None:
    found = cases(present(TRACKS))
    assert list(found) == [f"missing-{kind}-{share}" for kind in (*PARTS, ALL) for share in SHARES]
    for part in PARTS:
        gone = [found[f"missing-{part}-{share}"] for share in SHARES]
        assert [list(one) for one in gone] == [[part]] * len(SHARES)
        assert [one[part].sum() for one in gone] == [0, 400, 800, 1200, 1600]
        assert all((less[part] <= more[part]).all() for less, more in pairwise(gone))
    assert not np.array_equal(found["missing-text-50"]["text"], found["missing-image-50"]["image"])
    again = cases(present(TRACKS))
    assert all(np.array_equal(again[name][part], gone[part]) for name, gone in found.items() for part in gone)


def test_no_track_misses_everything() -> None:
    found = cases(present(TRACKS))
    for share, left in zip(SHARES, (3, 2.25 + 0.25**3, 1.5 + 0.5**3, 0.75 + 0.75**3, 1), strict=True):
        kept = 3 - np.stack(list(found[f"missing-{ALL}-{share}"].values())).sum(axis=0)
        assert kept.min() >= 1
        assert kept.mean() == pytest.approx(left, abs=0.05)
    only = [(~found[f"missing-{ALL}-100"][part]).mean() for part in PARTS]
    assert only == [pytest.approx(1 / 3, abs=0.05)] * 3


def test_what_an_item_keeps_is_something_that_it_has() -> None:
    some = present(TRACKS)
    some["image"][: TRACKS // 2], some["audio"][: 3 * TRACKS // 4] = False, False
    there = np.stack([some[part].numpy() for part in PARTS])
    for share in SHARES:
        left = there & ~np.stack([cases(some)[f"missing-{ALL}-{share}"][part] for part in PARTS])
        assert left.any(axis=0).all()
    assert left.sum(axis=0).max() == 1
    of_two = left[:, TRACKS // 2 : 3 * TRACKS // 4]  # have a text and a picture
    assert of_two.mean(axis=1).tolist() == [pytest.approx(0.5, abs=0.07)] * 2 + [0]


def test_who_fills_in_zeros_learns_from_them_as_from_content(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, there = {"text": torch.ones(2, 3)}, {"text": torch.tensor([True, False])}
    monkeypatch.setattr(TwoTower, "contents", lambda self, catalog: (Contents(vectors, there), Rejected()))
    monkeypatch.setattr(TwoTower, "contents", _filled(TwoTower.contents))
    found, _ = TwoTower.contents(None, None)  # type: ignore[arg-type]
    assert found.vectors["text"].tolist() == [[1, 1, 1], [0, 0, 0]]
    assert found.present["text"].all()


def test_a_mask_leaves_out_what_zeros_replace() -> None:
    torch.manual_seed(0)
    tower = ItemTower(config=ItemConfig(dimension=8, hidden=8), contents={"text": 4, "image": 4}, ids=0).eval()
    vectors = {"text": torch.randn(3, 4), "image": torch.randn(3, 4)}
    there = {name: torch.ones(3, dtype=torch.bool) for name in vectors}
    whole, nothing = Contents(vectors, there), torch.full((3,), -1)
    missing = {"text": np.array([True, False, False])}
    with torch.inference_mode():
        full, without, zeros = (tower(one, nothing) for one in (whole, masked(whole, missing), zeroed(whole, missing)))
        assert torch.allclose(without[0], tower.alone("image", vectors["image"])[0], atol=1e-6)
    assert torch.equal(without[1:], full[1:])
    assert torch.equal(zeros[1:], full[1:])
    assert not torch.allclose(zeros[0], without[0], atol=1e-2)
    assert zeroed(whole, missing).vectors["text"][0].tolist() == [0.0] * 4
    assert zeroed(whole, missing).present["text"].all()
    assert vectors["text"][0].all()  # what was given stays as it was


def test_the_record_says_what_is_lost_at_half() -> None:
    people = np.arange(1000) / 1000
    per_step = {"twotower": 0.05, "zeros": 0.1, "twotower with ids": 0.02, "zeros with ids": 0.08}
    outcomes = {
        method: (
            {
                case: (people < 0.5 - per_step[method] * int(case.rsplit("-", 1)[1]) / 25 - 1e-9).astype(float)
                for case in cases(present(9))
            },
            {"seconds": 1.0},
        )
        for method in METHODS
    }
    record = Record("missing")
    fill(record, outcomes)
    lost = record.notes["lost"]["twotower"]["at 50 %"]
    assert set(lost) == {*PARTS, ALL}
    assert lost["text"]["ours"][0] == pytest.approx(0.1)
    assert lost["text"]["theirs"][0] == pytest.approx(0.2)
    assert lost["image"]["ours - 0.5 theirs"][0] == pytest.approx(0, abs=1e-6)
    value, low, high = lost[ALL]["quotient"]
    assert value == pytest.approx(0.5)
    assert 0.35 < low < 0.5 < high < 0.65
    assert record.notes["lost"]["twotower with ids"]["at 50 %"]["audio"]["quotient"][0] == pytest.approx(0.25)
    rows = {(row["method"], row["split"]): row["metrics"][METRIC][0] for row in record.rows}
    assert rows["zeros", "missing-audio-100"] == pytest.approx(0.1)
    assert len(rows) == len(METHODS) * 4 * len(SHARES)


def test_there_is_no_quotient_where_zeros_cost_nothing() -> None:
    people = np.arange(1000) / 1000
    whole = {case: (people < 0.5).astype(float) for case in cases(present(9))}
    record = Record("missing")
    fill(record, {method: (whole, {}) for method in METHODS})
    lost = record.notes["lost"]["twotower"]["at 50 %"]["text"]
    assert lost == {"ours": [0, 0, 0], "theirs": [0, 0, 0], "quotient": None, "ours - 0.5 theirs": [0, 0, 0]}
