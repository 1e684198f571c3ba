"""Artefacts appear whole or not at all, and vouch for every file."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from towers.artefact import (
    FORMAT,
    MANIFEST,
    artefact_writer,
    atomic_file,
    read_json,
    read_manifest,
    refuse_unwritable,
    sha256_file,
    write_json,
)
from towers.errors import ArtefactError

KIND = "twotower/model"
SHA256_OF_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def save(path: Path, content: str = "abc", **about: object) -> Path:
    with artefact_writer(path, KIND, {"made_for": "a test", **about}) as folder:
        (folder / "weights.bin").write_text(content)
        (folder / "inner").mkdir()
        (folder / "inner" / "more.json").write_text("{}")
    return path


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_an_artefact_lists_every_file(tmp_path: Path) -> None:
    path = save(tmp_path / "runs" / "model")
    manifest = read_manifest(path, KIND)
    assert manifest["kind"] == KIND
    assert manifest["format"] == FORMAT
    assert manifest["made_for"] == "a test"
    assert manifest["files"] == {
        "inner/more.json": {"bytes": 2, "sha256": sha256_file(path / "inner" / "more.json")},
        "weights.bin": {"bytes": 3, "sha256": SHA256_OF_ABC},
    }
    assert names(tmp_path / "runs") == ["model"]  # nothing temporary is left


def test_the_manifest_may_be_filled_inside_the_block(tmp_path: Path) -> None:
    about: dict[str, object] = {}
    with artefact_writer(tmp_path / "m", KIND, about) as folder:
        (folder / "a").write_text("a")
        about["steps"] = 7
    assert read_manifest(tmp_path / "m", KIND)["steps"] == 7


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failed_block_leaves_nothing_behind(tmp_path: Path, error: type[BaseException]) -> None:
    def fail() -> None:
        with artefact_writer(tmp_path / "m", KIND, {}) as folder:
            (folder / "half").write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert names(tmp_path) == []


def test_a_failed_block_leaves_the_earlier_artefact(tmp_path: Path) -> None:
    path = save(tmp_path / "m", "first")

    def fail() -> None:
        with artefact_writer(path, KIND, {}):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    read_manifest(path, KIND)
    assert (path / "weights.bin").read_text() == "first"
    assert names(tmp_path) == ["m"]


def test_what_json_cannot_say_is_refused_before_anything_is_replaced(tmp_path: Path) -> None:
    path = save(tmp_path / "m", "first")
    with pytest.raises(ValueError, match="not JSON compliant"):
        save(path, "second", loss=float("nan"))
    assert (path / "weights.bin").read_text() == "first"


def test_an_earlier_artefact_of_the_same_kind_is_replaced(tmp_path: Path) -> None:
    path = save(tmp_path / "m", "first")
    with artefact_writer(path, KIND, {}) as folder:
        (folder / "other.bin").write_text("second")
    assert names(path) == [MANIFEST, "other.bin"]
    assert names(tmp_path) == ["m"]
    read_manifest(path, KIND)


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    read_manifest(save(tmp_path / "m"), KIND)


def stranger(path: Path) -> None:
    path.mkdir()
    (path / "thesis.tex").write_text("years of work")


def file(path: Path) -> None:
    path.write_text("years of work")


def other_kind(path: Path) -> None:
    with artefact_writer(path, "twotower/index", {}) as folder:
        (folder / "vectors").write_text("v")


def with_a_note(path: Path) -> None:
    save(path)
    (path / "NOTES.txt").write_text("mine")


@pytest.mark.parametrize("make", [stranger, file, other_kind, with_a_note])
def test_what_is_not_ours_is_never_overwritten(make: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "m"
    make(path)
    before = {p: p.read_bytes() for p in [path, *path.rglob("*")] if p.is_file()}
    with pytest.raises(ArtefactError, match="exists and is not a whole twotower/model; it is left alone"):
        save(path)
    assert {p: p.read_bytes() for p in [path, *path.rglob("*")] if p.is_file()} == before
    assert names(tmp_path) == ["m"]


def test_a_stranger_that_came_while_writing_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "m"

    def write() -> None:
        with artefact_writer(path, KIND, {}) as folder:
            (folder / "a").write_text("a")
            stranger(path)

    with pytest.raises(ArtefactError, match="it is left alone"):
        write()
    assert (path / "thesis.tex").read_text() == "years of work"
    assert names(tmp_path) == ["m"]


def flip(path: Path) -> None:
    data = bytearray((path / "weights.bin").read_bytes())
    data[1] ^= 1
    (path / "weights.bin").write_bytes(data)


def edit(**changes: object) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        write_json(path / MANIFEST, {**read_json(path / MANIFEST), **changes})

    return damage


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "flipped bit": (flip, r"weights\.bin has changed since it was written \(its SHA-256 differs\)"),
    "cut short": (
        lambda path: (path / "weights.bin").write_text("ab"),
        r"weights\.bin has 2 bytes, its manifest says 3",
    ),
    "missing file": (lambda path: (path / "weights.bin").unlink(), r"lacks the file weights\.bin"),
    "extra file": (
        lambda path: (path / "inner" / "more").write_text(""),
        "holds a file that its manifest does not know: inner/more",
    ),
    "no manifest": (lambda path: (path / MANIFEST).unlink(), r"is not a twotower/model: it has no manifest\.json"),
    "broken manifest": (lambda path: (path / MANIFEST).write_text("{"), r"manifest\.json is not readable JSON"),
    "manifest of something else": (
        lambda path: (path / MANIFEST).write_text("[]"),
        "is a 'list', expected a 'twotower/model'",
    ),
    "other kind": (edit(kind="twotower/index"), "is a 'twotower/index', expected a 'twotower/model'"),
    "newer format": (edit(format=FORMAT + 1), r"has format 2, this version reads up to 1: upgrade twotower"),
    "no format": (edit(format=None), "has format None"),
    "no files": (edit(files=None), "lists no files"),
    "files without facts": (
        edit(files={"weights.bin": 3, "inner/more.json": {}}),
        r"does not say the size and SHA-256 of weights\.bin",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found(damage: str, tmp_path: Path) -> None:
    path = save(tmp_path / "m")
    do, message = DAMAGE[damage]
    do(path)
    with pytest.raises(ArtefactError, match=message) as caught:
        read_manifest(path, KIND)
    assert str(path) in str(caught.value)


def test_without_verification_only_sums_go_unchecked(tmp_path: Path) -> None:
    path = save(tmp_path / "m")
    flip(path)
    assert read_manifest(path, KIND, verify=False)["kind"] == KIND
    (path / "weights.bin").write_text("longer")
    with pytest.raises(ArtefactError, match="has 6 bytes"):
        read_manifest(path, KIND, verify=False)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"expected the folder of a twotower/model at .*, but there is none"):
        read_manifest(tmp_path / "m", KIND)


def test_an_artefact_is_read_where_nothing_can_be_written(tmp_path: Path) -> None:
    path = save(tmp_path / "m")
    for inner in [*path.rglob("*"), path]:
        inner.chmod(0o555 if inner.is_dir() else 0o444)
    try:
        before = {p: p.stat().st_mtime_ns for p in [path, *path.rglob("*")]}
        read_manifest(path, KIND)
        assert {p: p.stat().st_mtime_ns for p in [path, *path.rglob("*")]} == before
    finally:
        path.chmod(0o755)
        (path / "inner").chmod(0o755)


def test_where_nothing_can_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtefactError, match=r"cannot write .*/file/m: "):
        save(tmp_path / "file" / "m")
    with (
        pytest.raises(ArtefactError, match=r"cannot write .*/file/a\.json: "),
        atomic_file(tmp_path / "file" / "a.json"),
    ):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(ArtefactError, match=r"cannot write .*: Permission denied"):
            save(tmp_path / "m")
    finally:
        tmp_path.chmod(0o755)


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    with atomic_file(path) as temporary:
        temporary.write_text("1")
        assert not path.exists()
    assert path.read_text() == "1"

    def fail() -> None:
        with atomic_file(path) as temporary:
            temporary.write_text("2")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "1"
    assert names(tmp_path / "new") == ["a.json"]


def test_a_file_never_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="cannot write"), atomic_file(tmp_path / "a"):
        pass
    assert names(tmp_path) == []


def test_json_is_exact_and_readable(tmp_path: Path) -> None:
    value = {"ä": [1, 2.5, None, True], "b": {}}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == json.loads((tmp_path / "a.json").read_text("utf-8")) == value
    assert list(read_json(tmp_path / "a.json")) == ["ä", "b"]
    with pytest.raises(ArtefactError, match=r"nowhere\.json is not readable JSON"):
        read_json(tmp_path / "nowhere.json")
    (tmp_path / "latin.json").write_bytes(b'"\xe9"')
    with pytest.raises(ArtefactError, match=r"latin\.json is not readable JSON"):
        read_json(tmp_path / "latin.json")


def test_a_full_disk_is_told_before_the_work_and_after(tmp_path: Path) -> None:
    """A process that may write no byte more stands for the disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(ArtefactError, match=r"cannot write .*thing: File too large"):
            refuse_unwritable(tmp_path / "thing", KIND)
        with (
            pytest.raises(ArtefactError, match=r"cannot write .*thing: File too large"),
            artefact_writer(tmp_path / "thing", KIND, {}) as folder,
        ):
            (folder / "data").write_bytes(b"12")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())
