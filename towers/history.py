"""`Histories`: what each person did, in order, as flat arrays. No torch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from towers.errors import InputError

NO_RATING = np.float32(np.nan)
NOTHING_KNOWN = "nothing is known of this person: give a history with items of the catalog, or a text"


@dataclass(frozen=True)
class Histories:
    """The pasts of U people, one after the other, each oldest event first.

    Args:
        offsets: int64 ``(U + 1,)``; person u owns events ``offsets[u]:offsets[u + 1]``.
        items: int64 ``(N,)`` rows of the catalog, never negative.
        times: float64 ``(N,)`` seconds, finite, or None where the log has no time.
        ratings: float32 ``(N,)`` in [0, 1], NaN where there is none.
        texts: what the person wrote at each event, Arrow strings ``(N,)`` with nulls, or None.
        about: one sentence about each person (attributes in words), Arrow strings ``(U,)``, or None.
        weights: float32 ``(N,)``, at least 0, how much each event counts in training; None: all alike.

    Raises:
        InputError: lengths that do not fit together, values out of range, or events out of time order.
    """

    offsets: np.ndarray
    items: np.ndarray
    times: np.ndarray | None = None
    ratings: np.ndarray = field(default=None)  # type: ignore[arg-type]
    texts: pa.Array | None = None
    about: pa.Array | None = None
    weights: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "offsets", np.asarray(self.offsets, np.int64))
        object.__setattr__(self, "items", np.asarray(self.items, np.int64))
        count = len(self.items)
        ratings = np.full(count, NO_RATING) if self.ratings is None else np.asarray(self.ratings, np.float32)
        object.__setattr__(self, "ratings", ratings)
        if self.times is not None:
            object.__setattr__(self, "times", np.asarray(self.times, np.float64))
        whole = len(self.offsets) > 0 and self.offsets[0] == 0 and self.offsets[-1] == count
        if not whole or (np.diff(self.offsets) < 0).any():
            raise InputError(f"offsets must rise from 0 to {count}, got {self.offsets[:3]} … {self.offsets[-1:]}")
        if self.weights is not None:
            object.__setattr__(self, "weights", np.asarray(self.weights, np.float32))
        for name in ("times", "ratings", "texts", "weights"):
            column = getattr(self, name)
            if column is not None and len(column) != count:
                raise InputError(f"{name} has {len(column)} values for {count} events")
        if count and self.items.min() < 0:
            raise InputError("a history holds a negative item row; unknown items must be set aside before")
        if self.about is not None and len(self.about) != len(self):
            raise InputError(f"about has {len(self.about)} sentences for {len(self)} people")
        if ((ratings < 0) | (ratings > 1)).any():
            raise InputError("a rating lies outside [0, 1]; map it there first")
        if self.weights is not None and not (np.isfinite(self.weights) & (self.weights >= 0)).all():
            raise InputError("a weight is negative or not finite; leave such an event out")
        if self.times is not None and not np.isfinite(self.times).all():
            raise InputError("a time is not finite; leave such an event out")
        if self.times is not None and (np.diff(self.times) < 0)[self._inside()].any():
            raise InputError("events must be in time order within each person")

    def _inside(self) -> np.ndarray:
        """bool ``(N - 1,)``: neighbours n, n + 1 that belong to one person."""
        people = self.people
        return people[1:] == people[:-1]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """int64 ``(U,)`` events of each person."""
        return np.diff(self.offsets)

    @property
    def people(self) -> np.ndarray:
        """int64 ``(N,)`` the person of each event."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @property
    def ties(self) -> int:
        """Events at the very time of the person's event before, so that the log does not tell their order."""
        return 0 if self.times is None else int(((np.diff(self.times) == 0) & self._inside()).sum())

    @property
    def fingerprint(self) -> str:
        """SHA-256 of who met what when; ratings, texts and weights do not matter."""
        digest = hashlib.sha256()
        for column in (self.offsets, self.items, self.times):
            digest.update(b"none" if column is None else column.tobytes())
        return digest.hexdigest()

    @classmethod
    def of(
        cls,
        items: Sequence[Sequence[int]],
        *,
        times: Sequence[Sequence[float]] | None = None,
        ratings: Sequence[Sequence[float]] | None = None,
    ) -> Histories:
        """Histories from nested lists, for sessions, tests and notebooks."""
        offsets = np.cumsum([0, *map(len, items)])

        def flat(lists: Sequence[Sequence[float]], kind: type) -> np.ndarray:
            return np.array([value for row in lists for value in row], kind)

        return cls(
            offsets,
            flat(items, np.int64),
            None if times is None else flat(times, np.float64),
            np.full(offsets[-1], NO_RATING) if ratings is None else flat(ratings, np.float32),
        )

    def take(self, people: Sequence[int] | np.ndarray) -> Histories:
        """The histories of these people (rows, repeats allowed), in this order.

        Raises:
            InputError: a row that is nobody's, such as -1 for an unknown person.
        """
        people = np.asarray(people, np.int64)
        if len(people) and not 0 <= people.min() <= people.max() < len(self):
            raise InputError(f"people must lie in 0 to {len(self) - 1}, got {people.min()} to {people.max()}")
        return self.cut(people, self.offsets[people], self.offsets[people + 1])

    def cut(self, people: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> Histories:
        """One history for each triple: events ``starts[n]:ends[n]`` of person ``people[n]``.

        Args:
            people: int64 ``(M,)``.
            starts, ends: int64 ``(M,)`` positions in the flat arrays.
        """
        lengths = ends - starts
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        index = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        return self._rebuilt(offsets, index, np.asarray(people, np.int64))

    def followed_by(self, item: int) -> Histories:
        """The history of one person with one more event, unrated, at the time of the last (or 0 where there is none).

        Raises:
            InputError: not one person.
        """
        if len(self) != 1:
            raise InputError(f"one history is followed by one item, got {len(self)} histories")
        return Histories(
            np.array([0, len(self.items) + 1]),
            np.append(self.items, item),
            None if self.times is None else np.append(self.times, self.times[-1:] if len(self.times) else 0.0),
            np.append(self.ratings, NO_RATING),
            None if self.texts is None else pa.concat_arrays([self.texts, pa.nulls(1, self.texts.type)]),
            self.about,
        )

    def preceded_by(self, items: np.ndarray) -> Histories:
        """The history of one person with these events before, unrated, at the time of the first (or 0 where none is).

        Raises:
            InputError: not one person.
        """
        if len(self) != 1:
            raise InputError(f"one history is preceded by items, got {len(self)} histories")
        first = np.zeros(1) if self.times is None or not len(self.times) else self.times[:1]
        return Histories(
            np.array([0, len(items) + len(self.items)]),
            np.concatenate([items, self.items]),
            None if self.times is None else np.concatenate([first.repeat(len(items)), self.times]),
            np.concatenate([np.full(len(items), NO_RATING), self.ratings]),
            None if self.texts is None else pa.concat_arrays([pa.nulls(len(items), self.texts.type), self.texts]),
            self.about,
        )

    def without_each(self, items: np.ndarray) -> Histories:
        """The history of one person once for each of `items` (int64 ``(M,)``), each time without that item's events.

        Raises:
            InputError: not one person.
        """
        if len(self) != 1:
            raise InputError(f"items are left out of one history, got {len(self)} histories")
        copies = self.take(np.zeros(len(items), np.int64))
        return copies.keep(copies.items != items[copies.people])

    def keep(self, mask: np.ndarray) -> Histories:
        """The same people with only the events where bool ``(N,)`` `mask` holds."""
        counts = np.bincount(self.people[mask], minlength=len(self))
        return self._rebuilt(np.concatenate([[0], np.cumsum(counts)]), np.flatnonzero(mask), np.arange(len(self)))

    def _rebuilt(self, offsets: np.ndarray, index: np.ndarray, people: np.ndarray) -> Histories:
        return Histories(
            offsets,
            self.items[index],
            None if self.times is None else self.times[index],
            self.ratings[index],
            None if self.texts is None else self.texts.take(pa.array(index)),
            None if self.about is None else self.about.take(pa.array(people)),
            None if self.weights is None else self.weights[index],
        )
