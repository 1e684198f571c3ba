"""Histories as flat arrays, against the same thing in plain Python."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from towers.errors import InputError
from towers.history import Histories

People = list[list[tuple[int, float]]]  # (item, time) of each event of each person

people_strategy = st.lists(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5).map(float)), max_size=6).map(
        lambda events: sorted(events, key=lambda event: event[1])
    ),
    max_size=6,
)


def full(people: People) -> Histories:
    """Histories with every field filled, each value telling which event it belongs to."""
    events = [event for person in people for event in person]
    return Histories(
        np.cumsum([0, *map(len, people)]),
        np.array([item for item, _ in events], np.int64),
        np.array([time for _, time in events]),
        np.array([item / 10 for item, _ in events], np.float32),
        pa.array([None if item == 0 else f"wrote {item}" for item, _ in events], pa.large_string()),
        pa.array([None if n == 0 else f"person {n}" for n in range(len(people))], pa.large_string()),
    )


def plain(histories: Histories) -> People:
    """The (item, time) lists again; the other columns are checked to have moved along."""
    assert histories.times is not None
    assert histories.texts is not None
    assert histories.ratings.dtype == np.float32
    np.testing.assert_allclose(histories.ratings, histories.items / 10, rtol=1e-6)
    assert histories.texts.to_pylist() == [f"wrote {item}" if item else None for item in histories.items]
    bounds = zip(histories.offsets[:-1], histories.offsets[1:], strict=True)
    return [list(zip(histories.items[a:b].tolist(), histories.times[a:b].tolist(), strict=True)) for a, b in bounds]


def persons(histories: Histories) -> list[int]:
    assert histories.about is not None
    return [int(text.split()[1]) if text else 0 for text in histories.about.to_pylist()]


@given(people_strategy)
def test_sizes_and_ties(people: People) -> None:
    histories = full(people)
    assert plain(histories) == people
    assert len(histories) == len(people)
    assert histories.lengths.tolist() == [len(person) for person in people]
    assert histories.people.tolist() == [n for n, person in enumerate(people) for _ in person]
    assert histories.ties == sum(a[1] == b[1] for person in people for a, b in pairwise(person))


@given(people_strategy, st.data())
def test_take(people: People, data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.integers(0, len(people) - 1), max_size=8)) if people else []
    taken = full(people).take(chosen)
    assert plain(taken) == [people[n] for n in chosen]
    assert persons(taken) == chosen


@given(people_strategy, st.data())
def test_cut(people: People, data: st.DataObject) -> None:
    wanted = []
    for _ in range(data.draw(st.integers(0, 6)) if people else 0):
        person = data.draw(st.integers(0, len(people) - 1))
        start = data.draw(st.integers(0, len(people[person])))
        wanted.append((person, start, data.draw(st.integers(start, len(people[person])))))
    histories = full(people)
    person, start, end = (np.array([row[n] for row in wanted], np.int64) for n in range(3))
    cut = histories.cut(person, histories.offsets[person] + start, histories.offsets[person] + end)
    assert plain(cut) == [people[n][a:b] for n, a, b in wanted]
    assert persons(cut) == [n for n, _, _ in wanted]


@given(people_strategy, st.data())
def test_keep(people: People, data: st.DataObject) -> None:
    keep = [[data.draw(st.booleans()) for _ in person] for person in people]
    mask = np.array([flag for flags in keep for flag in flags], bool)
    kept = full(people).keep(mask)
    assert plain(kept) == [
        [event for event, flag in zip(person, flags, strict=True) if flag]
        for person, flags in zip(people, keep, strict=True)
    ]
    assert persons(kept) == list(range(len(people)))


def test_histories_from_lists() -> None:
    histories = Histories.of([[3, 1], [], [2]], times=[[1, 2], [], [0]], ratings=[[0, 1], [], [0.5]])
    assert histories.offsets.tolist() == [0, 2, 2, 3]
    assert histories.items.tolist() == [3, 1, 2]
    assert histories.times is not None
    assert histories.times.tolist() == [1.0, 2.0, 0.0]
    assert histories.ratings.tolist() == [0.0, 1.0, 0.5]
    bare = Histories.of([[3], []])
    assert bare.times is None
    assert bare.ties == 0
    assert bare.ratings.dtype == np.float32
    assert np.isnan(bare.ratings).all()
    assert len(Histories.of([])) == 0


def test_the_optional_fields_stay_absent() -> None:
    taken = Histories.of([[3, 1], [2]]).take([1, 0, 1])
    assert taken.items.tolist() == [2, 3, 1, 2]
    assert (taken.times, taken.texts, taken.about) == (None, None, None)


def test_time_may_fall_from_one_person_to_the_next() -> None:
    assert Histories.of([[1], [2]], times=[[9], [1]]).ties == 0
    assert Histories.of([[1], [2]], times=[[9], [9]]).ties == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"offsets": []}, "offsets must rise from 0 to 2"),
        ({"offsets": [0, 1]}, "offsets must rise from 0 to 2"),
        ({"offsets": [1, 2]}, "offsets must rise from 0 to 2"),
        ({"offsets": [0, 2, 1, 2]}, "offsets must rise from 0 to 2"),
        ({"items": [1, -1]}, "negative item row"),
        ({"times": [1.0]}, "times has 1 values for 2 events"),
        ({"times": [2.0, 1.0]}, "events must be in time order within each person"),
        ({"times": [1.0, np.nan]}, "a time is not finite"),
        ({"times": [1.0, np.inf]}, "a time is not finite"),
        ({"ratings": [1.0]}, "ratings has 1 values for 2 events"),
        ({"ratings": [1.0, 5.0]}, r"a rating lies outside \[0, 1\]"),
        ({"ratings": [-0.1, np.nan]}, r"a rating lies outside \[0, 1\]"),
        ({"weights": [1.0]}, "weights has 1 values for 2 events"),
        ({"weights": [1.0, -1.0]}, "a weight is negative or not finite"),
        ({"weights": [np.inf, 1.0]}, "a weight is negative or not finite"),
        ({"texts": pa.array(["a"])}, "texts has 1 values for 2 events"),
        ({"about": pa.array(["a", "b"])}, "about has 2 sentences for 1 people"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Histories(**{"offsets": [0, 2], "items": [0, 1], **arguments})  # type: ignore[arg-type]


@pytest.mark.parametrize("people", [[-1], [0, 2]])
def test_nobody_has_no_history(people: list[int]) -> None:
    with pytest.raises(InputError, match="people must lie in 0 to 1, got"):
        Histories.of([[1, 2], [3]]).take(people)


def test_weights_go_with_their_events() -> None:
    histories = Histories([0, 2, 5], [0, 1, 2, 3, 4], weights=np.arange(5) / 2)
    assert histories.weights is not None
    assert histories.weights.dtype == np.float32
    parts = [histories.take([1, 0]), histories.keep(np.array([True, False, True, False, True]))]
    assert [part.weights.tolist() for part in parts if part.weights is not None] == [[1, 1.5, 2, 0, 0.5], [0, 1, 2]]
    assert Histories.of([[1, 2]]).take([0]).weights is None


def test_a_fingerprint_is_of_who_met_what_when() -> None:
    plain = Histories.of([[1, 2], [3]], times=[[0, 1], [5]])
    same = Histories.of([[1, 2], [3]], times=[[0, 1], [5]], ratings=[[0.5, 1], [0]])
    others = [
        Histories.of([[1, 2], [3]], times=[[0, 1], [6]]),
        Histories.of([[1], [2, 3]], times=[[0], [1, 5]]),
        Histories.of([[1, 2], [4]], times=[[0, 1], [5]]),
        Histories.of([[1, 2], [3]]),
    ]
    assert plain.fingerprint == same.fingerprint
    assert len({one.fingerprint for one in [plain, *others]}) == 5


def test_items_stand_before_a_history_at_the_time_of_its_first_event() -> None:
    one = full([[(3, 2.0), (5, 4.0)]])
    both = one.preceded_by(np.array([8, 9]))
    assert both.items.tolist() == [8, 9, 3, 5]
    assert both.times.tolist() == [2, 2, 2, 4]
    assert np.isnan(both.ratings[:2]).all()
    np.testing.assert_allclose(both.ratings[2:], one.ratings)
    assert both.texts.to_pylist() == [None, None, "wrote 3", "wrote 5"]
    assert both.about == one.about
    assert full([[]]).preceded_by(np.array([8])).times.tolist() == [0]
    assert Histories.of([[]]).preceded_by(np.array([8])).times is None
    with pytest.raises(InputError, match="got 2 histories"):
        full([[], []]).preceded_by(np.array([8]))
