"""Versioned folders: ``CURRENT`` names one of ``versions/000001/``, ``versions/000002/``, …

A new version is written beside the others and then pointed at, so that a reader always finds a whole
one, and an earlier one can be pointed at again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from towers.artefact import artefact_writer, atomic_file
from towers.errors import ArtefactError

CURRENT = "CURRENT"
VERSIONS = "versions"


def current_version(folder: Path) -> Path:
    """The version that ``CURRENT`` names.

    Raises:
        ArtefactError: `folder` is not a versioned folder, or names a version that is not there.
    """
    if not (folder / CURRENT).is_file():
        raise ArtefactError(f"expected an index at {folder}, but there is no file {CURRENT} in it")
    name = (folder / CURRENT).read_bytes().strip()
    if not re.fullmatch(rb"\d{6,}", name):
        raise ArtefactError(f"{folder / CURRENT} should name a version such as 000001, it holds {name[:40]!r}")
    version = folder / VERSIONS / name.decode()
    if not version.is_dir():
        raise ArtefactError(f"{folder / CURRENT} names version {name.decode()}, which is not in {folder / VERSIONS}")
    return version


@contextmanager
def version_writer(folder: Path, kind: str, about: dict[str, Any]) -> Iterator[Path]:
    """Yield an empty temporary folder; on success it becomes the next version and ``CURRENT`` names it.

    One writer at a time; readers need not wait.

    Args:
        folder: an empty or absent folder, or one that holds versions already.
        kind, about: as in `towers.artefact.artefact_writer`.

    Raises:
        ArtefactError: `folder` holds something else, or cannot be written.
    """
    _refuse_stranger(folder)
    numbers = [int(path.name) for path in (folder / VERSIONS).glob("*") if path.name.isdecimal()]
    name = f"{max(numbers, default=0) + 1:06d}"
    try:
        with artefact_writer(folder / VERSIONS / name, kind, about) as temporary:
            yield temporary
        with atomic_file(folder / CURRENT) as file:
            file.write_text(name + "\n", "ascii")
    except OSError as error:
        raise ArtefactError(f"cannot write {folder}: {error.strerror or error}") from error


def _refuse_stranger(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ArtefactError(f"{folder} is a file; name a folder for the index")
    known = {CURRENT, VERSIONS}
    if folder.is_dir() and any(path.name not in known and not path.name.startswith(".") for path in folder.iterdir()):
        raise ArtefactError(f"{folder} exists and is not an index; it is left alone, name another folder")
