"""What an evaluation works with: questions with known answers, and the training data that goes with them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from towers.errors import InputError
from towers.history import Histories


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
        answers = np.sort(pairs(self.targets))
        if (answers[1:] == answers[:-1]).any():
            raise InputError("an answer names an item twice; keep each target once a person")

    def __len__(self) -> int:
        return len(self.people)

    def take(self, rows: np.ndarray) -> Questions:
        """Questions at int64 `rows`, in this order."""
        return Questions(self.people[rows], self.histories.take(rows), self.targets.take(rows))


@dataclass(frozen=True, kw_only=True)
class Split:
    """Training data, and questions to choose by (validation) and to report (test).

    Settings are chosen with models of `train`; what is reported is a model of `refit` with the chosen settings.
    All histories name people as `log` does.

    Args:
        log: every event, as it was split; the order that `training.measuring.leaks` holds the other parts against.
        train: events of the models among which validation chooses.
        refit: events of the model that is reported. The very object `train` where nothing is refitted.
        validation, test: questions; their histories may hold more than `train` does.
        newcomers: further test questions about people without any event to train on, so with empty histories; None
            where there are none.
        cold: bool ``(N,)`` items that have no event in `train` or `refit` because they were drawn to have none; None
            where none were drawn.
        too_short: people with too few events to be asked about; all theirs are in `train`, as far as items allow.
        ties: people for whom a target and the event before it carry the same time, so that the
            order of the log decided which is which.
        repeats: events not asked for, as the person has met the item before, where no ranker may return it.
        left_out: people not asked, under ``"validation"`` and ``"test"``, by the first reason that holds. With those
            asked, and the newcomers, they are all people.
        cuts: times in seconds at which validation and test begin; None where time does not decide.
        seed: of what was drawn; None where nothing was.

    Raises:
        InputError: `train` or `refit` names other people than `log`, or `cold` lacks an item of it.
    """

    log: Histories
    train: Histories
    refit: Histories
    validation: Questions
    test: Questions
    newcomers: Questions | None = None
    cold: np.ndarray | None = None
    too_short: int = 0
    ties: int = 0
    repeats: int = 0
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)
    cuts: tuple[float, float] | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if not len(self.log) == len(self.train) == len(self.refit):
            sizes = f"{len(self.log)}, {len(self.train)} and {len(self.refit)}"
            raise InputError(f"log, train and refit must have one row for each person, got {sizes} rows")
        if self.cold is not None and len(self.cold) <= self.log.items.max(initial=-1):
            raise InputError(f"cold says nothing of item row {self.log.items.max()}, it has {len(self.cold)} items")


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


def pairs(part: Histories, *others: Histories) -> np.ndarray:
    """int64 ``(n,)`` one number for each row and item of `part`, comparable with those of `others`."""
    span = 1 + max(int(one.items.max(initial=0)) for one in (part, *others))
    return part.people * span + part.items


def among(keys: np.ndarray, known: np.ndarray) -> np.ndarray:
    """bool, as long as `keys`: which are in `known`; both integers. For millions, several times faster than numpy's."""
    if not len(known):
        return np.zeros(len(keys), bool)
    known = np.sort(known)
    return known[np.minimum(np.searchsorted(known, keys), len(known) - 1)] == keys
