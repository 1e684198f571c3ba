"""Where pictures, sounds and vectors are: what may be read, what may not, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from towers.catalog import Catalog
from towers.errors import InputError
from towers.media import NO_NUMBERS, NO_PATH, OUTSIDE, faulty, media_of, vectors_of
from towers.rejected import Rejected


def catalog_of(folder: Path, values: Any, kind: pa.DataType | None = None) -> Catalog:
    """Items ``0``, ``1``, … in a file, the column `seen` beside them."""
    array = pa.array(values, kind)
    pq.write_table(pa.table({"item_id": [str(n) for n in range(len(array))], "seen": array}), folder / "items.parquet")
    return Catalog.read(folder / "items.parquet")


def test_paths_are_taken_from_the_folder_of_the_catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether anything is there is not asked: what cannot be opened is told of where it is read."""
    monkeypatch.chdir("/")
    (tmp_path / "covers").mkdir()
    (tmp_path / "covers" / "one.png").write_bytes(b"one")
    own = str(tmp_path / "covers" / "one.png")
    catalog = catalog_of(tmp_path, ["covers/one.png", "covers/none.png", "covers/../two.png", own, None, "", "  "])
    found, faults = media_of(catalog, "seen")
    one = tmp_path / "covers" / "one.png"
    assert found == [one, tmp_path / "covers" / "none.png", tmp_path / "two.png", one, None, None, None]
    assert faults == {}


def test_paths_stay_inside_the_folder_of_the_catalog(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    (tmp_path / "secret.png").write_bytes(b"secret")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    beside = str(tmp_path / "shop2" / "x.png")  # begins as the folder does, and is another
    paths = ["../secret.png", "/etc/hostname", "covers/../../secret.png", "link.png", beside, "good.png"]
    found, faults = media_of(catalog_of(folder, paths), "seen")
    assert found == [None, None, None, None, None, folder / "good.png"]
    assert faults == dict.fromkeys(range(5), OUTSIDE)


def test_paths_that_lead_nowhere_are_told_of(tmp_path: Path) -> None:
    """Links that lead back to themselves, and a zero, which no path may hold."""
    (tmp_path / "loop.png").symlink_to("loop.png")
    found, faults = media_of(catalog_of(tmp_path, ["loop.png", "a\0b.png", "good.png"]), "seen")
    assert found == [None, None, tmp_path / "good.png"]
    assert faults == {0: NO_PATH, 1: NO_PATH}


def test_paths_of_a_frame_are_taken_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    catalog = Catalog.read(pa.table({"item_id": ["a", "b"], "seen": ["x.png", "../x.png"]}))
    assert media_of(catalog, "seen") == ([tmp_path / "x.png", None], {1: OUTSIDE})


def test_a_column_of_bytes_is_the_files_themselves(tmp_path: Path) -> None:
    catalog = catalog_of(tmp_path, [b"GIF89a", None, b"", b"/etc/hostname"])
    assert media_of(catalog, "seen") == ([b"GIF89a", None, None, b"/etc/hostname"], {})


def test_a_column_without_any_value_has_no_files(tmp_path: Path) -> None:
    assert media_of(catalog_of(tmp_path, [None, None]), "seen") == ([None, None], {})


@pytest.mark.parametrize(
    ("values", "kind"), [([1, 2], "int64"), ([1.5, None], "double"), ([["a.png"], []], "large_list")]
)
def test_a_column_of_another_type_holds_no_files(tmp_path: Path, values: list[Any], kind: str) -> None:
    with pytest.raises(InputError, match=rf"items.parquet, column seen: expected paths or bytes, got {kind}"):
        media_of(catalog_of(tmp_path, values), "seen")


@pytest.mark.parametrize(
    ("column", "values", "remedy"),
    [
        ("audio", [True], r"got bool: set audio = false in the recipe to train without it$"),
        (
            "image",
            [[0.5, 1.0]],
            r"set image = false .*, or image = {source = \"vectors\"} to read these$",
        ),
        ("audio", [["a.ogg"]], r"set audio = false in the recipe to train without it$"),
        ("cover", [True], r"got bool: name a column of these in the recipe$"),
    ],
)
def test_what_to_set_where_a_column_holds_no_files(column: str, values: list[Any], remedy: str) -> None:
    with pytest.raises(InputError, match=remedy):
        media_of(Catalog.read(pa.table({"item_id": ["a"], column: values})), column)


def test_web_addresses_are_not_fetched(tmp_path: Path) -> None:
    paths = ["https://example.org/a.png", " HTTP://example.org/a.png", "https.png", "http/a.png"]
    found, faults = media_of(catalog_of(tmp_path, paths), "seen")
    assert found == [None, None, tmp_path / "https.png", tmp_path / "http" / "a.png"]
    assert faults == dict.fromkeys((0, 1), "is a web address, which is not fetched")


@pytest.mark.parametrize("read", [media_of, vectors_of])
def test_no_such_column(tmp_path: Path, read: Any) -> None:
    with pytest.raises(InputError, match=r"items.parquet has no column 'sene'.*seen"):
        read(catalog_of(tmp_path, ["a.png"]), "sene")


@pytest.mark.parametrize("kind", [None, pa.list_(pa.float32()), pa.list_(pa.float32(), 3)])
def test_vectors(tmp_path: Path, kind: pa.DataType | None) -> None:
    vectors, present, faults = vectors_of(catalog_of(tmp_path, [[1.5, 0, -2], None, [0, 0, 0.25]], kind), "seen")
    assert vectors.dtype == np.float32
    assert vectors.tolist() == [[1.5, 0, -2], [0, 0, 0], [0, 0, 0.25]]
    assert present.tolist() == [True, False, True]
    assert faults == {}


@pytest.mark.parametrize("kind", [pa.list_(pa.int64()), pa.list_(pa.uint8()), pa.large_list(pa.int32())])
def test_whole_numbers_are_vectors_too(tmp_path: Path, kind: pa.DataType) -> None:
    vectors, present, faults = vectors_of(catalog_of(tmp_path, [[1, 2], [0, 3], None], kind), "seen")
    assert vectors.dtype == np.float32
    assert vectors.tolist() == [[1, 2], [0, 3], [0, 0]]
    assert (present.tolist(), faults) == ([True, True, False], {})


def test_what_is_no_vector_is_named_and_the_rest_stays(tmp_path: Path) -> None:
    """An empty list is no vector and no fault; the first one's length is what all must have."""
    nan, infinite = float("nan"), float("inf")
    rows = [None, [], [1.0, 2.0], [1.0], [1.0, 2.0, 3.0], [nan, 1.0], [infinite, 1.0], [0.0, 0.0], [None, 1.0], [3, 4]]
    rows += [[1e300, 1.0], [3e38, 3e38], [1e-30, 0.0]]  # too long for float32, and too short to have a direction
    vectors, present, faults = vectors_of(catalog_of(tmp_path, rows), "seen")
    assert faults == {
        3: "is a vector of another length: 1 instead of 2",
        4: "is a vector of another length: 3 instead of 2",
        **dict.fromkeys((5, 6, 7, 8, 10, 11, 12), NO_NUMBERS),
    }
    assert np.flatnonzero(present).tolist() == [2, 9]
    assert vectors[[2, 9]].tolist() == [[1, 2], [3, 4]]
    assert not vectors[~present].any()


def test_a_length_may_be_given(tmp_path: Path) -> None:
    catalog = catalog_of(tmp_path, [[1.0], [2.0, 3.0], None])
    vectors, present, faults = vectors_of(catalog, "seen", 2)
    assert vectors.tolist() == [[0, 0], [2, 3], [0, 0]]
    assert present.tolist() == [False, True, False]
    assert faults == {0: "is a vector of another length: 1 instead of 2"}
    nothing, present, faults = vectors_of(catalog_of(tmp_path, [None, []], pa.list_(pa.float64())), "seen", 4)
    assert (nothing.shape, nothing.any(), present.any(), faults) == ((2, 4), False, False, {})


def test_a_column_without_any_vector(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"items.parquet, column seen: there is no vector in it"):
        vectors_of(catalog_of(tmp_path, [None, []], pa.list_(pa.float64())), "seen")


@pytest.mark.parametrize(
    ("values", "kind"), [(["1 2 3"], "large_string"), ([1.5], "double"), ([["1", "2"]], "large_list"), ([True], "bool")]
)
def test_a_column_of_another_type_holds_no_vectors(tmp_path: Path, values: list[Any], kind: str) -> None:
    with pytest.raises(InputError, match=rf"items.parquet, column seen: expected lists of numbers, got {kind}"):
        vectors_of(catalog_of(tmp_path, values), "seen")


def test_faults_are_rows_set_aside(tmp_path: Path) -> None:
    """Rows are those of the file, counted from 1, also where one was set aside before; bytes are not shown."""
    file = str(tmp_path / "items.parquet")
    ids, paths = ["a", "a", "b", "c"], ["a.png", "again.png", "../b.png", "c.png"]
    for values, shown in [(paths, {"value": "../b.png"}), ([path.encode() for path in paths], {})]:
        pq.write_table(pa.table({"item_id": ids, "seen": values}), file)
        catalog = Catalog.read(file)
        assert len(catalog) == 3
        found = faulty(catalog, "seen", {1: "is cut off"})
        assert found.rows == [{"file": file, "row": 3, "reason": "seen is cut off", **shown}]
    assert faulty(catalog, "seen", {}).rows == []


def test_what_was_written_down_is_read_again(tmp_path: Path) -> None:
    """Also text with what some take for the end of a line."""
    values = pa.chunked_array([["a\u2028b", "c\x85d", "e\nf\r"]])
    told = Rejected.of(file="items.csv", rows=np.arange(3), reason="is odd\u2029", values=values)
    told.write(tmp_path / "rejected.jsonl")
    assert Rejected.read(tmp_path / "rejected.jsonl").rows == told.rows
    assert Rejected.read(tmp_path / "none.jsonl").rows == []


def test_many_faults_are_written_down_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with its own reason and value, in order; putting 8,000 together one by one took seven seconds."""
    made: list[int] = []
    whole = Rejected.of.__func__  # type: ignore[attr-defined]
    counting = classmethod(lambda cls, **facts: made.append(len(facts["rows"])) or whole(cls, **facts))
    monkeypatch.setattr(Rejected, "of", counting)
    catalog = catalog_of(tmp_path, [f"{n}.png" for n in range(8_000)])
    found = faulty(catalog, "seen", {n: f"is {n}" for n in range(0, 8_000, 2)})
    assert made == [4_000]
    assert found.table["row"].to_pylist() == list(range(1, 8_001, 2))
    assert found.table["reason"].to_pylist() == [f"seen is {n}" for n in range(0, 8_000, 2)]
    assert found.table["value"].to_pylist() == [f"{n}.png" for n in range(0, 8_000, 2)]


@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.large_list(pa.float32()), pa.list_(pa.float32(), 2)])
def test_a_bad_vector_is_shown_as_text(tmp_path: Path, kind: pa.DataType) -> None:
    """Also one that is long, shortened."""
    nan = float("nan")
    array = pa.array([[1, 0.5], [nan, 0.5], None], kind)
    catalog = Catalog.read(pa.table({"item_id": ["a", "b", "c"], "seen": array}))
    _, _, faults = vectors_of(catalog, "seen")
    (row,) = faulty(catalog, "seen", faults).rows
    assert (row["row"], row["reason"], row["value"]) == (2, f"seen {NO_NUMBERS}", "[nan, 0.5]")
    long = catalog_of(tmp_path, [[1.5] * 5, [0.0] * 5_000])
    (row,) = faulty(long, "seen", vectors_of(long, "seen")[2]).rows
    assert row["value"] == str([0.0] * 5_000)[:200]
