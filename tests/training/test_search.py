"""A search over recipes: what it chooses, that it goes on, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import tomllib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from towers.errors import ArtefactError, InputError, TwoTowerError
from training import search as module
from training.config import Recipe
from training.ranks import Ranks
from training.report import Report
from training.search import Range, Trial, read_space, search

optuna.logging.set_verbosity(optuna.logging.WARNING)
SPACE = {
    "train.rate": Range(low=1e-4, high=1e-1, log=True),
    "item.dimension": [16, 32],
    "train.epochs": Range(low=1, high=9),
}


class Trainings:
    """Stands for training: validates best at a rate of 0.01, a little better with dimension 32; keeps its recipes."""

    def __init__(self, stop: Callable[[int], BaseException | None] = lambda _: None) -> None:
        self.recipes: list[Recipe] = []
        self._stop = stop

    def __call__(self, *_: Any, watch: Callable[[int, dict[str, float]], None], **__: Any) -> tuple[None, Report]:
        recipe: Recipe = _[3]
        self.recipes.append(recipe)
        if error := self._stop(len(self.recipes)):
            raise error
        value = 1 - abs(np.log10(recipe.train.rate) + 2) / 3 - (recipe.item.dimension == 16) / 50
        for epoch in (1, 2):
            watch(epoch, {"ndcg@20": value * epoch / 2})
        return None, Report(
            epochs=[{"epoch": 1, "ndcg@20": value / 2}, {"epoch": 2, "ndcg@20": value}], best_epochs=[2]
        )


@pytest.fixture
def run(tiny_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Search with other trainings than real ones."""

    def go(trainings: Trainings, trials: int, **more: Any) -> Any:
        monkeypatch.setattr(module, "fit", trainings)
        given = {"space": SPACE, "recipe": {"user": {"text": False}}, "out": tmp_path / "search", **more}
        return search(tiny_run.catalog, tiny_run.log, trials=trials, **given)

    return go


@pytest.mark.parametrize("sequence", [False, {"ordered": False}])
def test_no_setting_of_a_reader_is_searched_that_the_recipe_has_not(
    run: Callable[..., Any], tmp_path: Path, sequence: dict[str, bool] | bool
) -> None:
    user = {"sequence": sequence, "text": sequence is False}
    found = run(Trainings(), 1, space=None, recipe={"user": user})
    assert set(found.best.settings) == {name for name in module.SPACE if name != "user.sequence.dropout"}
    assert set(run(Trainings(), 1, space=None, out=tmp_path / "other").best.settings) == set(module.SPACE)


def test_the_best_recipe_is_written_and_what_mattered(run: Callable[..., Any], tmp_path: Path) -> None:
    told: list[Trial] = []
    found = run(Trainings(), 24, tell=told.append)
    assert [trial.number for trial in told] == list(range(24))
    assert {trial.state for trial in told} == {"complete", "pruned"}
    done = [trial for trial in told if trial.state == "complete"]
    assert found.best == max(done, key=lambda trial: trial.value)
    assert found.best.value > 0.9
    assert max(found.importance, key=found.importance.__getitem__) == "train.rate"
    assert sum(found.importance.values()) == pytest.approx(1, abs=1e-3)
    written = tomllib.loads((tmp_path / "search/recipe.toml").read_text("utf-8"))
    assert written == found.recipe
    assert Recipe.read(written).train.rate == found.best.settings["train.rate"]
    assert written["user"] == {"text": False}
    kept = json.loads((tmp_path / "search/trials.json").read_text("utf-8"))
    assert [trial["value"] for trial in kept["trials"]] == [trial.value for trial in told]


def test_a_search_that_was_killed_goes_on_and_does_the_open_trial_again(run: Callable[..., Any]) -> None:
    killed = Trainings(lambda call: KeyboardInterrupt() if call == 4 else None)
    with pytest.raises(KeyboardInterrupt):
        run(killed, 6)
    again = Trainings()
    found = run(again, 6)
    assert again.recipes[0] == killed.recipes[3]
    assert (
        sum(trial.state != "fail" for trial in found.trials) + sum(trial.state == "fail" for trial in found.trials) == 6
    )
    rates = [trial.settings["train.rate"] for trial in found.trials if trial.state != "fail"]
    assert len(set(rates)) == len(rates)
    once_more = Trainings()
    assert run(once_more, 6).best == found.best
    assert not once_more.recipes


def test_a_search_by_the_largest_seed_goes_on(run: Callable[..., Any]) -> None:
    recipe = {"user": {"text": False}, "train": {"seed": 2**32 - 1}}
    assert len(run(Trainings(), 1, recipe=recipe).trials) == 1
    assert len(run(Trainings(), 2, recipe=recipe).trials) == 2


def test_a_search_that_runs_is_not_started_twice(run: Callable[..., Any], tiny_run: Any, tmp_path: Path) -> None:
    refused = []

    def started_again(call: int) -> None:
        if call == 2:
            with pytest.raises(ArtefactError, match=f"has a writer already .process {os.getpid()} on ") as caught:
                search(tiny_run.catalog, tiny_run.log, out=tmp_path / "search", space=SPACE, trials=3)
            refused.append(caught.value)

    found = run(Trainings(started_again), 3)
    assert len(refused) == 1
    assert [trial.number for trial in found.trials if trial.state != "fail"] == [0, 1, 2]
    assert len(run(Trainings(), 4).trials) == 4  # it was given back


def a_folder(study: Path) -> None:
    study.unlink()
    study.mkdir()


def another_database(study: Path) -> None:
    study.unlink()
    with closing(sqlite3.connect(study)) as file:
        file.execute("CREATE TABLE studies (name TEXT)")


def a_later_format(study: Path) -> None:
    with closing(sqlite3.connect(study)) as file, file:
        file.execute("UPDATE version_info SET schema_version = 99")
        file.execute("UPDATE alembic_version SET version_num = 'v9.9.0.a'")


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda study: study.write_bytes(b"garbage" * 1000), "file is not a database"),
        (lambda study: study.write_bytes(study.read_bytes()[:-4096]), "database disk image is malformed"),
        # SQLite opens this one, and Optuna reads all trials of it
        (lambda study: study.write_bytes(study.read_bytes()[:-100]), "it is damaged"),
        (a_folder, "unable to open database file"),
        (another_database, "table studies has no column named study_name"),
        (a_later_format, "The runtime optuna version .* is no longer compatible .*"),
    ],
)
def test_a_study_that_cannot_be_read_is_refused(
    run: Callable[..., Any], tmp_path: Path, harm: Callable[[Path], object], reason: str
) -> None:
    run(Trainings(), 2)
    harm(study := tmp_path / "search/study.db")
    trainings = Trainings()
    with pytest.raises(ArtefactError) as caught:
        run(trainings, 3)
    said = f"{study} cannot be read as a search: move it away to begin a new one"
    assert re.fullmatch(rf"{re.escape(said)} \({reason}\)", str(caught.value))
    assert not trainings.recipes
    study.rename(tmp_path / "away")
    assert len(run(trainings, 1).trials) == 1


def test_a_file_in_place_of_the_folder_is_refused(run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "search").write_text("mine")
    with pytest.raises(ArtefactError, match=r"cannot write .*search: File exists"):
        run(Trainings(), 1)


def test_a_training_that_fails_is_counted_with_its_reason(
    run: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    optuna.logging.enable_propagation()
    found = run(Trainings(lambda call: TwoTowerError("the loss became nan") if call == 2 else None), 4)
    optuna.logging.disable_propagation()
    assert [(trial.state, trial.error) for trial in found.trials][1] == ("fail", "the loss became nan")
    assert not caplog.records  # no traceback between the lines that are told
    with pytest.raises(InputError, match="none of 5 trials ended well"):
        run(Trainings(lambda _: TwoTowerError("no")), 5, out=tmp_path / "none")


def test_settings_that_contradict_each_other_are_a_trial_that_failed(run: Callable[..., Any]) -> None:
    """Each may be had alone; asked for together they are counted, with the reason, and not tried again."""
    space = {"train.epochs": [2, 20], "train.text_epochs": [3, 4]}
    trainings = Trainings()
    found = run(trainings, 8, space=space)
    said = [trial.error for trial in found.trials if trial.settings["train.epochs"] == 2]
    assert 0 < len(said) < 8 == len(found.trials)
    assert all("but the run has 2 epochs" in str(error) for error in said)
    assert len(trainings.recipes) == 8 - len(said)
    assert len(run(trainings, 8, space=space).trials) == 8


def test_several_processes_do_not_search(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ranks, "current", lambda: Ranks(1, 2))
    with pytest.raises(InputError, match="a search trains in one process, and 2 were started"):
        run(Trainings(), 1)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"space": {"train.rat": [1, 2]}}, "unknown key 'train.rat', did you mean 'train.rate'"),
        ({"space": {"train.rate": Range(low=-1.0, high=1.0)}}, "train.rate: .* greater than 0"),
        ({"space": {}}, "the space is empty"),
        ({"trials": 0}, "at least 1 trial, got 0"),
    ],
)
def test_what_no_recipe_could_have_is_refused_at_once(
    run: Callable[..., Any], more: dict[str, Any], message: str
) -> None:
    trainings = Trainings()
    with pytest.raises(InputError, match=message):
        run(trainings, **{"trials": 3, **more})
    assert not trainings.recipes


def test_other_data_or_settings_are_refused(run: Callable[..., Any]) -> None:
    run(Trainings(), 1)
    with pytest.raises(InputError, match="holds a search with other data or settings: the recipe changed"):
        run(Trainings(), 2, recipe={"user": {"text": False}, "train": {"clip": 2.0}})


def test_a_space_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text('"train.rate" = {low = 1e-4, high = 1e-2, log = true}\n"item.dimension" = [32, 64]\n')
    assert read_space(path) == {"train.rate": Range(low=1e-4, high=1e-2, log=True), "item.dimension": [32, 64]}
    for text, message in {
        '"train.rate" = {low = 2, high = 1}': "train.rate must be a range .* low must be below high",
        '"train.rate" = [1]': "train.rate must be a range",
        '"train.rate" = ': "cannot be read",
    }.items():
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_space(path)


def test_real_trainings(tiny_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of them, judged by the metric that training itself reports."""
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path / "cache"))
    recipe = tomllib.loads(tiny_run.recipe.read_text("utf-8"))
    recipe["user"]["text"] = False
    space = {"train.rate": [1e-5, 1e-2]}
    found = search(tiny_run.catalog, tiny_run.log, out=tmp_path / "search", recipe=recipe, space=space, trials=2)
    assert len(found.trials) == 2
    assert all(0 < trial.value < 1 for trial in found.trials)
    assert found.recipe["train"]["rate"] == found.best.settings["train.rate"]
