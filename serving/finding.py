"""Finding items of a catalog in an index: whatever the index's order, rows are those of the catalog."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from math import ceil

import numpy as np
import pyarrow as pa

from indexing.filters import Filter, Where
from indexing.hits import Hits
from indexing.interests import search_interests, similarities
from indexing.store import Index
from serving.rerank.contract import Wishes
from serving.rerank.items import Items
from towers.catalog import Catalog
from towers.errors import ArtefactError, InputError
from towers.ids import Id, cast_exact


class Finder:
    """The items of a catalog that an index has.

    Args:
        index: in any order; what only it has is never found.
        catalog: N items.
        offered: how many of them are on offer, the first ones; those behind are read in histories, and never found.

    Raises:
        ArtefactError: the index has no items, or none of what is on offer.
    """

    def __init__(self, index: Index, catalog: Catalog, offered: int) -> None:
        if not len(index):
            raise ArtefactError("the index has no items, so nothing can be recommended: add some, or build it again")
        self._index, self._catalog = index, catalog
        self._vector_rows = index.ids.rows(catalog.ids.array)
        self._index_rows = np.where(np.arange(len(catalog)) < offered, self._vector_rows, -1)
        rows = catalog.rows(index.ids.array)
        self._catalog_rows = np.where(rows < offered, rows, -1)
        self._gone = np.flatnonzero(self._catalog_rows < 0)
        if not (self._index_rows >= 0).any():
            raise ArtefactError(
                f"the index has none of the catalog's items: it has {index.ids[0]!r}, the catalog {catalog.ids[0]!r}; "
                "build it again with this catalog"
            )
        self._removed_rows = index.removed.ids.rows(catalog.ids.array)

    @cached_property
    def has_vector(self) -> np.ndarray:
        """bool ``(N,)`` what can be read in histories: items of the index, and removed ones."""
        return (self._vector_rows >= 0) | (self._removed_rows >= 0)

    @property
    def on_offer(self) -> np.ndarray:
        """bool ``(N,)`` what can be found."""
        return self._index_rows >= 0

    def vectors(self) -> np.ndarray:
        """float32 ``(N, D)`` what histories are read by: vectors of the index, the last ones of removed items, or 0."""
        rows, removed = self._vector_rows, self._removed_rows
        vectors = np.zeros((len(self._catalog), self._index.dimension), np.float32)
        vectors[removed >= 0] = self._index.removed.vectors[removed[removed >= 0]]
        vectors[rows >= 0] = self._index.vectors[rows[rows >= 0]]
        return vectors

    def items(self, vectors: np.ndarray, counts: np.ndarray | None) -> Items:
        """What steps know of the items: attributes as the index has them, else as the catalog does."""
        table = self._catalog.table
        if self._index.attributes is not None:
            table = self._index.attributes.take(pa.array(self._vector_rows, mask=self._vector_rows < 0))
        return Items(self._catalog.ids, vectors, table, counts)

    def row_of(self, item: Id) -> int:
        """The row of an item that can be recommended.

        Raises:
            InputError: the catalog or the index does not have it.
        """
        row = int(self._catalog.rows([item])[0])
        if row < 0 or self._index_rows[row] < 0:
            some = self._index.ids[0]
            raise InputError(
                f"there is no item {item!r} in both the index and the catalog, so it is never recommended; the index "
                f"has {len(self._index):,} items, such as {some!r}"
            )
        return row

    def by_index(self, counts: np.ndarray) -> np.ndarray:
        """Figures of each item of the catalog ``(N,)`` in the index's order, 0 where only the index has one."""
        return np.append(counts, 0)[self._catalog_rows]

    def like(self, item: Id, k: int, *, query: np.ndarray | None = None, where: Where | None = None) -> Hits:
        """The k items nearest to one of the index, by its own vector or by a `query` ``(1, D)``, but for itself."""
        row = self._index.ids.rows([item])
        return self._search(self._index.vectors[row] if query is None else query, k, row, None, where)

    def refuse_unknown(self, item: Id) -> None:
        """Refuse an item that the index does not have.

        Raises:
            InputError: it does not.
        """
        if self._index.ids.rows([item])[0] < 0:
            some = self._index.ids[0]
            raise InputError(f"the index has no item {item!r}; it has {len(self._index):,} items, such as {some!r}")

    def search(
        self,
        queries: np.ndarray,
        k: int,
        *,
        seen: np.ndarray,
        bonus: np.ndarray | None = None,
        where: Where | None = None,
        wishes: Sequence[Wishes] = (),
        items: Items | None = None,
        shown: int = 0,
    ) -> Hits:
        """The k best for one person, as steps wish them, and the items that steps want beside them.

        Args:
            queries: float32 ``(1, D)``, or ``(1, K, D)`` for K interests.
            k: at least 1; fewer are found where there are fewer.
            seen: rows of what must not be found.
            bonus: float32 ``(N,)`` what else speaks for each item, in units of the cosine.
            where: what must hold of the items' attributes.
            wishes: of the steps.
            items: whose attributes decide whether what steps want passes `where`, and what belongs to a group.
            shown: how many of the k are to be shown, of which groups want a share.
        """
        barred = np.concatenate([seen, *(self._catalog.rows(one.without) for one in wishes if one.without)])
        barred = self._index_rows[barred[barred >= 0]]
        where = _all_of([where, *(one.where for one in wishes)])
        if bonus is not None:
            bonus = np.where(self._catalog_rows < 0, np.float32(0), bonus[self._catalog_rows])
        barred = barred[barred >= 0]
        hits = self._search(queries, k, barred, bonus, where)
        wanted = [self._wanted([one for wish in wishes for one in wish.beside], barred, where, items)]
        for group, share in (one for wish in wishes for one in wish.enough):
            least, there = ceil(share * shown), hits.rows[0][hits.rows[0] >= 0]
            if items is not None and items.passing(group)[there].sum() < least:
                found = self._search(queries, least, barred, bonus, _all_of([where, group])).rows[0]
                wanted.append(self._index_rows[found[found >= 0]])
        rows = np.unique(np.concatenate(wanted))
        return self._beside(hits, rows, queries, bonus) if len(rows) else hits

    def _wanted(self, ids: Sequence[Id], barred: np.ndarray, where: Where | None, items: Items | None) -> np.ndarray:
        """Index rows of items that steps want, but for those that may not be shown."""
        if not ids:
            return np.empty(0, np.int64)
        rows = self._index.ids.rows(ids)
        rows = rows[(rows >= 0) & (self._catalog_rows[rows] >= 0) & ~np.isin(rows, barred)]
        if where is not None and items is not None:
            rows = rows[items.passing(where)[self._catalog_rows[rows]]]
        return rows

    def _beside(self, hits: Hits, rows: np.ndarray, queries: np.ndarray, bonus: np.ndarray | None) -> Hits:
        """The hits and these items of the index, at the places that their scores give them."""
        rows = rows[~np.isin(self._catalog_rows[rows], hits.rows[0])]
        scores = similarities(queries, self._index.vectors[rows])[0] + (0 if bonus is None else bonus[rows])
        rows = np.append(hits.rows[0], self._catalog_rows[rows])
        scores = np.append(hits.scores[0], scores.astype(np.float32))
        order = np.argsort(-scores, kind="stable")
        return Hits(rows[None, order], scores[None, order])

    def _search(
        self, queries: np.ndarray, k: int, barred: np.ndarray, bonus: np.ndarray | None, where: Where | None
    ) -> Hits:
        exclude = [np.concatenate([barred, self._gone])]
        k = min(k, len(self._index))
        hits = search_interests(self._index, queries, k, exclude=exclude, bonus=bonus, where=where)
        return Hits(np.where(hits.rows < 0, -1, self._catalog_rows[hits.rows]), hits.scores)

    def nearest(self, rows: np.ndarray, queries: np.ndarray) -> np.ndarray:
        """Which of several queries ``(K, D)`` each of these items is nearest to, from 0 on."""
        return (self._index.vectors[self._index_rows[rows]] @ queries.T).argmax(axis=1)


def with_gone(catalog: Catalog, index: Index) -> Catalog:
    """The catalog and, behind it, items that it has no longer and the index has or had, which people still have met."""
    ids = pa.concat_arrays([index.ids.array, index.removed.ids.array])
    gone = ids.filter(pa.array(catalog.rows(ids) < 0))
    same = cast_exact(gone, catalog.ids.array.type).drop_null()
    return catalog.followed_by(same) if len(same) else catalog


def _all_of(conditions: Sequence[Where | None]) -> Where | None:
    every = [Filter.read(one) for one in conditions if one is not None]
    if len(every) < 2:
        return every[0] if every else None
    return {"and": [one.condition for one in every]}
