"""`twotower tune`: what it prints, writes, and leaves for `twotower train`."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from training.config import Recipe
from training.search import Found, Range, Trial
from twotower.cli import main
from twotower.search_page import history, setting, write_search_page

FOUND = Found(
    {"train": {"rate": 0.02}},
    [
        Trial(0, {"train.rate": 0.0002, "item.dimension": 32}, 0.1, "complete", 3.0),
        Trial(1, {"train.rate": 0.02, "item.dimension": 64}, 0.25, "complete", 4.0),
        Trial(2, {"train.rate": 0.9, "item.dimension": 64}, 0.05, "pruned", 1.0),
        Trial(3, {"train.rate": 0.5, "item.dimension": 32}, None, "fail", 1.0, "the loss became <nan>"),
    ],
    {"train.rate": 0.8, "item.dimension": 0.2},
    {"train.rate": Range(low=1e-4, high=1.0, log=True), "item.dimension": [32, 64]},
)


def test_a_search_from_a_terminal(
    tiny_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path / "cache"))
    (tmp_path / "space.toml").write_text('"train.rate" = [0.0001, 0.01]\n')
    recipe = tiny_run.recipe.read_text("utf-8").replace("user.text = {", "user.text = false #")
    (tmp_path / "recipe.toml").write_text(recipe)
    command = ["tune", "--catalog", tiny_run.items, "--interactions", tiny_run.events, "--rating-range", "1", "5"]
    command += ["--recipe", tmp_path / "recipe.toml", "--space", tmp_path / "space.toml", "--trials", "2"]
    command += ["--out", tmp_path / "search", "--json"]
    monkeypatch.setattr("sys.argv", ["twotower", *map(str, command)])
    with pytest.raises(SystemExit) as end:
        main()
    printed = capsys.readouterr()
    assert end.value.code == 0, printed.err
    told = json.loads(printed.out)
    assert [trial["number"] for trial in told["trials"]] == [0, 1]
    assert told["best"]["value"] == max(trial["value"] for trial in told["trials"] if trial["state"] == "complete")
    assert "trial 1: ndcg@20" in printed.err
    best = tomllib.loads((tmp_path / "search/recipe.toml").read_text("utf-8"))
    assert best == told["recipe"]
    assert Recipe.read(best).train.rate == told["best"]["settings"]["train.rate"]
    assert Recipe.read(best).user.text is None
    page = (tmp_path / "search/report.html").read_text("utf-8")
    assert f"{told['best']['value']:.4f}" in page


def test_the_page_shows_every_trial_and_marks_the_best(tmp_path: Path) -> None:
    write_search_page(FOUND, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "4 trainings, 2 trained to the end, 1 ended early, 1 failed" in page
    assert "Best: 0.2500 in trial 2." in page
    assert "the loss became &lt;nan&gt;" in page
    assert page.index("<tr class=marked><td>2</td>") > 0
    early, done = history(FOUND).data
    assert (list(early.x), list(early.y)) == ([3], [0.05])
    assert (list(done.x), list(done.y)) == ([1, 2], [0.1, 0.25])
    rate = setting(FOUND, "train.rate")
    assert rate.layout.xaxis.type == "log"
    assert "80%" in rate.layout.title.text
    assert list(rate.data[0].x) == [0.0002, 0.02]
    assert setting(FOUND, "item.dimension").layout.xaxis.type == "category"
