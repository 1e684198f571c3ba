"""Checkpoints on disk: whole or not there, the right one or refused with a sentence, a full disk survived."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import torch

from towers.artefact import MANIFEST, read_json, write_json
from towers.catalog import Catalog
from towers.errors import ArtefactError, InputError
from towers.history import Histories
from training import checkpoint
from training.checkpoint import Checkpoints, Snapshot, checkpoint_folder, identity, remove_checkpoints
from training.config import Recipe
from training.measuring.protocols import last_event

MINE = {"checkpoint": 1, "recipe": {"train": {"epochs": 60}, "user": {"text": None}}, "the catalog": "a" * 64}


def snapshot(step: int) -> Snapshot:
    """Values that do not survive a round trip through floats, and tensors of three types."""
    tensors = {
        "weights/a": torch.full((100, 8), step + 0.1),
        "random/torch": torch.arange(8, dtype=torch.uint8),
        "optimizer/step/a": torch.tensor(float(step)),
        "order": torch.tensor([2, 0, 1]),
    }
    return Snapshot({"steps": step, "state": 2**127 + step, "mean": 0.1 + 0.2}, tensors)


def checkpoints(folder: Path, mine: dict[str, Any] = MINE, seconds: float = 0) -> Checkpoints:
    return Checkpoints(folder / "m.checkpoint", mine, seconds)


def written(folder: Path, steps: int) -> Path:
    """The checkpoint folder after so many steps."""
    writer = checkpoints(folder)
    for step in range(1, steps + 1):
        writer.write(snapshot(step))
    return writer.folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """No file of this process grows beyond `size` bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_is_written_is_what_is_found(tmp_path: Path) -> None:
    assert checkpoints(tmp_path).newest() is None
    folder = written(tmp_path, 1)
    assert names(folder) == ["000001"]
    assert names(folder / "000001") == ["identity.json", MANIFEST, "state.json", "tensors.safetensors"]  # no pickle
    found, given = checkpoints(tmp_path).newest(), snapshot(1)
    assert found is not None
    assert found.values == given.values
    assert found.tensors.keys() == given.tensors.keys()
    for name, value in given.tensors.items():
        assert found.tensors[name].dtype == value.dtype
        assert torch.equal(found.tensors[name], value)


def test_the_last_two_stay_and_nothing_that_is_not_a_checkpoint_is_touched(tmp_path: Path) -> None:
    folder = written(tmp_path, 2)
    (folder / "notes.txt").write_text("mine", "utf-8")
    (folder / ".000003.1234abcd.part").mkdir()  # what a kill leaves
    (folder / ".000003.1234abcd.part/state.json").write_text("{", "utf-8")
    assert checkpoints(tmp_path).newest() is not None
    later = checkpoints(tmp_path)
    found = later.newest()
    assert found is not None
    assert found.values["steps"] == 2
    later.write(snapshot(3))
    assert names(folder) == ["000002", "000003", "notes.txt"]
    remove_checkpoints(folder)
    assert names(folder) == ["notes.txt"]
    (folder / "notes.txt").unlink()
    remove_checkpoints(folder)
    assert not folder.exists()
    remove_checkpoints(folder)


def test_the_older_ones_stay_until_the_new_one_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(tmp_path, 2)
    seen = []

    def spy(*arguments: Any) -> None:
        seen.append([name for name in names(folder) if not name.startswith(".")])
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_file", spy)
    with pytest.raises(KeyboardInterrupt):
        checkpoints(tmp_path).write(snapshot(3))
    assert seen == [["000001", "000002"]]
    assert names(folder) == ["000001", "000002"]


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "manifest", "empty"])
def test_a_damaged_one_gives_way_to_the_one_before(tmp_path: Path, damage: str) -> None:
    folder = written(tmp_path, 3)
    file = folder / "000003" / (MANIFEST if damage == "manifest" else "tensors.safetensors")
    content = bytearray(file.read_bytes())
    content[len(content) - 3] ^= 4
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes({"cut": content[:-9], "empty": b""}.get(damage, bytes(content)))
    later = checkpoints(tmp_path)
    with pytest.warns(UserWarning, match=r"000003.*: going on from the checkpoint before it"):
        found = later.newest()
    assert found is not None
    assert found.values["steps"] == 2
    later.write(snapshot(3))
    assert names(folder) == ["000002", "000004"]  # the damaged one is not counted as a good one

    for path in (folder / "000002", folder / "000004"):
        (path / "state.json").write_text("{}", "utf-8")
    with pytest.raises(ArtefactError, match=r"no checkpoint in .* can be read \(.*000004.*\): delete that folder to"):
        checkpoints(tmp_path).newest()
    assert names(folder) == ["000002", "000004"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"recipe": {"train": {"epochs": 80}, "user": {"text": None}}}, "train.epochs is 60 there and 80 here"),
        (
            {"recipe": {"train": {"epochs": 60}, "user": {"text": {"tune": 2}}}},
            "user.text is not set there and set here",
        ),
        ({"recipe": {"train": {}, "user": {"text": None}}}, "train.epochs is 60 there and not set here"),
        ({"the catalog": "b" * 64}, "the catalog changed"),
        ({"checkpoint": 2}, "their format is 1, this version writes 2"),
    ],
)
def test_a_stranger_is_refused_with_what_differs(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    folder = written(tmp_path, 2)
    with pytest.raises(InputError) as caught:
        checkpoints(tmp_path, {**MINE, **change}).newest()
    assert sentence in str(caught.value)
    assert f"name another out, or delete {folder}" in str(caught.value)
    assert names(folder) == ["000001", "000002"]


def test_a_format_of_the_future_is_named(tmp_path: Path) -> None:
    folder = written(tmp_path, 1)
    write_json(folder / "000001" / MANIFEST, {**read_json(folder / "000001" / MANIFEST), "format": 2})
    with pytest.raises(ArtefactError, match="has format 2, this version reads up to 1: upgrade twotower"):
        checkpoints(tmp_path).newest()


def test_a_disk_that_fills_is_told_of_once_and_costs_no_checkpoint(tmp_path: Path) -> None:
    writer = checkpoints(tmp_path)
    writer.write(snapshot(1))
    said = r"no checkpoint could be written \(.*File too large.*\); training goes on, and the last one, .*1, is whole"
    with files_up_to(2000):  # the JSON fits, the tensors do not
        with pytest.warns(UserWarning, match=said):
            writer.write(snapshot(2))
        writer.write(snapshot(3))  # a second warning would be an error here
    with files_up_to(10):  # not even the JSON
        writer.write(snapshot(4))
    assert names(writer.folder) == ["000001"]
    found = checkpoints(tmp_path).newest()
    assert found is not None
    assert found.values["steps"] == 1
    writer.write(snapshot(5))  # there is room again
    assert names(writer.folder) == ["000001", "000002"]


def test_where_no_folder_can_be_made_training_goes_on(tmp_path: Path) -> None:
    (tmp_path / "m.checkpoint").write_text("a file", "utf-8")
    with pytest.warns(UserWarning, match="training goes on, and there is none yet"):
        checkpoints(tmp_path).write(snapshot(1))
    assert (tmp_path / "m.checkpoint").read_text("utf-8") == "a file"


def test_the_time_between_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute, or fifty times what the last one took."""
    now = [0.0]
    monkeypatch.setattr(checkpoint.time, "perf_counter", lambda: now[0])

    def slow(*_: Any) -> None:
        now[0] += cost

    monkeypatch.setattr(checkpoint, "save_file", slow)
    writer, always, cost = checkpoints(tmp_path, seconds=60), checkpoints(tmp_path), 0.5
    assert (writer.due, always.due) == (False, True)
    now[0] = 60
    assert writer.due
    writer.write(snapshot(1))
    cost = 4.0
    for until in (60.5 + 60, 120.5 + 4 + 200):
        now[0] = until - 0.1
        assert not writer.due
        now[0] = until
        assert writer.due
        writer.write(snapshot(2))
    always.write(snapshot(3))
    assert always.due


def test_the_folder_is_beside_the_model() -> None:
    assert checkpoint_folder(Path("runs/m1/model")) == Path("runs/m1/model.checkpoint")
    assert checkpoint_folder(Path("runs/v1.2")) == Path("runs/v1.2.checkpoint")


HISTORIES = Histories(
    np.array([0, 3, 5]),
    np.array([0, 1, 2, 1, 2]),
    np.arange(5.0),
    np.array([0, 0.5, 1, np.nan, 1], np.float32),
    pa.array(["good", None, "", None, "bad"]),
    pa.array(["age 30", None]),
)


def identity_of(**changes: Any) -> dict[str, Any]:
    past, validation = last_event(HISTORIES)
    given = {
        "recipe": Recipe(),
        "catalog": Catalog.read(pl.DataFrame({"item_id": [1, 2, 3], "title": ["a", "b", "c"]})),
        "past": past,
        "chosen": validation,
        "rated": past,
        "encoder": SimpleNamespace(fingerprint="c" * 64),
    }
    return identity(**{**given, **changes})


def test_every_column_of_the_data_counts() -> None:
    past, validation = last_event(HISTORIES)
    same, mine = identity_of(), identity_of()
    assert same == json.loads(json.dumps(mine))
    changed = [
        replace(past, items=past.items[::-1].copy()),
        replace(past, times=past.times + 1),  # type: ignore[operator]
        replace(past, times=None),
        replace(past, ratings=np.zeros(3, np.float32)),
        replace(past, texts=pa.array(["good", "", None])),
        replace(past, weights=np.ones(3)),
        replace(past, weights=np.array([1, 2, 1])),
        replace(past, about=pa.array(["age 31", None])),
        Histories(np.array([0, 1, 3]), past.items, past.times, past.ratings, past.texts, past.about),
    ]
    digests = {identity_of(past=other)["the training events"] for other in changed}
    assert len(digests | {mine["the training events"]}) == len(changed) + 1
    others = [
        ("the rated events", {"rated": changed[0]}),
        ("the validation questions", {"chosen": validation.take(np.array([1]))}),
        ("the validation questions", {"chosen": replace(validation, people=validation.people + 1)}),
        ("the text encoder", {"encoder": SimpleNamespace(fingerprint="d")}),
    ]
    for key, change in others:
        other = identity_of(**change)
        assert [name for name in mine if mine[name] != other[name]] == [key]
    again, other = identity_of(chosen=[3, 8]), identity_of(chosen=[3, 9])
    assert [name for name in again if again[name] != other[name]] == ["the epochs chosen before"]
    catalog = Catalog.read(pl.DataFrame({"item_id": [1, 2, 3], "title": ["a", "b", "d"]}))
    assert identity_of(catalog=catalog)["the catalog"] != mine["the catalog"]


def test_how_often_decides_nothing_and_everything_else_does() -> None:
    mine = identity_of()
    assert identity_of(recipe=Recipe.read({"train": {"checkpoint_seconds": 5}})) == mine
    assert identity_of(recipe=Recipe.read({"train": {"trackers": ["mlflow"]}})) == mine
    for other in (
        {"train": {"seed": 1}},
        {"index": "HNSW32"},
        {"data": {"min_rating": 0.5}},
        {"text": {"prefix": "q"}},
    ):
        assert identity_of(recipe=Recipe.read(other))["recipe"] != mine["recipe"]
