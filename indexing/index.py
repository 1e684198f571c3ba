"""`ItemIndex`: item vectors on disk and in memory, and the items nearest to a query. Needs no torch."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from indexing import approximate, published
from indexing.attributes import as_attributes
from indexing.beyond_memory import automatic as automatic_lists
from indexing.beyond_memory import build as build_lists
from indexing.bonus import check_bonus, with_bonus
from indexing.exact import check_k, exact_search
from indexing.excluded import Exclude, Excluded
from indexing.filters import Filter, Where
from indexing.held_once import held_once
from indexing.hits import Hits
from indexing.items import Item, Removed
from indexing.nearest import Nearest
from indexing.vectors import check_items, check_vectors, repeats
from indexing.versions import KEEP, current_version
from towers.errors import InputError
from towers.ids import Id, IdList, as_id_array, could_be


class ItemIndex:
    """N item vectors that can be searched; made by `from_arrays` or `load`, or by an `indexing.writer.IndexWriter`.

    It does not change, so many threads may search it; a writer makes the next one, and `refresh` gives that.

    The exact vectors are kept, beside the FAISS index or in it. Whatever the kind, each score is the exact inner
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
        version, folder: name of the version that it was loaded or tuned from, and the index folder; None of none.
        mmap: whether vectors and FAISS index were left in their files.
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
        # With tombstones, FAISS has vectors that are no row's.
        self.vectors = (held_once(faiss, vectors) if places is None else vectors).view()
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
        self._nearest = Nearest(self.vectors, kind, faiss, places)
        self.folder: Path | None = None
        self.mmap = False
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
        search: str = "",
        scratch: str | Path | None = None,
    ) -> ItemIndex:
        """Build an index.

        Args:
            ids: N different strings or integers.
            vectors: float32 ``(N, D)``, unit norm; do not change them afterwards: they are kept and not copied, except
                where FAISS keeps whole vectors too, whose copy then serves. They may be mapped from a file.
            attributes: N rows: an Arrow table, a polars or pandas frame, or lists by column name.
            kind: FAISS factory string, or "auto": what `indexing.approximate.automatic_kind` says.
            space: fingerprint of the space of the vectors.
            search: FAISS search parameters; those that it does not name favour recall.
            scratch: an empty folder in which FAISS's lists are built part by part, and stay: for more `vectors` than
                there is memory for; see `indexing.beyond_memory`. None builds in memory.

        Raises:
            InputError: ids, vectors and attributes that do not fit together, vectors that `check_items` refuses, a
                kind that FAISS does not know or cannot train on so few vectors, unknown parameters.
        """
        if not isinstance(kind, str):
            raise InputError(f'kind must be "auto" or a factory string of FAISS, such as "Flat", got {kind!r}')
        ids = ids if isinstance(ids, IdList) else IdList(ids)
        duplicates = check_items(vectors)
        if len(ids) != len(vectors):
            raise InputError(f"there are {len(ids)} ids for {len(vectors)} vectors, expected one for each")
        table = None if attributes is None else as_attributes(attributes, len(vectors))
        if kind == "auto":
            kind = automatic_lists(len(vectors)) if scratch is not None else approximate.automatic_kind(*vectors.shape)
        faiss = approximate.build(kind, vectors) if scratch is None else build_lists(kind, vectors, Path(scratch))
        index = cls(
            ids=ids, vectors=vectors, kind=kind, space=space, faiss=faiss, duplicates=duplicates, attributes=table
        )
        index.mmap = scratch is not None
        index.set_parameters(approximate.default_parameters(faiss))
        index.set_parameters(search)
        return index

    def __len__(self) -> int:
        return len(self.vectors)

    def __repr__(self) -> str:
        size = f"{len(self)} items, {self.dimension} dimensions"
        return f"ItemIndex({size}, kind {self.kind!r}, {self.parameters!r}, searched on {self.place})"

    def __iter__(self) -> Iterator[Item]:
        """The items, in the order of their rows."""
        return (self._item(row) for row in range(len(self)))

    def __contains__(self, one: object) -> bool:
        return could_be(one) and self.ids.rows([one])[0] >= 0

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
        """The FAISS index, which has each row under the number that `places` says; it must not be changed."""
        return self._nearest.faiss

    @property
    def place(self) -> str:
        """Where FAISS searches it, in words: a graphics card, or why it is the CPU; see `indexing.card`."""
        return self._nearest.finder.place

    @property
    def tombstones(self) -> int:
        """Vectors in the FAISS index that are no item's any more, and are passed over."""
        return self.faiss.ntotal - len(self)

    def set_parameters(self, parameters: str) -> None:
        """Search with these FAISS parameters from now on; those that are not named stay as they are.

        Raises:
            InputError: this kind has no such parameter or cannot use the value; nothing is changed.

        Warns:
            UserWarning: they are poorer than those that tuning chose.
        """
        if not parameters:
            return
        try:
            approximate.set_parameters(self.faiss, parameters, self.vectors[:1])
        except InputError:
            if self.parameters:
                approximate.set_parameters(self.faiss, self.parameters, self.vectors[:1])
            raise
        # All of them, since another FAISS index, such as one built anew, has to be given all.
        self.parameters = approximate.merged(self.parameters, parameters)
        chosen = self.tuned.get("parameters", "")
        if approximate.poorer(self.parameters, chosen):
            warnings.warn(
                f"this index searches with {self.parameters!r}, poorer than {chosen!r}, which was chosen for a recall "
                f"of {self.tuned['recall']:.3f}",
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
        k = check_k(k)
        if exclude is None and bonus is None and where is None:
            return self._nearest.search(queries, k)
        excluded = Excluded.of(exclude, len(queries), len(self))
        passing = None if where is None else Filter.read(where).passing(self.attributes)
        hits = self._nearest.search_allowed(queries, k, excluded, passing)
        if bonus is None:
            return hits
        check_bonus(bonus, len(self))
        bonus = bonus if passing is None else np.where(passing, bonus, np.float32(0))
        return with_bonus(hits, queries, self.vectors, bonus, excluded)

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
            InputError: no items, no queries, or ones that cannot be used.
        """
        if len(self) == 0:
            raise InputError("this index has no items, so there is nothing that a search could find")
        if len(queries) == 0:
            raise InputError("recall is a mean over queries, got none")
        width = min(k, len(self))
        truth = exact_search(queries, self.vectors, k).scores[:, :width]
        return float((self.search(queries, k).scores[:, :width] >= truth[:, -1:]).mean())

    def save(self, path: str | Path, *, keep: int = KEEP) -> Path:
        """Write the next version into the index folder `path` and make it the current one.

        Args:
            path: index folder; made where it is not there.
            keep: how many of the newest versions stay, as in `indexing.writer.IndexWriter.publish`.

        Returns:
            The folder of the version.

        Raises:
            InputError: `keep` is below 1.
            ArtefactError: `path` is something else than an index, has changes that are not published, or cannot be
                written; or this index was made from a version of it that is no longer current.
        """
        version = published.save(self, Path(path), keep)
        if self.folder is not None and self.folder.resolve() == Path(path).resolve():
            self.version = version.name
        return version

    @classmethod
    def load(cls, path: str | Path, *, space: str | None = None, mmap: bool = False) -> ItemIndex:
        """Read the current version of the index folder `path`, every checksum verified.

        Args:
            path: index folder.
            space: the space that queries will live in; None where it is not known.
            mmap: leave vectors and FAISS index in their files, of which the system keeps in memory what is searched
                and there is room for; ids and attributes are in memory.

        Raises:
            ArtefactError: not an index, damaged, or built for another space.
        """
        return published.load(cls, Path(path), space, mmap)

    def refresh(self) -> ItemIndex:
        """The current version of the folder that this index was loaded from; itself where that is the one it is.

        It is read beside this one, which goes on answering: threads that search change over when they are given the
        new one, and hits belong to the index that gave them.

        Raises:
            InputError: it was not loaded.
            ArtefactError: as `load`; also where the folder now holds an index of another space.
        """
        if self.folder is None:
            raise InputError("this index was not loaded from a folder, so there is nothing to refresh it from")
        if current_version(self.folder).name == self.version:
            return self
        return type(self).load(self.folder, space=self.space, mmap=self.mmap)
