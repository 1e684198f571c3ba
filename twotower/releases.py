"""Releases: a model and its index that belong together, beside those before, one of them the current one.

A folder of them looks like this; `current` is a link, replaced in one step, so ``--model FOLDER/current/model --index
FOLDER/current/index`` always names two that belong together::

    FOLDER/
      current -> releases/000002
      releases/000001/  model/  index/  manifest.json
      releases/000002/  model/  index/  manifest.json
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from indexing.index import ItemIndex
from towers.artefact import MANIFEST, artefact_writer, read_json
from towers.errors import ArtefactError, InputError
from towers.model import TwoTower

KIND = "twotower/release"
CURRENT, RELEASES = "current", "releases"


def names(folder: Path) -> list[str]:
    """Of all releases, the oldest first."""
    return sorted(path.name for path in (folder / RELEASES).glob("[0-9]*") if path.is_dir())


def current(folder: Path) -> str | None:
    """Name of the current release; None where there is none yet.

    Raises:
        ArtefactError: the link leads nowhere.
    """
    link = folder / CURRENT
    if not link.is_symlink():
        return None
    name = Path(os.readlink(link)).name
    if name not in names(folder):
        raise ArtefactError(f"{link} leads to {os.readlink(link)}, which is not there: point it at a release")
    return name


def about(folder: Path, name: str) -> dict[str, Any]:
    """What a release says of itself. Its model and its index vouch for their own files."""
    return read_json(folder / RELEASES / name / MANIFEST)  # items come and go in its index, so files may differ


def release(folder: Path, model: TwoTower, index: ItemIndex, facts: dict[str, Any]) -> str:
    """Write the next release, whole or not at all, and make it the current one; its name.

    Args:
        folder: of releases.
        model, index: which belong together.
        facts: JSON values for its manifest.
    """
    there = names(folder)
    name = f"{int(there[-1]) + 1 if there else 1:06}"
    with artefact_writer(folder / RELEASES / name, KIND, {**facts, "from": current(folder)}) as path:
        model.save(path / "model", about=facts["model"])
        index.save(path / "index")
    point_at(folder, name)
    return name


def point_at(folder: Path, name: str) -> None:
    """Make a release the current one, in one step."""
    link = folder / f".{CURRENT}.part"
    link.unlink(missing_ok=True)
    link.symlink_to(Path(RELEASES) / name)
    link.replace(folder / CURRENT)


def rollback(folder: Path, to: str | None = None) -> str:
    """Make an earlier release the current one; its name. None is removed.

    Args:
        folder: of releases.
        to: which; default: the one that the current one was made from.

    Raises:
        InputError: there is none, or no such.
    """
    now = current(folder)
    to = to or (about(folder, now)["from"] if now is not None else None)
    if to is None:
        raise InputError(f"{folder} has no release to go back to")
    if to not in names(folder):
        raise InputError(f"{folder} has no release {to!r} to go back to; it has {', '.join(names(folder))}")
    point_at(folder, to)
    return to


def prune(folder: Path, keep: int) -> list[str]:
    """Remove all releases but the newest `keep`, the current one and the one that it was made from; their names.

    What killed refreshes left half-written goes, too; so none may be at work.
    """
    now = current(folder)
    needed = {now, about(folder, now)["from"] if now is not None else None}
    old = [name for name in names(folder)[:-keep] if name not in needed]
    left = (folder / RELEASES).glob(".*.part")
    for path in (*(folder / RELEASES / name for name in old), *left):
        shutil.rmtree(path, ignore_errors=True)
    return old
