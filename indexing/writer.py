"""`IndexWriter`: items come and go in an index on disk, while readers go on with what was published."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa

from indexing.batch import Make, checked_batch, checked_ids, refuse_absent, refuse_present
from indexing.changes import changed, compacted, worn
from indexing.index import ItemIndex
from indexing.journal import Change, Journal, drop_others
from indexing.lock import Lock
from indexing.published import KIND, write_version
from indexing.versions import (
    KEEP,
    check_keep,
    current_version,
    earlier_version,
    point_at,
    prune,
    refuse_stranger,
    sweep,
)
from towers.errors import ArtefactError, InputError
from towers.ids import Id, as_id_array, cast_exact


class IndexWriter:
    """The one writer of an index folder, until `close` or the end of the process.

    What `add`, `upsert` and `remove` were given is on disk when they return, and is there again when the folder is
    opened next, whatever happened to the process. Readers see it from `publish` on. A batch is taken whole or refused.

    One thread at a time may use it. As a context manager, leaving the block gives the lock back and publishes nothing.

    Args:
        path: folder of an index, as `ItemIndex.save` writes it.

    Attributes:
        folder: that folder.

    Raises:
        ArtefactError: not an index, damaged, not writable, or another writer is at work.
    """

    def __init__(self, path: str | Path) -> None:
        self.folder = Path(path)
        refuse_stranger(self.folder)
        current_version(self.folder)  # before a lock file is put anywhere
        self._lock: Lock | None = Lock(self.folder)
        self._reopen()

    def _open(self) -> None:
        """Read the version that is current and the changes since."""
        try:
            sweep(self.folder)
            self._base = ItemIndex.load(self.folder)
            assert self._base.version is not None
            self._version = self._base.version
            drop_others(self.folder, self._version)
            self._journal = Journal(self.folder, self._version)
            self._pending = self._journal.read()
        except OSError as error:
            raise ArtefactError(f"cannot write {self.folder}: {error.strerror or error}") from error
        self._fate = {one: change.vectors is not None for change in self._pending for one in change.ids.to_pylist()}
        self._rebuilt = False

    def __enter__(self) -> IndexWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the lock back. What is not published waits in the journal."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __len__(self) -> int:
        there = self._base.ids.rows(pa.array(list(self._fate), self._id_type)) >= 0
        return len(self._base) + sum(
            lives - was for lives, was in zip(self._fate.values(), there.tolist(), strict=True)
        )

    def __contains__(self, one: Id) -> bool:
        return bool(self._present(cast_exact(as_id_array([one]), self._id_type))[0])

    @property
    def version(self) -> str:
        """Name of the version that is current."""
        return self._version

    @property
    def waiting(self) -> int:
        """How many batches are not published yet."""
        return len(self._journal)

    @property
    def index(self) -> ItemIndex:
        """The index as it is now, what is not published included; it stays as it is when the writer goes on.

        Making it takes a copy of all vectors, once after each change.
        """
        self._base, self._pending, self._fate = changed(self._base, self._pending), [], {}
        return self._base

    def add(self, ids: Iterable[Id], vectors: np.ndarray, attributes: Any = None, *, space: str = "") -> None:
        """Add items that are not there yet.

        Args:
            ids: n different ids of the type that the index has.
            vectors: float32 ``(n, D)``, unit norm; `indexing.vectors.unit` makes them.
            attributes: n rows with the columns of the index, where it has any.
            space: fingerprint of the space of the vectors, which must be that of the index.

        Raises:
            InputError: no items, items that are there or come twice, vectors or attributes that the index cannot take,
                or another space; nothing is changed.
            ArtefactError: the batch cannot be written; nothing is changed.
        """
        change = self._checked(ids, vectors, attributes, space)
        refuse_present(change.ids, self._present(change.ids))
        self._take(change)

    def upsert(self, ids: Iterable[Id], vectors: np.ndarray, attributes: Any = None, *, space: str = "") -> None:
        """Add items, or replace those that are there, attributes included; see `add`."""
        self._take(self._checked(ids, vectors, attributes, space))

    def remove(self, ids: Iterable[Id]) -> None:
        """Have items found no more. Their last vectors are kept, in `ItemIndex.removed`.

        Raises:
            InputError: no ids, one that is not there, or one that comes twice; nothing is changed.
            ArtefactError: the batch cannot be written; nothing is changed.
        """
        self._refuse_closed()
        change = Change(checked_ids(ids, self._id_type))
        refuse_absent(change.ids, self._present(change.ids))
        self._take(change)

    def compact(self) -> None:
        """Build the FAISS index again from the items that are there; `publish` does it by itself where it pays.

        Raises:
            InputError: FAISS cannot build this kind from so few items; nothing is changed.
        """
        self._refuse_closed()
        self._base, self._rebuilt = compacted(self.index), True

    def publish(self, *, keep: int = KEEP) -> str:
        """Make all changes a new version, which readers get from now on; nothing is written where nothing changed.

        Args:
            keep: how many of the newest versions stay, at least 1. The current one and the one before stay anyway.

        Returns:
            The name of the version that is current.

        Raises:
            InputError: `keep` is below 1.
            ArtefactError: it cannot be written; readers keep the version that they have, and no change is lost.
        """
        self._refuse_closed()
        check_keep(keep)
        if not len(self._journal) and not self._rebuilt:
            return self._version
        index = self.index
        if not self._rebuilt and worn(index):
            with suppress(InputError):  # too few for this kind; what was acknowledged is published all the same
                self.compact()
            index = self.index
        try:
            version = write_version(index, self.folder).name
        except BaseException:
            self._reopen()  # whether it is current already is what the disk says
            raise
        # A crash from here on leaves a journal of a version that is not current, which nobody reads.
        self._version, self._journal, self._rebuilt = version, Journal(self.folder, version), False
        drop_others(self.folder, version)
        prune(self.folder, keep)
        return version

    def rollback(self, to: str | None = None, *, discard: bool = False) -> str:
        """Make an earlier version the current one again; no version is removed, so one can go forward again, too.

        Args:
            to: its name, such as ``"000003"``; None for the one that the current one was made from.
            discard: drop the changes that are not published yet, instead of refusing.

        Returns:
            The name of the version that is current now.

        Raises:
            InputError: there is no such version, or changes that are not published.
            ArtefactError: that version is damaged.
        """
        self._refuse_closed()
        name = _point_back(self.folder, to, discard)
        self._reopen()
        return name

    def _reopen(self) -> None:
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _checked(self, ids: Iterable[Id], vectors: np.ndarray, attributes: Any, space: str) -> Change:
        """A batch to put, if the index can take it."""
        self._refuse_closed()
        base = self._base
        schema = None if base.attributes is None else base.attributes.schema
        batch = checked_batch(ids, vectors, attributes, space, Make(self._id_type, base.dimension, base.space, schema))
        return Change(batch.ids, batch.vectors.copy(), batch.attributes)

    @property
    def _id_type(self) -> pa.DataType:
        return self._base.ids.array.type

    def _present(self, ids: pa.Array) -> np.ndarray:
        """bool ``(n,)`` which of these ids are in the index now."""
        there = self._base.ids.rows(ids) >= 0
        return np.array([self._fate.get(i, was) for i, was in zip(ids.to_pylist(), there.tolist(), strict=True)], bool)

    def _take(self, change: Change) -> None:
        self._journal.append(change)
        self._pending.append(change)
        self._fate |= dict.fromkeys(change.ids.to_pylist(), change.vectors is not None)

    def _refuse_closed(self) -> None:
        if self._lock is None or not self._lock.is_held:
            raise InputError(f"this writer of {self.folder} is closed; open another one")


def rollback(path: str | Path, to: str | None = None, *, discard: bool = False) -> str:
    """Make an earlier version of an index current again, even where the current one cannot be read.

    Args and raises are those of `IndexWriter.rollback`.
    """
    folder = Path(path)
    current_version(folder)  # before a lock file is put anywhere
    with Lock(folder):
        return _point_back(folder, to, discard)


def _point_back(folder: Path, to: str | None, discard: bool) -> str:
    current = current_version(folder).name
    journal = Journal(folder, current)
    if len(journal) and not discard:
        raise InputError(
            f"{len(journal)} batches are not published yet: publish them first, or drop them with discard=True"
        )
    name = earlier_version(folder, KIND, to)
    drop_others(folder, current)
    journal.clear()
    point_at(folder, name)
    return name
