"""Whom a retriever is asked for: people of the log, sessions, and people of whom there is only a text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from towers.catalog import ITEM_ID, Catalog
from towers.errors import InputError
from towers.history import Histories
from towers.ids import Id, IdList, as_id_array
from towers.interactions import USER_ID, Interactions, Positive


@dataclass(frozen=True)
class Person:
    """One person.

    Args:
        name: who it is, in words.
        history: the events that speak for them, as one history of catalog rows.
        seen: int64 ``(n,)`` catalog rows of all that they met.
        unknown: items that they met and that are set aside.
    """

    name: str
    history: Histories
    seen: np.ndarray
    unknown: tuple[Id, ...] = ()


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
    """The people of a log.

    Args:
        log: what they did.
        catalog: N items.
        has_vector: bool ``(N,)`` items that can be read; events with others are set aside.
        positive: which events speak for a person. What they met otherwise is still not recommended again.

    Attributes:
        positives: those events of everybody, in catalog rows.

    Raises:
        InputError: no item of the log is in the catalog.
    """

    def __init__(self, log: Interactions, catalog: Catalog, has_vector: np.ndarray, positive: Positive) -> None:
        known = log.known(catalog)
        self._strange = log.table.filter(catalog.rows(log.table[ITEM_ID]) < 0)
        self._users, self._events = known.histories(catalog)
        _, self.positives = known.histories(catalog, positive=positive)
        self._catalog, self._has_vector = catalog, has_vector

    @property
    def ids(self) -> IdList:
        """Everybody."""
        return self._users

    def has(self, user: Id) -> bool:
        """Whether there is a person with this id."""
        return bool(self._users.rows([user])[0] >= 0)

    def person(self, user: Id) -> Person:
        """The person with this id.

        Raises:
            InputError: there is none, or none of their items is in the catalog.
        """
        row = self._users.rows([user])[0]
        if row < 0:
            some = ", ".join(repr(one) for one in self._users.take(range(min(3, len(self._users)))))
            raise InputError(
                f"nothing is known of user {user!r}; the log has {len(self._users):,} people, such as {some}: "
                "for someone new give a history or a text"
            )
        user = self._users[row]
        seen, history = self._events.take([row]).items, self.positives.take([row])
        readable = self._has_vector[history.items]
        strange = self._strange.filter(pc.equal(self._strange[USER_ID], user))[ITEM_ID].to_pylist()
        unread = [self._catalog.ids[item] for item in np.unique(seen[~self._has_vector[seen]])]
        name = f"user {user}, {_items(readable)}"
        return Person(name, history.keep(readable), seen, tuple(dict.fromkeys([*strange, *unread])))


def _items(which: np.ndarray) -> str:
    count = int(which.sum())
    return f"{count:,} item" if count == 1 else f"{count:,} items"
