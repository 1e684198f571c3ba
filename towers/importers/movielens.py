"""MovieLens as GroupLens ships it: ml-100k, ml-1m, ml-10m, ml-20m, ml-25m, ml-32m, ml-latest.

Harper and Konstan, "The MovieLens Datasets: History and Context" (2015); research use, see the README of each.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl

from towers.catalog import Catalog
from towers.errors import InputError
from towers.importers.files import first_line, refuse_no_folder
from towers.importers.lines import fields, groups
from towers.importers.source import Source, numbers
from towers.interactions import Interactions
from towers.rejected import Loaded
from towers.textfiles import read_csv

LOOKED_FOR = "u.data (ml-100k), ratings.dat (ml-1m, ml-10m) or ratings.csv (ml-20m, ml-25m, ml-32m, ml-latest)"
HEADER = "userId,movieId,rating,timestamp"
EVENTS = ["user_id", "item_id", "rating", "timestamp"]
WHOLE_STARS, HALF_STARS = (1.0, 5.0), (0.5, 5.0)
GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
"""In the order of ml-100k's flags."""
FILM_100K = rf"^(\d+)\|(.*)\|([^|]*)\|([^|]*)\|([^|]*)\|((?:[01]\|){{{len(GENRES) - 1}}}[01])$"
FILM_DAT = r"^([^:]*)::(.*)::(.*)$"
YEAR = r"^(.*?)\s*\((\d{4})(?:[-–]\d{0,4})?\)(\s*\(T?V\))?\s*$"
NO_GENRES = "(no genres listed)"
AGES = {"1": "under 18", "18": "18-24", "25": "25-34", "35": "35-44", "45": "45-49", "50": "50-55", "56": "56 and over"}
OCCUPATIONS = (
    "other", "academic/educator", "artist", "clerical/admin", "college/grad student", "customer service",
    "doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer", "programmer",
    "retired", "sales/marketing", "scientist", "self-employed", "technician/engineer", "tradesman/craftsman",
    "unemployed", "writer",
)  # fmt: skip
"""In the order of ml-1m's codes."""


def read(folder: Path | str) -> tuple[Catalog, Interactions]:
    """Films (title, year, genres) and ratings, with the people's attributes where the version has them.

    Args:
        folder: what a zip of GroupLens unpacks to.

    Raises:
        InputError: the folder holds no MovieLens, or a file of it is missing or unusable.
    """
    return load(folder).read()


def load(folder: Path | str) -> Source:
    """The rows as the files have them; see `read`.

    Raises:
        InputError: the folder holds no MovieLens, or a file of it is missing.
    """
    folder = Path(folder)
    refuse_no_folder(folder)
    for name, reader in {"u.data": _ml_100k, "ratings.dat": _dat, "ratings.csv": _csv}.items():
        if (folder / name).is_file():
            return reader(folder)
    raise InputError(f"{folder} holds no MovieLens: looked for {LOOKED_FOR}")


def article_first(title: str) -> str:
    """``"Usual Suspects, The"`` as people say it: ``"The Usual Suspects"``."""
    for article in ("The", "A", "An"):
        if title.endswith(f", {article}"):
            return f"{article} {title.removesuffix(f', {article}')}"
    return title


def _ml_100k(folder: Path) -> Source:
    films = groups(_part(folder, "u.item"), FILM_100K, ["item_id", "title", "date", "video", "url", "genres"])
    flags = pl.Series(films.table["genres"]).str.split("|")
    named = pl.DataFrame({"flags": flags}).select(
        pl.concat_str(
            [pl.when(pl.col("flags").list.get(n) == "1").then(pl.lit(name)) for n, name in enumerate(GENRES)],
            separator="|",
            ignore_nulls=True,
        )
    )
    films = films.with_column("genres", named.to_series().to_arrow())
    users = fields(_part(folder, "u.user"), "|", ["user_id", "age", "gender", "occupation", "zip"])
    events = fields(folder / "u.data", "\t", EVENTS)
    return Source.of(_films(films), _events(events), people=_people(users), rating_range=WHOLE_STARS)


def _dat(folder: Path) -> Source:
    films = groups(_part(folder, "movies.dat"), FILM_DAT, ["item_id", "title", "genres"])
    events = _events(fields(folder / "ratings.dat", "::", EVENTS))
    if not (folder / "users.dat").is_file():  # ml-10m
        return Source.of(_films(films), events, rating_range=HALF_STARS)
    users = fields(folder / "users.dat", "::", ["user_id", "gender", "age", "occupation", "zip"])
    names = {str(code): name for code, name in enumerate(OCCUPATIONS)}
    for column, meanings in {"age": AGES, "occupation": names}.items():
        users = users.with_column(column, pl.Series(users.table[column]).replace(meanings).to_arrow())
    return Source.of(_films(films), events, people=_people(users), rating_range=WHOLE_STARS)


def _csv(folder: Path) -> Source:
    path = _part(folder, "movies.csv")
    films = read_csv(path.read_bytes(), str(path), delimiter=",", ids=("movieId",))
    names = {"movieId": "item_id", "title": "title", "genres": "genres"}
    if missing := names.keys() - set(films.table.column_names):
        raise InputError(f"{path} has no column {min(missing)!r}; it has: {', '.join(films.table.column_names)}")
    table = pl.DataFrame(films.table).select(pl.col(name).cast(pl.String).alias(ours) for name, ours in names.items())
    films = replace(films, table=table.to_arrow())
    header = first_line(folder / "ratings.csv")
    if header != HEADER:
        raise InputError(f"{folder / 'ratings.csv'} must begin with the line {HEADER}, got {header!r}")
    events = _events(fields(folder / "ratings.csv", ",", EVENTS, header=True))
    return Source.of(_films(films), events, rating_range=HALF_STARS)


def _part(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise InputError(f"{folder} is MovieLens, but its file {name} is missing")
    return folder / name


def _events(loaded: Loaded) -> Loaded:
    for name in EVENTS:
        loaded = numbers(loaded, name, whole=name.endswith("_id"))
    return loaded


def _people(loaded: Loaded) -> Loaded:
    """user_id, age, gender, occupation; zip codes are left out."""
    loaded = numbers(loaded, "user_id", whole=True)
    return replace(loaded, table=loaded.table.select(["user_id", "age", "gender", "occupation"]))


def _films(loaded: Loaded) -> Loaded:
    """item_id, title, year, genres from a title such as ``Usual Suspects, The (1995)`` and genres such as ``A|B``."""
    loaded = numbers(loaded, "item_id", whole=True)
    found = pl.DataFrame(loaded.table).select(
        "item_id",
        parts=pl.col("title").str.extract_groups(YEAR),
        title=pl.col("title").str.strip_chars(),
        genres=pl.when(~pl.col("genres").is_in(["", NO_GENRES])).then(
            pl.col("genres").str.replace_all("|", ", ", literal=True)
        ),
    )
    found = found.select(
        "item_id",
        pl.coalesce(pl.col("parts").struct[0], "title")
        .map_elements(article_first, return_dtype=pl.String)
        .alias("title"),
        pl.col("parts").struct[1].cast(pl.Int64).alias("year"),
        "genres",
    )
    return replace(loaded, table=found.to_arrow())
