"""Plain sentences as questions: phrases of genre and decade, and sentences kept out of descriptions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from towers.catalog import Catalog

GENRES = {
    "Action": "an action film",
    "Adventure": "an adventure",
    "Animation": "an animation",
    "Children's": "something for children",
    "Comedy": "a comedy",
    "Crime": "a crime story",
    "Documentary": "a documentary",
    "Drama": "a drama",
    "Film-Noir": "a film noir",
    "Horror": "a horror film",
    "Musical": "a musical",
    "Mystery": "a mystery",
    "Romance": "a romance",
    "Sci-Fi": "a science fiction film",
    "Thriller": "a thriller",
    "War": "a war film",
    "Western": "a western",
}
DECADES = {1930: "thirties", 1940: "forties", 1950: "fifties", 1960: "sixties", 1970: "seventies", 1980: "eighties"}
DECADES[1990] = "nineties"
LEAST = 5  # films that a phrase must describe


@dataclass(frozen=True)
class TextQuestions:
    """Q sentences and the catalog rows that answer each.

    Args:
        sentences: what is asked.
        answers: int64 rows of the catalog for each.
    """

    sentences: list[str]
    answers: list[np.ndarray]


def phrases(catalog: Catalog) -> TextQuestions:
    """ "a comedy from the fifties" and the like, for every pair that describes at least five films.

    Training sees genres and decades of single films in other words and another order (`training.sentences`), never
    these phrases.
    """
    table = pl.from_arrow(catalog.table.select(["year", "genres"]))
    assert isinstance(table, pl.DataFrame)
    decade = table["year"].fill_null(0).to_numpy() // 10 * 10
    tags = [set((genres or "").split(", ")) for genres in table["genres"]]
    sentences, answers = [], []
    for genre, noun in GENRES.items():
        has = np.array([genre in tag for tag in tags])
        for year, word in DECADES.items():
            rows = np.flatnonzero(has & (decade == year))
            if len(rows) >= LEAST:
                sentences.append(f"{noun} from the {word}")
                answers.append(rows)
    return TextQuestions(sentences, answers)


def held_out_descriptions(catalog: Catalog, data_dir: Path, seed: int = 0) -> tuple[Catalog, TextQuestions]:
    """The catalog with descriptions, each less one sentence, and those sentences as questions.

    The title is taken out of the sentences, whole and word by word where it has more than one, since it would give
    the answer away; sentences of fewer than six words are not asked.

    Args:
        catalog: MovieLens-100K.
        data_dir: holds ``movies/items.parquet`` and ``movies/ml100k_to_movie_id.parquet``.
        seed: chooses the sentence of each film.
    """
    films = pl.read_parquet(data_dir / "movies" / "items.parquet").select("movie_id", "description")
    joined = pl.read_parquet(data_dir / "movies" / "ml100k_to_movie_id.parquet").select("item_id", "movie_id")
    found = dict(joined.join(films, on="movie_id").select("item_id", "description").drop_nulls().iter_rows())
    rng = np.random.default_rng(seed)
    kept: list[str | None] = []
    sentences, answers = [], []
    for row, (item, title) in enumerate(zip(catalog.ids.to_list(), catalog.titles, strict=True)):
        parts = re.split(r"(?<=[.!?])\s+(?=[A-Z\"'])", (found.get(str(item)) or "").strip())
        usable = [n for n, part in enumerate(parts) if len(part.split()) >= 6]
        if len(parts) < 2 or not usable:
            kept.append(found.get(str(item)))
            continue
        out = int(rng.choice(usable))
        kept.append(" ".join(parts[:out] + parts[out + 1 :]))
        sentences.append(_without_title(parts[out], title))
        answers.append(np.array([row]))
    table = catalog.table.append_column("description", [kept])
    return Catalog.read(table), TextQuestions(sentences, answers)


def _without_title(sentence: str, title: str) -> str:
    cut = re.sub(re.escape(title), "this film", sentence, flags=re.IGNORECASE)
    return re.sub(r"\s*\(\d{4}\)", "", cut)
