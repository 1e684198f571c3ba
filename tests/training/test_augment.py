"""Views of a past against plain Python, and their loss by hand."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from towers.history import Histories
from towers.sequence_reader import SequenceBatch, SequenceConfig, SequenceReader
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


def test_masking_hides_three_of_ten_and_never_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment.torch, "randint", lambda _, size, generator: torch.full(size, 1))
    generator, past, hidden = torch.Generator().manual_seed(0), pasts(), 0
    for _ in range(200):
        view = augmented(past, generator)
        assert view.hidden is not None
        assert (view.items == past.items).all()
        assert (view.times == past.times).all()
        assert (view.mask == past.mask).all()
        assert not (view.hidden & ~past.mask).any()
        assert (view.mask & ~view.hidden).any(1).all()
        hidden += int(view.hidden[3:].sum())
    assert hidden / (20 * 200) == pytest.approx(0.3, abs=0.03)


def test_of_a_masked_event_the_reader_learns_that_it_was_and_not_of_what() -> None:
    torch.manual_seed(0)
    reader = SequenceReader(config=SequenceConfig(length=4), dimension=8).eval()
    nn.init.normal_(reader.rating.weight)  # type: ignore[union-attr]
    vectors = torch.randn(6, 8)
    past = SequenceBatch.of(Histories.of([[0, 1, 2], [3, 1, 2], [1, 2]]), 4)
    hidden = torch.zeros_like(past.mask)
    hidden[:2, 0] = True
    ratings = torch.tensor([[0.1, 0.5, 0.5], [0.9, 0.5, 0.5], [0.0, 0.5, 0.5]])
    one, other, without = reader(vectors, replace(past, ratings=ratings, hidden=hidden))[:, -1]
    assert torch.equal(one, other)
    assert (one - without).abs().max() > 0.01
    shown = reader(vectors, replace(past, ratings=ratings))[:, -1]
    assert (one - shown[0]).abs().max() > 0.01


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
        masked = left.hidden is not None and left.hidden[4].any()
        kinds["masked" if masked else "cropped" if len(items) < 10 else "reordered"] += 1
    assert kinds["cropped"] == pytest.approx(100, abs=30)
    assert kinds["masked"] == pytest.approx(100, abs=30)


def test_the_loss_by_hand() -> None:
    first = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    second = torch.tensor([[0.6, 0.8], [0.0, 1.0]])
    e = math.exp
    one_way = math.log(1 + e(2 * (0 - 0.6))) + math.log(1 + e(2 * (0.8 - 1)))
    other_way = math.log(1 + e(2 * (0.8 - 0.6))) + math.log(1 + e(2 * (0 - 1)))
    assert views_loss(first, second, torch.tensor(2.0)).item() == pytest.approx((one_way + other_way) / 4)
