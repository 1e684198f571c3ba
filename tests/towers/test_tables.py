"""Files and frames in, checked Arrow columns out; bad rows cost themselves only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from towers.errors import ArtefactError, InputError
from towers.rejected import Rejected
from towers.tables import read_table

COLUMNS = {"item_id": [3, 1, 2], "title": ["Heat", None, "Día"], "year": [1995, 1996, None]}


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def reasons(rejected: Rejected) -> list[tuple[int, str]]:
    return [(row["row"], row["reason"]) for row in rejected.rows]


def as_parquet(folder: Path) -> Path:
    pq.write_table(pa.table(COLUMNS), folder / "t.parquet")
    return folder / "t.parquet"


def as_text(folder: Path, ending: str, separator: str) -> Path:
    pl.DataFrame(COLUMNS).write_csv(folder / f"t.{ending}", separator=separator)
    return folder / f"t.{ending}"


def as_jsonl(folder: Path) -> Path:
    pl.DataFrame(COLUMNS).write_ndjson(folder / "t.jsonl")
    return folder / "t.jsonl"


SOURCES = {
    "parquet": as_parquet,
    "csv": lambda folder: as_text(folder, "csv", ","),
    "upper-case ending": lambda folder: as_text(folder, "CSV", ","),
    "tsv": lambda folder: as_text(folder, "tsv", "\t"),
    "jsonl": as_jsonl,
    "arrow": lambda folder: pa.table(COLUMNS),
    "polars": lambda folder: pl.DataFrame(COLUMNS),
    "pandas": lambda folder: pd.DataFrame({**COLUMNS, "year": pd.array([1995, 1996, None], "Int64")}),
    "dictionaries": lambda folder: pa.table({**COLUMNS, "title": pa.array(COLUMNS["title"]).dictionary_encode()}),
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_gives_the_same_table(source: str, tmp_path: Path) -> None:
    loaded = read_table(SOURCES[source](tmp_path), ids=("item_id",))
    assert loaded.table.to_pydict() == COLUMNS
    assert loaded.table.schema.types == [pa.int64(), pa.large_string(), pa.int64()]
    assert loaded.rows.tolist() == [1, 2, 3]
    assert loaded.rejected.summary() == "none of 3 rows set aside"


def test_a_byte_order_mark_and_windows_line_ends_are_understood(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", "\ufeffitem_id,title\r\n1,Heat\r\n")
    assert read_table(path, ids=("item_id",)).table.to_pydict() == {"item_id": [1], "title": ["Heat"]}
    path = write(tmp_path, "t.jsonl", "\ufeff" + '{"item_id": 1}\r\n')
    assert read_table(path, ids=("item_id",)).table.to_pydict() == {"item_id": [1]}


def test_csv_types_are_inferred_only_where_nothing_is_lost(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "t.csv",
        'item_id,zip,price,year,title,empty\n007,01234,1.5,1995,"Heat, ""again""",\n8,5,2,,"two\nlines",\n',
    )
    table = read_table(path, ids=("item_id",)).table
    assert table.to_pydict() == {
        "item_id": ["007", "8"],
        "zip": ["01234", "5"],
        "price": [1.5, 2.0],
        "year": [1995, None],
        "title": ['Heat, "again"', "two\nlines"],
        "empty": [None, None],
    }


def test_csv_ids_never_become_floats(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", "item_id,n\n1.5,1\n1e3,2\n")
    assert read_table(path, ids=("item_id",)).table["item_id"].to_pylist() == ["1.5", "1e3"]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (["1.0", "-20.0", "", "0.0"], [1, -20, 0]),
        (["1.0", "2"], ["1.0", "2"]),
        (["1.0", "2.5"], ["1.0", "2.5"]),
        (["1.0", "2.00"], ["1.0", "2.00"]),
        (["1.0", "tt2.0"], ["1.0", "tt2.0"]),
        (["1.0", "007.0"], ["1.0", "007.0"]),
        (["1.0", "9007199254740993.0"], ["1.0", "9007199254740993.0"]),
    ],
)
def test_csv_ids_that_pandas_wrote_as_floats_are_integers(written: list[str], read: list[Any], tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", "item_id,n\n" + "".join(f"{value},1\n" for value in written))
    assert read_table(path, ids=("item_id",)).table["item_id"].drop_null().to_pylist() == read


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_broken_csv_rows_are_set_aside_with_their_row_number(ending: str, tmp_path: Path) -> None:
    raw = (
        b"item_id,title,year\n1,Heat,1995\n\n2,only two\n3,one,too,many\n4,\xff\xfebad,1\n5,\xc3\xa9,x\xe9\n6,ok,2000\n"
    )
    path = write(tmp_path, f"t.{ending}", raw.replace(b",", b"\t") if ending == "tsv" else raw)
    loaded = read_table(path, ids=("item_id",))
    assert loaded.table.to_pydict() == {"item_id": [1, 6], "title": ["Heat", "ok"], "year": [1995, 2000]}
    assert loaded.rows.tolist() == [1, 6]
    assert reasons(loaded.rejected) == [
        (2, "wrong number of fields"),
        (3, "wrong number of fields"),
        (4, "invalid UTF-8"),
        (5, "invalid UTF-8"),
    ]
    assert loaded.rejected.rows[2]["value"] == "\ufffd\ufffdbad"
    assert loaded.rejected.summary() == "4 of 6 rows set aside: 2 wrong number of fields, 2 invalid UTF-8"


def test_a_ragged_row_that_is_not_utf8_is_set_aside(tmp_path: Path) -> None:
    loaded = read_table(write(tmp_path, "t.csv", b"item_id,title\n1\xff\n2,Heat\n"), ids=("item_id",))
    assert loaded.table["item_id"].to_pylist() == [2]
    assert reasons(loaded.rejected) == [(1, "wrong number of fields")]


def test_a_replacement_character_that_was_meant_stays(tmp_path: Path) -> None:
    raw = b"item_id,title\n1,\xef\xbf\xbd\n2,\xff\n"
    loaded = read_table(write(tmp_path, "t.csv", raw), ids=("item_id",))
    assert loaded.table.to_pydict() == {"item_id": [1], "title": ["\ufffd"]}
    assert reasons(loaded.rejected) == [(2, "invalid UTF-8")]


def test_many_rows_keep_their_numbers_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("towers.textfiles.BLOCK_BYTES", 256)
    lines = ["item_id,title", *(f"{n},t{n}" if n % 100 else f"{n}" for n in range(1, 1001))]
    loaded = read_table(write(tmp_path, "t.csv", "\n".join(lines)), ids=("item_id",))
    assert loaded.rows.tolist() == loaded.table["item_id"].to_pylist() == [n for n in range(1, 1001) if n % 100]
    assert [row["row"] for row in loaded.rejected.rows] == list(range(100, 1001, 100))


@pytest.mark.parametrize("row", ['2,"open\n3,x\n4,y\n', '"2,open\n3,x\n'])
def test_an_open_quotation_mark_is_an_error_not_a_loss(row: str, tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", "item_id,title\n1,Heat\n" + row)
    with pytest.raises(InputError, match=r'quotation mark \("\) that is never closed'):
        read_table(path, ids=("item_id",))


def test_broken_json_lines_are_set_aside(tmp_path: Path) -> None:
    raw = b'{"item_id": 1, "n": 1}\n\n{"item_id": 2\n[3]\n{"item_id": 4, "t": "\xff"}\n{"item_id": 5, "n": "x"}\n'
    loaded = read_table(write(tmp_path, "t.jsonl", raw), ids=("item_id",))
    assert loaded.table.to_pydict() == {"item_id": [1, 5], "n": ["1", "x"]}
    assert loaded.rows.tolist() == [1, 5]
    assert sorted(reasons(loaded.rejected)) == [(2, "invalid JSON"), (3, "not a JSON object"), (4, "invalid UTF-8")]
    assert loaded.rejected.total == 5


def test_json_text_that_looks_like_a_date_stays_text(tmp_path: Path) -> None:
    path = write(tmp_path, "t.jsonl", '{"item_id": "2020-01-01", "title": "1999-12-31"}\n')
    assert read_table(path, ids=("item_id",)).table.to_pydict() == {"item_id": ["2020-01-01"], "title": ["1999-12-31"]}


def test_half_a_surrogate_pair_in_json_does_no_harm(tmp_path: Path) -> None:
    path = write(tmp_path, "t.jsonl", '{"item_id": 1, "title": "\\ud800x"}\n')
    assert read_table(path, ids=("item_id",)).table["item_id"].to_pylist() == [1]
    path = write(tmp_path, "ids.jsonl", '{"item_id": "\\ud800"}\n')
    with pytest.raises(InputError, match="item_id"):
        read_table(path, ids=("item_id",))


def mixed_jsonl(folder: Path) -> Path:
    return write(folder, "m.jsonl", '{"item_id": 1}\n{"item_id": "a"}\n')


MIXED = {
    "jsonl": mixed_jsonl,
    "pandas": lambda folder: pd.DataFrame({"item_id": [1, "a", None]}),
    "pandas, text first": lambda folder: pd.DataFrame({"item_id": ["a", 1]}),
}


@pytest.mark.parametrize("source", MIXED)
def test_ids_of_mixed_types_are_refused(source: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="column item_id: ids must be all strings or all integers, got int, str"):
        read_table(MIXED[source](tmp_path), ids=("item_id",))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([1.5, 2.0], "ids must be strings or integers, got the number 1.5"),
        ([2.0**53, 1.0], "got the number 9007199254740992.0"),
        ([float("inf"), 1.0], "got the number inf"),
        ([True, False], "ids must be strings or integers, got bool"),
        (pa.array([2**64 - 1, 1], pa.uint64()), "64 bits"),
        ([[1], [2]], "ids must be strings or integers, got"),
    ],
)
def test_ids_of_other_types_are_refused(column: object, message: str) -> None:
    with pytest.raises(InputError, match="the Arrow table, column item_id: ") as caught:
        read_table(pa.table({"item_id": column}), ids=("item_id",))
    assert message in str(caught.value)


def test_pandas_integers_beside_a_missing_value_stay_integers() -> None:
    loaded = read_table(pd.DataFrame({"item_id": [7, None]}), ids=("item_id",))
    assert loaded.table["item_id"].to_pylist() == [7, None]


def test_mixed_attributes_become_text() -> None:
    frame = pd.DataFrame({"item_id": [1, 2, 3], "size": [40, "XL", None]})
    assert read_table(frame, ids=("item_id",)).table["size"].to_pylist() == ["40", "XL", None]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "Item_ID,title\n1,a\n", "has no column 'item_id' (did you mean 'Item_ID'?); it has: Item_ID, title"),
        ("t.csv", "x,y\n1,a\n", "has no column 'item_id'; it has: x, y"),
        ("t.jsonl", "[1]\n", "it has: none (1 of 1 rows set aside: 1 not a JSON object)"),
        ("t.csv", "", "is empty"),
        ("t.csv", "\n\n", "is empty"),
        ("t.csv", "item_id,a,a\n1,2,3\n", "has two columns of one name: item_id, a, a"),
        ("t.parquet", "PAR1 but not really", "cannot be read as parquet"),
        ("t.xlsx", "", "has the ending '.xlsx', expected one of .parquet, .csv, .tsv, .jsonl"),
        ("t", "", "has the ending '', expected one of"),
    ],
)
def test_a_bad_file_is_one_clear_error(name: str, content: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, name, content)
    with pytest.raises(InputError) as caught:
        read_table(str(path), ids=("item_id",))
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


def test_what_is_not_there_or_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.csv does not exist"):
        read_table(tmp_path / "nowhere.csv", ids=("item_id",))
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match=r"folder\.csv cannot be read"):
        read_table(tmp_path / "folder.csv", ids=("item_id",))
    with pytest.raises(InputError, match="cannot read a table from list, expected a path"):
        read_table([1, 2], ids=("item_id",))
    with pytest.raises(InputError, match="the pandas frame has two columns of one name: item_id, item_id"):
        read_table(pd.DataFrame([[1, 2]], columns=["item_id", "item_id"]), ids=("item_id",))


def test_arrow_strings_that_are_not_utf8_are_refused() -> None:
    broken = pa.Array.from_buffers(pa.string(), 1, [None, *pa.array([b"\xff"]).buffers()[1:]])
    with pytest.raises(InputError, match="the Arrow table is damaged: "):
        read_table(pa.table({"item_id": broken}), ids=("item_id",))


def test_rejected_rows_add_up_and_are_written_whole(tmp_path: Path) -> None:
    first = Rejected.of(
        file="a.csv", rows=np.array([2, 5]), reason="duplicate item_id", values=pa.chunked_array([[7, 8]])
    )
    second = Rejected.of(file="b.csv", rows=np.array([1]), reason="missing item_id")
    both = Rejected(first.table, 1000) + Rejected(second.table, 682)
    assert both.count == 3
    assert both.counts == {"duplicate item_id": 2, "missing item_id": 1}
    assert both.summary() == "3 of 1,682 rows set aside: 2 duplicate item_id, 1 missing item_id"
    path = tmp_path / "new" / "rejected.jsonl"
    both.write(path)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"file": "a.csv", "row": 2, "reason": "duplicate item_id", "value": "7"},
        {"file": "a.csv", "row": 5, "reason": "duplicate item_id", "value": "8"},
        {"file": "b.csv", "row": 1, "reason": "missing item_id"},
    ]
    Rejected().write(path)
    assert path.read_text() == ""
    with pytest.raises(ArtefactError, match="cannot write"):
        both.write(path / "below-a-file")


def test_long_values_are_shown_shortened() -> None:
    long = Rejected.of(file="a", rows=np.array([1]), reason="r", values=pa.chunked_array([["é" * 1000]]))
    assert long.rows[0]["value"] == "é" * 200
