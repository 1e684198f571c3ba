"""The rows nearest to a query: FAISS finds them, exact scores decide, and a scan answers where FAISS finds too few."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np

from indexing.card import Finder, Found
from indexing.exact import exact_search, rank_found, scan_rows
from indexing.excluded import Excluded
from indexing.hits import Hits
from indexing.vectors import least

FLAT = "Flat"
FLAT_MARGIN = 2  # Rows that FAISS is asked for beyond k, to see whether the cut falls among equals; pairs are common.
EQUAL = 1e-6  # Scores nearer than this may come in another order from FAISS, which adds up in blocks.
SCAN_BEYOND = 0.25  # Share of the index above which asking FAISS for so many rows costs more than a scan.
# Up to which share of the items those that pass a filter are scanned. In `benchmarks.filters` searching becomes quicker
# between 0.1 and 0.2 of 20,000 items (above 0.2 where passing items lie together, and on Flat), and at half of that of
# 100,000: a scan takes more the more pass, FAISS the fewer do, so that the share falls with the root of the items.
SCAN_PASSING, SCAN_PASSING_AT = 0.2, 25_000
# Passing rows are not spread evenly, and a query that finds too few of them is answered by a scan: FAISS is asked for
# so many times more than an even spread needs, and for some beyond, without which few would often be too few.
SPARE, SPARE_ROWS = 1.5, 10


def scan_pays(passing: int, count: int) -> bool:
    """Whether comparing all that pass a filter is quicker than having FAISS find enough of them."""
    return passing <= SCAN_PASSING * min(count, math.sqrt(SCAN_PASSING_AT * count))


class Nearest:
    """Search over rows, without their ids and attributes.

    Args:
        vectors: float32 ``(N, D)``.
        kind: FAISS factory string.
        faiss: the FAISS index.
        places: int64 ``(N,)``, under which number FAISS has each row; None where that is the row itself.
    """

    def __init__(self, vectors: np.ndarray, kind: str, faiss: Any, places: np.ndarray | None) -> None:
        self.vectors, self.kind, self.faiss, self.places = vectors, kind, faiss, places
        self.finder = Finder(faiss)

    def __len__(self) -> int:
        return len(self.vectors)

    @cached_property
    def _row_at(self) -> np.ndarray:
        """int64, the row of each of FAISS's numbers and, last, of its -1; -1 for a tombstone."""
        rows = np.full(self.faiss.ntotal + 1, -1, np.int64)
        rows[self.places] = np.arange(len(self))
        return rows

    def search(self, queries: np.ndarray, k: int) -> Hits:
        """The k best of all."""
        if k > SCAN_BEYOND * len(self) or not len(queries):
            return exact_search(queries, self.vectors, k)
        hits = self._ranked(queries, k, *self._found(queries, k))
        # FAISS may find too few: the lists it looked into, or the part of the graph it reached, held no more.
        if least(hits.rows[:, -1]) < 0:
            short = np.flatnonzero(hits.rows[:, -1] < 0)
            return _replaced(hits, short, exact_search(queries[short], self.vectors, k))
        return hits

    def search_allowed(self, queries: np.ndarray, k: int, excluded: Excluded, passing: np.ndarray | None) -> Hits:
        """The k best of those that are not excluded and pass the filter (bool ``(N,)``; None lets all pass).

        FAISS is asked for so many more that enough of them are left, on every index kind; those of FAISS's own
        filters that some kinds do not know, or pass over in silence, are not used.
        """
        counts = excluded.counts(len(queries))
        rows = None if passing is None else np.flatnonzero(passing)
        left = len(self) if rows is None else len(rows)
        if rows is not None and scan_pays(left, len(self)):
            return scan_rows(queries, self.vectors, k, rows, excluded)
        # A query's depth depends on its own exclusions alone, so that its company in a batch changes nothing;
        # rounding up to powers of two keeps the number of FAISS calls small.
        depths = k + np.where(counts, 2 ** np.ceil(np.log2(np.maximum(counts, 1))), 0).astype(np.int64)
        if left < len(self):
            depths = np.ceil((depths + SPARE_ROWS) * SPARE * len(self) / left).astype(np.int64)
        hits = Hits(np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), -np.inf, np.float32))
        for depth in np.unique(depths):
            group = np.flatnonzero(depths == depth)
            if depth <= SCAN_BEYOND * len(self):
                deep = self._search_deep(queries[group], k, int(depth), excluded.take(group), passing)
                hits = _replaced(hits, group, deep)
        short = np.flatnonzero((hits.rows >= 0).sum(axis=1) < np.minimum(k, len(self) - counts))
        if len(short):
            allowed = excluded.take(short)
            scanned = (
                exact_search(queries[short], self.vectors, k, exclude=allowed)
                if rows is None
                else scan_rows(queries[short], self.vectors, k, rows, allowed)
            )
            hits = _replaced(hits, short, scanned)
        return hits

    def _search_deep(
        self, queries: np.ndarray, k: int, depth: int, excluded: Excluded, passing: np.ndarray | None
    ) -> Hits:
        """The k best allowed rows among the `depth` that FAISS finds."""
        found, scores = self._found(queries, depth)
        barred = excluded.holds(np.repeat(np.arange(len(queries)), found.shape[1]), found.ravel(), len(self))
        barred = barred.reshape(found.shape)
        if passing is not None:
            barred |= ~passing[found]
        return self._ranked(queries, k, np.where(barred, -1, found), scores, excluded, passing)

    def _ranked(
        self,
        queries: np.ndarray,
        k: int,
        found: np.ndarray,
        scores: np.ndarray | None,
        excluded: Excluded | None = None,
        passing: np.ndarray | None = None,
    ) -> Hits:
        """The k best of the rows found; for Flat, where the cut falls among equals, a scan decides by the lower row."""
        rows, scores = rank_found(queries, self.vectors, found, scores)
        if rows.shape[1] == k:
            return Hits.sure(rows, scores)
        if rows.shape[1] < k:
            missing = ((0, 0), (0, k - rows.shape[1]))
            rows = np.pad(rows, missing, constant_values=-1)
            return Hits.sure(rows, np.pad(scores, missing, constant_values=-np.inf))
        hits = Hits.sure(rows[:, :k].copy(), scores[:, :k].copy())
        if self.kind != FLAT:
            return hits
        if len(scores) == 1 and self.places is None and scores.item(k - 1) - scores.item(-1) >= EQUAL:
            return hits  # the short way, as a single query notices each step
        # The last row that FAISS gave, which for an exact index is the border of all that it did not give.
        last = scores[:, -1] if least(rows) >= 0 else np.where(rows >= 0, scores, np.inf).min(axis=1)
        near = scores[:, k - 1] - last < EQUAL
        if not np.logical_or.reduce(near):
            return hits
        close = np.flatnonzero(near & (hits.rows[:, -1] >= 0))
        if not len(close):
            return hits
        barred = None if excluded is None else excluded.take(close)
        if passing is None:
            return _replaced(hits, close, exact_search(queries[close], self.vectors, k, exclude=barred))
        assert barred is not None
        return _replaced(hits, close, scan_rows(queries[close], self.vectors, k, np.flatnonzero(passing), barred))

    def _found(self, queries: np.ndarray, depth: int) -> Found:
        """Rows that FAISS finds, twice as many where there are tombstones (-1 then); exact scores if it has them."""
        depth = min(depth + FLAT_MARGIN, len(self)) if self.kind == FLAT else min(depth, len(self))
        if self.places is not None:
            depth = min(2 * depth, self.faiss.ntotal)
        found, scores = self.finder.search(queries, depth)
        return found if self.places is None else self._row_at[found], scores


def _replaced(hits: Hits, queries: np.ndarray, others: Hits) -> Hits:
    """`hits` with those of these queries (int64 ``(M,)``) from `others`, ``(M, K)``."""
    rows, scores = hits.rows.copy(), hits.scores.copy()
    rows[queries], scores[queries] = others.rows, others.scores
    return Hits.sure(rows, scores)
