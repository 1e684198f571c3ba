"""`twotower import`: what it prints and writes, and that training reads it."""

from __future__ import annotations

import json
import shlex
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from towers.model import TwoTower
from twotower.cli import main

RECIPE = """
text.source = "{source}"
item = {{dimension = 16, hidden = 32}}
user.sequence.blocks = 1
user.text = {{tune = 1, history = {{budget = 48}}}}
train = {{epochs = 1, text_epochs = 1, evaluate_every = 1}}
"""
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run `twotower` with these arguments, in this process: exit code, standard output, standard error."""

    def command(*arguments: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["twotower", *map(str, arguments)])
        monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    return command


@pytest.fixture
def ml_1m(tmp_path: Path) -> Path:
    """A MovieLens-1M of 39 films, 30 people and 300 ratings, one of an unknown film, and a line that is none."""
    folder = tmp_path / "ml-1m"
    folder.mkdir()
    films = [
        f"{film}::Film {film}, The ({1950 + film})::{'Drama' if film % 2 else 'War|Comedy'}" for film in range(1, 40)
    ]
    people = [f"{user}::{'FM'[user % 2]}::25::12::0" for user in range(1, 31)]
    events = [
        f"{user}::{1 + (7 * user + 3 * n) % 40}::{1 + (user + n) % 5}::{978300760 + 60 * n}"
        for user in range(1, 31)
        for n in range(10)
    ]
    for name, lines in {"movies.dat": films, "users.dat": people, "ratings.dat": [*events, "1::2::3"]}.items():
        (folder / name).write_text("\n".join(lines) + "\n", "latin-1")
    return folder


def test_a_table_for_people(run: Run, ml_1m: Path, tmp_path: Path) -> None:
    code, out, err = run("import", "movielens", ml_1m, "--out", tmp_path / "data")
    assert code == 0
    rows = [tuple(cell.strip() for cell in line.split("│")[1:3]) for line in out.splitlines() if "│" in line]
    assert rows == [
        ("items", "40"),
        ("of these with an id alone", "1"),
        ("interactions", "300"),
        ("people with attributes", "30"),
        ("set aside: wrong number of fields", "1"),
        ("--rating-range", "1 5"),
    ]
    data = tmp_path / "data"
    assert err.endswith(
        f"next: twotower train --catalog {data}/items.parquet --interactions {data}/interactions.parquet "
        f"--people {data}/people.parquet --rating-range 1 5 --out FOLDER\n"
    )


def test_json_for_programs(run: Run, ml_1m: Path, tmp_path: Path) -> None:
    code, out, _ = run("import", "movielens", ml_1m, "--out", tmp_path / "data", "--json")
    assert (code, json.loads(out)) == (
        0,
        {
            "items": 40,
            "without_metadata": 1,
            "interactions": 300,
            "people": 30,
            "rating_range": [1.0, 5.0],
            "rejected": {"wrong number of fields": 1},
            "out": str(tmp_path / "data"),
        },
    )
    assert set(pl.read_parquet(tmp_path / "data" / "interactions.parquet")["rating"]) == {1, 2, 3, 4, 5}


def test_a_log_without_people_and_ratings_says_nothing_of_them(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x.inter").write_text("user_id:token\titem_id:token\n1\t2\n", "utf-8")
    _, out, err = run("import", "recbole", tmp_path, "--out", tmp_path / "data")
    assert "--rating-range" not in out + err
    assert "people" not in out + err.replace(str(tmp_path), "")
    facts = json.loads(run("import", "recbole", tmp_path, "--out", tmp_path / "data", "--json")[1])
    assert (facts["rating_range"], facts["people"]) == (None, None)


def test_training_reads_what_was_imported(run: Run, ml_1m: Path, tiny_bert: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE.format(source=tiny_bert), "utf-8")
    _, _, err = run("import", "movielens", ml_1m, "--out", tmp_path / "some data")
    command = shlex.split(err.splitlines()[-1].removeprefix("next: twotower "))
    command[-1] = str(tmp_path / "model")
    code, _, err = run(*command, "--recipe", tmp_path / "recipe.toml")
    assert (code, "set aside" in err) == (0, False)
    assert TwoTower.load(tmp_path / "model").config.rating.range == (1.0, 5.0)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("movielens", "holds no MovieLens: looked for u.data"),
        ("amazon", "holds no Amazon Reviews 2023: looked for <Category>.jsonl"),
        ("recbole", "holds no atomic files of RecBole: looked for <name>.inter"),
    ],
)
def test_a_folder_with_something_else_is_one_sentence(run: Run, tmp_path: Path, kind: str, says: str) -> None:
    code, out, err = run("import", kind, tmp_path, "--out", tmp_path / "data")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith(f"error: {tmp_path} {says}")
    assert not (tmp_path / "data").exists()


def test_a_folder_that_is_something_else_is_refused_at_once(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine", "utf-8")
    code, out, err = run("import", "movielens", tmp_path, "--out", tmp_path)
    assert (code, out) == (1, "")
    assert f"{tmp_path} exists and is not a whole twotower/data" in err


def test_an_unknown_kind_is_a_wrong_use(run: Run, tmp_path: Path) -> None:
    code, _, err = run("import", "netflix", tmp_path, "--out", tmp_path / "data")
    assert code == 2
    assert "'movielens'" in err
