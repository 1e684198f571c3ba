"""The moment: what a person did since the log was written, from the store, joined to what the log tells of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from serving.store.event import REFUSALS, Event
from towers.catalog import Catalog
from towers.history import NO_RATING, Histories
from towers.ids import Id, as_id_array

if TYPE_CHECKING:
    from serving.store.store import Store  # needs twotower[serve]

RECENT = 1000  # most events of a person that are read for one question
SAME = 1e-3  # seconds between two times that are one
LESS = 0.5  # of the vector of what a person wants less of is taken away from their query


@dataclass(frozen=True)
class Moment:
    """What the store tells of one person; each item stands where its newest event puts it.

    Args:
        rows: int64 ``(n,)`` catalog rows of items that speak for them, each once, oldest first.
        times: float64 ``(n,)`` of each one's newest event.
        ratings: float32 ``(n,)`` in [0, 1], each one's newest, NaN where there is none.
        against: int64 rows of items that no longer speak for them, whatever the log says.
        less: int64 rows of items that they want less like.
        met: int64 rows of all items that they met or refused.
        unknown: ids of items that are not in the catalog.
    """

    rows: np.ndarray
    times: np.ndarray
    ratings: np.ndarray
    against: np.ndarray
    less: np.ndarray
    met: np.ndarray
    unknown: tuple[Id, ...]

    def after(self, past: Histories, *, timed: bool) -> Histories:
        """One person's events of the log with these among them, in the order of time.

        An event that the log has, too, is there once.

        Args:
            past: what the log tells of them, in catalog rows.
            timed: whether events have times; if not, these come last.
        """
        past = past.keep(~np.isin(past.items, self.against))
        past_times = np.zeros(len(past.items)) if past.times is None else past.times
        told = (past.items[:, None] == self.rows) & (np.abs(past_times[:, None] - self.times) <= SAME)
        new = ~told.any(axis=0) if timed else np.ones(len(self.rows), bool)
        items, ratings = np.append(past.items, self.rows[new]), np.append(past.ratings, self.ratings[new])
        texts = None if past.texts is None else pa.concat_arrays([past.texts, pa.nulls(new.sum(), past.texts.type)])
        offsets = np.array([0, len(items)])
        if not timed:
            return Histories(offsets, items, None, ratings, texts, past.about)
        times = np.append(past_times, self.times[new])
        order = np.argsort(times, kind="stable")
        texts = None if texts is None else texts.take(pa.array(order))
        return Histories(offsets, items[order], times[order], ratings[order], texts, past.about)


def moment(
    store: Store, person: Id, catalog: Catalog, *, min_rating: float, rating_range: tuple[float, float] | None
) -> Moment | None:
    """What a store tells of a person; None where it knows nothing of them.

    Args:
        store: asked for their newest events, at most `RECENT`, and for all that they refused.
        person: user or session id.
        catalog: N items.
        min_rating: in [0, 1]; an item that was rated lower does not speak for them.
        rating_range: what 0 and 1 stand for; ratings outside count as the nearest of the two. None: nobody knows, and
            ratings count as clicks.
    """
    events, refused = store.history(person, RECENT), store.refused(person)
    if not events and not refused:
        return None
    standing = _standing(events)
    rows = catalog.rows(as_id_array([*standing, *refused]))
    known = rows[: len(standing)] >= 0
    ratings = _to_unit([value for _, value in standing.values()], rating_range)
    refusal = np.array([event.kind in REFUSALS for event, _ in standing.values()], bool)
    less = np.array([event.kind == "less-like-this" for event, _ in standing.values()], bool)
    against = refusal | (ratings < np.float32(min_rating))
    of_items = rows[: len(standing)]
    speaks = known & ~against
    return Moment(
        of_items[speaks],
        np.array([event.time for event, _ in standing.values()])[speaks],
        ratings[speaks],
        of_items[known & against],
        of_items[known & less],
        np.unique(rows[rows >= 0]),
        tuple(item for item, is_known in zip(standing, known, strict=True) if not is_known),
    )


def away_from(queries: np.ndarray, less: np.ndarray) -> np.ndarray:
    """Queries of one person, moved away from what they want less of: ``unit(query - LESS * mean(less))``.

    An item then scores the lower the more it is like those, on any kind of index (Rocchio, "Relevance feedback in
    information retrieval", 1971, with non-relevant items alone).

    Args:
        queries: float32 ``(1, D)``, or ``(1, K, D)`` for K interests, unit norm.
        less: float32 ``(m, D)`` vectors of those items; where there are none, the queries stay as they are.
    """
    if not len(less):
        return queries
    moved = queries - np.float32(LESS) * less.mean(axis=0)
    return (moved / np.linalg.norm(moved, axis=-1, keepdims=True)).astype(np.float32)


def _standing(events: Sequence[Event]) -> dict[Id, tuple[Event, float]]:
    """The newest event of each item and its newest rating, NaN for none, in the order of those events."""
    found: dict[Id, tuple[Event, float]] = {}
    for event in events:
        before = found.pop(event.item, None)
        rating = np.nan if before is None else before[1]
        if event.kind == "rating" and event.value is not None:
            rating = event.value
        found[event.item] = event, rating
    return found


def _to_unit(values: list[float], rating_range: tuple[float, float] | None) -> np.ndarray:
    if rating_range is None or rating_range[0] == rating_range[1]:
        return np.full(len(values), NO_RATING)
    low, high = rating_range
    return ((np.clip(np.array(values, np.float64), low, high) - low) / (high - low)).astype(np.float32)
