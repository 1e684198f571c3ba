"""`MilvusIndex`: items in a Milvus, searched as those of an `ItemIndex` are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from indexing.address import Address
from indexing.attributes import as_attributes
from indexing.batch import Make, checked_batch
from indexing.bonus import check_bonus, with_bonus
from indexing.collection import MOST, Collection, check_batch, refuse_kind
from indexing.columns import columns_of
from indexing.exact import check_k, rank_found, scan_rows
from indexing.excluded import Exclude, Excluded
from indexing.expressions import Said, all_of, expression, is_in
from indexing.filters import Where
from indexing.hits import Hits
from indexing.items import Item, Removed
from indexing.vectors import check_items, check_vectors
from towers.errors import ArtefactError, InputError
from towers.ids import Id, IdList, as_id_array, cast_exact, could_be

DEEPER = 4  # times as many are asked for where too few were found


class MilvusIndex:
    """N item vectors in a Milvus that can be searched; made by `build` or `open`.

    Hits are rows of `ids`, which are read once: items that others add are found from `refresh` on, those that they
    remove are found no more at once. Each score is the exact inner product, for which the vectors of what was found
    are fetched; equal scores go to the lower row; only *which* rows are found is as good as Milvus's index.

    Attributes:
        ids: the item of each row.
        vectors: of rows, fetched when they are asked for: ``index.vectors[rows]`` is float32 ``(M, D)``.
        space: fingerprint of the vector space that the vectors live in, "" for vectors of one's own.
    """

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self.space = collection.make.space

    @classmethod
    def build(
        cls,
        place: str | Path | Address,
        ids: IdList | Iterable[Id],
        vectors: np.ndarray,
        attributes: Any = None,
        *,
        kind: str = "auto",
        space: str = "",
    ) -> MilvusIndex:
        """Have a collection hold exactly these items.

        One that is there and of the same make is brought to that, and goes on serving; items that it has beside them
        are removed.

        Args:
            place: what `Address.read` reads.
            ids, vectors, attributes, space: as in `indexing.index.ItemIndex.from_arrays`.
            kind: Milvus's index type for a new collection, such as ``HNSW`` or ``FLAT``; "auto" leaves it to Milvus.

        Raises:
            InputError: items that do not fit together, or that Milvus cannot keep.
            ArtefactError: a collection of another make is there, or Milvus does not do as it is asked.
        """
        ids = ids if isinstance(ids, IdList) else IdList(ids)
        check_items(vectors)
        table = None if attributes is None else as_attributes(attributes, len(ids))
        make = Make(ids.array.type, vectors.shape[1], space, None if table is None else table.schema)
        batch = checked_batch(ids.array, vectors, table, space, make)
        check_batch(batch, columns_of(make.attributes))
        collection = _of_make(address_of(place), make, kind)
        collection.put(batch)
        others = collection.ids()
        others = others.filter(pa.array(ids.rows(others) < 0))
        if len(others):
            collection.remove(others)
        collection.flush()
        return cls(collection)

    @staticmethod
    def refuse_early(place: str | Path | Address, kind: str, make: Make | None = None) -> None:
        """Refuse, before hours of embedding, what `build` would refuse after them.

        Args:
            place, kind: as in `build`.
            make: what the items will share; None where it is not known yet.

        Raises:
            InputError: a kind that Milvus does not know, or attributes that it cannot keep.
            ArtefactError: it does not answer, or a collection of a stranger or of another make is there.
        """
        refuse_kind(kind)
        if make is not None:
            columns_of(make.attributes)
        there = Collection.find(address_of(place))
        if there is not None:
            try:
                if make is not None:
                    _refuse_other(there, make)
            finally:
                there.close()

    @classmethod
    def open(cls, place: str | Path | Address, *, space: str | None = None) -> MilvusIndex:
        """The index that is there.

        Args:
            place: what `Address.read` reads.
            space: the space that queries will live in; None where it is not known.

        Raises:
            ArtefactError: none is there, or one of a stranger, of a newer format or of another space; or Milvus does
                not answer.
        """
        return cls(Collection.open(address_of(place), space))

    @cached_property
    def ids(self) -> IdList:
        return IdList(self._collection.ids())

    @cached_property
    def vectors(self) -> _Vectors:
        return _Vectors(self._collection, self.ids)

    @cached_property
    def removed(self) -> Removed:
        """Vectors of items that were removed, for the histories of those who had them."""
        ids, vectors = self._collection.removed()
        gone = self.ids.rows(ids) < 0
        return Removed(IdList(ids.filter(pa.array(gone))), vectors[gone])

    @property
    def dimension(self) -> int:
        """D, the length of a vector."""
        return self._collection.make.dimension

    @property
    def address(self) -> Address:
        """Where it is."""
        return self._collection.address

    @property
    def kind(self) -> str:
        """Milvus's index type."""
        return self._collection.kind

    @property
    def schema(self) -> pa.Schema | None:
        """Of the attributes; None where there are none."""
        return self._collection.make.attributes

    @property
    def attributes(self) -> None:
        """They stay in the Milvus, which filters by them."""
        return None

    def close(self) -> None:
        """Leave the Milvus, with all that `refresh` gave; an embedded one may then be opened by another process."""
        self._collection.close()

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"MilvusIndex({len(self)} items, {self.dimension} dimensions, kind {self.kind!r}, at {self.address})"

    def __iter__(self) -> Iterator[Item]:
        """The items that are still there, in the order of their rows."""
        for start in range(0, len(self), MOST // 8):
            some = self.ids.array[start : start + MOST // 8]
            found = {item.id: item for item in self._items(some)}
            yield from (found[one] for one in some.to_pylist() if one in found)

    def __contains__(self, one: object) -> bool:
        return could_be(one) and self.get(one) is not None

    def get(self, one: Id) -> Item | None:
        """The item with this id, as it is now; None where there is none."""
        wanted = cast_exact(as_id_array([one]), self._collection.make.ids).drop_null()
        return next(iter(self._items(wanted)), None)

    def search(
        self,
        queries: np.ndarray,
        k: int,
        *,
        exclude: Exclude = None,
        bonus: np.ndarray | None = None,
        where: Where | None = None,
    ) -> Hits:
        """The k items nearest to each query, best first; arguments and errors are those of `ItemIndex.search`."""
        check_vectors(queries, self.dimension)
        k = check_k(k)
        excluded = Excluded.of(exclude, len(queries), len(self))
        said: Said = True if where is None else expression(where, self.schema, self._collection.columns)
        hits = self._nearest(queries, k, excluded, said)
        if bonus is None:
            return hits
        check_bonus(bonus, len(self))
        reach = k + int(excluded.counts(len(queries)).max(initial=0))
        rows = np.union1d(self._best(bonus, reach, said), hits.rows[hits.rows >= 0])
        kept = np.zeros_like(bonus)
        kept[rows] = bonus[rows]
        return with_bonus(hits, queries, self.vectors, kept, excluded)

    def refresh(self) -> MilvusIndex:
        """The same collection as it is now, new items included; never this one, as Milvus does not say what changed."""
        return MilvusIndex(self._collection)

    def _items(self, ids: pa.Array) -> list[Item]:
        named, vectors, attributes = self._collection.items(ids)
        vectors.flags.writeable = False
        return [Item(*one) for one in zip(named, vectors, attributes, strict=True)]

    def _nearest(self, queries: np.ndarray, k: int, excluded: Excluded, said: Said) -> Hits:
        """The k best that an expression fits; Milvus is asked for so many more as are excluded."""
        counts = excluded.counts(len(queries))
        depths = k + np.where(counts, 2 ** np.ceil(np.log2(np.maximum(counts, 1))), 0).astype(np.int64)
        hits = Hits.top(np.empty((len(queries), 0), np.float32), k)
        rows, scores = hits.rows.copy(), hits.scores.copy()
        for depth in np.unique(depths):
            group = np.flatnonzero(depths == depth)
            found = self._search_deep(queries[group], k, int(depth), excluded.take(group), said)
            rows[group], scores[group] = found.rows, found.scores
        return Hits.sure(rows, scores)

    def _search_deep(self, queries: np.ndarray, k: int, depth: int, excluded: Excluded, said: Said) -> Hits:
        """The k best of the nearest `depth`, of more where too few of them may be returned, or, at last, of all."""
        depth = min(depth, MOST)
        replies = self._collection.nearest(queries, depth, said)
        hits = self._ranked(queries, k, replies, excluded)
        short = np.flatnonzero(hits.rows[:, -1] < 0)
        if not len(short):
            return hits
        there = self._collection.count(said)
        short = short[[len(replies[query][0]) < there for query in short]]
        if not len(short):
            return hits  # what is short has been given all that there are
        left = excluded.take(short)
        if depth < MOST:
            better = self._search_deep(queries[short], k, DEEPER * depth, left, said)
        else:
            passing = np.sort(self.ids.rows(self._collection.ids(said)))
            better = scan_rows(queries[short], self.vectors, k, passing[passing >= 0], left)
        rows, scores = hits.rows.copy(), hits.scores.copy()
        rows[short], scores[short] = better.rows, better.scores
        return Hits.sure(rows, scores)

    def _ranked(
        self, queries: np.ndarray, k: int, replies: list[tuple[list[Id], np.ndarray]], excluded: Excluded
    ) -> Hits:
        """The k best of what Milvus found, by exact scores; neither what is excluded nor what came after `ids`."""
        lengths = [len(ids) for ids, _ in replies]
        query = np.repeat(np.arange(len(replies)), lengths)
        place = np.concatenate([np.empty(0, np.int64), *map(np.arange, lengths)])
        row = self.ids.rows(pa.array([one for ids, _ in replies for one in ids], self.ids.array.type))
        row[excluded.holds(query, row, len(self))] = -1
        allowed = np.flatnonzero(row >= 0)
        distinct, first, local = np.unique(row[allowed], return_index=True, return_inverse=True)
        found = np.full((len(replies), max([k, *lengths])), -1, np.int64)
        found[query[allowed], place[allowed]] = local
        if not len(distinct):
            return Hits.top(np.empty((len(queries), 0), np.float32), k)
        near = np.concatenate([vectors for _, vectors in replies])[allowed[first]]
        local, scores = rank_found(queries, near, found)
        rows = np.append(distinct, -1)[local]
        return Hits.sure(rows[:, :k].copy(), scores[:, :k].copy())

    def _best(self, bonus: np.ndarray, reach: int, said: Said) -> np.ndarray:
        """Rows of the largest bonuses, `reach` of them, that are there and that an expression fits."""
        order = np.argsort(-bonus, kind="stable")[: np.count_nonzero(bonus)]
        found: list[int] = []
        for start in range(0, len(order), MOST // 8):
            some = order[start : start + MOST // 8]
            named = is_in("item_id", self.ids.take(some))
            passing = self.ids.rows(self._collection.ids(all_of([said, named])))
            found += some[np.isin(some, passing)].tolist()
            if len(found) >= reach:
                break
        return np.array(found[:reach], np.int64)


class _Vectors:
    """Vectors by row, fetched when they are asked for; zeros where an item has gone since its id was read."""

    def __init__(self, collection: Collection, ids: IdList) -> None:
        self._collection, self._ids = collection, ids

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, rows: Any) -> np.ndarray:
        wanted = np.asarray(rows)
        distinct, back = np.unique(wanted, return_inverse=True)
        places, vectors = self._collection.vectors(self._ids.array.take(pa.array(distinct)))
        found = np.zeros((len(distinct), self._collection.make.dimension), np.float32)
        found[places] = vectors
        return found[back.reshape(wanted.shape)]


def address_of(place: str | Path | Address) -> Address:
    address = place if isinstance(place, Address) else Address.read(place)
    if address is None:
        raise InputError(f"expected a Milvus, such as milvus.db or http://host:19530, got {str(place)!r}")
    return address


def _of_make(address: Address, make: Make, kind: str) -> Collection:
    """The collection that is there, or a new one."""
    there = Collection.find(address)
    if there is None:
        return Collection.create(address, make, kind)
    _refuse_other(there, make)
    return there


def _refuse_other(there: Collection, make: Make) -> None:
    """Refuse a collection whose items share something else than those that it is to hold.

    Raises:
        ArtefactError: they do.
    """
    for name, has, wanted in zip(("ids", "dimension", "space", "attributes"), there.make, make, strict=True):
        if has != wanted:
            most = 12 if name == "space" else 100  # so many digits of a fingerprint are told everywhere
            raise ArtefactError(
                f"{there.address} holds items of other {name}: {_short(has, most)}, these have {_short(wanted, most)}; "
                f"name another collection, as in {there.address.uri}#songs"
            )


def _short(value: Any, most: int) -> str:
    return " ".join(str(value).split())[:most] or "none"
