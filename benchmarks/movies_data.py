"""MovieLens people with what their films tell, show and sound like: descriptions, posters, sound of the trailers."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from towers.catalog import Catalog
from towers.importers.movielens import article_first
from towers.interactions import Interactions
from towers.movielens import movielens_100k

CONTENT = ("description", "poster", "trailer")


def movies_100k(data_dir: Path) -> tuple[Catalog, Interactions]:
    """MovieLens-100K, its 1,682 films as it tells them (title, year, genres), joined to `CONTENT` where it is known.

    Args:
        data_dir: holds ``movies/``.
    """
    catalog, log = movielens_100k(progress=False)
    return joined(catalog, data_dir), log


def joined(catalog: Catalog, data_dir: Path) -> Catalog:
    """A catalog with MovieLens-100K's ids and, beside its own columns, `CONTENT`; null for films that do not join."""
    names = pl.read_parquet(data_dir / "movies" / "ml100k_to_movie_id.parquet")
    names = names.select(pl.col("item_id").cast(pl.Int64), "movie_id")
    told = pl.DataFrame(catalog.table).join(names, on="item_id", how="left", maintain_order="left")
    films = read_films(data_dir).select("movie_id", *CONTENT)
    return Catalog.read(told.join(films, on="movie_id", how="left", maintain_order="left").drop("movie_id"))


def movies_1m(data_dir: Path) -> tuple[Catalog, Interactions]:
    """MovieLens-1M in time order: the films that have events, and a log with `position` and `split` as in the file.

    It has no times, so nothing is known of gaps and of what is popular of late, and no ratings.

    Args:
        data_dir: holds ``movies/`` and ``ml-1m/``.
    """
    events = pl.read_parquet(data_dir / "ml-1m" / "sequences.parquet").rename({"movie_id": "item_id"})
    films = read_films(data_dir).rename({"movie_id": "item_id"})
    met = films.join(events.select("item_id").unique(), on="item_id", how="semi", maintain_order="left")
    return Catalog.read(met), Interactions.read(events)


def read_films(data_dir: Path) -> pl.DataFrame:
    """All films of ``movies/items.parquet`` by ``movie_id``: title, year, genres, and `CONTENT`.

    ``poster`` is the picture's file itself, ``trailer`` a vector of 100 numbers; null where there is none.
    """
    folder = data_dir / "movies"
    films = pl.read_parquet(folder / "items.parquet")
    posters = [(folder / path).read_bytes() if path else None for path in films["image"]]
    return films.select(
        "movie_id",
        pl.col("title").map_elements(article_first, return_dtype=pl.String),
        pl.col("year").cast(pl.Int64),
        "genres",
        pl.when(pl.col("description") != "").then("description"),
        pl.Series("poster", posters, pl.Binary),
        pl.col("trailer_ivector").alias("trailer"),
    )
