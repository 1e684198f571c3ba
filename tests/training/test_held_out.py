"""Sentences kept out of items' texts: gone from them, asked about the right item, few and fixed by the seed."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from towers.catalog import Catalog
from training.held_out import FEWEST, Asked, hold_out_sentences

NUMBERS = [f"number{n} and number{n + 1}" for n in range(400)]


def told(n: int) -> str:
    return f"In film {n} comes the hero of {NUMBERS[n]}. Short one {n}. A villain hides behind {NUMBERS[n]} all night!"


def make(count: int, **columns: Any) -> Catalog:
    whole = {"about": [told(n) for n in range(count)], **columns}
    return Catalog.read(pl.DataFrame({"item_id": range(count), "title": [f"Film {n}" for n in range(count)], **whole}))


def test_a_sentence_is_taken_out_of_a_tenth_of_the_items() -> None:
    catalog = make(400, year=[1900 + n % 100 for n in range(400)], tags=[["a", "b"]] * 400)
    shown, asked = hold_out_sentences(catalog, ["title", "year", "about", "tags"], seed=0)
    assert len(asked.rows) == len(asked.sentences) == 40
    before, after = catalog.table["about"].to_pylist(), shown.table["about"].to_pylist()
    assert [row for row in range(400) if before[row] != after[row]] == asked.rows.tolist()
    for row, sentence in zip(asked.rows, asked.sentences, strict=True):
        assert sentence.startswith(("In  comes", "A villain"))
        assert NUMBERS[row] in sentence
        assert after[row] == " ".join(before[row].replace(sentence.replace("In ", f"In film {row}"), "").split())
    assert {sentence.split()[0] for sentence in asked.sentences} == {"In", "A"}
    assert shown.table.drop(["about"]) == catalog.table.drop(["about"])
    assert shown.table.schema == catalog.table.schema


def test_a_seed_fixes_them() -> None:
    first, again, other = (hold_out_sentences(make(400), ["about"], seed)[1] for seed in (1, 1, 2))
    assert first.sentences == again.sentences != other.sentences


def test_of_two_columns_of_prose_either_but_one_an_item() -> None:
    plot: list[str | None] = [
        f"In the plot of {NUMBERS[n]} nobody sleeps. Not so." if n % 3 else None for n in range(400)
    ]
    catalog = make(400, plot=plot)
    shown, asked = hold_out_sentences(catalog, ["about", "plot"], seed=0)
    assert len(set(asked.rows.tolist())) == len(asked.rows) == 40
    changed = [
        sum(a != b for a, b in zip(catalog.table[name].to_pylist(), shown.table[name].to_pylist(), strict=True))
        for name in ("about", "plot")
    ]
    assert sum(changed) == 40
    assert min(changed) > 5
    assert shown.table["plot"].null_count == catalog.table["plot"].null_count


@pytest.mark.parametrize(
    "catalog",
    [
        make(10 * FEWEST - 1),  # a tenth of them is too few
        make(400, about=["One sentence only, whatever it may tell."] * 400),
        make(400, about=["Some short ones. Only so. No more."] * 400),
        make(400, about=[None] * 400),
        make(400, about=[f"Film {n}, five words without it. End." for n in range(400)]),
    ],
)
def test_where_there_is_too_little_nothing_is_taken(catalog: Catalog) -> None:
    shown, asked = hold_out_sentences(catalog, ["title", "about"], seed=0)
    assert shown.table == catalog.table
    assert isinstance(asked, Asked)
    assert asked.sentences == []


def test_only_columns_of_the_items_text_are_touched() -> None:
    shown, asked = hold_out_sentences(make(400), ["title"], seed=0)
    assert asked.sentences == []
    assert shown.table == make(400).table
