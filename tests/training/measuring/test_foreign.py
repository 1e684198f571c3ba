"""Other libraries' lists: in their order, without what no ranker may return, every reason counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from towers.catalog import Catalog
from towers.errors import InputError
from towers.history import Histories
from towers.ids import IdList
from training.measuring.foreign import read_lists
from training.measuring.splits import Questions

CATALOG = Catalog.read(pl.DataFrame({"item_id": list("abcdef")}))
USERS = IdList(["ann", "bob", "cleo", "dan"])
ASKED = Questions(np.array([2, 0]), Histories.of([[0], []]), Histories.of([[1], [2]]))  # cleo has met a


def lists(rows: list[tuple[Any, ...]], *names: str, k: int = 3) -> Any:
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", *names], orient="row", strict=False)
    return read_lists(frame, USERS, ASKED, CATALOG, k)


@pytest.mark.parametrize(
    ("name", "numbers"), [("rank", [3, 1, 2, 7, 5]), ("score", [0.1, 0.9, 0.5, -2.0, -1.0]), ("note", [1, 2, 3, 4, 5])]
)
def test_the_order_is_by_rank_or_score_or_as_it_stands(name: str, numbers: list[float]) -> None:
    people, items = ["ann", "ann", "ann", "cleo", "cleo"], "abcdb"
    found = lists(list(zip(people, items, numbers, strict=True)), name)
    order = [0, 1, 2] if name == "note" else [1, 2, 0]
    assert found.rows[1].tolist() == order
    assert found.rows[0].tolist() == ([3, 1, -1] if name == "note" else [1, 3, -1])


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_ranks_that_are_text_are_read_as_numbers(tmp_path: Path, ending: str) -> None:
    ranks = ["10", "2", "1", "n/a", None, "11", "nan"]
    frame = pl.DataFrame({"user_id": ["ann"] * 7, "item_id": list("dcbafea"), "rank": ranks})
    file = tmp_path / f"lists.{ending}"
    frame.write_parquet(file) if ending == "parquet" else frame.write_csv(file)
    found = read_lists(file, USERS, ASKED, CATALOG, 4)
    assert found.rows[1].tolist() == [1, 2, 3, 4]  # as text 1, 10, 11, 2
    assert found.notes["rows whose rank is no number"] == 3
    assert "rows without an id" not in found.notes


def test_a_score_that_is_nan_is_not_the_best() -> None:
    found = lists([("ann", "a", float("nan")), ("ann", "b", -1.0), ("ann", "c", 0.5), ("ann", "d", None)], "score")
    assert found.rows[1].tolist() == [2, 1, -1]
    assert found.notes["rows whose score is no number"] == 2


def test_ranks_of_another_type_are_refused() -> None:
    with pytest.raises(InputError, match="column rank: expected numbers, got bool"):
        lists([("ann", "a", True)], "rank")


def test_what_no_ranker_may_return_is_set_aside_and_counted() -> None:
    rows = [("cleo", item) for item in ("a", "b", "x", "b", "c", "d", "e")]
    rows += [("ann", "f"), (None, "a"), ("bob", "a"), ("eve", "a")]
    found = lists(rows)
    assert found.rows.tolist() == [[1, 2, 3], [5, -1, -1]]
    assert found.notes == {
        "rows without an id": 1,
        "rows of people who are not asked about": 2,
        "items that the catalog lacks": 1,
        "items named twice in a list": 1,
        "items that the person has met": 1,
        "people with fewer items than are looked at": 1,
    }


def test_people_who_are_not_named_have_empty_lists() -> None:
    found = lists([("bob", "a")])
    assert (found.rows == -1).all()
    assert found.notes["people with fewer items than are looked at"] == 2


def test_a_file_without_items_is_refused(tmp_path: Path) -> None:
    pl.DataFrame({"user_id": ["ann"], "item": ["a"]}).write_parquet(tmp_path / "lists.parquet")
    with pytest.raises(InputError, match="has no column 'item_id' \\(did you mean 'item'\\?\\)"):
        read_lists(tmp_path / "lists.parquet", USERS, ASKED, CATALOG, 3)
