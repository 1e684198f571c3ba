"""An index in its folder: saved as the next version, and the current one loaded, every checksum verified."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from indexing import storage
from indexing.items import Removed
from indexing.journal import unpublished
from indexing.lock import Lock
from indexing.versions import (
    CURRENT,
    check_keep,
    current_version,
    prune,
    read_current,
    refuse_stranger,
    sweep,
    version_writer,
)
from towers.errors import ArtefactError
from towers.ids import IdList

if TYPE_CHECKING:
    from indexing.index import ItemIndex

KIND = "twotower/index"


def save(index: ItemIndex, folder: Path, keep: int) -> Path:
    """Write the next version into `folder`, make it the current one, and return its folder; see `ItemIndex.save`."""
    check_keep(keep)
    refuse_stranger(folder)
    with Lock(folder):
        if waiting := waiting_changes(folder):
            raise ArtefactError(waiting)
        _refuse_stale(index, folder)
        sweep(folder)
        version = write_version(index, folder)
        prune(folder, keep)
        return version


def _refuse_stale(index: ItemIndex, folder: Path) -> None:
    """Refuse to put what was made from an earlier version of this folder over what was published since."""
    if index.folder is None or not (folder / CURRENT).exists() or index.folder.resolve() != folder.resolve():
        return
    if (now := current_version(folder).name) != index.version:
        raise ArtefactError(
            f"this index was made from version {index.version} of {folder}, which is {now} now and whose changes "
            "would be lost: load or refresh it, and do the same again"
        )


def remember(index: ItemIndex, folder: Path) -> None:
    """Have `index`, built anew, keep the last vectors of what the current version of `folder` had and it has not.

    Histories of those who had these items go on being read. Where the version is of another space or type of ids, or
    nothing is known of the space, as with vectors of one's own, its vectors say nothing here.

    Warns:
        UserWarning: that version cannot be read, so that what was removed is forgotten.
    """
    if not index.space or not (folder / CURRENT).exists():
        return
    try:
        version, about = read_current(folder, KIND)
        files = storage.read(version, about, mmap=True)
    except (ArtefactError, KeyError, TypeError, ValueError, OSError, pa.ArrowException) as error:
        warnings.warn(
            f"what was removed is forgotten, since {folder} cannot be read: {error}", UserWarning, stacklevel=3
        )
        return
    same = (files["space"], files["vectors"].shape[1], files["ids"].array.type)
    if same != (index.space, index.dimension, index.ids.array.type):
        return
    old = files["removed"] or Removed.none(same[2], same[1])
    gone, still = (index.ids.rows(one.array) < 0 for one in (files["ids"], old.ids))
    ids = [old.ids.array.filter(pa.array(still)), files["ids"].array.filter(pa.array(gone))]
    index.removed = Removed(IdList(pa.concat_arrays(ids)), np.concatenate([old.vectors[still], files["vectors"][gone]]))


def waiting_changes(folder: Path) -> str:
    """Why `save` would refuse: changes that are not published; "" where there are none."""
    if not (folder / CURRENT).exists() or not (waiting := unpublished(folder, current_version(folder).name)):
        return ""
    return (
        f"{folder} has {waiting} changes that are not published, which another index would drop: "
        "publish them with an IndexWriter, or roll back with discard=True"
    )


def write_version(index: ItemIndex, folder: Path) -> Path:
    """`save` for whoever holds the lock of `folder`."""
    with version_writer(folder, KIND, storage.about(index)) as temporary:
        storage.write(index, temporary)
    return current_version(folder)


def load(made: type[ItemIndex], folder: Path, space: str | None, mmap: bool) -> ItemIndex:
    """The current version of `folder`, made an index; see `ItemIndex.load`."""
    while True:
        version = current_version(folder)
        try:
            return _read(made, folder, space, mmap)
        except ArtefactError:
            if current_version(folder) == version:
                raise  # else a writer has published meanwhile, and removed what was being read


def _read(made: type[ItemIndex], folder: Path, space: str | None, mmap: bool) -> ItemIndex:
    try:
        version, about = read_current(folder, KIND)
        if space is not None and about["space"] != space:
            raise ArtefactError(
                f"this index was built for another model: {version} is of the space {about['space'][:12]!r}, "
                f"expected {space[:12]!r}; build it again with this model"
            )
        index = made(**storage.read(version, about, mmap=mmap))
        index.tuned = dict(about.get("tuned", {}))
        index.set_parameters(about["parameters"])
    except (KeyError, TypeError, ValueError, OSError, pa.ArrowException) as error:
        raise ArtefactError(f"the index in {folder} is damaged: {type(error).__name__}: {error}") from error
    index.version, index.folder, index.mmap = version.name, folder, mmap
    return index
