"""MovieLens-100K as a catalog and a log (GroupLens; research use, no redistribution)."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from towers.catalog import Catalog
from towers.importers.movielens import article_first
from towers.importers.recbole import atomic
from towers.interactions import Interactions
from towers.weights import fetch

RATINGS = (1.0, 5.0)


def movielens_100k(*, weights: Path | None = None, progress: bool = True) -> tuple[Catalog, Interactions]:
    """1,682 films (title, year, genres) and 100,000 ratings of 943 people with their attributes.

    Args:
        weights: folder to look in before anything is downloaded.
        progress: show the download on standard error.

    Raises:
        WeightsError: the files can be found nowhere.
    """
    folder = fetch("movielens-100k", folder=weights, progress=progress)
    items, people, events = (_table(folder / f"ml-100k.{kind}") for kind in ("item", "user", "inter"))
    items = items.select(
        pl.col("item_id").cast(pl.Int64),
        pl.col("movie_title").map_elements(article_first, return_dtype=pl.String).alias("title"),
        pl.col("release_year").cast(pl.Int64, strict=False).alias("year"),
        pl.col("class").str.replace_all(" ", ", ").alias("genres"),
    )
    people = people.select(pl.col("user_id").cast(pl.Int64), "age", "gender", "occupation")
    events = events.select(pl.col("user_id", "item_id").cast(pl.Int64), pl.col("rating", "timestamp").cast(pl.Float64))
    return Catalog.read(items), Interactions.read(events, rating_range=RATINGS, people=people)


def _table(path: Path) -> pl.DataFrame:
    """All columns of an atomic file as text."""
    loaded, _ = atomic(path)
    return pl.DataFrame(loaded.table)
