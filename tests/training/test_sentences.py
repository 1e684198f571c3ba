"""Sentences that say a part of what an item says."""

from __future__ import annotations

import re

import numpy as np
import pytest

from training.sentences import SentenceSampler

LONG = "A quiet man learns the piano. He plays it every night in the rain! Nobody ever comes to listen to him."


def drawn(columns: dict[str, list[str]], item: int = 0, count: int = 300) -> set[str]:
    rng, sampler = np.random.default_rng(0), SentenceSampler(columns)
    return {sampler(item, rng) for _ in range(count)}


@pytest.mark.parametrize(
    ("year", "forms"),
    [
        ("1994", {"1994", "1990s", "nineties"}),
        ("1920", {"1920", "1920s", "twenties"}),
        ("1969", {"1969", "1960s", "sixties"}),
        ("1899", {"1899", "1890s"}),
        ("1912", {"1912", "1910s"}),
        ("2003", {"2003", "2000s"}),
    ],
)
def test_a_year_is_said_in_figures_or_as_its_decade(year: str, forms: set[str]) -> None:
    assert drawn({"year": [year, "1950", ""]}) == forms


def test_a_number_that_is_no_year_stays_as_it_is() -> None:
    assert drawn({"pages": ["1994", "312"]}) == {"1994"}


def test_of_tags_one_or_two_in_their_order() -> None:
    columns = {"genres": ["Action, Drama, War", "Drama", "War, Action", "Drama", "Action"]}
    assert drawn(columns) == {"Action", "Drama", "War", "Action Drama", "Action War", "Drama War"}


def test_of_prose_one_sentence() -> None:
    columns = {"about": [LONG, "Short and whole."]}
    assert drawn(columns) == set(re.split(r"(?<=[.!])\s", LONG))
    assert drawn(columns, 1) == {"Short and whole."}


def test_columns_are_combined_in_any_order_and_missing_ones_left_out() -> None:
    columns = {"title": ["Rain Man", "Jaws"], "year": ["1988", ""], "about": ["", "A shark."]}
    found = drawn(columns)
    assert {"Rain Man", "1988", "Rain Man, 1988", "eighties and Rain Man", "1980s; Rain Man"} <= found
    assert all(sentence.strip(" ,;") == sentence != "" for sentence in found)
    assert "Jaws, A shark." in drawn(columns, 1)


def test_nothing_known_gives_nothing() -> None:
    assert drawn({"title": ["", "Jaws"], "about": ["", ""]}) == {""}


def test_a_seed_fixes_the_sentences() -> None:
    sampler = SentenceSampler({"title": ["Rain Man"], "year": ["1988"], "about": [LONG]})
    one, two, other = (np.random.default_rng(seed) for seed in (3, 3, 4))
    first = [sampler(0, one) for _ in range(20)]
    assert first == [sampler(0, two) for _ in range(20)]
    assert first != [sampler(0, other) for _ in range(20)]
