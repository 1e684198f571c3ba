"""Versioned folders: ``CURRENT`` names one of ``versions/000001/``, ``versions/000002/``, …

A new version is written beside the others and then pointed at, so that a reader always finds a whole one, and an
earlier one can be pointed at again. ``CURRENT`` holds the SHA-256 of the version's manifest too, and the manifest that
of every file, so that what it vouches for cannot change unnoticed. The number of a version is never given twice.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from towers.artefact import MANIFEST, artefact_writer, atomic_file, fsync, read_json, read_manifest, sha256_file
from towers.errors import ArtefactError, InputError

CURRENT = "CURRENT"
VERSIONS = "versions"
OTHERS = {"LOCK", "journal"}  # what else an index folder holds
KEEP = 3  # how many of the newest versions stay


def current_version(folder: Path) -> Path:
    """The version that ``CURRENT`` names.

    Raises:
        ArtefactError: `folder` is not a versioned folder, or names a version that is not there.
    """
    return folder / VERSIONS / _current(folder)[0]


def read_current(folder: Path, kind: str) -> tuple[Path, dict[str, Any]]:
    """The current version and its manifest, all checksums verified from ``CURRENT`` on.

    Args:
        folder, kind: as in `version_writer`.

    Raises:
        ArtefactError: as `current_version` and `towers.artefact.read_manifest`, or another manifest than the one that
            was pointed at.
    """
    name, digest = _current(folder)
    version = folder / VERSIONS / name
    manifest = read_manifest(version, kind)
    if sha256_file(version / MANIFEST) != digest:
        raise ArtefactError(f"{version / MANIFEST} is not the one that {folder / CURRENT} points at: it has changed")
    return version, manifest


def previous_version(folder: Path) -> str | None:
    """The version that the current one was made from, if any; the manifest alone is read.

    Raises:
        ArtefactError: the manifest cannot be read, or has changed.
    """
    name, digest = _current(folder)
    path = folder / VERSIONS / name / MANIFEST
    manifest = read_json(path)
    if sha256_file(path) != digest:
        raise ArtefactError(f"{path} is not the one that {folder / CURRENT} points at: say which version to go back to")
    return manifest.get("previous")


def versions(folder: Path) -> list[str]:
    """Names of all versions, the oldest first."""
    names = [path.name for path in (folder / VERSIONS).glob("*") if path.is_dir() and path.name.isdecimal()]
    return sorted(names, key=int)


@contextmanager
def version_writer(folder: Path, kind: str, about: dict[str, Any]) -> Iterator[Path]:
    """Yield an empty temporary folder; on success it becomes the next version and ``CURRENT`` names it.

    One writer at a time, which `indexing.lock.Lock` sees to; readers need not wait.

    Args:
        folder: an empty or absent folder, or one that holds versions already.
        kind, about: as in `towers.artefact.artefact_writer`; ``previous``, the version that was current before, is
            added to the manifest.

    Raises:
        ArtefactError: `folder` holds something else, or cannot be written.
    """
    refuse_stranger(folder)
    name = f"{max((int(one) for one in versions(folder)), default=0) + 1:06d}"
    previous = _current(folder)[0] if (folder / CURRENT).exists() else None
    try:
        with artefact_writer(folder / VERSIONS / name, kind, {**about, "previous": previous}) as temporary:
            yield temporary
        point_at(folder, name)
    except OSError as error:
        raise ArtefactError(f"cannot write {folder}: {error.strerror or error}") from error


def point_at(folder: Path, name: str) -> None:
    """Make the version `name` the current one."""
    with atomic_file(folder / CURRENT) as file:
        file.write_text(f"{name} {sha256_file(folder / VERSIONS / name / MANIFEST)}\n", "ascii")


def earlier_version(folder: Path, kind: str, to: str | None) -> str:
    """The version to go back to, whole.

    Args:
        folder, kind: as in `version_writer`.
        to: a version; None for the one that the current one was made from.

    Raises:
        InputError: there is no such version.
        ArtefactError: it is damaged.
    """
    current = current_version(folder)
    if to is None:
        to = previous_version(folder)
        if to is None:
            raise InputError(f"{current} is the first version, there is none to go back to")
    there = versions(folder)
    if to not in there:
        raise InputError(f"{folder} has no version {to!r} to go back to; it has {', '.join(there)}")
    read_manifest(folder / VERSIONS / to, kind)
    return to


def check_keep(keep: int) -> None:
    """Refuse to keep no version, or a part of one."""
    if isinstance(keep, bool) or not isinstance(keep, int | np.integer):
        raise InputError(f"keep must be a whole number of versions, got {keep!r}")
    if keep < 1:
        raise InputError(f"keep must be at least 1 version, got {keep}")


def prune(folder: Path, keep: int) -> list[str]:
    """Remove all versions but the newest, the current one and the one that it was made from.

    Args:
        folder: as in `version_writer`.
        keep: how many of the newest stay, at least 1.

    Returns:
        Names of those removed.
    """
    needed = (current_version(folder).name, previous_version(folder))
    old = [name for name in versions(folder)[:-keep] if name not in needed]
    for name in old:
        shutil.rmtree(folder / VERSIONS / name, ignore_errors=True)
    return old


def sweep(folder: Path) -> None:
    """Remove what writers that were killed have left half done; for the holder of the lock only."""
    for path in [*folder.glob(".*.part"), *(folder / VERSIONS).glob(".*.part"), *(folder / VERSIONS).glob(".*.old")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    fsync(folder)


def refuse_stranger(folder: Path) -> None:
    """Raise `ArtefactError` where `folder` is a file, or holds what is no part of an index."""
    if folder.exists() and not folder.is_dir():
        raise ArtefactError(f"{folder} is a file; name a folder for the index")
    known = {CURRENT, VERSIONS, *OTHERS}
    there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    strange = [name for name in there if name not in known and not name.startswith(".")]
    if strange and CURRENT in there:
        raise ArtefactError(f"{folder} holds {strange[0]!r}, which is no part of an index: move it elsewhere")
    if strange:
        raise ArtefactError(
            f"{folder} exists, holds {strange[0]!r}, and is not an index; it is left alone, name another folder"
        )


def _current(folder: Path) -> tuple[str, str]:
    """Name and manifest's SHA-256 of the version that ``CURRENT`` names."""
    try:
        content = (folder / CURRENT).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise ArtefactError(f"expected an index at {folder}, but there is no file {CURRENT} in it") from None
    except OSError as error:
        raise ArtefactError(f"cannot read {folder / CURRENT}: {error.strerror or error}") from error
    match = re.fullmatch(rb"(\d{6,}) ([0-9a-f]{64})\n", content)
    if match is None and re.fullmatch(rb"\d{6,}\s*", content):
        raise ArtefactError(f"{folder} is an index of an older format, without checksums of manifests: build it again")
    if match is None:
        raise ArtefactError(
            f"{folder / CURRENT} should name a version such as 000001 and its SHA-256, it holds {content[:40]!r}"
        )
    name = match[1].decode()
    if not (folder / VERSIONS / name).is_dir():
        raise ArtefactError(f"{folder / CURRENT} names version {name}, which is not in {folder / VERSIONS}")
    return name, match[2].decode()
