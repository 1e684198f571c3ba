"""Sentences as questions: who answers them, and that nothing gives the answer away."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.text_queries import TextQuestions, held_out_descriptions, phrases
from benchmarks.text_rankers import bm25_scores, score_questions
from towers.catalog import Catalog


@pytest.fixture
def catalog() -> Catalog:
    years = [1951 + n for n in range(6)] + [1990]
    return Catalog.read(
        pl.DataFrame(
            {
                "item_id": range(7),
                "title": [f"Film {letter}" for letter in "ABCDEFG"],
                "year": years,
                "genres": ["Comedy, Drama"] * 5 + ["Drama", "Comedy"],
            }
        )
    )


def test_a_phrase_is_answered_by_the_films_of_its_genre_and_decade(catalog: Catalog) -> None:
    found = phrases(catalog)
    answers = dict(zip(found.sentences, (rows.tolist() for rows in found.answers), strict=True))
    assert answers == {
        "a comedy from the fifties": [0, 1, 2, 3, 4],
        "a drama from the fifties": [0, 1, 2, 3, 4, 5],
    }


def test_a_held_out_sentence_is_gone_from_the_description(catalog: Catalog, tmp_path: Path) -> None:
    folder = tmp_path / "movies"
    folder.mkdir()
    told = "Film A (1951) is the story of a very old ship. It sails round the whole wide world. The end."
    pl.DataFrame(
        {"movie_id": ["m0", "m1"], "description": [told, "One sentence only, with more than six words."]}
    ).write_parquet(folder / "items.parquet")
    pl.DataFrame({"item_id": ["0", "1"], "movie_id": ["m0", "m1"]}).write_parquet(folder / "ml100k_to_movie_id.parquet")
    described, asked = held_out_descriptions(catalog, tmp_path)
    (kept, alone, *others) = described.table["description"].to_pylist()
    assert [rows.tolist() for rows in asked.answers] == [[0]]
    (sentence,) = asked.sentences
    assert sentence in ("this film is the story of a very old ship.", "It sails round the whole wide world.")
    rest = sentence.replace("this film", "Film A (1951)")
    assert rest not in kept
    assert kept.endswith("The end.")
    assert alone == "One sentence only, with more than six words."
    assert others == [None] * 5


def test_scores_of_questions_by_hand() -> None:
    questions = TextQuestions(["a", "b"], [np.array([2]), np.array([0, 1])])
    scores = np.zeros((2, 30))
    scores[0, [5, 2]] = 2, 1  # second place
    scores[1, 25:] = 1  # rows 0 and 1 come next, in places six and seven
    found = score_questions(scores, questions)
    ideal = 1 + 1 / np.log2(3)
    second = (1 / np.log2(7) + 1 / np.log2(8)) / ideal
    assert found["recall@20"][0] == 1
    assert found["ndcg@20"][0] == pytest.approx((1 / np.log2(3) + second) / 2, abs=1e-6)


def test_bm25_finds_words_and_passes_over_sentences_without_any() -> None:
    scores = bm25_scores(["red ship", "blue whale", "green tree"], ["the whale", "of the"])
    assert scores.shape == (2, 3)
    assert scores[0].argmax() == 1
    assert scores[0, 0] == scores[0, 2] == 0
    assert not scores[1].any()
