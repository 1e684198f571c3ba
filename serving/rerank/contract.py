"""What a step of re-ranking is given, what it returns, and how steps run one after the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import ClassVar

import numpy as np

from indexing.filters import Where
from indexing.hits import Hits
from serving.rerank.items import Items
from towers.history import Histories
from towers.ids import Id


@dataclass(frozen=True)
class Candidates:
    """What may be shown to B people, in the order in which it would be.

    Args:
        rows: int64 ``(B, K)`` catalog rows, best first; -1 where a list ends early.
        scores: float32 ``(B, K)`` how well each suits the person; -inf where `rows` is -1. They fall only as far as
            the list is sorted by them: a step that weighs items against one another leaves each its score.
        ratings: float32 ``(B, K)`` predicted ratings in [0, 1]; None where nobody asked for them.
        probabilities: float64 ``(B, K)`` with which each item stands at its place, where a step drew lots; NaN beyond
            what is shown. None where none did.
    """

    rows: np.ndarray
    scores: np.ndarray
    ratings: np.ndarray | None = None
    probabilities: np.ndarray | None = None

    @classmethod
    def of(cls, hits: Hits, ratings: np.ndarray | None = None) -> Candidates:
        """What retrieval found, with what is predicted of it."""
        return cls(hits.rows, hits.scores, ratings)

    @property
    def lengths(self) -> np.ndarray:
        """int64 ``(B,)`` items of each list."""
        return (self.rows >= 0).sum(axis=1)

    def lists(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Rows and scores of each person, without what closes the list."""
        for rows, scores, length in zip(self.rows, self.scores, self.lengths, strict=True):
            yield rows[:length], scores[:length]

    def reordered(self, orders: Sequence[np.ndarray] | np.ndarray) -> Candidates:
        """Each list in another order.

        Args:
            orders: for each person the positions in their list, in the new order; what is left out is gone.
        """
        at = np.full(self.rows.shape, -1)
        for person, order in enumerate(orders):
            at[person, : len(order)] = order

        def taken(values: np.ndarray, empty: float) -> np.ndarray:
            return np.where(at < 0, empty, np.take_along_axis(values, at, axis=1)).astype(values.dtype)

        return Candidates(
            taken(self.rows, -1),
            taken(self.scores, -np.inf),
            None if self.ratings is None else taken(self.ratings, 0),
            None if self.probabilities is None else taken(self.probabilities, np.nan),
        )

    def rescored(self, scores: np.ndarray) -> Candidates:
        """The same items sorted by new scores ``(B, K)``; equal scores keep their order."""
        scores = np.where(self.rows < 0, -np.inf, scores).astype(np.float32)
        order = np.argsort(-scores, axis=1, kind="stable")
        return replace(self, scores=scores).reordered(order)


@dataclass(frozen=True)
class Known:
    """What steps may look at beside the candidates.

    Args:
        items: what is known of the catalog's items.
        histories: the pasts of the B people.
        k: how many of each list are shown.
        rerank_scores: retrieval scores and predicted ratings ``(B, K)`` to what re-ranking by rating sorts by; see
            `towers.model.TwoTower.rerank_scores`.
    """

    items: Items
    histories: Histories
    k: int
    rerank_scores: Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Wishes:
    """What the search heeds before a step has its turn, so that there are always enough candidates.

    Args:
        without: items that it must not find.
        beside: items that are candidates however near they are, unless they may not be shown.
        where: what must hold of the attributes of all that it finds.
        enough: groups, as filters, and the share of what is shown that must be candidates of each, as far as it goes.
    """

    without: tuple[Id, ...] = ()
    beside: tuple[Id, ...] = ()
    where: Where | None = None
    enough: tuple[tuple[Where, float], ...] = ()


class Stage(IntEnum):
    """When a step has its turn, so that none undoes what another did; in one stage steps keep their order."""

    FILTER = 0  # what may not be shown at all goes
    SCORE = 1  # how well each item suits
    LIST = 2  # how items go together
    RULE = 3  # what must stand where
    EXPLORE = 4  # lots are drawn, with probabilities that hold for the list as it is shown


class Step(ABC):
    """Candidates to candidates; settings are the fields of the classes that derive from it.

    Attributes:
        name: as recipes and answers call it.
        stage: when it has its turn.
    """

    name: ClassVar[str]
    stage: ClassVar[Stage]

    @abstractmethod
    def __call__(self, candidates: Candidates, known: Known) -> Candidates:
        """The candidates in another order, with other scores, or fewer of them."""

    def wishes(self) -> Wishes:
        """What it wants of the search."""
        return Wishes()


@dataclass(frozen=True)
class Reranked:
    """What steps have made of candidates.

    Args:
        steps: their names, in the order in which they ran.
        candidates: as they are now.
        orders: int64 ``(B, K)`` rows before the first step, and after each one.
    """

    steps: tuple[str, ...]
    candidates: Candidates
    orders: tuple[np.ndarray, ...]

    def places(self, row: int, person: int = 0) -> tuple[int, ...]:
        """Where an item stood in one person's list, before the first step and after each, from 1 on."""
        return tuple(1 + int(np.argmax(rows[person] == row)) for rows in self.orders)


def in_turn(steps: Sequence[Step]) -> list[Step]:
    """Steps in the order in which they run: by stage, and as given."""
    return sorted(steps, key=lambda step: step.stage)


def rerank(steps: Sequence[Step], candidates: Candidates, known: Known) -> Reranked:
    """Let each step have its turn."""
    turns, orders = in_turn(steps), [candidates.rows]
    for step in turns:
        candidates = step(candidates, known)
        orders.append(candidates.rows)
    return Reranked(tuple(step.name for step in turns), candidates, tuple(orders))


def relevance(scores: np.ndarray) -> np.ndarray:
    """Scores ``(..., K)`` on the scale of each list: 1 for the highest, 0 for the lowest, -inf, or where all are equal.

    So a step's strength means the same whatever the model, and whatever scored before it.
    """
    real = ~np.isneginf(scores)
    scores = np.where(real, scores, 0).astype(np.float64)
    low = scores.min(axis=-1, keepdims=True, where=real, initial=np.inf)
    high = scores.max(axis=-1, keepdims=True, where=real, initial=-np.inf)
    return np.where(real, (scores - low) / np.where(high > low, high - low, 1), 0.0)


def followed(chosen: Sequence[int] | np.ndarray, length: int) -> np.ndarray:
    """The chosen positions and behind them all others below `length`, as they were."""
    first = np.asarray(chosen, np.int64)
    return np.concatenate([first, np.delete(np.arange(length), first)])
