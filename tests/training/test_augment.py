"""Views of a past against plain Python, and their loss by hand."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch

from towers.history import Histories
from towers.sequence_reader import SequenceBatch
from training import augment
from training.augment import augmented, views_loss

LENGTHS = (1, 2, 5, 10, 10)


def pasts() -> SequenceBatch:
    """Every event has an item, a rating and a time of its own."""
    events = np.arange(sum(LENGTHS))
    ratings = (events / 100).astype(np.float32)
    return SequenceBatch.of(Histories(np.cumsum([0, *LENGTHS]), events + 100, events * 10.0, ratings), 10)


def views(way: int, monkeypatch: pytest.MonkeyPatch, draws: int = 200) -> list[list[list[tuple[int, float, float]]]]:
    """What is left of each past, by one way: items, ratings and times."""
    monkeypatch.setattr(augment.torch, "randint", lambda _, size, generator: torch.full(size, way))
    generator, found = torch.Generator().manual_seed(0), []
    for _ in range(draws):
        view = augmented(pasts(), generator)
        assert view.mask[:, -1].all()
        rows = zip(view.items, view.ratings, view.times, view.mask, strict=True)
        found.append([list(zip(i[m].tolist(), r[m].tolist(), t[m].tolist(), strict=True)) for i, r, t, m in rows])
    return found


def whole() -> list[list[tuple[int, float, float]]]:
    batch = pasts()
    rows = zip(batch.items, batch.ratings, batch.times, batch.mask, strict=True)
    return [list(zip(i[m].tolist(), r[m].tolist(), t[m].tolist(), strict=True)) for i, r, t, m in rows]


def test_a_crop_is_a_stretch_of_six_tenths_and_every_one_occurs(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Counter] = [Counter() for _ in LENGTHS]
    for view in views(0, monkeypatch):
        for past, left, starts in zip(whole(), view, seen, strict=True):
            kept = math.ceil(0.6 * len(past))
            start = past.index(left[0])
            assert left == past[start : start + kept]
            starts[start] += 1
    assert [sorted(starts) for starts in seen] == [[0], [0], [0, 1, 2], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]]


def test_thinning_leaves_out_three_of_ten_and_never_all(monkeypatch: pytest.MonkeyPatch) -> None:
    left_out = 0
    for view in views(1, monkeypatch):
        for past, left in zip(whole(), view, strict=True):
            assert left == [event for event in past if event in left]
            assert left
        left_out += 20 - len(view[3]) - len(view[4])
    assert left_out / (20 * 200) == pytest.approx(0.3, abs=0.03)


def test_reordering_shuffles_a_stretch_and_leaves_times_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    moved = Counter()
    for view in views(2, monkeypatch):
        for past, left in zip(whole(), view, strict=True):
            assert sorted(item for item, _, _ in left) == [item for item, _, _ in past]
            assert [time for _, _, time in left] == [time for _, _, time in past]
            assert {item: rating for item, rating, _ in left} == {item: rating for item, rating, _ in past}
            places = [n for n, (one, other) in enumerate(zip(past, left, strict=True)) if one[0] != other[0]]
            assert not places or places[-1] - places[0] < math.ceil(0.6 * len(past))
            moved[len(past)] += bool(places)
    assert moved[1] == 0
    assert moved[10] > 380  # of 400; six shuffled events stay as they were once in 720


def test_all_three_ways_are_drawn() -> None:
    generator = torch.Generator().manual_seed(0)
    kinds = Counter()
    for _ in range(300):
        left = augmented(pasts(), generator)
        items = left.items[4][left.mask[4]].tolist()
        kinds["shorter" if len(items) < 10 else "same" if items == sorted(items) else "reordered"] += 1
    assert kinds["reordered"] == pytest.approx(100, abs=30)
    assert kinds["shorter"] == pytest.approx(200, abs=40)


def test_the_loss_by_hand() -> None:
    first = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    second = torch.tensor([[0.6, 0.8], [0.0, 1.0]])
    e = math.exp
    one_way = math.log(1 + e(2 * (0 - 0.6))) + math.log(1 + e(2 * (0.8 - 1)))
    other_way = math.log(1 + e(2 * (0.8 - 0.6))) + math.log(1 + e(2 * (0 - 1)))
    assert views_loss(first, second, torch.tensor(2.0)).item() == pytest.approx((one_way + other_way) / 4)
