"""`twotower evaluate`: a model that kept from the test is asked, one that did not is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from indexing.build import build_index
from towers.errors import ArtefactError, InputError
from towers.interactions import Positive
from towers.model import TwoTower
from training.measuring import baselines
from training.measuring.comparison import split_log
from training.measuring.evaluate import evaluate
from training.ranker import IndexRanker
from training.trainer import train
from twotower.cli import app

runner = CliRunner()


def ask(run: Any, *options: str) -> Any:
    given = ["evaluate", "--catalog", str(run.items), "--interactions", str(run.events), *options]
    return runner.invoke(app, [*given, "--rating-range", "1", "5"], catch_exceptions=True)


@pytest.mark.parametrize("protocol", ["leave-one-out", "temporal"])
def test_a_model_trained_for_the_protocol_is_asked(tiny_run: Any, tmp_path: Path, protocol: str) -> None:
    train(tiny_run.catalog, tiny_run.log, recipe=tiny_run.recipe, protocol=protocol, out=tmp_path / "m", progress=False)
    done = ask(
        tiny_run, "--protocol", protocol, "--model", str(tmp_path / "m"), "--baselines", "most-popular", "--json"
    )
    assert done.exit_code == 0, done.output
    values = json.loads(done.stdout)
    rows = {row["method"]: row["metrics"] for row in values["rows"] if row["split"] == protocol}
    assert set(rows) == {"most-popular", "twotower", "twotower-retrieval"}
    _, split = split_log(protocol, tiny_run.log, tiny_run.catalog, Positive())
    model = TwoTower.load(tmp_path / "m")
    ranker = IndexRanker(model, build_index(model, tiny_run.catalog, progress=False), tiny_run.catalog, log=split.refit)
    alone = evaluate(ranker, split.test, counts=np.bincount(split.refit.items, minlength=40), depth=100)
    assert rows["twotower-retrieval"]["ndcg@20"][0] == pytest.approx(alone.metrics["ndcg@20"][0], abs=1e-6)
    assert {one["theirs"] for one in values["differences"]} == {"most-popular"}


def test_a_model_that_may_know_the_answers_is_refused(tiny_run: Any) -> None:
    done = ask(tiny_run, "--model", str(tiny_run.model_folder))
    assert done.exit_code != 0
    assert "was trained on other events than leave-one-out allows" in str(done.exception)


def test_lists_of_another_library_stand_in_the_table(tiny_run: Any, tmp_path: Path) -> None:
    """Somebody who knows all the answers finds all."""
    users, split = split_log("leave-one-out", tiny_run.log, tiny_run.catalog, Positive())
    people = users.take(split.test.people)
    items = tiny_run.catalog.ids.take(split.test.targets.items)
    pl.DataFrame({"user_id": people, "item_id": items}).write_parquet(tmp_path / "oracle.parquet")
    done = ask(tiny_run, "--recommendations", str(tmp_path / "oracle.parquet"), "--baselines", "none", "--json")
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)["rows"]
    assert row["method"] == "oracle"
    assert row["metrics"]["recall@20"] == [1.0, 1.0, 1.0]
    assert "people with fewer items than are looked at" in done.stderr


def test_what_is_not_read_of_a_log_is_told(tiny_run: Any, tmp_path: Path) -> None:
    events = tmp_path / "log.csv"
    pl.read_csv(tiny_run.events).rename({"timestamp": "Timestamp"}).write_csv(events)
    done = ask(replace(tiny_run, events=events), "--baselines", "most-popular")
    assert f"{events}: not read: Timestamp (did you mean timestamp?)\n" in done.stderr
    done = ask(replace(tiny_run, events=events), "--baselines", "most-popular", "--protocol", "temporal")
    assert "has no column 'timestamp' (did you mean 'Timestamp'?)" in str(done.exception)


def lists(folder: Path, name: str, people: list[Any], item: str = "m05") -> str:
    pl.DataFrame({"user_id": people, "item_id": [item] * len(people)}).write_csv(folder / name)
    return str(folder / name)


def test_lists_that_nobody_asked_about_has_are_refused_before_the_work_begins(tiny_run: Any, tmp_path: Path) -> None:
    for path, why in (
        (lists(tmp_path, "strangers.csv", ["u1", "u2"]), "2 rows of people who are not asked about"),
        (lists(tmp_path, "other-shop.csv", [1, 2], "x1"), "2 items that the catalog lacks"),
        (lists(tmp_path, "empty.csv", []), "30 people with fewer items than are looked at"),
    ):
        done = ask(tiny_run, "--recommendations", path)
        assert isinstance(done.exception, InputError)
        assert f"{path} recommends nothing to the people asked about: " in str(done.exception)
        assert why in str(done.exception)
        assert "settings\n" not in done.stderr  # no baseline has started


@pytest.mark.parametrize(
    "names", [["a/theirs.csv", "b/theirs.csv"], ["twotower.csv"], ["twotower-2.csv"], ["ease.csv"]]
)
def test_two_methods_of_one_name_are_refused(tiny_run: Any, tmp_path: Path, names: list[str]) -> None:
    options = []
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        options += ["--recommendations", lists(tmp_path, name, [1, 2])]
    done = ask(tiny_run, *options)
    assert isinstance(done.exception, InputError)
    assert f"{Path(names[0]).stem!r} is the name of another method" in str(done.exception)


def test_lists_of_several_files_each_have_a_row(tiny_run: Any, tmp_path: Path) -> None:
    files = [lists(tmp_path, name, [1, 1, 2]) for name in ("a.csv", "b.csv")]
    options = [part for file in files for part in ("--recommendations", file)]
    done = ask(tiny_run, *options, "--baselines", "most-popular", "--json")
    values = json.loads(done.stdout)
    assert [row["method"] for row in values["rows"]] == ["most-popular", "a", "b"]
    assert (
        values["notes"]["a"]["items named twice in a list"] == values["notes"]["b"]["items named twice in a list"] == 1
    )


def test_a_table_without_a_row_is_refused(tiny_run: Any) -> None:
    done = ask(tiny_run, "--baselines", "none")
    assert isinstance(done.exception, InputError)
    assert "there is nothing to compare" in str(done.exception)


def given(tiny_run: Any, folder: Path, words: list[str], *, times: bool = True) -> Any:
    """A log with a column `split`: these words for the ten events of each person, in order of time."""
    events = pl.read_csv(tiny_run.events).sort("user_id", "timestamp")
    events = events.with_columns(split=pl.Series(words * 30))
    (events if times else events.drop("timestamp")).write_csv(folder / "split.csv")
    return replace(tiny_run, events=folder / "split.csv")


@pytest.mark.parametrize(("place", "late"), [(9, 0), (5, 30)])
def test_a_given_split_that_shows_the_future_says_of_how_many(
    tiny_run: Any, tmp_path: Path, place: int, late: int
) -> None:
    words = ["train"] * 10
    words[place] = "test"
    run = given(tiny_run, tmp_path, words)
    options = ("--protocol", "given", "--baselines", "most-popular", "--most", "20")
    told = ask(run, *options, "--json")
    late = min(late, 20)
    assert json.loads(told.stdout)["notes"]["given"] == {"asked about": 20, "with later events in training": late}
    shown = ask(run, *options).stdout
    assert f"{late} of 20 people asked about have events in training after their first test event" in shown
    assert ("partly known" in shown) == bool(late)


def test_without_times_nothing_is_said_of_the_future(tiny_run: Any, tmp_path: Path) -> None:
    run = given(tiny_run, tmp_path, ["train"] * 8 + ["test", "train"], times=False)
    done = ask(run, "--protocol", "given", "--baselines", "most-popular", "--json")
    assert "given" not in json.loads(done.stdout)["notes"]


def test_test_events_with_items_that_the_catalog_lacks_are_counted(tiny_run: Any, tmp_path: Path) -> None:
    events = pl.read_csv(given(tiny_run, tmp_path, ["train"] * 8 + ["test"] * 2).events)
    last = pl.col("timestamp").rank("ordinal").over("user_id") == 10
    events.with_columns(item_id=pl.when(last).then(pl.lit("gone")).otherwise("item_id")).write_csv(
        tmp_path / "gone.csv"
    )
    done = ask(replace(tiny_run, events=tmp_path / "gone.csv"), "--protocol", "given", "--baselines", "most-popular")
    assert done.exit_code == 0, done.output
    assert "30 of 300 rows set aside: 30 unknown item_id" in done.stderr
    assert "30 of 30 people asked about" in done.stderr


def test_settings_are_chosen_by_as_many_people_as_are_asked_about(
    tiny_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def tune(candidates: Any, split: Any, n_items: int) -> Any:
        seen.append((len(split.validation), len(split.test), len(split.train)))
        return baselines.tune(candidates, split, n_items)

    monkeypatch.setattr("training.measuring.comparison.tune", tune)
    done = ask(tiny_run, "--baselines", "most-popular", "--most", "12")
    assert seen == [(12, 12, 30)]
    assert "settings of baselines chosen by 12 of 30" in done.stderr


def test_a_person_sees_a_table_and_how_many_were_asked(tiny_run: Any) -> None:
    done = ask(tiny_run, "--baselines", "most-popular,item-knn", "--most", "20")
    assert done.exit_code == 0, done.output
    assert "20 of 30 people asked about" in done.stderr
    assert "most-popular" in done.stdout
    assert "item-knn" in done.stdout


def test_a_model_and_a_recipe_are_one_too_many(tiny_run: Any) -> None:
    done = ask(tiny_run, "--model", str(tiny_run.model_folder), "--recipe", str(tiny_run.recipe))
    assert "expected one of them" in str(done.exception)


def test_a_folder_that_is_something_else_is_refused_before_training(tiny_run: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ArtefactError):
        train(tiny_run.catalog, tiny_run.log, recipe={"train": {"epochs": 10**6}}, protocol="temporal", out=tmp_path)
