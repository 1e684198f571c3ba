"""The generated log is what it says, and a run of `twotower evaluate` is measured as a whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.evaluate_scale import BASELINES, evaluate, generate, prepare
from towers.catalog import Catalog
from towers.interactions import Interactions, Positive
from training.measuring.baselines import ItemKNN
from training.measuring.comparison import Comparison, split_log
from training.measuring.popularity import MostPopular


def test_the_log_has_the_sizes_asked_for_and_nobody_meets_an_item_twice(tmp_path: Path) -> None:
    generate(tmp_path, events=20_000, items=2_000, people=1_000)
    items, events = pl.read_parquet(tmp_path / "items.parquet"), pl.read_parquet(tmp_path / "events.parquet")
    assert (len(items), items["item_id"].n_unique()) == (2_000, 2_000)
    assert items["title"].str.split(" ").list.len().is_between(3, 5).all()
    assert len(events) == 20_000
    assert events["user_id"].n_unique() == 1_000
    assert not events.select("user_id", "item_id").is_duplicated().any()
    assert events["item_id"].is_in(items["item_id"].to_list()).all()
    assert sorted(events["rating"].unique()) == [1, 2, 3, 4, 5]
    counts = events["item_id"].str.slice(1).cast(pl.Int64).value_counts().sort("item_id")
    first = counts.filter(pl.col("item_id") < 20)["count"].sum()
    assert first > 5 * counts.filter(pl.col("item_id").is_between(1_000, 1_019))["count"].sum()


def test_the_same_seed_gives_the_same_log(tmp_path: Path) -> None:
    for seed, name in enumerate(("a", "b", "c")):
        (tmp_path / name).mkdir()
        generate(tmp_path / name, events=500, items=100, people=50, seed=seed // 2)
    a, b, c = (pl.read_parquet(tmp_path / name / "events.parquet") for name in "abc")
    assert a.equals(b)
    assert not a.equals(c)


def test_taste_shows_in_the_log(tmp_path: Path) -> None:
    """Who had an item tells more than how many had it."""
    generate(tmp_path, events=20_000, items=2_000, people=1_000)
    catalog, log = Catalog.read(tmp_path / "items.parquet"), Interactions.read(tmp_path / "events.parquet")
    _, split = split_log("leave-one-out", log, catalog, Positive())
    comparison = Comparison(split, "leave-one-out", len(catalog))
    comparison.add("most-popular", MostPopular().fit(split.train, len(catalog)))
    comparison.add("item-knn", ItemKNN(neighbours=100, shrink=10).fit(split.train, len(catalog)))
    popular, neighbours = (row["metrics"]["recall@20"] for row in comparison.rows)
    assert neighbours[1] > 1.5 * popular[2]


def test_a_run_is_measured(tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path / "cache"))
    prepare(tmp_path, tiny_bert, 600, 120, 60)
    found = evaluate(tmp_path)
    rows = {row["method"]: row["metrics"]["recall@20"][0] for row in found.table["rows"]}
    assert set(rows) == {*BASELINES.split(","), "twotower-retrieval", "twotower"}
    seconds = [second for second, _ in found.said]
    assert seconds == sorted(seconds)
    assert 0 < seconds[0] <= found.seconds
    assert 1 < found.processor < 100 * found.seconds
    assert 0.2 < found.peak < 4  # torch alone needs more than the one, so small a log not the other
    assert any(line.startswith("item-knn: ") for _, line in found.said)
    assert np.isfinite(list(rows.values())).all()
