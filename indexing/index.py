"""`ItemIndex`: item vectors on disk and in memory, and the items nearest to a query. Needs no torch."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from indexing import approximate, storage
from indexing.attributes import as_attributes
from indexing.bonus import check_bonus, with_bonus
from indexing.exact import check_k, exact_search, rank_found, scan_rows
from indexing.excluded import Exclude, Excluded
from indexing.filters import Filter, Where
from indexing.hits import Hits
from indexing.items import Item, Removed
from indexing.journal import unpublished
from indexing.lock import Lock
from indexing.vectors import check_items, check_vectors, repeats
from indexing.versions import CURRENT, current_version, read_current, refuse_stranger, version_writer
from towers.errors import ArtefactError, InputError
from towers.ids import Id, IdList, as_id_array

KIND = "twotower/index"
FLAT = "Flat"
AUTO_FLAT_BELOW = 50_000  # An exact scan takes a few milliseconds up to here; to be replaced by measurement.
AUTO_BEYOND = "HNSW32"
FLAT_MARGIN = 2  # Rows that FAISS is asked for beyond k, to see whether the cut falls among equals; pairs are common.
EQUAL = 1e-6  # Scores nearer than this may come in another order from FAISS, which adds up in blocks.
SCAN_BEYOND = 0.25  # Share of the index above which asking FAISS for so many rows costs more than a scan.
SCAN_PASSING = 0.1  # Share of items up to which those that pass a filter are scanned; to be replaced by measurement.
# Passing rows are not spread evenly, and a query that finds too few of them is answered by a scan: FAISS is asked for
# so many times more than an even spread needs, and for some beyond, without which few would often be too few.
SPARE, SPARE_ROWS = 1.5, 10


class ItemIndex:
    """N item vectors that can be searched; made by `from_arrays` or `load`, or by an `indexing.writer.IndexWriter`.

    It does not change, so many threads may search it; a writer makes the next one, and `refresh` gives that.

    The exact vectors are kept beside the FAISS index. Whatever the kind, each score is the exact inner
    product, equal scores go to the lower row, and only *which* rows are found is approximate. For a kind
    that compresses vectors (PQ, SQ, PCA), ``,RFlat`` at its end has FAISS consider more rows than k.

    Attributes:
        ids: the item of each row.
        vectors: float32 ``(N, D)``, unit norm, read-only.
        kind: FAISS factory string; ``"Flat"`` is exact.
        space: fingerprint of the vector space that the vectors live in, "" for vectors of one's own.
        attributes: Arrow table, a row for each item; None where there are none.
        removed: vectors of items that were removed, for the histories of those who had them.
        parameters: FAISS search parameters in force, such as ``"nprobe=16"``.
        tuned: what `indexing.tune.tune` chose, why, and how it measured; empty where it was not asked.
        version: name of the version that it was loaded from; None where it was not.
        places: int64 ``(N,)``, under which number FAISS has each row; None where that is the row itself.
        built: how many vectors FAISS was built from, and trained on where the kind is trained.
    """

    def __init__(
        self,
        *,
        ids: IdList,
        vectors: np.ndarray,
        kind: str,
        space: str,
        faiss: Any,
        duplicates: int | None = None,
        attributes: pa.Table | None = None,
        removed: Removed | None = None,
        places: np.ndarray | None = None,
        built: int | None = None,
    ) -> None:
        self.ids = ids
        self.vectors = vectors.view()
        self.vectors.flags.writeable = False
        self.kind = kind
        self.space = space
        self.attributes = attributes
        self.removed = removed if removed is not None else Removed.none(ids.array.type, vectors.shape[1])
        self.parameters = ""
        self.tuned: dict[str, Any] = {}
        self.version: str | None = None
        self.places = places
        self.built = len(vectors) if built is None else built
        self._faiss = faiss
        self._folder: Path | None = None
        if duplicates is not None:
            self.duplicates = duplicates

    @classmethod
    def from_arrays(
        cls,
        ids: IdList | Iterable[Id],
        vectors: np.ndarray,
        attributes: Any = None,
        *,
        kind: str = "auto",
        space: str = "",
        search: str | None = None,
    ) -> ItemIndex:
        """Build an index.

        Args:
            ids: N different strings or integers.
            vectors: float32 ``(N, D)``, unit norm; kept, not copied, so do not change them afterwards.
            attributes: N rows: an Arrow table, a polars or pandas frame, or lists by column name.
            kind: FAISS factory string, or "auto": Flat for a small catalog, HNSW beyond `AUTO_FLAT_BELOW` items.
            space: fingerprint of the space of the vectors.
            search: FAISS search parameters; None for ones that favour recall.

        Raises:
            InputError: ids, vectors and attributes that do not fit together, vectors that `check_items` refuses, a
                kind that FAISS does not know or cannot train on so few vectors, unknown parameters.
        """
        ids = ids if isinstance(ids, IdList) else IdList(ids)
        duplicates = check_items(vectors)
        if len(ids) != len(vectors):
            raise InputError(f"there are {len(ids)} ids for {len(vectors)} vectors, expected one for each")
        table = None if attributes is None else as_attributes(attributes, len(vectors))
        if kind == "auto":
            kind = FLAT if len(vectors) < AUTO_FLAT_BELOW else AUTO_BEYOND
        faiss = approximate.build(kind, vectors)
        index = cls(
            ids=ids, vectors=vectors, kind=kind, space=space, faiss=faiss, duplicates=duplicates, attributes=table
        )
        index.set_parameters(approximate.default_parameters(faiss) if search is None else search)
        return index

    def __len__(self) -> int:
        return len(self.vectors)

    def __repr__(self) -> str:
        return f"ItemIndex({len(self)} items, {self.dimension} dimensions, kind {self.kind!r}, {self.parameters!r})"

    def __iter__(self) -> Iterator[Item]:
        """The items, in the order of their rows."""
        return (self._item(row) for row in range(len(self)))

    def __contains__(self, one: object) -> bool:
        return isinstance(one, str | int) and self.ids.rows([one])[0] >= 0

    def get(self, one: Id) -> Item | None:
        """The item with this id; None where the index has none."""
        row = int(self.ids.rows([one])[0])
        return self._item(row) if row >= 0 else None

    def _item(self, row: int) -> Item:
        attributes = {} if self.attributes is None else self.attributes.slice(row, 1).to_pylist()[0]
        return Item(self.ids[row], self.vectors[row], attributes)

    @property
    def dimension(self) -> int:
        """D, the length of a vector."""
        return self.vectors.shape[1]

    @cached_property
    def duplicates(self) -> int:
        """How many vectors are exact copies of an earlier one."""
        return repeats(self.vectors)

    @property
    def faiss(self) -> Any:
        """The FAISS index, which has each row under the number that `places` says."""
        return self._faiss

    @property
    def tombstones(self) -> int:
        """Vectors in the FAISS index that are no item's any more, and are passed over."""
        return self._faiss.ntotal - len(self)

    @cached_property
    def _row_at(self) -> np.ndarray:
        """int64, the row of each of FAISS's numbers and, last, of its -1; -1 for a tombstone."""
        rows = np.full(self._faiss.ntotal + 1, -1, np.int64)
        rows[self.places] = np.arange(len(self))
        return rows

    def set_parameters(self, parameters: str) -> None:
        """Search with these FAISS parameters from now on; "" leaves them as they are.

        Raises:
            InputError: this kind has no such parameter or cannot use the value; nothing is changed.

        Warns:
            UserWarning: they are poorer than those that tuning chose.
        """
        if not parameters:
            return
        try:
            approximate.set_parameters(self._faiss, parameters, self.vectors[:1])
        except InputError:
            if self.parameters:
                approximate.set_parameters(self._faiss, self.parameters, self.vectors[:1])
            raise
        self.parameters = parameters
        chosen = self.tuned.get("parameters", "")
        if approximate.poorer(parameters, chosen):
            warnings.warn(
                f"this index searches with {parameters!r}, poorer than {chosen!r}, which was chosen for a recall of "
                f"{self.tuned['recall']:.3f}",
                UserWarning,
                stacklevel=2,
            )

    def search(
        self,
        queries: np.ndarray,
        k: int,
        *,
        exclude: Exclude = None,
        bonus: np.ndarray | None = None,
        where: Where | None = None,
    ) -> Hits:
        """The k items nearest to each query, best first; fewer only where fewer are left.

        Args:
            queries: float32 ``(B, D)``, unit norm.
            k: how many, at least 1.
            exclude: rows that must not be returned: one list for each query, or `Excluded` pairs.
            bonus: float32 ``(N,)``, at least 0, added to each item's score; see `indexing.bonus.with_bonus`.
            where: what must hold of an item's attributes, as `indexing.filters` says.

        Returns:
            Hits ``(B, k)`` with rows of `ids` and exact inner products, plus the bonus.

        Raises:
            InputError: `queries`, `k`, `exclude`, `bonus` or `where` cannot be used.
        """
        check_vectors(queries, self.dimension)
        check_k(k)
        if exclude is None and bonus is None and where is None:
            return self._nearest(queries, k)
        excluded = Excluded.of(exclude, len(queries), len(self))
        passing = None if where is None else Filter.read(where).passing(self.attributes)
        hits = self._nearest_allowed(queries, k, excluded, passing)
        if bonus is None:
            return hits
        check_bonus(bonus, len(self))
        bonus = bonus if passing is None else np.where(passing, bonus, np.float32(0))
        return with_bonus(hits, queries, self.vectors, bonus, excluded)

    def _nearest(self, queries: np.ndarray, k: int) -> Hits:
        """The k best of all."""
        if k > SCAN_BEYOND * len(self) or not len(queries):
            return exact_search(queries, self.vectors, k)
        hits = self._ranked(queries, k, self._found(queries, k))
        # FAISS may find too few: the lists it looked into, or the part of the graph it reached, held no more.
        if hits.rows[:, -1].min() < 0:
            short = np.flatnonzero(hits.rows[:, -1] < 0)
            return _replaced(hits, short, exact_search(queries[short], self.vectors, k))
        return hits

    def _nearest_allowed(self, queries: np.ndarray, k: int, excluded: Excluded, passing: np.ndarray | None) -> Hits:
        """The k best of those that are not excluded and pass the filter (bool ``(N,)``; None lets all pass).

        FAISS is asked for so many more that enough of them are left, on every index kind; those of FAISS's own
        filters that some kinds do not know, or pass over in silence, are not used.
        """
        counts = excluded.counts(len(queries))
        rows = None if passing is None else np.flatnonzero(passing)
        left = len(self) if rows is None else len(rows)
        if rows is not None and left <= SCAN_PASSING * len(self):
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
        found = self._found(queries, depth)
        barred = excluded.holds(np.repeat(np.arange(len(queries)), found.shape[1]), found.ravel(), len(self))
        barred = barred.reshape(found.shape)
        if passing is not None:
            barred |= ~passing[found]
        return self._ranked(queries, k, np.where(barred, -1, found), excluded, passing)

    def _ranked(
        self,
        queries: np.ndarray,
        k: int,
        found: np.ndarray,
        excluded: Excluded | None = None,
        passing: np.ndarray | None = None,
    ) -> Hits:
        """The k best of the rows found; for Flat, where the cut falls among equals, a scan decides by the lower row."""
        rows, scores = rank_found(queries, self.vectors, found)
        if rows.shape[1] == k:
            return Hits.sure(rows, scores)
        if rows.shape[1] < k:
            missing = ((0, 0), (0, k - rows.shape[1]))
            rows = np.pad(rows, missing, constant_values=-1)
            return Hits.sure(rows, np.pad(scores, missing, constant_values=-np.inf))
        hits = Hits.sure(rows[:, :k].copy(), scores[:, :k].copy())
        if self.kind != FLAT:
            return hits
        # The last row that FAISS gave, which for an exact index is the border of all that it did not give.
        last = scores[:, -1] if rows.min() >= 0 else np.where(rows >= 0, scores, np.inf).min(axis=1)
        close = np.flatnonzero((hits.scores[:, -1] - last < EQUAL) & (hits.rows[:, -1] >= 0))
        if not len(close):
            return hits
        barred = None if excluded is None else excluded.take(close)
        if passing is None:
            return _replaced(hits, close, exact_search(queries[close], self.vectors, k, exclude=barred))
        assert barred is not None
        return _replaced(hits, close, scan_rows(queries[close], self.vectors, k, np.flatnonzero(passing), barred))

    def _found(self, queries: np.ndarray, depth: int) -> np.ndarray:
        """Rows that FAISS finds, twice as many where there are tombstones, whose places are then -1."""
        depth = min(depth + FLAT_MARGIN, len(self)) if self.kind == FLAT else min(depth, len(self))
        if self.places is None:
            return approximate.search(self._faiss, queries, depth)
        return self._row_at[approximate.search(self._faiss, queries, min(2 * depth, self._faiss.ntotal))]

    def search_ids(self, ids: Iterable[Id], k: int) -> Hits:
        """The k nearest neighbours of each of these B items, itself left out, ``(B, k)``.

        Raises:
            InputError: an id that is not in the index, or a k below 1.
        """
        wanted = as_id_array(ids)
        rows = self.ids.rows(wanted)
        if (unknown := rows < 0).any():
            first = wanted[int(unknown.argmax())].as_py()
            raise InputError(f"{unknown.sum()} of {len(rows)} items are not in the index, the first is {first!r}")
        return self.search(self.vectors[rows], k, exclude=rows[:, None])

    def recall(self, queries: np.ndarray, k: int) -> float:
        """The share of the k nearest items that `search` finds, in [0, 1], a mean over queries ``(B, D)``.

        A row that scores as much as the k-th nearest counts as found.

        Raises:
            InputError: no queries, or ones that cannot be used.
        """
        if len(queries) == 0:
            raise InputError("recall is a mean over queries, got none")
        width = min(k, len(self))
        truth = exact_search(queries, self.vectors, k).scores[:, :width]
        return float((self.search(queries, k).scores[:, :width] >= truth[:, -1:]).mean())

    def save(self, path: str | Path) -> Path:
        """Write the next version into the index folder `path` and make it the current one.

        Returns:
            The folder of the version.

        Raises:
            ArtefactError: `path` is something else than an index, or cannot be written.
        """
        folder = Path(path)
        refuse_stranger(folder)
        with Lock(folder):
            if (folder / CURRENT).exists() and (waiting := unpublished(folder, current_version(folder).name)):
                raise ArtefactError(
                    f"{folder} has {waiting} changes that are not published, which another index would drop: "
                    "publish them with an IndexWriter, or roll back with discard=True"
                )
            return self.write_version(folder)

    def write_version(self, folder: Path) -> Path:
        """`save` for whoever holds the lock of `folder`."""
        with version_writer(folder, KIND, storage.about(self)) as temporary:
            storage.write(self, temporary)
        return current_version(folder)

    @classmethod
    def load(cls, path: str | Path, *, space: str | None = None) -> ItemIndex:
        """Read the current version of the index folder `path`, every checksum verified.

        Args:
            path: index folder.
            space: the space that queries will live in; None where it is not known.

        Raises:
            ArtefactError: not an index, damaged, or built for another space.
        """
        folder = Path(path)
        while True:
            version = current_version(folder)
            try:
                return cls._read(folder, space)
            except ArtefactError:
                if current_version(folder) == version:
                    raise  # else a writer has published meanwhile, and removed what was being read

    @classmethod
    def _read(cls, folder: Path, space: str | None) -> ItemIndex:
        try:
            version, about = read_current(folder, KIND)
            if space is not None and about["space"] != space:
                raise ArtefactError(
                    f"this index was built for another model: {version} is of the space {about['space'][:12]!r}, "
                    f"expected {space[:12]!r}; build it again with this model"
                )
            index = cls(**storage.read(version, about))
            index.tuned = dict(about.get("tuned", {}))
            index.set_parameters(about["parameters"])
        except (KeyError, TypeError, ValueError, OSError, pa.ArrowException) as error:
            raise ArtefactError(f"the index in {folder} is damaged: {type(error).__name__}: {error}") from error
        index.version, index._folder = version.name, folder
        return index

    def refresh(self) -> ItemIndex:
        """The current version of the folder that this index was loaded from; itself where that is the one it is.

        It is read beside this one, which goes on answering: threads that search change over when they are given the
        new one, and hits belong to the index that gave them.

        Raises:
            InputError: it was not loaded.
            ArtefactError: as `load`; also where the folder now holds an index of another space.
        """
        if self._folder is None:
            raise InputError("this index was not loaded from a folder, so there is nothing to refresh it from")
        if current_version(self._folder).name == self.version:
            return self
        return type(self).load(self._folder, space=self.space)


def _replaced(hits: Hits, queries: np.ndarray, others: Hits) -> Hits:
    """`hits` with those of these queries (int64 ``(M,)``) from `others`, ``(M, K)``."""
    rows, scores = hits.rows.copy(), hits.scores.copy()
    rows[queries], scores[queries] = others.rows, others.scores
    return Hits.sure(rows, scores)
