"""A training that was killed goes on, and ends with the very weights of one that was not."""

from __future__ import annotations

import copy
import resource
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from towers.artefact import read_json, read_manifest
from towers.catalog import Catalog
from towers.errors import ArtefactError, InputError
from towers.interactions import Interactions
from towers.model import KIND
from training import checkpoint, ratings, trainer
from training.checkpoint import Checkpoints, Snapshot, checkpoint_folder
from training.loop import Run
from training.progress import TrainingProgress
from training.trainer import train

READERS = {"sequence": {"blocks": 1}, "text": {"tune": 1, "history": {"budget": 48}}}
TRAIN = {
    "epochs": 8,
    "text_epochs": 2,
    "evaluate_every": 1,
    "patience": 2,
    "rate": 0.3,
    "batch_people": 12,
    "sentences": 8,
    "softmax": "sampled",
    "uniform_negatives": 16,
    "popular_negatives": 8,
    "memory_negatives": 64,
    "hard_negatives": 4,
    "mine_every": 2,
    "checkpoint_seconds": 0,
}
STEPS, FIRST, ALL = 3, 9, 15  # in an epoch (of 30 people), in the first phase, in both


class Killed(BaseException):
    """Stands for a kill: nothing in the project catches it."""


class Small:
    """The small world and one training on it that nobody killed."""

    def __init__(self, run: Any, encoder: Path, folder: Path) -> None:
        self.catalog, self.log, self.folder = run.catalog, run.log, folder
        self.recipe = {
            "text": {"source": str(encoder)},
            "item": {"dimension": 16, "hidden": 32},
            "user": READERS,
            "train": TRAIN,
        }
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(checkpoint, "KEPT", ALL)
            patch.setattr(trainer, "remove_checkpoints", lambda _: None)
            self.train("whole")
        self.every = self.checkpoints("whole")  # one of every step
        self.whole = self.result("whole")

    def train(self, name: str, **changes: Any) -> None:
        given = {"catalog": self.catalog, "log": self.log, "recipe": self.recipe, **changes}
        train(**given, out=self.folder / name, progress=False)

    def checkpoints(self, name: str) -> Path:
        return checkpoint_folder(self.folder / name)

    def kill_after(self, steps: int, name: str) -> None:
        """Leave what a kill after so many steps leaves."""
        shutil.copytree(self.every / f"{steps:06}", self.checkpoints(name) / f"{steps:06}")

    def result(self, name: str) -> dict[str, Any]:
        """All that a training left: checksums of the weights, fingerprints, recipe, report; no dates and times."""
        manifest = read_manifest(self.folder / name, KIND)
        training = {**manifest["training"], "seconds": None, "mining_seconds": None}
        training["epochs"] = [{**entry, "seconds": None} for entry in training["epochs"]]
        return {**manifest, "created": None, "training": training}


@pytest.fixture(scope="module")
def small(tiny_run: Any, tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("resume")
        patch.setenv("TWOTOWER_CACHE", str(folder / "cache"))
        patch.setattr(ratings, "EPOCHS", 3)
        patch.setattr(Run, "validate", lambda run, _: {"recall@20": 0.5, "ndcg@20": 1 / run.place.epoch})
        yield Small(tiny_run, tiny_bert, folder)
    torch.set_num_threads(threads)


def kill_at(call: int, owner: Any, name: str, patch: pytest.MonkeyPatch) -> None:
    """Kill when this function is called for the n-th time."""
    function, calls = getattr(owner, name), []

    def counted(*arguments: Any) -> Any:
        calls.append(name)
        if len(calls) == call:
            raise Killed
        return function(*arguments)

    patch.setattr(owner, name, counted)


def test_the_training_has_all_that_a_resume_could_lose(small: Small) -> None:
    """The best of the first phase is not its end, an early stop skips steps, and there are ratings.

    Validation is told to like each epoch less than the one before.
    """
    report = small.whole["training"]
    assert [entry["epoch"] for entry in report["epochs"]] == [1, 2, 3, 8]
    assert report["best_epochs"] == [1, 8]
    assert report["rating_error"] is not None
    assert sorted(path.name for path in small.every.iterdir()) == [f"{step:06}" for step in range(1, ALL + 1)]


@pytest.mark.parametrize("steps", [1, 3, 5, FIRST, FIRST + 1, 12])
def test_killed_after_a_step(small: Small, steps: int, capfd: pytest.CaptureFixture[str]) -> None:
    name = f"step-{steps}"
    small.kill_after(steps, name)
    small.train(name)
    assert small.result(name) == small.whole
    epoch = (steps + STEPS - 1) // STEPS + (3 if steps > FIRST else 0)
    place = f"epoch {epoch}, step {(steps - 1) % STEPS + 1} of {STEPS}"
    assert capfd.readouterr() == ("", f"going on from {place} ({small.checkpoints(name)})\n")
    assert not small.checkpoints(name).exists()


@pytest.mark.parametrize(
    ("owner", "function", "call"),
    [
        (Run, "validate", 2),  # an epoch is done and not validated
        (TrainingProgress, "validated", 1),  # it is validated, the best so far, and nobody has written that down
        (Run, "_join", 1),  # between the phases
        (ratings, "_check", 2),  # in the rating head
        (trainer, "remove_checkpoints", 1),  # the model is saved
    ],
)
def test_killed_elsewhere(small: Small, monkeypatch: pytest.MonkeyPatch, owner: Any, function: str, call: int) -> None:
    with monkeypatch.context() as patch:
        kill_at(call, owner, function, patch)
        with pytest.raises(Killed):
            small.train(function)
    small.train(function)
    assert small.result(function) == small.whole


@pytest.mark.parametrize("left", [8, 2])
@pytest.mark.parametrize(
    "changes", [{"text": {"tune": 1}, "align": {"epochs": 2}}, {"user": {"text": {"tune": "lora"}}}]
)
def test_tuned_encoders_are_resumed(small: Small, left: int, changes: dict[str, Any]) -> None:
    """Encoders of items are aligned again, to the same bits; low-rank additions come out of the checkpoint.

    Killed in the first phase and in the second, whose steps are the last six.
    """
    pytest.importorskip("peft", reason="needs the extra lora")
    recipe = copy.deepcopy(small.recipe)
    recipe["text"] |= changes.get("text", {})
    recipe["user"]["text"] |= changes.get("user", {}).get("text", {})
    recipe["align"] = changes.get("align", {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "KEPT", ALL)
        patch.setattr(trainer, "remove_checkpoints", lambda _: None)
        whole, again = (f"tuned-{word}-{len(changes)}-{left}" for word in ("whole", "again"))
        small.train(whole, recipe=recipe)
    source = sorted(small.checkpoints(whole).iterdir())[-1 - left]
    shutil.copytree(source, small.checkpoints(again) / source.name)
    small.train(again, recipe=recipe)
    assert small.result(again) == small.result(whole)
    assert small.result(again)["model"] != small.whole["model"]


def test_killed_again_and_again(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six steps at a time; the text vectors, which are kept between runs, are lost after the second."""
    for run in range(2):
        with monkeypatch.context() as patch:
            kill_at(7, Run, "_step", patch)
            with pytest.raises(Killed):
                small.train("often")
        if run:
            monkeypatch.setenv("TWOTOWER_CACHE", str(small.folder / "another-cache"))
    small.train("often")
    assert small.result("often") == small.whole


def test_killed_where_a_second_training_follows_the_first(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a protocol that chooses by validation questions and then trains anew on more."""
    steps: list[bool] = []  # whether it is the second
    step = Run._step
    monkeypatch.setattr(Run, "_step", lambda run, people: steps.append(run.validation is None) or step(run, people))
    small.train("refit", protocol="temporal")
    first, both = steps.count(False), len(steps)
    assert 0 < first < both
    for call in (first, first + 2):
        name = f"refit-{call}"
        with monkeypatch.context() as patch:
            kill_at(call, Run, "_step", patch)
            with pytest.raises(Killed):
                small.train(name, protocol="temporal")
        steps.clear()
        small.train(name, protocol="temporal")
        assert len(steps) == both - call + 1  # none is done twice
        assert small.result(name) == small.result("refit")
        assert not small.checkpoints(name).exists()


def test_the_time_before_a_kill_counts(small: Small) -> None:
    small.kill_after(ALL, "time")
    [path] = small.checkpoints("time").iterdir()
    other = Checkpoints(path.parent, read_json(path / checkpoint.IDENTITY), 0)
    found = other.newest()
    assert found is not None
    found.values["report"]["seconds"] = 5000.0
    other.write(found)
    small.train("time")
    training = read_manifest(small.folder / "time", KIND)["training"]
    assert 5000 < training["seconds"] < 5100
    assert 5000 <= training["epochs"][-1]["seconds"] < 5100


def kept(folder: Path) -> list[Path]:
    """What is there but for rows set aside, which are written before anything else."""
    return sorted(path for path in folder.iterdir() if not path.name.endswith(".rejected.jsonl"))


def test_another_recipe_or_other_data_are_refused_before_the_work_begins(
    small: Small, tiny_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.kill_after(5, "stranger")
    left = kept(small.folder)
    items, events = pl.read_csv(tiny_run.items), pl.read_csv(tiny_run.events)
    others: dict[str, dict[str, Any]] = {
        "train.rate is 0.3 there and 0.02 here": {"recipe": {**small.recipe, "train": {**TRAIN, "rate": 0.02}}},
        "user.text is set there and not set here": {"recipe": {**small.recipe, "user": {**READERS, "text": False}}},
        "the catalog changed": {"catalog": Catalog.read(items.with_columns(title=pl.lit("rain")))},
        "the training events changed": {"log": Interactions.read(events.head(290), rating_range=(1, 5))},
    }
    monkeypatch.setattr(Run, "_step", None)
    for sentence, changes in others.items():
        with pytest.raises(InputError, match=rf"stranger\.checkpoint holds .* another training: {sentence}; .* delete"):
            small.train("stranger", **changes)
    assert kept(small.folder) == left
    monkeypatch.undo()
    small.train("stranger")
    assert small.result("stranger") == small.whole


def test_text_vectors_of_other_bits_are_told_of(small: Small) -> None:
    """Their cache, which a kill leaves alone, was emptied since."""
    small.kill_after(ALL, "vectors")
    [path] = small.checkpoints("vectors").iterdir()
    other = Checkpoints(path.parent, read_json(path / checkpoint.IDENTITY), 0)
    found = other.newest()
    assert found is not None
    found.values["content_vectors"] = "0" * 64
    other.write(found)
    with pytest.warns(UserWarning, match="the content vectors were computed anew and differ"):
        small.train("vectors")


def test_weights_of_another_shape_are_refused(small: Small) -> None:
    small.kill_after(5, "shape")
    [path] = small.checkpoints("shape").iterdir()
    other = Checkpoints(path.parent, read_json(path / checkpoint.IDENTITY), 0)
    found = other.newest()
    assert found is not None
    for change, there in ({}, "absent"), ({"weights/model.log_scale": torch.zeros(2).half()}, r"float16 \(2,\)"):
        tensors = {name: value for name, value in found.tensors.items() if name != "weights/model.log_scale"}
        other.write(Snapshot(found.values, {**tensors, **change}))
        with pytest.raises(ArtefactError, match=rf"log_scale is {there} there and float32 \(\) here; .* another out"):
            small.train("shape")


def test_a_disk_that_is_full_while_training_costs_nothing_but_the_checkpoints(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, before = Run.go, resource.getrlimit(resource.RLIMIT_FSIZE)

    def on_a_full_disk(run: Run) -> Any:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))  # less than a checkpoint has
        try:
            return go(run)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    monkeypatch.setattr(Run, "go", on_a_full_disk)
    small.kill_after(5, "full")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        small.train("full")
    assert len(said) == 1
    assert "training goes on, and the last one, " in str(said[0].message)
    assert small.result("full") == small.whole


def test_without_a_folder_for_the_model_there_are_no_checkpoints(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Checkpoints, "__init__", None)
    train(small.catalog, small.log, recipe={**small.recipe, "train": {"epochs": 1}}, progress=False)
