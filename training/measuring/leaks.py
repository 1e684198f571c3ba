"""Checks that a split keeps from training, and from every history, what it later asks for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from towers.errors import InputError
from towers.history import Histories
from towers.tables import missing_name
from training.measuring.splits import Questions, Split, among, pairs

PROTOCOLS = ("leave-one-out", "temporal", "cold-items", "given")


def refuse_leaks(split: Split, *, protocol: str) -> None:
    """Look at the events themselves, whoever made the split, and refuse one that gives an answer away.

    For every protocol: a target among the training events of its person, or in its own history. Besides:

    - ``leave-one-out``, ``temporal``, ``cold-items``: an event of the person asked about, in training or in the
      history, that comes after the first target, by place in the log and by time.
    - ``temporal``: an event of anybody, in training or in a history, at or after the beginning of the period that is
      asked about; a target outside its period; a newcomer with a history.
    - ``cold-items``: a cold item with an event in training or in a history.

    With ``given`` the order in time is that of whoever made the split: `own_future` counts what it gives away.

    Args:
        split: what is to be evaluated.
        protocol: one of `PROTOCOLS`.

    Raises:
        InputError: a leak, with a figure; an event that the log lacks; an unknown protocol, or a split without what
            the protocol needs.
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"this check {missing_name('protocol', protocol, PROTOCOLS)}")
    if protocol == "cold-items":
        _refuse_warm(split)
    if protocol == "temporal":
        _refuse_future(split)
    for stage in _stages(split):
        _refuse_answers(stage)
    late = own_future(split)
    if protocol != "given" and any(late.values()):
        said = ", ".join(f"{count:,} {name} questions" for name, count in late.items() if count)
        raise InputError(f"{said} leak: events after the first target stand in its person's training or history")


def own_future(split: Split) -> dict[str, int]:
    """Questions, by part, whose person has an event after the first target in training or in the history.

    Events are known by person, item and how often the person met the item before; what comes after is told by the
    place in ``split.log``, and by time where there are times.

    Raises:
        InputError: an event that the log lacks.
    """
    places = _Places(split.log)
    late: dict[str, int] = {}
    for stage in _stages(split):
        asked = stage.questions
        first = _earliest(places.of(asked.targets, asked.people, f"{stage.name} targets"), asked.targets)
        first_time = None if split.log.times is None else _earliest(_times(asked.targets), asked.targets)
        after = np.zeros(len(asked), bool)
        for name, part, people in stage.shown():
            after |= _latest(places.of(part, people, name), part) > first
            if first_time is not None:
                after |= _latest(_times(part), part) > first_time
        late[stage.name] = int(after.sum())
    return late


@dataclass(frozen=True)
class _Stage:
    """Questions, and what a model that answers them has been trained on."""

    name: str
    questions: Questions
    trained: dict[str, Histories]

    def shown(self) -> Iterator[tuple[str, Histories, np.ndarray]]:
        """All that the model sees of the people asked about: name, one history for each question, whose it is."""
        people = self.questions.people
        for name, part in self.trained.items():
            yield name, part.take(people), people
        yield f"{self.name} histories", self.questions.histories, people


def _stages(split: Split) -> list[_Stage]:
    reported = {"train": split.train} | ({} if split.refit is split.train else {"refit": split.refit})
    stages = [_Stage("validation", split.validation, {"train": split.train}), _Stage("test", split.test, reported)]
    return stages if split.newcomers is None else [*stages, _Stage("newcomer", split.newcomers, reported)]


def _refuse_answers(stage: _Stage) -> None:
    """No target among the person's own events, in training or in the history."""
    targets = stage.questions.targets
    for name, part, _ in stage.shown():
        if given_away := int(among(pairs(targets, part), pairs(part, targets)).sum()):
            raise InputError(
                f"{given_away:,} of {len(targets.items):,} {stage.name} targets leak: the person has the item "
                f"in {name} already"
            )


def _refuse_warm(split: Split) -> None:
    """No event with a cold item but as a target of the test."""
    if split.cold is None:
        raise InputError("a split of cold items must say which items are cold, got none")
    parts = {
        "train": split.train,
        "refit": split.refit,
        "validation histories": split.validation.histories,
        "validation targets": split.validation.targets,
        "test histories": split.test.histories,
    }
    for name, part in parts.items():
        if warm := int(split.cold[part.items].sum()):
            items = len(np.unique(part.items[split.cold[part.items]]))
            raise InputError(f"{items:,} of {split.cold.sum():,} cold items leak: {warm:,} events of them in {name}")


def _refuse_future(split: Split) -> None:
    """Nothing of anybody from the period that is asked about, or from later."""
    if split.cuts is None or split.log.times is None:
        raise InputError("a split in time must have times and say when validation and test begin, got neither or one")
    begins, ends = split.cuts
    for stage in _stages(split):
        start, end = (begins, ends) if stage.name == "validation" else (ends, np.inf)
        parts = {**stage.trained, f"{stage.name} histories": stage.questions.histories}
        for name, part in parts.items():
            if late := int((_times(part) >= start).sum()):
                raise InputError(
                    f"{late:,} events in {name} leak: they happened up to {_times(part).max() - start:,.0f} seconds "
                    f"after the {stage.name} questions begin"
                )
        asked = _times(stage.questions.targets)
        if outside := int(((asked < start) | (asked >= end)).sum()):
            raise InputError(f"{outside:,} of {len(asked):,} {stage.name} targets lie outside their period")
    if split.newcomers is not None and (known := int((split.newcomers.histories.lengths > 0).sum())):
        raise InputError(f"{known:,} of {len(split.newcomers):,} newcomers have a history")


class _Places:
    """Where an event stands in a log, by person, item and how many times the person met the item before."""

    def __init__(self, log: Histories) -> None:
        self._span = 1 + int(log.items.max(initial=0))
        keys = log.people * self._span + log.items
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]

    def of(self, part: Histories, people: np.ndarray, name: str) -> np.ndarray:
        """int64 ``(n,)`` place of each event of `part`, whose histories are those of `people`."""
        keys = np.where(part.items < self._span, people[part.people] * self._span + part.items, -1)
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        # The first place of the same person and item, then as many further as there were before it.
        nth = np.arange(len(keys)) - np.searchsorted(keys, keys)
        at = np.minimum(np.searchsorted(self._keys, keys) + nth, len(self._keys) - 1)
        if foreign := int((self._keys[at] != keys).sum()):
            raise InputError(f"{foreign:,} of {len(keys):,} events in {name} are not in the log that was split")
        places = np.empty(len(keys), np.int64)
        places[order] = self._order[at]
        return places


def _times(part: Histories) -> np.ndarray:
    """Times of the events; whatever lacks them cannot be checked, so it is refused."""
    if part.times is None:
        raise InputError("a part of the split has no times, though the log has them")
    return part.times


def _earliest(values: np.ndarray, part: Histories) -> np.ndarray:
    """Smallest of each row's values ``(M,)``, infinity where a row is empty."""
    smallest = np.full(len(part), np.inf)
    np.minimum.at(smallest, part.people, values)
    return smallest


def _latest(values: np.ndarray, part: Histories) -> np.ndarray:
    """Largest of each row's values ``(M,)``, minus infinity where a row is empty."""
    return -_earliest(-values, part)
