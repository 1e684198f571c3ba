"""Every leak is planted once, on real data and by hand, and found; honest splits pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from towers.errors import InputError
from towers.history import Histories
from towers.movielens import movielens_100k as read_movielens
from training.measuring.leaks import PROTOCOLS, own_future, refuse_leaks
from training.measuring.protocols import cold_items, given, leave_one_out, temporal
from training.measuring.splits import Questions, Split

FILMS = 1682


@pytest.fixture(scope="module")
def histories() -> Histories:
    catalog, log = read_movielens(progress=False)
    return log.known(catalog).histories(catalog)[1]


@pytest.fixture(scope="module")
def splits(histories: Histories) -> dict[str, Split]:
    assert histories.times is not None
    cut = temporal(histories)
    assert cut.cuts is not None
    words = np.array(["train", "validation", "test"])[np.searchsorted(cut.cuts, histories.times, side="right")]
    return {
        "leave-one-out": leave_one_out(histories),
        "temporal": cut,
        "cold-items": cold_items(histories, FILMS),
        "given": given(histories, words.tolist()),
    }


def with_event(part: Histories, row: int, item: int, time: float, *, end: bool = True) -> Histories:
    """One more event of one person, at the end of their row or at its beginning."""
    at = int(part.offsets[row + 1] if end else part.offsets[row])
    offsets = part.offsets + (np.arange(len(part.offsets)) > row)
    times = None if part.times is None else np.insert(part.times, at, time)
    return Histories(offsets, np.insert(part.items, at, item), times)


def with_history(questions: Questions, row: int, item: int, time: float, *, end: bool = True) -> Questions:
    return replace(questions, histories=with_event(questions.histories, row, item, time, end=end))


def answer(questions: Questions, row: int) -> tuple[int, int, float]:
    """Person, item and time of the last target of a question."""
    assert questions.targets.times is not None
    at = questions.targets.offsets[row + 1] - 1
    return int(questions.people[row]), int(questions.targets.items[at]), float(questions.targets.times[at])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_honest_splits_of_real_data_pass(splits: dict[str, Split], protocol: str) -> None:
    refuse_leaks(splits[protocol], protocol=protocol)
    assert not any(own_future(splits[protocol]).values())


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("part", "stage"), [("train", "validation"), ("train", "test"), ("refit", "test")])
def test_an_answer_in_training(splits: dict[str, Split], protocol: str, part: str, stage: str) -> None:
    split = splits[protocol]
    person, item, _ = answer(getattr(split, stage), 3)
    # Under another time, early, so that no check of order can see it.
    leaking = replace(split, **{part: with_event(getattr(split, part), person, item, 0.0, end=False)})
    with pytest.raises(InputError, match=f"^1 of .* {stage} targets leak: the person has the item in {part} already"):
        refuse_leaks(leaking, protocol=protocol)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("stage", ["validation", "test"])
def test_an_answer_in_its_own_history(splits: dict[str, Split], protocol: str, stage: str) -> None:
    split = splits[protocol]
    warm = [n for n in range(50) if split.cold is None or not split.cold[answer(getattr(split, stage), n)[1]]]
    _, item, _ = answer(getattr(split, stage), warm[5])
    leaking = replace(split, **{stage: with_history(getattr(split, stage), warm[5], item, 0.0, end=False)})
    with pytest.raises(InputError, match=f"1 of .* {stage} targets leak: .* in {stage} histories already"):
        refuse_leaks(leaking, protocol=protocol)


def test_the_answer_of_a_newcomer_in_training(splits: dict[str, Split]) -> None:
    split = splits["given"]
    assert split.newcomers is not None
    person, item, _ = answer(split.newcomers, 2)
    with pytest.raises(InputError, match=r"1 of 7,114 newcomer targets leak: .* in refit already"):
        refuse_leaks(replace(split, refit=with_event(split.refit, person, item, 0.0)), protocol="given")


LATE = {  # a part, and the question that an event there comes too late for
    "train": {"leave-one-out": "validation", "cold-items": "validation"},
    "refit": {"cold-items": "test"},
    "validation": {"leave-one-out": "validation", "cold-items": "validation"},
    "test": {"cold-items": "test"},
}


@pytest.mark.parametrize(("part", "protocol"), [(part, protocol) for part, late in LATE.items() for protocol in late])
def test_a_persons_own_future(part: str, protocol: str) -> None:
    """Person 0 comes back to item 0 at the very end, which is no answer, so that only order tells what is late."""
    rows = [[0, 1, 2, 3, 4, 5, 6, 7, 8, 0], [*range(9, 19)]]
    log = Histories.of(rows, times=[[*range(10)], [*range(10)]])
    split = leave_one_out(log) if protocol == "leave-one-out" else cold_items(log, 19, share=0.05, seed=1)
    assert split.cold is None or not split.cold[[0, 8]].any()
    refuse_leaks(split, protocol=protocol)
    if part in ("validation", "test"):
        late = replace(split, **{part: with_history(getattr(split, part), 0, 0, 9.0)})
    else:
        late = replace(split, **{part: with_event(getattr(split, part), 0, 0, 9.0)})
    asked = LATE[part][protocol]
    assert own_future(late)[asked] == 1
    with pytest.raises(InputError, match=f"1 {asked} questions.* leak: events after the first target"):
        refuse_leaks(late, protocol=protocol)


def test_without_times_the_place_in_the_log_tells_what_comes_later() -> None:
    log = Histories.of([[0, 1, 2, 3], [4, 5, 6]])
    split = leave_one_out(log)
    refuse_leaks(split, protocol="leave-one-out")
    assert own_future(split) == {"validation": 0, "test": 0}
    test = replace(split.test, targets=Histories.of([[2], [6]]), histories=Histories.of([[0, 1], [4, 5]]))
    for late in (
        replace(split, test=replace(test, histories=Histories.of([[0, 3], [4, 5]]))),
        replace(split, test=test, refit=Histories.of([[0, 3], [4]])),
        replace(split, test=test, train=Histories.of([[3, 0], [4]])),
    ):
        assert own_future(late)["test"] == 1
        with pytest.raises(InputError, match="1 test questions"):
            refuse_leaks(late, protocol="leave-one-out")


def test_meeting_an_item_again_later_is_told_from_having_met_it_before() -> None:
    log = Histories.of([[0, 1, 2, 0], [0, 1, 2, 0]], times=[[1, 2, 3, 4]] * 2)
    questions = Questions(np.array([0, 1]), Histories.of([[0, 1]] * 2, times=[[1, 2]] * 2), log.keep(log.items == 2))
    past = log.keep(log.times < 3)  # type: ignore[operator]
    split = Split(log=log, train=past, refit=past, validation=questions, test=questions)
    refuse_leaks(split, protocol="leave-one-out")
    everything = log.keep((log.items != 2) & ((log.times < 4) | (log.people == 1)))  # type: ignore[operator]
    assert own_future(replace(split, refit=everything)) == {"validation": 0, "test": 1}
    timeless = [Histories(part.offsets, part.items) for part in (log, past, everything, questions.histories)]
    questions = Questions(questions.people, timeless[3], Histories.of([[2], [2]]))
    split = Split(log=timeless[0], train=timeless[1], refit=timeless[2], validation=questions, test=questions)
    assert own_future(split) == {"validation": 0, "test": 1}


def test_the_order_of_questions_does_not_matter() -> None:
    split = leave_one_out(Histories.of([[9, 4, 0, 1], [5, 2, 8, 3], [7, 6, 5, 4]]))
    turned = replace(
        split, test=split.test.take(np.array([2, 0, 1])), validation=split.validation.take(np.array([1, 0]))
    )
    refuse_leaks(turned, protocol="leave-one-out")
    late = replace(turned, test=replace(turned.test, histories=Histories.of([[7, 6, 5], [9, 4], [5, 2, 8]])))
    assert own_future(late) == {"validation": 0, "test": 0}
    late = replace(turned, validation=replace(turned.validation, histories=Histories.of([[5, 3], [9, 4]])))
    assert own_future(late) == {"validation": 1, "test": 0}


def test_equal_times_are_told_apart_by_the_log() -> None:
    split = leave_one_out(Histories.of([[0, 1, 2, 3]], times=[[5, 5, 5, 5]]))
    refuse_leaks(split, protocol="leave-one-out")
    late = replace(split, train=Histories.of([[0, 1, 3]], times=[[5, 5, 5]]))
    assert own_future(late) == {"validation": 1, "test": 0}


def test_a_time_that_was_changed_is_seen() -> None:
    split = leave_one_out(Histories.of([[0, 1, 2, 3]], times=[[1, 2, 3, 4]]))
    late = replace(split, train=Histories.of([[0, 1]], times=[[1, 3.5]]))
    assert own_future(late) == {"validation": 1, "test": 0}


@pytest.mark.parametrize("part", ["train", "refit"])
def test_anybodys_future(splits: dict[str, Split], part: str) -> None:
    """An event of somebody who is not asked, an item that nobody is asked for."""
    split = splits["temporal"]
    assert split.cuts is not None
    asked = {*split.validation.people, *split.test.people}
    bystander = next(n for n in range(943) if n not in asked)
    cut = split.cuts[0] if part == "train" else split.cuts[1]
    end = split.cuts[1] if part == "train" else np.inf
    for moment, leaks in ((cut - 1, False), (cut, True), (cut + 60, True)):
        if moment < end:
            changed = replace(split, **{part: with_event(getattr(split, part), bystander, 0, moment)})
            if not leaks:
                refuse_leaks(changed, protocol="temporal")
                continue
            late = f"{moment - cut:.0f} seconds after the {'validation' if part == 'train' else 'test'} questions begin"
            with pytest.raises(InputError, match=f"1 events in {part} leak: they happened up to {late}"):
                refuse_leaks(changed, protocol="temporal")


@pytest.mark.parametrize("stage", ["validation", "test"])
def test_a_history_that_goes_on_into_the_period(splits: dict[str, Split], stage: str) -> None:
    split = splits["temporal"]
    assert split.cuts is not None
    moment = split.cuts[0 if stage == "validation" else 1] + 10
    leaking = replace(split, **{stage: with_history(getattr(split, stage), 4, 1681, moment)})
    with pytest.raises(InputError, match=f"1 events in {stage} histories leak: .* up to 10 seconds after"):
        refuse_leaks(leaking, protocol="temporal")


def test_targets_outside_their_period(splits: dict[str, Split]) -> None:
    split = splits["temporal"]
    with pytest.raises(InputError, match="1,535 of 1,535 test targets lie outside their period"):
        refuse_leaks(replace(split, test=split.validation), protocol="temporal")
    late = replace(split, cuts=(split.cuts[0], split.cuts[0] + 1))  # type: ignore[index]
    with pytest.raises(InputError, match="validation targets lie outside their period"):
        refuse_leaks(late, protocol="temporal")


def test_a_newcomer_with_a_history(splits: dict[str, Split]) -> None:
    split = splits["temporal"]
    with pytest.raises(InputError, match="90 of 90 newcomers have a history"):
        refuse_leaks(replace(split, newcomers=split.test), protocol="temporal")


@pytest.mark.parametrize("part", ["train", "refit", "validation histories", "validation targets", "test histories"])
def test_a_cold_item_with_an_event(splits: dict[str, Split], part: str) -> None:
    split = splits["cold-items"]
    assert split.cold is not None
    item = int(np.flatnonzero(split.cold)[7])
    name, _, field = part.partition(" ")
    if field:
        questions = getattr(split, name)
        changed = replace(questions, **{field: with_event(getattr(questions, field), 11, item, 0.0, end=False)})
    else:
        changed = with_event(getattr(split, name), 11, item, 0.0, end=False)
    with pytest.raises(InputError, match=f"1 of 168 cold items leak: 1 events of them in {part}"):
        refuse_leaks(replace(split, **{name: changed}), protocol="cold-items")


def test_an_event_that_nobody_logged(splits: dict[str, Split]) -> None:
    split = splits["leave-one-out"]
    assert (split.test.people[9], split.log.items.max()) == (9, FILMS - 1)
    for item in (FILMS - 1, FILMS + answer(split.test, 9)[1], 10 * FILMS):
        with pytest.raises(InputError, match="1 of 98,115 events in train are not in the log that was split"):
            refuse_leaks(
                replace(split, train=with_event(split.train, 8, item, 0.0, end=False)), protocol="leave-one-out"
            )


def test_a_given_split_without_order_in_time_passes_and_is_counted(histories: Histories) -> None:
    words = ["train", "train", "train", "validation", "test"] * 20_000
    split = given(histories, words)
    refuse_leaks(split, protocol="given")
    assert own_future(split) == {"validation": 943, "test": 943}


def broken(split: Split, **changes: object) -> Split:
    return replace(split, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("protocol", "name", "change", "said"),
    [
        ("random", "given", lambda split: split, "has no protocol 'random'.*it has: leave-one-out, temporal"),
        ("temporal", "leave-one-out", lambda split: split, "must have times and say when"),
        ("cold-items", "leave-one-out", lambda split: split, "must say which items are cold"),
        (
            "temporal",
            "temporal",
            lambda split: broken(split, train=Histories(split.train.offsets, split.train.items)),
            "a part of the split has no times",
        ),
    ],
)
def test_what_cannot_be_checked_is_refused(
    splits: dict[str, Split], protocol: str, name: str, change: Callable[[Split], Split], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        refuse_leaks(change(splits[name]), protocol=protocol)


def test_a_split_holds_together() -> None:
    log, other = Histories.of([[0, 1], [2, 3]]), Histories.of([[0]])
    questions = Questions(np.array([0]), Histories.of([[0]]), Histories.of([[1]]))
    with pytest.raises(InputError, match="got 2, 1 and 2 rows"):
        Split(log=log, train=other, refit=log, validation=questions, test=questions)
    with pytest.raises(InputError, match="cold says nothing of item row 3, it has 3 items"):
        Split(log=log, train=log, refit=log, validation=questions, test=questions, cold=np.zeros(3, bool))


def test_a_million_events_take_about_a_second() -> None:
    rng = np.random.default_rng(0)
    moments = np.sort(rng.random((20_000, 50)) * 1e7, axis=1) + rng.random((20_000, 1)) * 1e8
    log = Histories(np.arange(0, 1_000_001, 50), rng.integers(0, 100_000, 1_000_000), moments.ravel())
    split = leave_one_out(log)
    started = time.process_time()
    refuse_leaks(split, protocol="leave-one-out")
    assert time.process_time() - started < 5, "usually 0.6 seconds"
