"""Lots are drawn as often as the answer says, and what it says is enough to judge another ranking by."""

from __future__ import annotations

from collections.abc import Callable
from math import comb, erf

import numpy as np
import pyarrow as pa
import pytest

from serving.rerank.contract import Candidates, Known, Step
from serving.rerank.exploration import EpsilonGreedy, Thompson, mean_inverse, place_probabilities
from serving.rerank.items import Items
from towers.history import Histories
from towers.ids import IdList
from training.measuring.off_policy import ips, snips

SCORES = np.array([1.0, 0.9, 0.55, 0.4, 0.0], np.float32)
STEPS: list[Callable[[int], Step]] = [
    lambda seed: EpsilonGreedy(0.4, seed=seed),
    lambda seed: EpsilonGreedy(1.0, seed=seed),
    lambda seed: EpsilonGreedy(0.4, keep=1, seed=seed),
    lambda seed: Thompson(0.3, seed=seed),
    lambda seed: Thompson(0.3, keep=1, seed=seed),
]


def known(k: int) -> Known:
    items = Items(IdList(list("abcdef")), np.zeros((6, 1), np.float32), pa.table({"year": [0] * 6}))
    return Known(items, Histories.of([]), k, np.add)


def lists(count: int) -> Candidates:
    """The same five items for many people, and a place without one."""
    rows = np.tile(np.array([0, 1, 2, 3, 4, -1]), (count, 1))
    return Candidates(rows, np.tile(np.append(SCORES, -np.inf).astype(np.float32), (count, 1)))


@pytest.mark.parametrize("make", STEPS)
@pytest.mark.parametrize("k", [1, 3, 6])
def test_each_item_stands_at_each_place_as_often_as_is_logged(make: Callable[[int], Step], k: int) -> None:
    count = 4_000
    found = make(0)(lists(count), known(k))
    assert (np.sort(found.rows, axis=1) == [-1, 0, 1, 2, 3, 4]).all()
    assert found.probabilities is not None
    for place in range(min(k, 5)):
        told = 0.0
        for item in range(5):
            there = found.rows[:, place] == item
            if there.any():
                (logged,) = set(found.probabilities[there, place].round(12).tolist())
                spread = np.sqrt(logged * (1 - logged) / count)
                assert there.mean() == pytest.approx(logged, abs=4.5 * spread + 1e-9)
                told += logged
        assert told == pytest.approx(1, abs=1e-3)
    assert np.isnan(found.probabilities[:, k:]).all()


def test_what_is_kept_stays() -> None:
    for step in (EpsilonGreedy(1.0, keep=2, seed=0), Thompson(9.0, keep=2, seed=0)):
        found = step(lists(50), known(4))
        assert (found.rows[:, :2] == [0, 1]).all()
        assert (found.probabilities[:, :2] == 1).all()
        assert len(np.unique(found.rows[:, 2])) == 3
        assert (step(lists(3), known(1)).rows[:, 0] == 0).all()


def test_epsilon_greedy_by_hand() -> None:
    found = EpsilonGreedy(0.2, seed=1)(lists(500), known(1))  # one place, given away to one of five
    shown, logged = found.rows[:, 0], found.probabilities[:, 0]
    assert set(logged[shown == 0].round(12)) == {0.84}
    assert set(logged[shown != 0].round(12)) == {0.04}


def test_mean_inverse_is_the_mean_over_the_binomial() -> None:
    assert mean_inverse(1, 0, 0.3) == 1
    assert mean_inverse(2, 1, 0.3) == pytest.approx(0.7 / 2 + 0.3 / 3)
    expected = sum(comb(6, n) * 0.3**n * 0.7 ** (6 - n) / (4 + n) for n in range(7))
    assert mean_inverse(4, 6, 0.3) == pytest.approx(expected)
    assert mean_inverse(4, 6, 1.0) == 1 / 10


def test_mean_inverse_of_thousands() -> None:
    """For base 1 there is a closed form."""
    for tries, chance in ((1_100, 0.3), (9_999, 0.9), (9_999, 1e-4)):
        expected = (1 - (1 - chance) ** (tries + 1)) / (chance * (tries + 1))
        assert mean_inverse(1, tries, chance) == pytest.approx(expected, rel=1e-8)


def test_the_better_of_two_normal_draws() -> None:
    chance = (1 + erf(0.8 / 2)) / 2  # of a difference with mean 0.8 and variance 2 to be positive
    found = place_probabilities(np.array([[1.0, 0.2, -np.inf]]), np.array([[0, 1], [1, 0]])[:1])
    np.testing.assert_allclose(found, [[chance, chance]], atol=1e-8)
    found = place_probabilities(np.array([[1.0, 0.2]]), np.array([[1, 0]]))
    np.testing.assert_allclose(found, [[1 - chance, 1 - chance]], atol=1e-8)


def test_thompson_leaves_high_what_steps_before_have_put_high() -> None:
    given = lists(400)
    moved = Candidates(given.rows[:, [4, 0, 1, 2, 3, 5]], given.scores[:, [4, 0, 1, 2, 3, 5]])
    found = Thompson(0.05, seed=0)(moved, known(3))
    assert (found.rows[:, 0] == 4).mean() > 0.85


def test_other_lots_each_time_unless_there_is_a_seed() -> None:
    many, about = lists(100), known(3)
    for step, seeded in ((EpsilonGreedy(0.5), EpsilonGreedy(0.5, seed=3)), (Thompson(0.5), Thompson(0.5, seed=3))):
        assert (step(many, about).rows != step(many, about).rows).any()
        assert (seeded(many, about).rows == seeded(many, about).rows).all()


CLICK = np.array([0.2, 0.3, 0.5, 0.6, 0.7])  # of each item, where it is looked at
LOOK = np.array([0.9, 0.6])  # at each place
OTHER = np.array([3, 2])  # the ranking to be judged
TRUTH = float((CLICK[OTHER] * LOOK).mean())


@pytest.mark.parametrize(
    "make",
    [lambda seed: EpsilonGreedy(0.8, seed=seed), lambda seed: Thompson(0.8, seed=seed)],
    ids=["epsilon", "noise"],
)
def test_estimates_from_such_a_log_cover_the_truth_as_often_as_they_say(make: Callable[[int], Step]) -> None:
    covered, values, runs = {"ips": 0, "snips": 0}, [], 300
    many, about = lists(500), known(2)
    for seed in range(runs):
        shown = make(seed)(many, about)
        items, logged = shown.rows[:, :2], shown.probabilities[:, :2]
        rewards = np.random.default_rng(seed + 10_000).random(items.shape) < CLICK[items] * LOOK
        events = rewards.ravel().astype(float), logged.ravel(), (items == OTHER).ravel().astype(float)
        for name, estimate in {"ips": ips(*events), "snips": snips(*events)}.items():
            covered[name] += estimate.low <= TRUTH <= estimate.high
        values.append(ips(*events)[::3])
    assert all(0.92 <= hits / runs <= 0.98 for hits in covered.values()), covered
    found, effective = np.array(values).T
    assert found.mean() == pytest.approx(TRUTH, abs=3.5 * found.std() / np.sqrt(runs))
    assert effective.mean() > 100  # as the normal intervals need
