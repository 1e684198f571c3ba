"""What is asked of an index wherever its items are, and opening one: a folder, or a collection in a Milvus.

This is the contract of searching and changing. Versions, checksums and roll back are those of folders alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from indexing.address import Address
from indexing.excluded import Exclude
from indexing.filters import Where
from indexing.hits import Hits
from indexing.index import ItemIndex
from indexing.items import Item, Removed
from indexing.milvus import MilvusIndex
from indexing.milvus_writer import MilvusWriter
from indexing.vectors import Rows
from indexing.writer import IndexWriter
from towers.ids import Id, IdList


class Store(Protocol):
    """N items that can be searched: an `ItemIndex` or a `MilvusIndex`."""

    @property
    def ids(self) -> IdList:
        """The item of each row."""

    @property
    def vectors(self) -> Rows:
        """Its vector: ``vectors[rows]`` is float32 ``(M, D)``."""

    @property
    def space(self) -> str:
        """Fingerprint of the vector space, "" for vectors of one's own."""

    @property
    def dimension(self) -> int:
        """D, the length of a vector."""

    @property
    def removed(self) -> Removed:
        """Vectors of items that were removed, for the histories of those who had them."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Item]: ...

    def __contains__(self, one: object) -> bool: ...

    def get(self, one: Id) -> Item | None:
        """The item with this id; None where there is none."""

    def search(
        self,
        queries: np.ndarray,
        k: int,
        *,
        exclude: Exclude = None,
        bonus: np.ndarray | None = None,
        where: Where | None = None,
    ) -> Hits:
        """The k items nearest to each query, as `ItemIndex.search` says."""

    def refresh(self) -> Store:
        """The index as it is now."""


class StoreWriter(Protocol):
    """Has items come and go: an `IndexWriter` or a `MilvusWriter`. A batch that cannot be taken changes nothing."""

    def __enter__(self) -> StoreWriter: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __len__(self) -> int: ...

    def __contains__(self, one: Id) -> bool: ...

    @property
    def index(self) -> Store:
        """The index as it is now."""

    def add(self, ids: Iterable[Id], vectors: np.ndarray, attributes: Any = None, *, space: str = "") -> None:
        """Add items that are not there yet."""

    def upsert(self, ids: Iterable[Id], vectors: np.ndarray, attributes: Any = None, *, space: str = "") -> None:
        """Add items, or replace those that are there."""

    def remove(self, ids: Iterable[Id]) -> None:
        """Have items found no more, and keep their last vectors."""

    def close(self) -> None:
        """Let others write."""


def open_index(place: str | Path, *, space: str | None = None) -> Store:
    """The index at a place.

    Args:
        place: the folder of an index, or what `Address.read` takes for a Milvus.
        space: the space that queries will live in; None where it is not known.

    Raises:
        ArtefactError: there is none, or one that cannot be used.
    """
    address = Address.read(place)
    return ItemIndex.load(place, space=space) if address is None else MilvusIndex.open(address, space=space)


def open_writer(place: str | Path) -> StoreWriter:
    """A writer of the index at a place; raises as `open_index` does, and where another writer is at work."""
    address = Address.read(place)
    return IndexWriter(place) if address is None else MilvusWriter(address)
