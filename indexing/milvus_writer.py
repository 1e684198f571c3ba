"""`MilvusWriter`: items come and go in a Milvus, as they do in a folder with an `IndexWriter`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from indexing.address import Address
from indexing.batch import Batch, checked_batch, checked_ids, refuse_absent, refuse_present
from indexing.collection import Collection
from indexing.milvus import MilvusIndex, address_of
from towers.errors import InputError
from towers.ids import Id, as_id_array, cast_exact


class MilvusWriter:
    """Has items come and go in a collection. What was acknowledged is seen by this process at once.

    Others see it when they open an index or refresh one; on a cluster their searches may lag by a second or so.

    Milvus has no lock, no versions and no transactions: that one writer is at work at a time is up to those who write,
    there is no way back, and of a call that breaks off, part may be done; `upsert` makes it whole when it is repeated.

    Args:
        place: what `Address.read` reads.

    Raises:
        ArtefactError: as `MilvusIndex.open`.
    """

    def __init__(self, place: str | Path | Address) -> None:
        self._collection = Collection.open(address_of(place))

    def __enter__(self) -> MilvusWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the Milvus. An embedded one writes out and indexes what it was given; a server does when it likes."""
        if not self._collection.closed:
            if self._collection.address.embedded:
                self._collection.flush()
            self._collection.close()

    def __len__(self) -> int:
        return self._collection.count()

    def __contains__(self, one: Id) -> bool:
        return bool(
            self._collection.present(cast_exact(as_id_array([one]), self._collection.make.ids).drop_null()).any()
        )

    @property
    def index(self) -> MilvusIndex:
        """The index as it is now, with a connection of its own, which stays when the writer is closed."""
        self._refuse_closed()
        return MilvusIndex.open(self._collection.address)

    def add(self, ids: Iterable[Id], vectors: np.ndarray, attributes: Any = None, *, space: str = "") -> None:
        """Add items that are not there yet; arguments and errors are those of `indexing.writer.IndexWriter.add`."""
        batch = self._checked(ids, vectors, attributes, space)
        refuse_present(batch.ids, self._collection.present(batch.ids))
        self._collection.put(batch)

    def upsert(self, ids: Iterable[Id], vectors: np.ndarray, attributes: Any = None, *, space: str = "") -> None:
        """Add items, or replace those that are there, attributes included; see `add`."""
        self._collection.put(self._checked(ids, vectors, attributes, space))

    def remove(self, ids: Iterable[Id]) -> None:
        """Have items found no more. Their last vectors are kept, in `MilvusIndex.removed`.

        Raises:
            InputError: no ids, one that is not there, or one that comes twice; nothing is changed.
            ArtefactError: Milvus does not do as it is asked.
        """
        self._refuse_closed()
        wanted = checked_ids(ids, self._collection.make.ids)
        refuse_absent(wanted, self._collection.present(wanted))
        self._collection.remove(wanted)

    def _checked(self, ids: Iterable[Id], vectors: np.ndarray, attributes: Any, space: str) -> Batch:
        self._refuse_closed()
        return checked_batch(ids, vectors, attributes, space, self._collection.make)

    def _refuse_closed(self) -> None:
        if self._collection.closed:
            raise InputError(f"this writer of {self._collection.address} is closed; open another one")
