"""Steps that hold whatever the scores: block, only, pin, quota, and floors for what would be shown too little."""

from __future__ import annotations

from math import ceil, floor
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from indexing.filters import Filter
from serving.rerank.contract import Candidates, Known, Stage, Step, Wishes, followed
from towers.ids import Id

Condition = dict[str, Any]
ROUNDING = 1e-9  # 0.3 * 10 is a little less than 3


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Block(Step):
    """Some items are never shown: these, and those that a filter lets pass, such as unsuitable ones.

    Args:
        items: their ids.
        where: a filter over attributes, see `indexing.filters`; an item of which it is not known is shown.
    """

    name: ClassVar[str] = "block"
    stage: ClassVar[Stage] = Stage.FILTER

    items: tuple[Id, ...] = ()
    where: Condition | None = None

    def __post_init__(self) -> None:
        if self.where is not None:
            Filter.read(self.where)

    def __call__(self, candidates: Candidates, known: Known) -> Candidates:
        """The others, in their order."""
        blocked = np.zeros(len(known.items.ids), bool)
        rows = known.items.ids.rows(self.items)
        blocked[rows[rows >= 0]] = True
        if self.where is not None:
            blocked |= known.items.passing(self.where)
        return candidates.reordered([np.flatnonzero(~blocked[rows]) for rows, _ in candidates.lists()])

    def wishes(self) -> Wishes:
        """The search does not find them, so that there are still enough."""
        return Wishes(without=self.items, where=None if self.where is None else {"not": self.where})


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Only(Step):
    """Only what a filter lets pass is shown, such as what is in stock.

    Args:
        where: a filter over attributes, see `indexing.filters`.
    """

    name: ClassVar[str] = "only"
    stage: ClassVar[Stage] = Stage.FILTER

    where: Condition

    def __post_init__(self) -> None:
        Filter.read(self.where)

    def __call__(self, candidates: Candidates, known: Known) -> Candidates:
        """Those, in their order."""
        passing = known.items.passing(self.where)
        return candidates.reordered([np.flatnonzero(passing[rows]) for rows, _ in candidates.lists()])

    def wishes(self) -> Wishes:
        """The search finds nothing else, so that there are always enough."""
        return Wishes(where=self.where)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Pin(Step):
    """Some items stand at a place of their own; the others keep their order around them.

    Who has met a pinned item, or may not be shown it, has the next one there.

    Args:
        places: place, from 1 on, to the id of the item.
    """

    name: ClassVar[str] = "pin"
    stage: ClassVar[Stage] = Stage.RULE

    places: dict[Annotated[int, Field(ge=1)], Id]

    def __post_init__(self) -> None:
        if len(set(self.places.values())) < len(self.places):
            raise ValueError("an item is pinned to two places")

    def __call__(self, candidates: Candidates, known: Known) -> Candidates:
        """The same candidates in that order."""
        wanted = dict(zip(self.places, known.items.ids.rows(self.places.values()).tolist(), strict=True))
        orders = []
        for rows, _ in candidates.lists():
            at = {place: np.flatnonzero(rows == row) for place, row in sorted(wanted.items())}
            pinned = {place: found for place, found in at.items() if len(found)}
            order = np.delete(np.arange(len(rows)), [found[0] for found in pinned.values()])
            for place, found in pinned.items():
                order = np.insert(order, min(place - 1, len(order)), found[0])
            orders.append(order)
        return candidates.reordered(orders)

    def wishes(self) -> Wishes:
        """They are candidates, however near they are."""
        return Wishes(beside=tuple(self.places.values()))


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Quota(Step):
    """At most so many items of a group are shown: the first ones, the others of it are left out.

    Args:
        where: the group, as a filter over attributes, see `indexing.filters`.
        most: how many.
    """

    name: ClassVar[str] = "quota"
    stage: ClassVar[Stage] = Stage.RULE

    where: Condition
    most: Annotated[int, Field(ge=0)]

    def __post_init__(self) -> None:
        Filter.read(self.where)

    def __call__(self, candidates: Candidates, known: Known) -> Candidates:
        """What is left, in its order."""
        passing, orders = known.items.passing(self.where), []
        for rows, _ in candidates.lists():
            inside = passing[rows]
            orders.append(np.flatnonzero(~inside | (inside.cumsum() <= self.most)))
        return candidates.reordered(orders)

    def wishes(self) -> Wishes:
        """Others are candidates, in the place of those that are left out."""
        return Wishes(enough=(({"not": self.where}, 1.0),))


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Floor(Step):
    """A group has at least a share of what is shown, and of each beginning of it (as FA*IR, Zehlike et al., CIKM 2017).

    The first n of a list hold at least ``share * n`` items of the group, rounded down, and the k that are shown at
    least ``share * k``, rounded up: where that is not so, the next ones of the group come forward. With fewer left of
    the group than that, all of them are shown.

    Args:
        where: the group, as a filter over attributes, see `indexing.filters`.
        share: of the places.
    """

    name: ClassVar[str] = "floor"
    stage: ClassVar[Stage] = Stage.RULE

    where: Condition
    share: Annotated[float, Field(ge=0, le=1)]

    def __post_init__(self) -> None:
        Filter.read(self.where)

    def __call__(self, candidates: Candidates, known: Known) -> Candidates:
        """The same candidates in that order."""
        passing = known.items.passing(self.where)
        orders = [raised(passing[rows], self.share, known.k) for rows, _ in candidates.lists()]
        return candidates.reordered(orders)

    def wishes(self) -> Wishes:
        """So many of the group are candidates, however far they are."""
        return Wishes(enough=((self.where, self.share),))


def raised(inside: np.ndarray, share: float, k: int) -> np.ndarray:
    """Positions of n items, the first k with at least a share of those inside; all keep their order otherwise.

    Args:
        inside: bool ``(n,)`` which belong to the group.
        share: of each beginning of the k.
        k: how many are shown.
    """
    k = min(k, len(inside))
    members, others = np.flatnonzero(inside).tolist(), np.flatnonzero(~inside).tolist()
    taken: list[int] = []
    held, least = 0, ceil(share * k - ROUNDING)
    for place in range(1, k + 1):
        needed = held < max(floor(share * place + ROUNDING), least - (k - place))
        if members and (needed or not others or members[0] < others[0]):
            taken.append(members.pop(0))
            held += 1
        else:
            taken.append(others.pop(0))
    return followed(taken, len(inside))
