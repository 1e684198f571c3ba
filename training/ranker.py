"""Our model as something that can be evaluated: encode, search the index, perhaps re-rank."""

from __future__ import annotations

from indexing.excluded import Excluded
from indexing.hits import Hits
from indexing.index import ItemIndex
from towers.catalog import Catalog
from towers.errors import InputError
from towers.history import Histories
from towers.model import TwoTower


class IndexRanker:
    """Ranks by the user tower's query in an index over the whole catalog.

    Args:
        model: both towers.
        index: index of the catalog's items, in the catalog's order.
        catalog: N items.
        depth: candidates that the rating head re-ranks, at least k; None leaves the order of retrieval.

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
        if self._depth is None:
            return self.retrieve(histories, k)
        return self.rerank(self.retrieve(histories, max(k, self._depth)), histories).first(k)

    def retrieve(self, histories: Histories, k: int) -> Hits:
        """The k nearest items of each history's query, in the order of the index."""
        queries = self._model.encode(histories, self._memory)
        return self._index.search(queries, k, exclude=Excluded(histories.people, histories.items))

    def rerank(self, hits: Hits, histories: Histories) -> Hits:
        """The same hits in the order that the rating head gives them."""
        ratings = self._model.rate(histories, self._memory, hits.rows)
        return hits.rescored(self._model.rerank_scores(hits.scores, ratings))
