"""Our model as something that can be evaluated: encode, search the index, perhaps re-rank."""

from __future__ import annotations

from copy import copy

import numpy as np
import pyarrow as pa
from jaxtyping import Bool

from indexing.excluded import Excluded
from indexing.filters import Where
from indexing.hits import Hits
from indexing.index import ItemIndex
from indexing.interests import search_interests
from towers.catalog import Catalog
from towers.errors import InputError
from towers.history import Histories
from towers.model import TwoTower
from towers.trend import popularity_of_late


class IndexRanker:
    """Ranks by the user tower's query, or queries of several interests, in an index over the whole catalog.

    Args:
        model: both towers.
        index: index of the catalog's items, in any order; some may be missing.
        catalog: N items.
        depth: candidates that the rating head re-ranks, at least k; None leaves the order of retrieval.
        together: read many people at once: much faster, and the same queries but for the last bits.
        log: all that people did up to now, which tells what is popular of late; None: nothing is. People of whom
            nothing at all is known are given the most popular of it, as no tower has anything to read.

    Raises:
        InputError: the index holds an item that the catalog lacks.
    """

    def __init__(
        self,
        model: TwoTower,
        index: ItemIndex,
        catalog: Catalog,
        *,
        depth: int | None = None,
        together: bool = False,
        log: Histories | None = None,
    ) -> None:
        self._catalog_rows = catalog.rows(index.ids.array)
        if (self._catalog_rows < 0).any():
            strange = index.ids[int(np.argmin(self._catalog_rows))]
            raise InputError(f"the index holds items that the catalog lacks, such as {strange!r}")
        self._model = model
        self._index = index
        self._where: Where | None = None
        self._index_rows = index.ids.rows(catalog.ids.array)
        has_vector = (self._index_rows >= 0)[:, None]
        self._memory = model.memory(catalog, np.where(has_vector, index.vectors[self._index_rows], np.float32(0)))
        self._depth = depth
        self._together = together
        self._bonus = model.standing(log, len(catalog)) if log is not None else None
        self._popular = _popular(log, len(catalog), float(model.trend_half_life)) if log is not None else None

    def among(self, items: Bool[np.ndarray, " n"]) -> IndexRanker:
        """One that finds only some of the catalog's N items, as many as it is asked for while there are any."""
        found = copy(self)
        found._index = copy(self._index)
        found._index.attributes = pa.table({"among": items[self._catalog_rows]})
        found._where = {"among": True}
        found._popular = None if self._popular is None else np.where(items, self._popular, -np.inf)
        return found

    def rank(self, histories: Histories, k: int) -> Hits:
        """The k best items of each history, its own items left out."""
        if self._depth is None:
            return self.retrieve(histories, k)
        return self.rerank(self.retrieve(histories, max(k, self._depth)), histories).first(k)

    def retrieve(self, histories: Histories, k: int) -> Hits:
        """The k nearest items of each history's query, what is popular of late counted in."""
        known = self._readable(histories)
        if known.all() or self._popular is None:
            return self._nearest(histories, k)
        hits = Hits.top(np.tile(self._popular, (len(histories), 1)), k)
        rows, scores = hits.rows.copy(), hits.scores.copy()
        if known.any():
            found = self._nearest(histories.take(np.flatnonzero(known)), k)
            rows[known], scores[known] = found.rows, found.scores
        return Hits(rows, scores)

    def _nearest(self, histories: Histories, k: int) -> Hits:
        encode = self._model.user.encode_together if self._together else self._model.encode
        queries = encode(histories, self._memory)
        rows = self._index_rows[histories.items]
        seen = Excluded(histories.people[rows >= 0], rows[rows >= 0])
        bonus = None if self._bonus is None else self._bonus[self._catalog_rows]
        hits = search_interests(self._index, queries, k, exclude=seen, bonus=bonus, where=self._where)
        return Hits(np.where(hits.rows < 0, -1, self._catalog_rows[hits.rows]), hits.scores)

    def _readable(self, histories: Histories) -> np.ndarray:
        """bool ``(B,)`` people of whom there is something to read: items, or attributes for the text reader."""
        told = np.zeros(len(histories), bool)
        if histories.about is not None and self._model.user.text is not None:
            told = np.array([bool(about) for about in histories.about.to_pylist()])
        return told | (histories.lengths > 0)

    def rerank(self, hits: Hits, histories: Histories) -> Hits:
        """The same hits in the order that the rating head gives them."""
        ratings = self._model.rate(histories, self._memory, hits.rows)
        return hits.rescored(self._model.rerank_scores(hits.scores, ratings))


def _popular(log: Histories, items: int, half_life: float) -> np.ndarray:
    """What to give people of whom nothing is known: popular of late, or ever where events have no times."""
    if log.times is not None:
        return popularity_of_late(log, items, half_life)
    return np.log1p(np.bincount(log.items, minlength=items)).astype(np.float32)
