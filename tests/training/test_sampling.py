"""What a step looks at, against plain Python."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from towers.history import Histories
from training.sampling import batches, draw_anchors, set_target_chances, set_windows, target_chances, windows

LENGTHS = (7, 0, 1, 2, 12, 3)


@pytest.fixture
def histories() -> Histories:
    """Every event has an item, a time and a rating of its own, but for repeats within a person."""
    rng = np.random.default_rng(0)
    count = sum(LENGTHS)
    people = np.repeat(np.arange(len(LENGTHS)), LENGTHS)
    times = np.arange(count) * 10.0 + people
    return Histories(np.cumsum([0, *LENGTHS]), rng.integers(0, 9, count), times, rng.random(count).astype(np.float32))


def test_windows_against_plain_python(histories: Histories) -> None:
    rng = np.random.default_rng(1)
    people = np.array([4, 0, 3, 5, 2, 4])
    for _ in range(50):
        seen = windows(histories, people, 4, rng)
        assert seen.inputs.items.shape == (6, 4)
        assert seen.people is people
        for row, person in enumerate(people):
            start, end = histories.offsets[person : person + 2]
            real = seen.inputs.mask[row].tolist()
            size = min(end - start - 1, 4)
            assert real == [False] * (4 - size) + [True] * size  # left-padded, full where the past allows
            events = seen.events[row][seen.inputs.mask[row]].numpy()
            assert all(start <= e < end - 1 for e in events)
            assert (np.diff(events) == 1).all()
            assert seen.inputs.items[row][seen.inputs.mask[row]].tolist() == histories.items[events].tolist()
            assert seen.targets[row][seen.inputs.mask[row]].tolist() == histories.items[events + 1].tolist()
            assert seen.inputs.times[row][seen.inputs.mask[row]].tolist() == histories.times[events].tolist()
            assert seen.inputs.ratings[row][seen.inputs.mask[row]].tolist() == histories.ratings[events].tolist()


def test_a_target_counts_as_much_as_its_event(histories: Histories) -> None:
    rng, people = np.random.default_rng(1), np.array([4, 0, 2, 5])
    assert windows(histories, people, 4, rng).weights.tolist() == [[1.0] * 4] * 4
    weighed = replace(histories, weights=histories.items / 8)
    for draw in (windows, set_windows):
        seen = draw(weighed, people, 4, rng)
        assert seen.inputs.mask.sum() == 10
        np.testing.assert_array_equal(seen.weights, np.where(seen.inputs.mask, seen.targets / 8, 0))


def test_a_long_past_gives_its_newest_window_half_of_the_time(histories: Histories) -> None:
    """12 events, windows of 5: eight places to end; half newest, and the other half spread over all eight."""
    draws = windows(histories, np.full(4000, 4), 4, np.random.default_rng(2)).events[:, -1].numpy()
    found = Counter((histories.offsets[5] - 2 - draws).tolist())
    assert set(found) == set(range(8))
    assert found[0] == pytest.approx(4000 * 9 / 16, abs=5 * math.sqrt(4000 * 9 * 7) / 16)
    for back in range(1, 8):
        assert found[back] == pytest.approx(250, abs=5 * math.sqrt(250))


def test_a_set_is_shown_whole_where_it_fits_and_each_order_is_as_likely(histories: Histories) -> None:
    """Of three events each is the target of each other one a sixth of the time, and rated as it was."""
    people = np.array([5, 2] * 3000)
    seen = set_windows(histories, people, 4, np.random.default_rng(3))
    assert seen.people is people
    assert seen.inputs.mask.sum(1).tolist() == [2, 0] * 3000
    start = histories.offsets[5]
    items, ratings = histories.items[start:].tolist(), histories.ratings[start:].tolist()
    assert len(set(items)) == 3
    orders = Counter()
    for read, felt, target in zip(seen.inputs.items[::2], seen.inputs.ratings[::2], seen.targets[::2], strict=True):
        assert [ratings[items.index(item)] for item in read[-2:].tolist()] == felt[-2:].tolist()
        assert target[-2] == read[-1]
        orders[tuple(read[-2:].tolist()), int(target[-1])] += 1
    assert all(sorted((*pair, last)) == sorted(items) for pair, last in orders)
    assert len(orders) == 6
    assert all(count == pytest.approx(500, abs=5 * math.sqrt(500 * 5 / 6)) for count in orders.values())


def test_a_large_set_gives_a_part_of_it_at_random(histories: Histories) -> None:
    seen = set_windows(histories, np.full(4000, 4), 4, np.random.default_rng(4))
    start, end = histories.offsets[4:6]
    items = set(histories.items[start:end].tolist())
    assert 4 < len(items) < 12
    found = Counter(seen.inputs.items.flatten().tolist())
    assert set(found) == items
    for item in items:
        assert found[item] / 16_000 == pytest.approx(1 / len(items), abs=0.015)


def test_a_set_is_asked_for_what_it_has_not_read() -> None:
    """And an item that was met several times is rated and weighed as in one of its events, each equally often."""
    often = Histories.of([[1, 2, 1, 3, 2, 4], [5, 5]], ratings=[[0.1, 0.2, 0.3, 0.4, 0.6, 0.8], [0.5, 0.5]])
    often = replace(often, weights=1 + often.ratings)
    seen = set_windows(often, np.tile([0, 1], 3000), 4, np.random.default_rng(5))
    assert seen.inputs.mask.sum(1).tolist() == [3, 0] * 3000
    whole = np.column_stack([seen.inputs.items[::2, -3:], seen.targets[::2, -1:]])
    assert (np.sort(whole, axis=1) == [1, 2, 3, 4]).all()
    asked = seen.inputs.mask
    np.testing.assert_allclose(seen.weights[asked], 1 + seen.ratings[asked])
    found = Counter(zip(seen.targets[asked].tolist(), (10 * seen.ratings[asked]).round().tolist(), strict=True))
    chances = set_target_chances(often, 4)
    assert chances.tolist() == pytest.approx([3 / 8, 3 / 8, 3 / 8, 3 / 4, 3 / 8, 3 / 4, 0, 0])
    assert len(found) == 6
    for item, tenths, chance in zip(often.items[:6], [1, 2, 3, 4, 6, 8], chances[:6], strict=True):
        assert found[item, tenths] / 3000 == pytest.approx(chance, abs=0.05)


def test_anchors_have_successors_and_include_the_last_that_has_one(histories: Histories) -> None:
    drawn = Counter()
    for seed in range(200):
        anchors = draw_anchors(histories, 3, np.random.default_rng(seed))
        assert (np.diff(anchors) > 0).all()
        for person, (start, end) in enumerate(zip(histories.offsets[:-1], histories.offsets[1:], strict=True)):
            own = anchors[histories.people[anchors] == person].tolist()
            assert len(own) == min(3, max(LENGTHS[person] - 1, 0))
            assert set(own) <= set(range(start, end - 1))
            if own:
                assert own[-1] == end - 2
            drawn.update(own)
    # Of the long past's eleven events with a successor, ten share the two places left: 40 each.
    long = range(histories.offsets[4], histories.offsets[5] - 2)
    assert all(drawn[event] == pytest.approx(40, abs=5 * math.sqrt(40)) for event in long)


def test_batches_hold_everybody_once() -> None:
    parts = list(batches(np.array([3, 5, 8, 9, 11]), 2, np.random.default_rng(0)))
    assert [len(part) for part in parts] == [2, 2, 1]
    assert sorted(np.concatenate(parts).tolist()) == [3, 5, 8, 9, 11]
    assert np.concatenate(parts).tolist() != [3, 5, 8, 9, 11]


def test_targets_are_all_events_but_the_first_of_each_person() -> None:
    past = Histories.of([[1, 2, 1], [], [2], [0, 2]])
    assert target_chances(past, 2).tolist() == [0, 1, 1, 0, 0, 1]


def test_how_likely_an_event_is_a_target_is_how_often_it_is_one(histories: Histories) -> None:
    """Of the long past the newest are asked for more often than the rest, of a large set all alike."""
    rng, draws = np.random.default_rng(3), 6000
    numbered = Histories(histories.offsets, np.arange(len(histories.items)))
    for draw, chances in (windows, target_chances), (set_windows, set_target_chances):
        seen = draw(numbered, np.tile([0, 3, 4, 5], draws), 4, rng)
        found = np.bincount(seen.targets[seen.inputs.mask].numpy(), minlength=len(numbered.items))
        expected = chances(numbered, 4)
        assert found / draws == pytest.approx(expected, abs=5 * math.sqrt(0.25 / draws))
        assert expected.sum() == pytest.approx(4 + 1 + 4 + 2)
    assert target_chances(numbered, 4)[[11, 21]] == pytest.approx([0.5 / 8, 0.5 + 0.5 / 8])
    assert set_target_chances(numbered, 4)[10:22] == pytest.approx([4 / 12] * 12)
