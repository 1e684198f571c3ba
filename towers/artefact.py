"""Artefacts: folders that appear whole or not at all, with a manifest that vouches for every file.

No torch here, so that `indexing` can use it too.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from towers.errors import ArtefactError

MANIFEST = "manifest.json"
FORMAT = 1


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync(path: Path) -> None:
    """Push a file, or a folder's list of names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Write JSON for people and programs: indented, keys in the order given, never NaN."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


def read_json(path: Path) -> Any:
    """Read JSON, or raise `ArtefactError` naming the file."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ArtefactError(f"{path} is not readable JSON: {error}") from error


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path`; on success it is fsynced and renamed to `path`.

    Raises:
        ArtefactError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        fsync(temporary)
        os.replace(temporary, path)
        fsync(path.parent)
    except OSError as error:
        raise ArtefactError(f"cannot write {path}: {error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def refuse_unwritable(path: Path, kind: str) -> None:
    """Raise before hours of work what `artefact_writer` would raise after them."""
    if path.exists():
        _refuse_unless_kind(path, kind)
    temporary = _temporary(path)
    try:
        (temporary / MANIFEST).write_bytes(bytes(4096))  # a full disk may still make folders
    except OSError as error:
        raise ArtefactError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def artefact_writer(path: Path, kind: str, about: dict[str, Any]) -> Iterator[Path]:
    """Yield an empty temporary folder; on success it becomes `path`, manifest included.

    Args:
        path: final folder. An earlier artefact of the same kind there is replaced.
        kind: what the folder is, such as ``"twotower/model"``.
        about: JSON values for the manifest; read when the block ends, so it may be filled inside.

    Raises:
        ArtefactError: `path` exists and is something else, or cannot be written.
    """
    if path.exists():
        _refuse_unless_kind(path, kind)
    temporary = _temporary(path)
    try:
        yield temporary
        _write_manifest(temporary, kind, about)
        if path.exists():
            _refuse_unless_kind(path, kind)  # again: the block may have taken hours
        _swap(temporary, path)
    except OSError as error:  # such as a disk that has filled
        raise ArtefactError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_manifest(path: Path, kind: str, *, verify: bool = True) -> dict[str, Any]:
    """The manifest of the artefact at `path`, every listed file checked by size and SHA-256.

    Args:
        path: folder.
        kind: what it must be.
        verify: False skips the checksums (sizes and names are still checked).

    Raises:
        ArtefactError: not a folder, no manifest, another kind, a newer format, or a file that is
            missing, extra or changed.
    """
    if not path.is_dir():
        raise ArtefactError(f"expected the folder of a {kind} at {path}, but there is none")
    if not (path / MANIFEST).is_file():
        raise ArtefactError(f"{path} is not a {kind}: it has no {MANIFEST}")
    manifest = read_json(path / MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("kind") != kind:
        found = manifest.get("kind") if isinstance(manifest, dict) else type(manifest).__name__
        raise ArtefactError(f"{path} is a {found!r}, expected a {kind!r}")
    if not isinstance(manifest.get("format"), int) or manifest["format"] > FORMAT:
        raise ArtefactError(
            f"{path} has format {manifest.get('format')!r}, this version reads up to {FORMAT}: upgrade twotower"
        )
    _check_files(path, manifest.get("files"), verify)
    return manifest


def _temporary(path: Path) -> Path:
    """A new empty folder beside `path`."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
    except OSError as error:
        raise ArtefactError(f"cannot write {path}: {error.strerror or error}") from error
    return temporary


def _refuse_unless_kind(path: Path, kind: str) -> None:
    try:
        read_manifest(path, kind, verify=False)
    except ArtefactError as error:
        if path.is_dir() and not any(path.iterdir()):
            return
        raise ArtefactError(
            f"{path} exists and is not a whole {kind}; it is left alone, name another folder"
        ) from error


def _write_manifest(folder: Path, kind: str, about: dict[str, Any]) -> None:
    files = {}
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        files[file.relative_to(folder).as_posix()] = {"bytes": file.stat().st_size, "sha256": sha256_file(file)}
        fsync(file)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(folder / MANIFEST, {"kind": kind, "format": FORMAT, "created": created, **about, "files": files})
    fsync(folder / MANIFEST)
    for inner in (p for p in folder.rglob("*") if p.is_dir()):
        fsync(inner)
    fsync(folder)


def _swap(temporary: Path, path: Path) -> None:
    """Put `temporary` in the place of `path`. Renaming onto a full folder is refused by the kernel."""
    old = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.old")
    had_old = path.exists()
    if had_old:
        os.rename(path, old)
    try:
        os.rename(temporary, path)
    except OSError:
        if had_old:
            os.rename(old, path)
        raise
    fsync(path.parent)
    if had_old:
        shutil.rmtree(old, ignore_errors=True)


def _check_files(path: Path, files: Any, verify: bool) -> None:
    if not isinstance(files, dict):
        raise ArtefactError(f"{path / MANIFEST} lists no files")
    present = {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()} - {MANIFEST}
    if missing := sorted(set(files) - present):
        raise ArtefactError(f"{path} lacks the file {missing[0]}")
    if extra := sorted(present - set(files)):
        raise ArtefactError(f"{path} holds a file that its manifest does not know: {extra[0]}")
    for name, facts in files.items():
        if not isinstance(facts, dict) or not {"bytes", "sha256"} <= facts.keys():
            raise ArtefactError(f"{path / MANIFEST} does not say the size and SHA-256 of {name}")
        size = (path / name).stat().st_size
        if size != facts["bytes"]:
            raise ArtefactError(f"{path / name} has {size} bytes, its manifest says {facts['bytes']}")
        if verify and sha256_file(path / name) != facts["sha256"]:
            raise ArtefactError(f"{path / name} has changed since it was written (its SHA-256 differs)")
