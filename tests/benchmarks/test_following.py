"""Benches of the moment, of cold people and of refresh: what they ask and what they count, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.cold_people import Newcomer, _recall, groups
from benchmarks.moment import Events, _without, ratio, share_of_gain
from benchmarks.refresh import DAYS, EVENTS, days, flooded
from towers.history import Histories
from training.measuring.protocols import temporal


@pytest.fixture
def events() -> Events:
    """Two people with a history; the cut is at 80."""
    log = Histories.of(
        [[0, 1, 2, 3, 4, 5], [11, 6, 7, 8], [9, 1]],
        times=[[10, 20, 80, 80, 90, 95], [5, 30, 85, 99], [82, 83]],
    )
    return Events(temporal(log, test=0.67, validation=0.1))


def test_an_event_is_known_to_those_of_a_later_second(events: Events) -> None:
    assert events.cut == 80
    assert events.people.tolist() == [0, 0, 0, 0, 1, 1]
    assert events.items.tolist() == [2, 3, 4, 5, 7, 8]
    following = events.histories(events.times)
    pasts = [following.take([n]).items.tolist() for n in range(6)]
    assert pasts == [[0, 1], [0, 1], [0, 1, 2, 3], [0, 1, 2, 3, 4], [11, 6], [11, 6, 7]]
    frozen = events.histories(np.array(events.cut))
    assert [frozen.take([n]).items.tolist() for n in range(6)] == [[0, 1]] * 4 + [[11, 6]] * 2


def test_people_count_alike_however_many_events_they_have(events: Events) -> None:
    rows = np.tile(np.arange(30, 50), (6, 1))
    rows[:, 19] = [2, 3, 0, 0, 7, 8]
    hits = events.hits(rows)
    assert hits.tolist() == [True, True, False, False, True, True]
    assert events.by_person(hits).tolist() == [0.5, 1.0]
    assert _without(np.arange(30), np.array([0, 2])).tolist() == [1, *range(3, 22)]


def test_ratio_and_share_by_hand() -> None:
    ours, theirs = np.array([0.4, 0.2, 0.6]), np.array([0.2, 0.1, 0.3])
    assert ratio(ours, theirs) == pytest.approx((2.0, 2.0, 2.0))
    values = {"frozen": theirs, "following": ours, "retrained": theirs + 0.1}
    assert share_of_gain(values) == pytest.approx(2.0)
    assert share_of_gain({**values, "retrained": theirs - 0.1}) is None


def test_somebody_new_answers_with_one_half_and_is_asked_the_likes_of_the_other() -> None:
    history = Histories.of([list(range(100, 110))], ratings=[[1.0, 0.5] * 5])
    person = Newcomer(history, seed=3)
    assert len(person.met) == 5
    assert not set(person.met) & set(person.targets)
    assert all(item % 2 == 0 for item in person.targets)
    assert [person.answer(int(item)) for item in person.met] == [item % 2 == 0 for item in person.met]
    assert person.answer(int(person.targets[0])) is None
    assert _recall(person.targets[:1], person) == 1 / len(person.targets)
    parts = groups(943)
    assert [len(part) for part in parts] == [188, 94, 661]
    assert sorted(np.concatenate(parts)) == list(range(943))


def test_days_have_as_many_events_and_a_flood_lies_in_one(tiny_run: Any) -> None:
    times = np.sort(np.random.default_rng(0).uniform(0, 1e6, 1000))
    cuts = days(times)
    assert len(cuts) == DAYS + 1
    assert all(28 <= count <= 32 for count in np.histogram(times, cuts)[0])
    log = flooded(tiny_run.log, tiny_run.catalog, 500.0, 600.0, accounts=30)
    robots = [row for row in log.table.to_pylist() if row["user_id"].startswith("robot")]
    assert len(robots) == 30 * EVENTS == len(log) - len(tiny_run.log)
    assert all(500 <= row["timestamp"] < 600 for row in robots[:: EVENTS * 7])
    assert len(log.known(tiny_run.catalog)) == len(log)
    assert len({row["item_id"] for row in robots[1::2]}) == 20
