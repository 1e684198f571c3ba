"""Vectors of one's own, from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from indexing.index import ItemIndex
from indexing.reading import read_vectors
from towers.errors import InputError

ROWS = np.array([[3, 4], [0, -2], [1, 0]])
UNIT = np.array([[0.6, 0.8], [0, -1], [1, 0]], np.float32)


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.int8(), 2)])
def test_parquet_with_attributes(tmp_path: Path, kind: pa.DataType) -> None:
    table = pa.table({"price": [1, 2, 3], "item_id": ["a", "b", "c"], "vector": pa.array(ROWS.tolist(), kind)})
    pq.write_table(table, tmp_path / "x.parquet")
    read = read_vectors(tmp_path / "x.parquet")
    np.testing.assert_array_equal(read.vectors, UNIT)
    index = ItemIndex.from_arrays(*read)
    assert [(item.id, item.attributes) for item in index] == [(i, {"price": n}) for n, i in enumerate("abc", start=1)]


def test_npy_with_ids_as_lines_as_npy_and_without(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", ROWS)
    (tmp_path / "ids.txt").write_text("a\nb\nc\n")
    np.save(tmp_path / "ids.npy", np.array([2**62, 5, -1]))
    np.save(tmp_path / "names.npy", np.array(["x", "y", "z"]))
    expected = {None: [0, 1, 2], "ids.txt": ["a", "b", "c"], "ids.npy": [2**62, 5, -1], "names.npy": ["x", "y", "z"]}
    for name, ids in expected.items():
        read = read_vectors(tmp_path / "x.npy", None if name is None else tmp_path / name)
        assert read.ids.to_list() == ids
        np.testing.assert_array_equal(read.vectors, UNIT)
        assert read.attributes is None


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    def refused(reason: str, name: str, ids: str | None = None) -> None:
        with pytest.raises(InputError, match=reason):
            read_vectors(tmp_path / name, None if ids is None else tmp_path / ids)

    good = {"item_id": [1, 2], "vector": [[1.0, 0.0], [0.0, 1.0]]}
    for name, change, reason in [
        ("a", {"item_id": [1, 1]}, "1 duplicates among 2, such as 1"),
        ("b", {"vector": [[1.0, 0.0], [1.0]]}, "of one length, got 1 to 2"),
        ("c", {"vector": [[1.0, 0.0], None]}, r"1 of 2 rows has no vector, the first is row 1 \(id 2\)"),
        ("n", {"vector": [None, None]}, "must hold a list of numbers in each row, got null"),
        ("d", {"vector": [[1.0, 0.0], [1.0, None]]}, "must hold numbers, got list.*, 1 missing"),
        ("e", {"vector": ["x", "y"]}, "must hold a list of numbers in each row, got string"),
        ("f", {"vector": [[1.0, 0.0], [0.0, 0.0]]}, "1 of 2 vectors are all zeros"),
        ("g", {"vector": [[1.0, 0.0], [np.nan, 0.0]]}, "1 of 2 vectors have values that are not finite"),
    ]:
        pq.write_table(pa.table({**good, **change}), tmp_path / f"{name}.parquet")
        refused(reason, f"{name}.parquet")
    pq.write_table(pa.table({"id": [1]}), tmp_path / "h.parquet")
    refused("has no column 'item_id'; it has: id", "h.parquet")
    refused("leave ids out", "h.parquet", "ids.txt")
    refused("cannot be read as parquet", "none.parquet")
    refused("ending '.csv', expected .npy or .parquet", "x.csv")
    (tmp_path / "bad.npy").write_bytes(b"no array")
    refused("cannot be read as a numpy array", "bad.npy")
    np.save(tmp_path / "pickled.npy", np.array([{}], object), allow_pickle=True)
    refused("cannot be read as a numpy array", "pickled.npy")
    np.save(tmp_path / "flat.npy", np.ones(3))
    refused(r"must be \(N, D\)", "flat.npy")
    np.save(tmp_path / "text.npy", np.array([["1", "2"], ["x", "y"]]))
    refused("text.npy must hold one array of numbers, got one of <U1", "text.npy")
    np.save(tmp_path / "x.npy", ROWS)
    np.save(tmp_path / "halves.npy", np.array([0.5, 1, 2]))
    refused("halves.npy must hold one array of texts or whole numbers, got one of float64", "x.npy", "halves.npy")
