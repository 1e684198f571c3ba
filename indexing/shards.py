"""The working folder of a build: a file for each shard of vectors, written whole, so that a killed build goes on."""

from __future__ import annotations

import hashlib
import io
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from indexing.lock import Lock
from towers.artefact import atomic_file, read_json, write_json
from towers.errors import ArtefactError

PLAN = "plan.json"
DIGEST = 32


class Shards:
    """Vectors of consecutive items, `size` in each shard but the last, and notes on them.

    Args:
        folder: the working folder.
        keys: for each shard, all that fixes its vectors; a file of another key counts for nothing.
    """

    def __init__(self, folder: Path, keys: Sequence[str]) -> None:
        self._folder, self._keys = folder, keys

    def __len__(self) -> int:
        return len(self._keys)

    def write(self, number: int, vectors: np.ndarray, notes: bytes) -> None:
        """Keep the float32 ``(n, D)`` vectors of a shard, and `notes` on them; when it returns they are on disk.

        Raises:
            ArtefactError: they cannot be written.
        """
        buffer = io.BytesIO()
        np.save(buffer, vectors, allow_pickle=False)
        buffer.write(notes)
        with atomic_file(self._path(number)) as file:
            file.write_bytes(self._digest(number, buffer.getvalue()) + buffer.getvalue())

    def read(self, number: int) -> tuple[np.ndarray, bytes] | None:
        """The vectors of a shard and the notes on them; None where they are not there, of another key, or damaged."""
        try:
            content = self._path(number).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ArtefactError(f"cannot read {self._path(number)}: {error.strerror or error}") from error
        if content[:DIGEST] != self._digest(number, content[DIGEST:]):
            return None
        buffer = io.BytesIO(content[DIGEST:])
        return np.load(buffer, allow_pickle=False), buffer.read()

    def missing(self) -> list[int]:
        """Numbers of the shards that are still to be made."""
        return [number for number in range(len(self)) if self.read(number) is None]

    def __iter__(self) -> Iterator[tuple[np.ndarray, bytes]]:
        """What `read` gives of all shards, one after the other.

        Raises:
            ArtefactError: one is not there.
        """
        for number in range(len(self)):
            found = self.read(number)
            if found is None:
                raise ArtefactError(f"{self._path(number)} is missing or damaged: give the same command again")
            yield found

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:08d}.shard"

    def _digest(self, number: int, content: bytes) -> bytes:
        return hashlib.sha256(self._keys[number].encode() + b"\n" + content).digest()


@contextmanager
def working_folder(out: Path | None) -> Iterator[Path]:
    """A folder beside `out` for one build at a time; it stays where the block fails, so that the next one goes on.

    Where there is no `out`, a temporary one.

    Raises:
        ArtefactError: another build is at work, or it cannot be written.
    """
    if out is None:
        with tempfile.TemporaryDirectory(prefix="twotower-") as scratch:
            yield Path(scratch)
        return
    folder = out.absolute().with_name(f"{out.name}.building")
    with Lock(folder):
        yield folder
        shutil.rmtree(folder, ignore_errors=True)


def agree_on_plan(folder: Path, same: dict[str, Any], first: dict[str, Any]) -> dict[str, Any]:
    """What a build holds on to until it is done: what the one that was killed wrote down, if it had the same in mind.

    Args:
        folder: the working folder.
        same: what must be the same for a build to go on; else all is begun anew.
        first: what is settled by the build that comes first.
    """
    path = folder / PLAN
    if path.exists():
        try:
            plan = read_json(path)
        except ArtefactError:
            plan = {}
        if all(plan.get(name) == value for name, value in same.items()):
            return plan
        for old in folder.glob("*.shard"):
            old.unlink()
    with atomic_file(path) as file:
        write_json(file, {**same, **first})
    return {**same, **first}
