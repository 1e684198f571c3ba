"""`twotower evaluate`: a model that kept from the test is asked, one that did not is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from indexing.build import build_index
from towers.errors import ArtefactError
from towers.interactions import Positive
from towers.model import TwoTower
from training.comparison import split_log
from training.evaluate import evaluate
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
