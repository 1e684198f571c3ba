"""Whom a retriever is asked for: people of the log, sessions, and people of whom there is only a text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from serving.moment import Moment, moment
from towers.catalog import ITEM_ID, Catalog
from towers.errors import InputError
from towers.history import Histories
from towers.ids import Id, IdList, as_id_array
from towers.interactions import USER_ID, Interactions, Positive
from towers.template import describe

if TYPE_CHECKING:
    from serving.store.store import Store


class UnknownPersonError(InputError):
    """Somebody of whom neither the log nor the store knows anything."""


@dataclass(frozen=True)
class Leaning:
    """What is presumed of a person beside what they did.

    Args:
        query: float32 ``(D,)`` of unit norm, to ask with where there is nothing to read.
        bonus: float32 ``(N,)`` added for each item of the catalog, in logits.
    """

    query: np.ndarray
    bonus: np.ndarray


@dataclass(frozen=True)
class Person:
    """One person.

    Args:
        name: who it is, in words.
        history: the events that speak for them, as one history of catalog rows.
        seen: int64 ``(n,)`` catalog rows of all that they met.
        unknown: items that they met and that are set aside.
        less: int64 ``(m,)`` catalog rows of readable items that they want less like.
        leaning: what is presumed of them; None: nothing.
    """

    name: str
    history: Histories
    seen: np.ndarray
    unknown: tuple[Id, ...] = ()
    less: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    leaning: Leaning | None = None


def stranger() -> Person:
    """Somebody with no history at all."""
    return Person("someone with no history", Histories.of([[]]), np.empty(0, np.int64))


def session(items: Iterable[Id], catalog: Catalog, has_vector: np.ndarray) -> Person:
    """Somebody who just met these items, oldest first; when, and how they liked them, is not known.

    Args:
        items: their ids.
        catalog: N items.
        has_vector: bool ``(N,)`` items that can be read; the others are set aside.

    Raises:
        InputError: `items` is not a list of ids of one type.
    """
    ids = as_id_array(items)
    rows = catalog.rows(ids)
    known = (rows >= 0) & has_vector[rows]
    unknown = [one for one, is_known in zip(ids.to_pylist(), known, strict=True) if not is_known]
    name = f"a history of {_items(known)}"
    return Person(name, Histories.of([rows[known].tolist()]), rows[known], tuple(unknown))


class People:
    """The people of a log, and of a store of what was done since.

    Args:
        log: what they did; None: nothing before the store. Whom its table of people describes, but who did nothing
            yet, is known by that description alone.
        catalog: N items.
        has_vector: bool ``(N,)`` items that can be read; events with others are set aside.
        positive: which events speak for a person. What they met otherwise is still not recommended again. Of a store,
            clicks and ratings from ``positive.min_rating`` on do.
        store: what they did since, read anew for each question; None: nothing.
        rating_range: the ratings of the store that stand for 0 and 1.

    Attributes:
        positives: those events of everybody in the log, in catalog rows.

    Raises:
        InputError: no item of the log is in the catalog.
    """

    def __init__(
        self,
        log: Interactions | None,
        catalog: Catalog,
        has_vector: np.ndarray,
        positive: Positive,
        store: Store | None = None,
        rating_range: tuple[float, float] | None = None,
    ) -> None:
        self._catalog, self._has_vector, self._positive = catalog, has_vector, positive
        self._store, self._rating_range = store, rating_range
        self._users, self._strange = IdList([]), None
        self._described = log.people if log is not None else None
        self._described_ids = IdList([]) if self._described is None else IdList(self._described[USER_ID])
        self._events = self.positives = Histories.of([], times=[])
        if log is not None:
            known = log.known(catalog)
            self._strange = log.table.filter(catalog.rows(log.table[ITEM_ID]) < 0)
            self._users, self._events = known.histories(catalog)
            _, self.positives = known.histories(catalog, positive=positive)

    @property
    def ids(self) -> IdList:
        """Everybody."""
        return self._users

    def events(self, people: np.ndarray) -> Histories:
        """All that these people of the log met, rows of `positives`."""
        return self._events.take(people)

    def person(self, user: Id) -> Person:
        """The person with this id.

        Raises:
            UnknownPersonError: there is none.
        """
        row, now = int(self._users.rows([user])[0]), self._moment(user)
        about = self._description(user) if row < 0 else None
        if row < 0 and now is None and about is None:
            raise UnknownPersonError(self._nothing_known(user))
        past, seen, unknown = self._logged(row)
        if about is not None:
            past = replace(past, about=about)
        less = np.empty(0, np.int64)
        if now is not None:
            past = now.after(past, timed=self.positives.times is not None)
            seen, unknown = np.union1d(seen, now.met).astype(np.int64), [*unknown, *now.unknown]
            less = now.less[self._has_vector[now.less]]
        readable = self._has_vector[past.items]
        unread = [self._catalog.ids[item] for item in np.unique(seen[~self._has_vector[seen]])]
        name = f"user {self._users[row] if row >= 0 else user}, known by {_items(readable)}"
        return Person(name, past.keep(readable), seen, tuple(dict.fromkeys([*unknown, *unread])), less)

    def _moment(self, user: Id) -> Moment | None:
        if self._store is None:
            return None
        return moment(
            self._store,
            user,
            self._catalog,
            min_rating=self._positive.min_rating,
            rating_range=self._rating_range,
        )

    def _logged(self, row: int) -> tuple[Histories, np.ndarray, list[Id]]:
        """What the log tells of a person: the events that speak for them, all that they met, items that it lacks."""
        if row < 0 or self._strange is None:
            return Histories.of([[]], times=[[]]), np.empty(0, np.int64), []
        strange = self._strange.filter(pc.equal(self._strange[USER_ID], self._users[row]))[ITEM_ID].to_pylist()
        return self.positives.take([row]), self._events.take([row]).items, strange

    def _description(self, user: Id) -> pa.Array | None:
        """What the table of people says of somebody, as one sentence; None where it says nothing."""
        row = int(self._described_ids.rows([user])[0])
        if self._described is None or row < 0:
            return None
        sentence = describe(self._described.slice(row, 1).drop_columns(USER_ID))
        return None if sentence.null_count else sentence

    def _nothing_known(self, user: Id) -> str:
        some = ", ".join(repr(one) for one in self._users.take(range(min(3, len(self._users)))))
        log = f"the log has {len(self._users):,} people, such as {some}" if some else "there is no log"
        return f"nothing is known of user {user!r}; {log}: for someone new give a history or a text"


def _items(which: np.ndarray) -> str:
    count = int(which.sum())
    return f"{count:,} item" if count == 1 else f"{count:,} items"


def alike(histories: Sequence[Histories]) -> list[list[int]]:
    """Places of histories that tell the same things, and so can stand side by side: times, texts, who somebody is."""
    groups: dict[tuple[bool, ...], list[int]] = {}
    for place, one in enumerate(histories):
        groups.setdefault((one.times is None, one.texts is None, one.about is None), []).append(place)
    return list(groups.values())


def side_by_side(histories: Sequence[Histories]) -> Histories:
    """B histories of one person each as one of B people; they must be `alike`."""
    first = histories[0]
    return Histories(
        np.cumsum([0, *(len(one.items) for one in histories)]),
        np.concatenate([one.items for one in histories]),
        None if first.times is None else np.concatenate([one.times for one in histories]),
        np.concatenate([one.ratings for one in histories]),
        None if first.texts is None else pa.concat_arrays([one.texts for one in histories]),
        None if first.about is None else pa.concat_arrays([one.about for one in histories]),
    )
