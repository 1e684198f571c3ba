"""`Interactions`: who did what with which item, read and checked once. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from towers import template as templates
from towers.catalog import ITEM_ID, Catalog
from towers.columns import CHECKS, scale_ratings
from towers.errors import InputError
from towers.history import NO_RATING, Histories
from towers.ids import IdList
from towers.rejected import Loaded, Rejected
from towers.tables import mask, missing_name, read_table, refuse_empty, without_duplicates, without_missing

USER_ID = "user_id"
COLUMNS = (USER_ID, ITEM_ID, *CHECKS)


@dataclass(frozen=True)
class Positive:
    """Which events say that a person wanted an item.

    Args:
        min_rating: smallest rating that counts, in [0, 1]; an event without a rating counts.
        events: the values of ``event`` that count; all if empty.
    """

    min_rating: float = 0.0
    events: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.min_rating <= 1:
            raise InputError(f"min_rating must lie in [0, 1], where ratings are mapped to, got {self.min_rating}")


@dataclass(frozen=True)
class Interactions:
    """N events in the order of their source. Build one with `Interactions.read`.

    Args:
        loaded: the events.
        people: ``user_id`` and attributes, one row a person, or None.
        people_rejected: rows of their table that were set aside.
        rating_range: the ratings that became 0 and 1, or None where there are no ratings.
        ignored: columns of the source that are not read.
    """

    loaded: Loaded
    people: pa.Table | None = None
    people_rejected: Rejected = field(default_factory=Rejected)
    rating_range: tuple[float, float] | None = None
    ignored: tuple[str, ...] = ()

    @classmethod
    def read(
        cls,
        source: Any,
        *,
        rating_range: tuple[float, float] | None = None,
        people: Any = None,
        rejected_to: Path | str | None = None,
    ) -> Interactions:
        """Events from a Parquet, CSV, TSV or JSON lines file, an Arrow table, or a polars or pandas frame.

        Columns:
            user_id, item_id: strings or integers, kept as given.
            timestamp: seconds since 1970 up to the year 9999, or ISO dates and times, each read by itself (UTC where
                it names no offset). Optional, as all that follow.
            position: whole number; orders the events of a person, after timestamp if both are there.
            rating: a number on any scale; may be missing (empty, null or NaN) in some rows.
            event: what happened, such as ``purchase``.
            weight: 0 or more, how much the event counts in training; 1 where it is missing.
            text: what the person wrote.
            split: part of the data, such as ``test``.

        A row with a missing id, or with a value that one of its columns does not allow, is set aside.

        Args:
            source: path, table or frame.
            rating_range: smallest and largest rating of the scale, mapped to 0 and 1; without it, those found.
            people: path, table or frame with ``user_id`` and attributes.
            rejected_to: where to write the rows set aside (of both), one JSON object a line.

        Raises:
            InputError: a source that cannot be read, a missing column, ids of mixed types, a column of the wrong
                type, dates of which nobody can say which day they mean (``01/02/2024``, ``20240102``), no event
                left, or `people` of whom none is in the log.
        """
        loaded = read_table(source, ids=(USER_ID, ITEM_ID))
        names = loaded.table.column_names
        ignored = tuple(name for name in names if name not in COLUMNS)
        loaded = replace(loaded, table=loaded.table.select([n for n in COLUMNS if n in loaded.table.column_names]))
        loaded = without_missing(without_missing(loaded, USER_ID), ITEM_ID)
        for name in loaded.table.column_names[2:]:
            loaded = CHECKS[name](loaded, name)
        if "rating" in loaded.table.column_names:
            loaded, rating_range = scale_ratings(loaded, rating_range)
        elif rating_range is not None:
            raise InputError(f"a rating_range was given, but {loaded.file} {missing_name('column', 'rating', names)}")

        log = cls(loaded, rating_range=rating_range, ignored=ignored)
        if people is not None:
            crowd = without_duplicates(without_missing(read_table(people, ids=(USER_ID,)), USER_ID), USER_ID)
            log = replace(log, people=crowd.table, people_rejected=crowd.rejected)
        if rejected_to is not None:
            log.rejected.write(Path(rejected_to))
        refuse_empty(loaded)
        if people is not None:
            refuse_empty(crowd)
            _refuse_strangers(log, crowd)
        return log

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def table(self) -> pa.Table:
        """N rows: user_id, item_id and those of timestamp (float64 seconds), position (int64), rating (float32 in
        [0, 1], null where there is none), event (string), weight (float32), text, split that the source has."""
        return self.loaded.table

    @property
    def rejected(self) -> Rejected:
        """The rows set aside so far, those of `people` included."""
        return self.loaded.rejected + self.people_rejected

    @property
    def described(self) -> int:
        """How many people of the log are in `people`."""
        users = self.table[USER_ID].unique()
        return 0 if self.people is None else int((IdList(self.people[USER_ID]).rows(users) >= 0).sum())

    def summary(self) -> str:
        """What was read, in words: ``2,345 events of 250 people, 2023-10-01 to 2024-03-12, ratings from 1 to 5``."""
        said = [f"{len(self):,} events of {len(self.table[USER_ID].unique()):,} people", "without times"]
        if self._has("timestamp") and len(self):
            ends = pc.min_max(self.table["timestamp"]).as_py()
            said[1] = " to ".join(f"{datetime.fromtimestamp(ends[end], UTC):%Y-%m-%d}" for end in ("min", "max"))
        low, high = self.rating_range or (None, None)
        return ", ".join([*said, "without ratings" if low is None else f"ratings from {low:g} to {high:g}"])

    def lacks(self, column: str) -> str:
        """That the source has no such column, which one may be meant, and which it has."""
        return f"{self.loaded.file} {missing_name('column', column, (*self.table.column_names, *self.ignored))}"

    def keep(self, chosen: np.ndarray) -> Interactions:
        """Only the events where bool ``(N,)`` `chosen` holds, such as one split. None is counted as set aside."""
        return replace(self, loaded=self.loaded.take(np.flatnonzero(chosen)))

    def known(self, catalog: Catalog) -> Interactions:
        """Only the events whose item is in the catalog; the others are set aside as ``unknown item_id``.

        Raises:
            InputError: the catalog holds none of the items.
        """
        unknown = catalog.rows(self.table[ITEM_ID]) < 0
        if len(unknown) and unknown.all():
            ours, theirs = (ids[:3].to_pylist() for ids in (self.table[ITEM_ID], catalog.ids.array))
            raise InputError(f"no event of {self.loaded.file} has an item of the catalog: got {ours}, it has {theirs}")
        return replace(self, loaded=self.loaded.without(unknown, f"unknown {ITEM_ID}", ITEM_ID))

    def histories(self, catalog: Catalog, *, positive: Positive | None = None) -> tuple[IdList, Histories]:
        """The people, in order of first appearance, and what each did, oldest first.

        Events are ordered by timestamp, then by position, then as in the source, as far as the log has them. People
        none of whose events count keep an empty history.

        Args:
            catalog: gives the item rows; it must hold every item (see `known`).
            positive: which events count; all by default.

        Raises:
            InputError: an item that is not in the catalog, or `positive` asks for events that the log lacks.
        """
        items = catalog.rows(self.table[ITEM_ID])
        if unknown := int((items < 0).sum()):
            raise InputError(f"{unknown:,} events have an item that the catalog lacks: use log.known(catalog) first")
        encoded = self.table[USER_ID].combine_chunks().dictionary_encode()
        users, person = IdList(encoded.dictionary), encoded.indices.to_numpy()
        order = np.lexsort([*(self._numbers(name) for name in ("position", "timestamp") if self._has(name)), person])
        if positive is not None:
            order = order[self._counts(positive)[order]]
        lengths = np.bincount(person[order], minlength=len(users))
        return users, Histories(
            np.concatenate([[0], np.cumsum(lengths)]),
            items[order],
            self._numbers("timestamp")[order] if self._has("timestamp") else None,
            self._numbers("rating")[order] if self._has("rating") else np.full(len(order), NO_RATING),
            self.table["text"].combine_chunks().take(pa.array(order)) if self._has("text") else None,
            self._about(users),
            self._numbers("weight")[order] if self._has("weight") else None,
        )

    def _has(self, name: str) -> bool:
        return name in self.table.column_names

    def _numbers(self, name: str) -> np.ndarray:
        """A column as numpy, NaN where it is null."""
        return self.table[name].to_numpy()

    def _counts(self, positive: Positive) -> np.ndarray:
        """bool ``(N,)`` events that count."""
        counts = np.ones(len(self), bool)
        if self._has("rating"):
            counts &= ~(self._numbers("rating") < np.float32(positive.min_rating))
        if positive.events:
            if not self._has("event"):
                raise InputError(f"positive events {positive.events} were asked for, but {self.lacks('event')}")
            found = self.table["event"].unique().drop_null().to_pylist()
            for event in positive.events:
                if event not in found:
                    raise InputError(f"{self.loaded.file} {missing_name('event', event, found)}")
            counts &= mask(pc.is_in(self.table["event"], value_set=pa.array(positive.events, pa.large_string())))
        return counts

    def _about(self, users: IdList) -> pa.Array | None:
        if self.people is None:
            return None
        rows = IdList(self.people[USER_ID]).rows(users.array)
        sentences = templates.describe(self.people.drop_columns(USER_ID))
        return sentences.take(pa.array(rows, mask=rows < 0))


def _refuse_strangers(log: Interactions, crowd: Loaded) -> None:
    """Raise `InputError` where none of the people of a log is in the crowd that was given for it."""
    if not log.described:
        ours, theirs = (table[USER_ID].unique()[:3].to_pylist() for table in (log.table, crowd.table))
        raise InputError(f"{crowd.file} has nobody of {log.loaded.file}: got {theirs}, the log has {ours}")
