"""CSV, TSV and JSON lines, read so that one bad row costs one row."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json

from towers.errors import InputError
from towers.ids import as_id_array
from towers.rejected import Loaded, Rejected

BLOCK_BYTES = 1 << 24


def read_csv(raw: bytes, file: str, *, delimiter: str, ids: tuple[str, ...]) -> Loaded:
    """A CSV or TSV file with a header, in UTF-8, fields quoted with ``"`` where needed.

    An empty field is a missing value. A column becomes integers or floats where that loses nothing (``007`` stays
    text), a column of `ids` integers (written ``1`` or, each of them, ``1.0``) or text. Rows with too few or too many
    fields, or with bytes that are not UTF-8, are set aside.

    Raises:
        InputError: no header, two columns of one name, or a quotation mark that is never closed.
    """
    raw, mark = _marked(raw)
    names = _header(raw, delimiter)
    if not names:
        raise InputError(f"{file} is empty, expected a line of column names and then one line a row")
    if len(set(names)) < len(names):
        raise InputError(f"{file} has two columns of one name: {', '.join(names)}")
    ragged: list[pa.csv.InvalidRow] = []
    try:
        table = _parse_csv(raw, names, delimiter, ragged)
    except pa.ArrowInvalid as error:
        raise InputError(f"{file} cannot be read as CSV: {error}") from error
    if _unclosed(raw, table, ragged):
        raise InputError(f'{file} has a quotation mark (") that is never closed, so its last rows cannot be told apart')

    total = table.num_rows + len(ragged)
    gone = np.array([row.number - 1 for row in ragged], np.int64)  # the parser counts the header as row 1
    texts = pa.chunked_array([[row.text for row in ragged]], pa.large_string())
    bad = Rejected.of(file=file, rows=gone, reason="wrong number of fields", values=texts)
    loaded = Loaded(table, np.setdiff1d(np.arange(1, total + 1), gone), file, Rejected(total=total) + bad)
    for name in names if mark else ():
        broken = pc.fill_null(pc.match_substring(loaded.table[name], mark), False)
        loaded = loaded.without(broken.to_numpy(), "invalid UTF-8", name)
    columns = [_inferred(loaded.table[name], is_id=name in ids) for name in names]
    return Loaded(pa.table(columns, names=names), loaded.rows, file, loaded.rejected)


def read_jsonl(raw: bytes, file: str, *, ids: tuple[str, ...]) -> Loaded:
    """A file of one JSON object a line, in UTF-8. Other lines are set aside; blank ones do not count.

    Raises:
        InputError: strings and numbers in one column of `ids`.
    """
    try:
        block = max(len(raw), 1)
        table = pa.json.read_json(io.BytesIO(raw), read_options=pa.json.ReadOptions(block_size=block))
        table.validate(full=True)
        if not any(pa.types.is_timestamp(kind) for kind in table.schema.types):  # guessed: text must stay text
            return Loaded(table, np.arange(1, table.num_rows + 1), file, Rejected(total=table.num_rows))
    except (pa.ArrowException, OverflowError):
        pass  # some line is broken or some column is mixed: look at each
    return _read_json_lines(raw, file, ids)


def column_of(values: list[Any], *, is_id: bool, where: str) -> pa.Array:
    """Values as Arrow. Where their types do not go together, each becomes text (JSON for what is not text).

    Raises:
        InputError: types that do not go together in an id column; `where` names it.
    """
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        if is_id:
            return id_column(values, where)
        return pa.array([None if v is None else _text(v) for v in values], pa.large_string())


def id_column(values: list[Any] | pa.ChunkedArray, where: str) -> pa.Array:
    """`as_id_array`, with `where` (file and column) in front of what it says."""
    try:
        return as_id_array(values)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text.encode("utf-8", "replace").decode()  # JSON can spell half of a surrogate pair, which has no bytes


def _marked(raw: bytes) -> tuple[bytes, str | None]:
    """`raw` with a mark where its bytes are not UTF-8, so that it can be parsed at all, and that mark."""
    try:
        raw.decode()
        return raw, None
    except UnicodeDecodeError:
        text = raw.decode("utf-8", "surrogateescape")
    mark = "\ufdd0" if "\ufffd" in text else "\ufffd"
    return re.sub("[\udc80-\udcff]", mark, text).encode(), mark


def _header(raw: bytes, delimiter: str) -> list[str]:
    lines = io.TextIOWrapper(io.BytesIO(raw), "utf-8-sig", newline="")
    return next((row for row in csv.reader(lines, delimiter=delimiter) if row), [])


def _parse_csv(raw: bytes, names: list[str], delimiter: str, ragged: list[pa.csv.InvalidRow]) -> pa.Table:
    """Every column as text: types are decided later, when the broken rows are gone."""

    def set_aside(row: pa.csv.InvalidRow) -> str:
        ragged.append(row)
        return "skip"

    return pa.csv.read_csv(
        io.BytesIO(raw),
        # Only one thread numbers the invalid rows.
        read_options=pa.csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
        parse_options=pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=set_aside),
        convert_options=pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.large_string()),
            null_values=[""],
            strings_can_be_null=True,
        ),
    )


def _unclosed(raw: bytes, table: pa.Table, ragged: list[pa.csv.InvalidRow]) -> bool:
    """Whether an open quotation mark has swallowed the end of the file."""
    if any("\n" in row.text and row.text.count('"') % 2 for row in ragged):
        return True
    last = table.column(table.num_columns - 1)[-1].as_py() if table.num_rows else None
    return last is not None and "\n" in last and not raw.rstrip(b"\r\n").endswith(b'"')


def _inferred(column: pa.ChunkedArray, *, is_id: bool) -> pa.ChunkedArray:
    """A column of text as integers or floats where every value is one and none is changed by that.

    Ids are floats only where each is written as `1.0`, as pandas writes integers beside missing values.
    """
    text = pl.Series(column)
    if text.null_count() == len(text) or text.str.contains(r"^-?0\d").any():
        return column
    whole = text.cast(pl.Int64, strict=False)
    if whole.null_count() == text.null_count() and (whole.cast(pl.String) == text).all():
        return pa.chunked_array([whole.to_arrow()])
    if not is_id or text.str.contains(r"^-?\d{1,15}\.0$").all():  # more digits a float does not keep
        real = text.cast(pl.Float64, strict=False)
        if real.null_count() == text.null_count():
            return pa.chunked_array([real.to_arrow()])
    return column


def _read_json_lines(raw: bytes, file: str, ids: tuple[str, ...]) -> Loaded:
    lines = [line for line in raw.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()]
    read = [_json_line(line) for line in lines]
    rows = np.arange(1, len(lines) + 1)
    good = [value for value in read if isinstance(value, dict)]
    names = dict.fromkeys(name for row in good for name in row)
    columns = [
        column_of([row.get(name) for row in good], is_id=name in ids, where=f"{file}, column {name}") for name in names
    ]
    table = pa.table(columns, names=list(names))
    rejected = Rejected(total=len(lines))
    for reason in dict.fromkeys(value for value in read if isinstance(value, str)):
        bad = [n for n, value in enumerate(read) if value == reason]
        texts = pa.chunked_array([[lines[n] for n in bad]], pa.large_binary())
        rejected += Rejected.of(file=file, rows=rows[bad], reason=reason, values=texts)
    return Loaded(table, rows[[isinstance(value, dict) for value in read]], file, rejected)


def _json_line(line: bytes) -> dict[str, Any] | str:
    """The object on a line, or why there is none."""
    try:
        value = json.loads(line.decode())
    except UnicodeDecodeError:
        return "invalid UTF-8"
    except (ValueError, RecursionError):  # integers of thousands of digits are a ValueError of their own
        return "invalid JSON"
    return value if isinstance(value, dict) else "not a JSON object"
