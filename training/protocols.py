"""How a log becomes training data and questions with known answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from towers.errors import InputError
from towers.history import Histories
from training.metrics import matches


@dataclass(frozen=True)
class Questions:
    """M times: what comes next for this person, given this past?

    Args:
        people: int64 ``(M,)`` rows of the people asked about.
        histories: M pasts, each all that came before the targets.
        targets: M answers, at least as events; no item twice in one answer.

    Raises:
        InputError: the three have different lengths, or an answer names an item twice.
    """

    people: np.ndarray
    histories: Histories
    targets: Histories

    def __post_init__(self) -> None:
        if not len(self.people) == len(self.histories) == len(self.targets):
            sizes = f"{len(self.people)}, {len(self.histories)} and {len(self.targets)}"
            raise InputError(f"people, histories and targets must be equally many, got {sizes}")
        answers = np.stack([self.targets.people, self.targets.items])
        if np.unique(answers, axis=1).shape != answers.shape:
            raise InputError("an answer names an item twice; keep each target once a person")

    def __len__(self) -> int:
        return len(self.people)

    def take(self, rows: np.ndarray) -> Questions:
        """Questions at int64 `rows`, in this order."""
        return Questions(self.people[rows], self.histories.take(rows), self.targets.take(rows))


@dataclass(frozen=True)
class Split:
    """Training data, and questions to choose by (validation) and to report (test).

    Args:
        train: every person's training events, people as in the log.
        validation, test: questions; their histories may hold more than `train` does.
        too_short: people with too few events to be asked about; all theirs are in `train`.
        ties: people for whom a target and the event before it carry the same time, so that the
            order of the log decided which is which.
        repeats: questions not asked, as the target is already in the history, where no ranker may return it.
    """

    train: Histories
    validation: Questions
    test: Questions
    too_short: int
    ties: int
    repeats: int


@dataclass(frozen=True)
class RatingSplit:
    """Training data and held-out ratings.

    Args:
        train: every person's other events, people as in the log.
        people, items: int64 ``(T,)`` who rated what.
        ratings: float32 ``(T,)`` in [0, 1].
    """

    train: Histories
    people: np.ndarray
    items: np.ndarray
    ratings: np.ndarray


def leave_one_out(histories: Histories) -> Split:
    """Each person's last event is the test target, the one before it the validation target, the rest training.

    The history of a test question includes the validation item. People with fewer than three events
    only train.

    Raises:
        InputError: nobody has three events.
    """
    people = np.flatnonzero(histories.lengths >= 3)
    if not len(people):
        raise InputError(f"leave-one-out needs people with at least 3 events, none of {len(histories)} has them")
    ends = histories.offsets[1:].copy()
    ends[people] -= 2
    validation = _ask(histories, people, ends[people])
    test = _ask(histories, people, ends[people] + 1)
    return Split(
        train=histories.cut(np.arange(len(histories)), histories.offsets[:-1], ends),
        validation=validation,
        test=test,
        too_short=len(histories) - len(people),
        ties=_ties(histories, ends[people]),
        repeats=2 * len(people) - len(validation) - len(test),
    )


def last_event(histories: Histories) -> tuple[Histories, Questions]:
    """Everything but each person's last event, and a question that asks for it; for choosing while training.

    People with fewer than two events keep theirs and are not asked.

    Raises:
        InputError: nobody has two events.
    """
    people = np.flatnonzero(histories.lengths >= 2)
    if not len(people):
        raise InputError(f"validation needs people with at least 2 events, none of {len(histories)} has them")
    ends = histories.offsets[1:].copy()
    ends[people] -= 1
    past = histories.cut(np.arange(len(histories)), histories.offsets[:-1], ends)
    return past, _ask(histories, people, ends[people])


def random_tenth(histories: Histories, seed: int) -> RatingSplit:
    """Hold out a tenth of the rated events, drawn without regard to person or time; unrated events train.

    Raises:
        InputError: fewer than two events have a rating.
    """
    rated = np.flatnonzero(~np.isnan(histories.ratings))
    if len(rated) < 2:
        raise InputError(f"holding out ratings needs at least 2 of them, got {len(rated)}")
    held = np.sort(np.random.default_rng(seed).permutation(rated)[: max(1, len(rated) // 10)])
    keep = np.ones(len(histories.items), bool)
    keep[held] = False
    return RatingSplit(histories.keep(keep), histories.people[held], histories.items[held], histories.ratings[held])


def _ask(histories: Histories, people: np.ndarray, at: np.ndarray) -> Questions:
    """What does each person do at event `at`? Asked only where it is new to them."""
    past = histories.cut(people, histories.offsets[people], at)
    target = histories.cut(people, at, at + 1)
    new = ~matches(target.items[:, None], past)[:, 0]
    return Questions(people, past, target).take(np.flatnonzero(new))


def _ties(histories: Histories, at: np.ndarray) -> int:
    """People whose event `at` or the one after it has the time of its predecessor."""
    if histories.times is None:
        return 0
    before, first, second = histories.times[at - 1], histories.times[at], histories.times[at + 1]
    return int(((before == first) | (first == second)).sum())
