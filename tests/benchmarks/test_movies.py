"""Films with descriptions, posters and trailers: joined rightly, and all methods asked about the same people."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from benchmarks.among import recall_among
from benchmarks.movies import ALL, GIVEN, TEXT, Job, _differences, ask_model, read_split, recipe_of
from benchmarks.movies_data import CONTENT, joined, movies_1m, movies_100k
from towers.catalog import Catalog
from towers.history import Histories
from towers.interactions import Interactions, Positive
from towers.movielens import movielens_100k
from training.config import Recipe
from training.measuring.comparison import split_log
from training.measuring.evaluate import Result
from training.measuring.metrics import Interval
from training.measuring.splits import Questions

FILMS = {
    "movie_id": ["7", "8", "9"],
    "title": ["Third Man, The", "Alien", "Never Seen"],
    "year": [1949, 1979, 1990],
    "genres": ["Film-Noir", "Horror, Sci-Fi", "Drama"],
    "description": ["A writer comes to Vienna.", "", "Nobody knows."],
    "image": ["posters/7.jpg", None, None],
    "trailer_ivector": [None, [0.5, -0.5], None],
}
EVENTS = {
    "user_id": ["a"] * 4 + ["b"] * 3,
    "movie_id": ["8", "7", "8", "7", "7", "8", "7"],
    "position": [1, 0, 2, 3, 0, 1, 2],
    "split": ["train", "train", "validation", "test", "train", "train", "test"],
}


def poster() -> bytes:
    stream = BytesIO()
    Image.new("RGB", (4, 6), "red").save(stream, "JPEG")
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What `--data-dir` names, with three films."""
    (tmp_path / "movies" / "posters").mkdir(parents=True)
    (tmp_path / "movies" / "posters" / "7.jpg").write_bytes(poster())
    pl.DataFrame(FILMS).write_parquet(tmp_path / "movies" / "items.parquet")
    names = {"item_id": ["31", "32", "33"], "movie_id": ["8", None, "7"]}
    pl.DataFrame(names).write_parquet(tmp_path / "movies" / "ml100k_to_movie_id.parquet")
    (tmp_path / "ml-1m").mkdir()
    pl.DataFrame(EVENTS).write_parquet(tmp_path / "ml-1m" / "sequences.parquet")
    return tmp_path


def test_films_keep_what_their_catalog_tells_and_gain_what_is_known(folder: Path) -> None:
    catalog = Catalog.read(pl.DataFrame({"item_id": [33, 32, 31], "title": ["The Third Man", "Lost", "Alien"]}))
    table = joined(catalog, folder).table.to_pylist()
    assert table == [
        {
            "item_id": 33,
            "title": "The Third Man",
            "description": "A writer comes to Vienna.",
            "poster": poster(),
            "trailer": None,
        },
        {"item_id": 32, "title": "Lost", "description": None, "poster": None, "trailer": None},
        {"item_id": 31, "title": "Alien", "description": None, "poster": None, "trailer": [0.5, -0.5]},
    ]


def test_the_large_set_has_the_films_that_somebody_met(folder: Path) -> None:
    catalog, log = movies_1m(folder)
    assert catalog.ids.to_list() == ["7", "8"]
    assert catalog.texts("{title} ({year}). {genres}") == [
        "The Third Man (1949). Film-Noir",
        "Alien (1979). Horror, Sci-Fi",
    ]
    _, histories = log.histories(catalog)
    assert histories.items.tolist() == [0, 1, 1, 0, 0, 1, 0]  # by position, not as in the file
    assert histories.times is None


def test_the_large_set_is_split_as_its_file_says_and_not_refitted(folder: Path) -> None:
    events = {**EVENTS, "movie_id": ["8", "7", "9", "9", "7", "8", "9"]}
    events["movie_id"][2:4] = ["9", "6"]
    films = {name: [*values, values[0]] for name, values in FILMS.items()} | {"movie_id": ["7", "8", "9", "6"]}
    pl.DataFrame(films).write_parquet(folder / "movies" / "items.parquet")
    pl.DataFrame(events).write_parquet(folder / "ml-1m" / "sequences.parquet")
    catalog, split = read_split(GIVEN, folder)
    ids = catalog.ids.to_list()
    assert split.refit is split.train
    assert [ids[row] for row in split.train.items] == ["7", "8", "7", "8"]
    assert split.validation.people.tolist() == [0]  # b has no event that says so
    assert [ids[row] for row in split.validation.targets.items] == ["9"]
    assert [ids[row] for row in split.test.targets.items] == ["6", "9"]
    assert [ids[row] for row in split.test.histories.items] == ["7", "8", "9", "7", "8"]


def testrecall_among_a_few_by_hand() -> None:
    scores = np.tile(np.arange(50, dtype=np.float32), (2, 1))  # the higher the row, the better
    questions = Questions(
        people=np.arange(2),
        histories=Histories.of([[49, 48], [0]]),
        targets=Histories.of([[30, 29, 5], [1]]),
    )
    few = recall_among(scores, questions, np.arange(29, 50))
    assert few[0] == 1  # the two that they have met make room for both
    assert np.isnan(few[1])  # their target is not among these
    assert recall_among(scores, questions, np.arange(50)).tolist() == [2 / 3, 0]


def tiny(method: str, source: Path) -> Recipe:
    """The grid's recipe for a small world: a small text encoder, two epochs."""
    values = recipe_of(method).model_dump(mode="json")
    values["text"]["source"] = str(source)
    values["item"] |= {"dimension": 16, "hidden": 32}
    values["user"] |= {"text": False}
    values["train"] |= {"epochs": 2, "evaluate_every": 1}
    return Recipe.read(values)


@pytest.mark.filterwarnings("ignore:.*items have neither content:UserWarning")  # as is meant without any text
def test_all_methods_are_asked_about_the_same_people(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path))
    catalog, log = small_world()
    _, split = split_log("cold-items", log, catalog, Positive())
    assert split.cold is not None
    among = f"cold-items-among-{split.cold.sum()}"
    found = {}
    for method in ("ids", TEXT, "ids+text+trailer", "trailer"):
        results, notes = ask_model(
            catalog, split, Job("cold-items", method, 0, tmp_path, tmp_path / "out"), tiny(method, tiny_bert)
        )
        assert set(notes["gates"]) == {"text", "id"} | ({"audio"} if "trailer" in method else set())
        found |= {(where, name, 0): result for (name, where), result in results.items()}
    for (where, _, _), result in found.items():
        assert where in ("cold-items", among)
        np.testing.assert_array_equal(result.people, split.test.people)
    for where in ("cold-items", among):
        assert not np.nansum(found[where, "ids", 0].per_person["recall@20/cold"])  # it knows nothing of them
        for method in (TEXT, "ids+text+trailer"):
            assert np.nanmean(found[among, method, 0].per_person["recall@20/cold"]) == 1  # fewer than 20
    compared = [one for one in _differences(found) if one["ours"] == "ids" and one["split"] == among]
    assert {one["metric"]: one["difference"] for one in compared}["recall@20/cold"] == [-1, -1, -1]


def small_world() -> tuple[Catalog, Interactions]:
    """Sixty films with trailers for two thirds of them, thirty people who each like a half."""
    rng = np.random.default_rng(0)
    films = pl.DataFrame(
        {
            "item_id": range(60),
            "title": [f"Film {n}" for n in range(60)],
            "year": [1950 + n % 40 for n in range(60)],
            "genres": [("Drama", "Comedy")[n % 2] for n in range(60)],
            "trailer": [rng.normal(size=4).tolist() if n % 3 else None for n in range(60)],
        }
    )
    rows = [
        (person, int(film), 3600 * hour)
        for person in range(30)
        for hour, film in enumerate(rng.permutation(np.arange(person % 2, 60, 2))[:20])
    ]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    return Catalog.read(films), Interactions.read(events)


def test_who_is_compared_with_whom() -> None:
    def result(values: list[float]) -> Result:
        found = {"recall@20": np.array(values), "recall@10": np.zeros(2), "recall@20/cold": np.full(2, np.nan)}
        return Result({"recall@20": Interval(0, 0, 0)}, np.arange(2), found, 0, 0.0)

    found = {
        ("temporal", TEXT, 0): result([0, 0.5]),
        ("temporal", ALL, 0): result([1, 0.5]),
        ("temporal", TEXT, 1): result([1, 1]),
        ("temporal", ALL, 1): result([1, 0]),
        ("temporal", "ease", 0): result([0, 0]),
        ("leave-one-out", "ids", 0): result([1, 1]),  # nothing to compare with
    }
    differences = [
        (one["split"], one["seed"], one["ours"], one["theirs"], one["metric"], one["difference"][0])
        for one in _differences(found)
    ]
    assert differences == [
        ("temporal", 0, ALL, TEXT, "recall@20", 0.5),
        ("temporal", 1, ALL, TEXT, "recall@20", -0.5),
        ("temporal", 0, ALL, "ease", "recall@20", 0.75),
        ("temporal", 1, ALL, "ease", "recall@20", 0.5),
    ]


class TestTheRealFilms:
    """With ``--data-dir``."""

    def test_known_films_of_the_small_set(self, data_dir: Path) -> None:
        plain, _ = movielens_100k(progress=False)
        catalog, log = movies_100k(data_dir)
        assert catalog.table.select(plain.table.column_names).equals(plain.table)
        films: dict[int, dict[str, Any]] = {row["item_id"]: row for row in catalog.table.to_pylist()}
        assert len(films) == 1682
        assert len(log) == 100_000
        assert films[1]["title"] == "Toy Story"
        assert films[1]["description"].startswith('"Toy Story (1995)" is a pionee')
        assert films[1]["poster"] == (data_dir / "movies" / "posters" / "1.jpg").read_bytes()
        assert films[1]["trailer"] is None
        assert films[23]["title"] == "Taxi Driver"
        assert len(films[23]["trailer"]) == 100
        assert films[50]["title"] == "Star Wars"
        assert [films[50][name] for name in CONTENT] == [None, None, None]
        known = {name: sum(film[name] is not None for film in films.values()) for name in CONTENT}
        assert known == {"description": 1646, "poster": 1420, "trailer": 595}

    def test_the_large_set(self, data_dir: Path) -> None:
        catalog, split = read_split(GIVEN, data_dir)
        assert len(catalog) == 3416
        assert len(split.log.items) == 999_601
        assert len(split.train.items) == 987_531
        assert len(split.validation) == 6030
        assert len(split.test) == 6040
        assert catalog.titles[catalog.ids.to_list().index("1")] == "Toy Story"
