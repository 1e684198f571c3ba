"""Our model as something that can be evaluated: encode, search the index, perhaps re-rank."""

from __future__ import annotations

import numpy as np

from indexing.hits import Hits
from indexing.index import ItemIndex
from towers.catalog import Catalog
from towers.errors import InputError
from towers.history import Histories
from towers.model import TwoTower
from towers.user import Memory


class IndexRanker:
    """Ranks by the user tower's query in an index over the whole catalog.

    Args:
        model: both towers.
        index: index of the catalog's items, in the catalog's order.
        catalog: N items.
        depth: candidates that the rating head re-ranks; None leaves the order of retrieval.

    Raises:
        InputError: the index holds other items than the catalog.
    """

    def __init__(self, model: TwoTower, index: ItemIndex, catalog: Catalog, *, depth: int | None = None) -> None:
        if index.ids.fingerprint != catalog.ids.fingerprint:
            raise InputError("the index and the catalog must hold the same items in the same order")
        self._model = model
        self._index = index
        self._memory = model.memory(catalog, index.vectors)
        self._depth = depth

    def rank(self, histories: Histories, k: int) -> Hits:
        """The k best items of each history, its own items left out."""
        queries = self._model.encode(histories, self._memory)
        seen = np.split(histories.items, histories.offsets[1:-1])
        hits = self._index.search(queries, max(k, self._depth or 0), exclude=seen)
        if self._depth is None:
            return hits
        return reranked(self._model, hits.first(self._depth), histories, self._memory).first(k)


def reranked(model: TwoTower, hits: Hits, histories: Histories, memory: Memory) -> Hits:
    """Hits in the order of ``scale * cosine + weight * rating``."""
    return hits.rescored(model.rerank_scores(hits.scores, model.rate(histories, memory, hits.rows)))
