"""Logs that say too little, lists and checkpoints that do not fit, full disks: a sentence, and what was good stays."""

from __future__ import annotations

import json
import resource
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest

from indexing.build import build_index
from towers.artefact import read_manifest
from towers.errors import ArtefactError, InputError
from towers.interactions import Interactions
from towers.model import KIND, TwoTower
from training import ratings
from training.loop import Run as Training
from training.trainer import train
from twotower.cli import main

PROTOCOLS = ("leave-one-out", "temporal", "cold-items", "given")


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


class World:
    """The catalog and recipe of the small world, and a folder; commands run in this process."""

    def __init__(self, run: Any, folder: Path, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self.run, self.folder, self.patch, self.capture = run, folder, patch, capture
        self.model = folder / "runs/model"
        self.recipe = run.recipe

    def command(self, *arguments: Any) -> Done:
        self.patch.setattr(sys, "argv", ["twotower", *map(str, arguments)])
        self.patch.setattr(warnings, "showwarning", warnings.showwarning)
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = self.capture.readouterr()
        assert "Traceback" not in err
        return Done(int(ended.value.code or 0), out, err)

    def train(self, log: Path, *more: Any) -> Done:
        data = ("--catalog", self.run.items, "--interactions", log, "--recipe", self.recipe)
        return self.command("train", *data, "--out", self.model, *more)

    def evaluate(self, log: Path, *more: Any) -> Done:
        return self.command("evaluate", "--catalog", self.run.items, "--interactions", log, *more)

    def write(self, name: str) -> Path:
        """One of `LOGS` as a file."""
        path = self.folder / f"{name.replace(' ', '-')}.csv"
        log_of(name).write_csv(path)
        return path


@pytest.fixture
def world(tiny_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> World:
    monkeypatch.setattr(ratings, "EPOCHS", 3)
    return World(tiny_run, tmp_path, monkeypatch, capfd)


def events(people: int, count: int, *, item: int | None = None, time: int | None = None, rating: int = 0) -> Any:
    """Rows of a log: so many events of each of so many people, what is not given drawn at random."""
    rng = np.random.default_rng(0)
    for person in range(1, people + 1):
        for place, other in enumerate(rng.permutation(40)[:count]):
            word = {count - 1: "test", count - 2: "validation"}.get(place, "train")
            shown = f"m{other if item is None else item:02}"
            when = 3600 * place + person if time is None else time
            yield person, shown, rating or int(rng.integers(1, 6)), when, word


LOGS: dict[str, Callable[[], Any]] = {
    "one person": lambda: events(1, 20),
    "one item": lambda: events(30, 10, item=3),
    "one event each": lambda: events(30, 1),
    "one time": lambda: events(30, 10, time=1000),
    "one rating": lambda: events(30, 10, rating=3),
    "ordinary": lambda: events(30, 10),
}


def log_of(name: str) -> pl.DataFrame:
    return pl.DataFrame(list(LOGS[name]()), ["user_id", "item_id", "rating", "timestamp", "split"], orient="row")


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def one_sentence(done: Done, sentence: str, code: int) -> None:
    """It failed with this sentence, which is the only line that is no remark on rows that were set aside."""
    assert (done.code, done.out) == (code, "")
    *before, last = done.err.splitlines()
    assert all("rows set aside" in line for line in before)
    assert last.startswith("error: ")
    assert sentence in last


def finite(done: Done) -> dict[str, Any]:
    """The values of a table in JSON, none of which is NaN."""
    assert done.code == 0, done.err

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} in {done.out}")

    return json.loads(done.out, parse_constant=refuse)


NOTHING_NEW = "the validation part has nobody left to ask: of 30 people 30 have nothing new to them"
REFUSED = [
    ("one event each", None, "validation needs people with at least 2 events, none of 30 has them"),
    ("one event each", "leave-one-out", "leave-one-out needs people with at least 3 events, none of 30 has them"),
    ("one event each", "temporal", "the validation part has nobody left to ask: of 30 people 27 have no event to ask"),
    ("one event each", "cold-items", "cold items need people with at least 5 events, none of 30 has them"),
    ("one event each", "given", "a given split needs events that say 'train', none of 30 does"),
    ("one item", None, "validation needs a person whose last event is an item that is new to them, none is"),
    ("one item", "leave-one-out", NOTHING_NEW),
    ("one item", "temporal", NOTHING_NEW),
    ("one item", "cold-items", "cold items need at least 3 items with events, got 1"),
    ("one item", "given", NOTHING_NEW),
    ("one time", "temporal", "a cut in time needs at least 3 different times, got 1 in 300 events"),
]


@pytest.mark.parametrize(("name", "protocol", "sentence"), REFUSED)
def test_a_log_that_says_too_little_is_refused_and_an_earlier_model_stays(
    world: World, name: str, protocol: str | None, sentence: str
) -> None:
    shutil.copytree(world.run.model_folder, world.model)
    before, log = contents(world.model), world.write(name)
    option = () if protocol is None else ("--protocol", protocol)
    one_sentence(world.train(log, *option), sentence, 2)
    assert contents(world.model) == before
    assert not list(world.folder.rglob("*.part"))
    read = Interactions.read(log, rating_range=(1, 5))
    with pytest.raises(InputError) as caught:
        train(world.run.catalog, read, recipe=world.recipe, protocol=protocol, out=world.model, progress=False)
    assert sentence in str(caught.value)
    if protocol is not None:
        one_sentence(world.evaluate(log, *option), sentence, 2)
        one_sentence(world.evaluate(log, *option, "--model", world.model), sentence, 2)


@pytest.mark.parametrize("protocol", [None, *PROTOCOLS])
def test_one_person_is_enough_and_has_no_interval(world: World, protocol: str | None) -> None:
    log = world.write("one person")
    option = () if protocol is None else ("--protocol", protocol)
    assert world.train(log, *option).code == 0
    assert np.isfinite(TwoTower.load(world.model).embed_items(world.run.catalog)).all()
    done = world.evaluate(log, *option, "--model", world.model, "--baselines", "most-popular,item-knn", "--json")
    if protocol is None:
        return one_sentence(done, "was trained on other events than leave-one-out allows", 2)
    methods = [row["method"] for row in finite(done)["rows"]]
    assert methods == ["most-popular", "item-knn", "twotower-retrieval", "twotower"]
    assert "1 of 1 people asked about" in done.err
    assert "of one person there is no interval, so each shown is the figure itself" in done.err


@pytest.mark.parametrize(
    ("name", "protocol"),
    [
        *(("one time", protocol) for protocol in (None, "cold-items", "given")),
        *(("one rating", protocol) for protocol in (None, "temporal", "cold-items", "given")),
    ],
)
def test_one_time_or_one_rating_is_trained_on_and_asked(world: World, name: str, protocol: str | None) -> None:
    """Under leave-one-out both have a test of their own."""
    log = world.write(name)
    with warnings.catch_warnings():
        warnings.filterwarnings("default", "all ratings are 3", UserWarning)
        assert world.train(log, *(() if protocol is None else ("--protocol", protocol))).code == 0
    assert np.isfinite(TwoTower.load(world.model).embed_items(world.run.catalog)).all()
    if protocol is not None:
        option = ("--protocol", protocol, "--model", world.model, "--baselines", "most-popular,item-knn", "--json")
        assert [row["method"] for row in finite(world.evaluate(log, *option))["rows"]][:2] == [
            "most-popular",
            "item-knn",
        ]


def test_all_at_one_time_is_trained_on_and_asked_with_the_ties_told(world: World) -> None:
    log = world.write("one time")
    assert world.train(log, "--protocol", "leave-one-out").code == 0
    assert read_manifest(world.model, KIND)["training"]["trend"]["weight"] >= 0
    done = world.evaluate(log, "--model", world.model, "--baselines", "most-popular,most-popular-of-late", "--json")
    assert len(finite(done)["rows"]) == 4
    assert "30 of 30 people asked about; ties in time for 30;" in done.err
    assert "no interval" not in done.err


def test_one_rating_everywhere_is_told_of_and_is_no_scale(world: World) -> None:
    """A scale from 3 to 3 would be refused when the same log is read for the model."""
    log = world.write("one rating")
    with warnings.catch_warnings():
        warnings.filterwarnings("default", "all ratings are 3", UserWarning)
        done = world.train(log, "--protocol", "leave-one-out")
    assert done.code == 0
    said = [line for line in done.err.splitlines() if line.startswith("warning: ")]
    assert said == [
        "warning: all ratings are 3, which says that people liked an item, not how much: "
        "give the scale as rating_range if there is one"
    ]
    assert read_manifest(world.model, KIND)["recipe"]["rating"]["range"] is None
    option = ("--model", world.model)
    assert len(finite(world.evaluate(log, *option, "--baselines", "none", "--json"))["rows"]) == 2
    build_index(world.model, world.run.catalog, out=world.folder / "index", progress=False)
    option += ("--index", world.folder / "index", "--catalog", world.run.items, "--interactions", log)
    found = finite(world.command("recommend", *option, "--user", 1, "--json"))["items"]
    assert {one["rating"] for one in found} == {3.0}


@pytest.mark.parametrize("name", ["one person", "one rating"])
def test_several_objectives_learn_what_there_is(world: World, name: str) -> None:
    more = 'rating_weight = 1, click_weight = 1, weighting = "uncertainty", epochs = 2'
    settings = world.recipe.read_text("utf-8").replace("epochs = 2", more, 1)
    world.recipe = world.folder / "recipe.toml"
    world.recipe.write_text(settings, "utf-8")
    with warnings.catch_warnings():
        warnings.filterwarnings("default", "all ratings are 3", UserWarning)
        assert world.train(world.write(name)).code == 0
    training = read_manifest(world.model, KIND)["training"]
    assert all(np.isfinite(value) for entry in training["epochs"] for value in entry.values())
    assert training["epochs"][-1]["rating"] < 0.25
    assert np.isfinite(TwoTower.load(world.model).embed_items(world.run.catalog)).all()


def test_a_range_that_the_recipe_names_is_held_against_one_rating(world: World) -> None:
    settings = {"rating": {"range": (1, 5)}}
    log = Interactions.read(log_of("one rating"))
    with pytest.raises(InputError, match=r"rating.range is \(1.0, 5.0\) in the recipe, .* rating_range=\(3.0, 3.0\)"):
        train(world.run.catalog, log, recipe=settings)


def test_unknown_words_of_a_split_are_named_with_how_many_events_say_them(world: World) -> None:
    log = world.folder / "words.csv"
    word = pl.when(pl.col("split") == "validation").then(pl.lit("dev")).otherwise("split")
    log_of("ordinary").with_columns(split=word).write_csv(log)
    said = "the split column says 'dev' (30 events); the words it may say are train, validation, test"
    one_sentence(world.train(log, "--protocol", "given"), said, 2)
    one_sentence(world.evaluate(log, "--protocol", "given"), said, 2)
    one_sentence(world.evaluate(log, "--protocol", "given", "--model", world.run.model_folder), said, 2)
    assert not world.model.exists()


def test_test_items_that_the_catalog_lacks_leave_nobody_to_ask(world: World) -> None:
    """Where some are left, they are asked for: see test_evaluating.py."""
    log = world.folder / "gone.csv"
    item = pl.when(pl.col("split") == "test").then(pl.lit("gone")).otherwise("item_id")
    log_of("ordinary").with_columns(item_id=item).write_csv(log)
    said = "a given split needs events that say 'test', none of 270 does"
    for done in (world.train(log, "--protocol", "given"), world.evaluate(log, "--protocol", "given")):
        one_sentence(done, said, 2)
        assert f"{log}: 30 of 300 rows set aside: 30 unknown item_id" in done.err
    assert not world.model.exists()


def test_lists_that_fall_short_are_told_of_reason_by_reason(world: World) -> None:
    path = world.folder / "theirs.csv"
    rows = [(1, "x9"), (1, "m00"), (1, "m00"), (2, "m01"), (99, "m02")]
    pl.DataFrame(rows, ["user_id", "item_id"], orient="row").write_csv(path)
    done = world.evaluate(world.write("ordinary"), "--recommendations", path, "--baselines", "none", "--json")
    values = finite(done)
    told = [line.removeprefix(f"{path}: ") for line in done.err.splitlines() if line.startswith(str(path))]
    assert [f"{count} {reason}" for reason, count in values["notes"]["theirs"].items()] == told
    assert {
        "1 rows of people who are not asked about",
        "1 items that the catalog lacks",
        "1 items named twice in a list",
        "30 people with fewer items than are looked at",
    } <= set(told)


@pytest.fixture
def stopped(world: World) -> World:
    """A training that writes a checkpoint after each step, interrupted in the fourth; an earlier model is there."""
    shutil.copytree(world.run.model_folder, world.model)
    settings = world.recipe.read_text("utf-8")
    world.recipe = world.folder / "recipe.toml"
    world.recipe.write_text(settings.replace("epochs = 2", "checkpoint_seconds = 0, epochs = 2", 1), "utf-8")
    step, calls = Training._step, []

    def interrupted(training: Training, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return step(training, *arguments)

    with world.patch.context() as patch:
        patch.setattr(Training, "_step", interrupted)
        assert world.train(world.run.events).code == 130
    return world


def test_a_checkpoint_of_another_recipe_is_refused_and_stays_good(stopped: World) -> None:
    folder = stopped.model.with_name("model.checkpoint")
    before, recipe = contents(folder) | contents(stopped.model), stopped.recipe
    other = stopped.folder / "other.toml"
    other.write_text(recipe.read_text("utf-8").replace("batch_people = 16", "batch_people = 8"), "utf-8")
    stopped.recipe = other
    said = f"{folder} holds checkpoints of another training: train.batch_people is 16 there and 8 here; "
    done = stopped.train(stopped.run.events)
    one_sentence(done, said, 2)
    assert f"go on with what that one had, name another out, or delete {folder}" in done.err
    assert contents(folder) | contents(stopped.model) == before
    stopped.recipe = recipe
    done = stopped.train(stopped.run.events)
    assert (done.code, folder.exists()) == (0, False)
    assert f"going on from epoch 2, step 1 of 2 ({folder})" in done.err


def test_a_disk_that_is_full_when_the_model_is_written_costs_nothing(stopped: World) -> None:
    folder, earlier = stopped.model.with_name("model.checkpoint"), contents(stopped.model)
    save, before = TwoTower.save, resource.getrlimit(resource.RLIMIT_FSIZE)

    def on_a_full_disk(size: int) -> Callable[..., None]:
        def saved(*arguments: Any, **more: Any) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
            try:
                save(*arguments, **more)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)

        return saved

    for size in (10, 20_000):  # not even the JSON fits, or all but the weights does
        with stopped.patch.context() as patch:
            patch.setattr(TwoTower, "save", on_a_full_disk(size))
            done = stopped.train(stopped.run.events)
        assert (done.code, done.out) == (1, "")
        why, _, what_now = done.err.splitlines()[-1].partition("; ")
        assert why.startswith(f"error: cannot write {stopped.model}: ")
        assert "File too large" in why
        assert what_now == f"the same training goes on from its last checkpoint, in {folder}, once that is put right"
        assert contents(stopped.model) == earlier
        assert sorted(path.name for path in stopped.model.parent.iterdir() if path.is_dir()) == [
            "model",
            "model.checkpoint",
            "tensorboard",
        ]
    done = stopped.train(stopped.run.events)
    assert (done.code, folder.exists()) == (0, False)
    assert f"going on from epoch 2, step 2 of 2 ({folder})" in done.err
    assert contents(stopped.model) != earlier
    TwoTower.load(stopped.model)


def test_a_full_disk_without_a_checkpoint_promises_none(world: World) -> None:
    def full(model: TwoTower, path: Path, **_: Any) -> None:
        raise ArtefactError(f"cannot write {path}: No space left on device")

    world.model.with_name("model.checkpoint").mkdir(parents=True)  # what is left where none could be written
    world.patch.setattr(TwoTower, "save", full)
    with pytest.raises(ArtefactError) as caught:
        train(world.run.catalog, world.run.log, recipe=world.recipe, out=world.model, progress=False)
    assert str(caught.value) == f"cannot write {world.model}: No space left on device"
