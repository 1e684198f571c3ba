"""What an index has just so is left out of a batch: by vector but for the last bits, and by attributes of any type."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from indexing.index import ItemIndex
from indexing.unchanged import unchanged, upsert_changed
from indexing.writer import IndexWriter
from towers.errors import InputError
from towers.ids import IdList

IDS = ["a", "b", "c", "d"]
VECTORS = np.eye(4, dtype=np.float32)
VALUES: dict[str, list[Any]] = {
    "title": ["one", None, "three", ""],
    "year": [1990, None, 2000, 2001],
    "price": [1.5, float("nan"), None, 0.0],
    "genres": [["jazz", "soul"], [], None, [None]],
    "since": [date(2020, 1, 1), None, date(2021, 1, 1), date(2022, 1, 1)],
}


@pytest.fixture
def index() -> ItemIndex:
    return ItemIndex.from_arrays(IDS, VECTORS, pa.table(VALUES), space="s")


def same(index: ItemIndex, ids: list[str], vectors: np.ndarray, values: dict[str, list[Any]]) -> list[bool]:
    return unchanged(index, IdList(ids), vectors, pa.table(values), space="s").tolist()


def test_the_same_batch_is_unchanged_in_any_order_and_beside_what_is_new(index: ItemIndex) -> None:
    assert same(index, IDS, VECTORS, VALUES) == [True] * 4
    order = [2, 0, 3]
    values = {name: [column[row] for row in order] for name, column in VALUES.items()}
    assert same(index, ["c", "new", "d"], VECTORS[order], values) == [True, False, True]


@pytest.mark.parametrize(
    ("name", "row", "value"),
    [
        ("title", 1, "two"),
        ("title", 0, None),
        ("year", 2, 1999),
        ("price", 1, 0.0),
        ("price", 2, float("nan")),
        ("genres", 0, ["soul", "jazz"]),
        ("genres", 1, None),
        ("since", 3, date(2022, 1, 2)),
    ],
)
def test_another_value_is_a_change_of_its_item_alone(index: ItemIndex, name: str, row: int, value: Any) -> None:
    values = VALUES | {name: [value if n == row else one for n, one in enumerate(VALUES[name])]}
    assert same(index, IDS, VECTORS, values) == [n != row for n in range(4)]


def test_a_vector_may_differ_in_its_last_bits_alone(index: ItemIndex) -> None:
    vectors = VECTORS.copy()
    vectors[0, 1], vectors[1, 0] = 5e-7, 1e-5
    assert same(index, IDS, vectors, VALUES) == [True, False, True, True]


def test_only_what_changed_is_put(index: ItemIndex, tmp_path: Path) -> None:
    index.save(tmp_path / "index")
    given = IdList(["a", "b", "e"]), VECTORS[[0, 2, 1]].copy()
    values = pa.table({name: [column[0], column[1], column[0]] for name, column in VALUES.items()})
    with IndexWriter(tmp_path / "index") as writer:
        assert upsert_changed(writer, *given, values, space="s") == 2
        assert writer.publish() == "000002"
        assert writer.index.ids.to_list() == ["a", "c", "d", "b", "e"]
        np.testing.assert_array_equal(writer.index.get("b").vector, VECTORS[2])
        assert upsert_changed(writer, *given, values, space="s") == 0
        assert (writer.waiting, writer.publish()) == (0, "000002")
        # What could not be put is refused, though there is nothing to put.
        with pytest.raises(InputError, match="vectors of two spaces cannot be compared"):
            upsert_changed(writer, *given, values, space="other")
