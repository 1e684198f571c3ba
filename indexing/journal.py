"""The journal: changes since a version, each on disk before it is acknowledged.

``journal/000004/00000001.arrow``, ``00000002.arrow``, … are the changes since version 000004, in their order; version
and journal together are the state of an index. A file is written whole and then given its name, so that a change which
was not acknowledged leaves nothing. It begins with a SHA-256, of its place too, and goes on as an Arrow stream.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from towers.artefact import atomic_file, fsync
from towers.errors import ArtefactError

JOURNAL = "journal"
DIGEST = 32


@dataclass(frozen=True)
class Change:
    """Items that were put or removed together.

    Args:
        ids: of n different items.
        vectors: float32 ``(n, D)`` of items put; None where they were removed.
        attributes: n rows; None where the index has none.
    """

    ids: pa.Array
    vectors: np.ndarray | None = None
    attributes: pa.Table | None = None


class Journal:
    """The changes since one version.

    Args:
        folder: of the index.
        version: name of the version.
    """

    def __init__(self, folder: Path, version: str) -> None:
        self._root, self._folder, self._version = folder, folder / JOURNAL / version, version
        self._count = len(_segments(self._folder))

    def __len__(self) -> int:
        return self._count

    def append(self, change: Change) -> None:
        """Write a change so that it outlives a crash; afterwards it may be acknowledged.

        Raises:
            ArtefactError: it cannot be written; the journal is as it was.
        """
        number = self._count + 1
        content = _write(change)
        try:
            if not self._folder.is_dir():
                self._folder.mkdir(parents=True)
                fsync(self._folder.parent)
                fsync(self._root)
        except OSError as error:
            raise ArtefactError(f"cannot write {self._folder}: {error.strerror or error}") from error
        try:
            with atomic_file(self._path(number)) as file:
                file.write_bytes(self._digest(number, content) + content)
        except ArtefactError:
            with suppress(OSError):  # it may have its name already, and only not be safe from a crash
                self._path(number).unlink(missing_ok=True)
            raise
        self._count = number

    def read(self) -> list[Change]:
        """All changes in their order.

        Raises:
            ArtefactError: one is missing or damaged.
        """
        found = _segments(self._folder)
        for number, path in enumerate(found, start=1):
            if path != self._path(number):
                raise ArtefactError(f"{self._folder} lacks {self._path(number).name}, a change that was acknowledged")
        return [self._read(number) for number in range(1, len(found) + 1)]

    def clear(self) -> None:
        """Drop all changes, the newest first, so that what a crash leaves is a state that once was."""
        for path in reversed(_segments(self._folder)):
            path.unlink()
        drop(self._folder)
        self._count = 0

    def _read(self, number: int) -> Change:
        path = self._path(number)
        content = path.read_bytes()
        if content[:DIGEST] != self._digest(number, content[DIGEST:]):
            raise ArtefactError(f"{path} has changed since it was written (its SHA-256 differs)")
        try:
            return _parse(content[DIGEST:])
        except (pa.ArrowException, ValueError, IndexError) as error:
            raise ArtefactError(f"{path} is damaged: {error}") from error

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:08d}.arrow"

    def _digest(self, number: int, content: bytes) -> bytes:
        return hashlib.sha256(f"{self._version}/{number}\n".encode() + content).digest()


def unpublished(folder: Path, version: str) -> int:
    """How many changes wait beside `version`."""
    return len(_segments(folder / JOURNAL / version))


def drop_others(folder: Path, version: str) -> None:
    """Remove the journals of all other versions, whose changes are part of a later one, and half-written changes."""
    for path in (folder / JOURNAL).glob("*"):
        if path.name != version:
            drop(path)
    for path in (folder / JOURNAL / version).glob(".*.part"):
        path.unlink()


def drop(path: Path) -> None:
    """Remove the folder of a journal, if there is one."""
    if path.is_dir():
        shutil.rmtree(path)
        fsync(path.parent)


def _segments(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.arrow") if re.fullmatch(r"\d{8,}\.arrow", path.name))


def _write(change: Change) -> bytes:
    columns, names = [change.ids], ["id"]
    if change.vectors is not None:
        flat = pa.array(change.vectors.ravel())
        columns.append(pa.FixedSizeListArray.from_arrays(flat, change.vectors.shape[1]))
        names.append("vector")
    if change.attributes is not None:
        columns += [column.combine_chunks() for column in change.attributes.columns]
        names += change.attributes.column_names
    table = pa.Table.from_arrays(columns, names)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()


def _parse(content: bytes) -> Change:
    table = pa.ipc.open_stream(content).read_all()
    ids = table.column(0).combine_chunks()
    if table.num_columns == 1:
        return Change(ids)
    vectors = table.column(1).combine_chunks()
    flat = vectors.flatten().to_numpy(zero_copy_only=False)
    attributes = pa.Table.from_arrays(table.columns[2:], table.column_names[2:])
    return Change(
        ids,
        np.ascontiguousarray(flat.reshape(len(ids), vectors.type.list_size), np.float32),
        attributes if attributes.num_columns else None,
    )
