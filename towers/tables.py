"""One door for every table: files and frames in, checked Arrow columns out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from towers.errors import InputError
from towers.rejected import Loaded, Rejected
from towers.textfiles import column_of, id_column, read_csv, read_jsonl

ENDINGS = ".parquet, .csv, .tsv, .jsonl"
EXACT_FLOAT = 2**53  # whole numbers beyond it are no longer exact as float64


def read_table(source: Any, *, ids: tuple[str, ...]) -> Loaded:
    """The rows of `source`, with plain column types.

    Text becomes ``large_string`` and bytes ``large_binary`` (dictionaries and views included); other types stay.

    Args:
        source: path of a Parquet, CSV, TSV or JSON lines file; an Arrow table; a polars or pandas frame; rows that an
            importer has loaded.
        ids: columns that must be there; they come out as int64 or ``large_string``, as given, nulls kept.

    Raises:
        InputError: no such file, an unknown ending, a damaged file, a missing column, or ids of mixed or other types.
    """
    if isinstance(source, Loaded):
        loaded = source
    else:
        loaded = _read_path(Path(source), ids) if isinstance(source, str | Path) else _read_frame(source, ids)
    names = loaded.table.column_names
    if len(set(names)) < len(names):
        raise InputError(f"{loaded.file} has two columns of one name: {', '.join(names)}")
    for name in ids:
        if name not in names:
            raise InputError(f"{loaded.file} {missing_name('column', name, names)}{_why_empty(loaded)}")
    schema = pa.schema([(column.name, _plain(column.type)) for column in loaded.table.schema])
    loaded = replace(loaded, table=loaded.table.cast(schema))
    for name in ids:
        loaded = loaded.with_column(name, pa.chunked_array([_ids(loaded.table[name], f"{loaded.file}, column {name}")]))
    return loaded


def without_missing(loaded: Loaded, name: str) -> Loaded:
    """Set aside the rows whose id column `name` is null or blank."""
    column = loaded.table[name]
    bad = column.is_null()
    if pa.types.is_large_string(column.type):
        bad = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(column), ""), True)
    return loaded.without(mask(bad), f"missing {name}")


def without_duplicates(loaded: Loaded, name: str) -> Loaded:
    """Set aside the rows whose id column `name` stood in an earlier row."""
    first = pl.Series(loaded.table[name]).is_first_distinct().to_numpy()
    return loaded.without(~first, f"duplicate {name}", name)


def refuse_empty(loaded: Loaded) -> None:
    """Raise `InputError` where no row is left."""
    if loaded.table.num_rows == 0:
        raise InputError(f"{loaded.file} has no usable row{_why_empty(loaded)}")


def refuse_unread(data: object, kind: type) -> None:
    """Raise `InputError` where something else stands for a `Catalog` or `Interactions`, such as the path of one."""
    if not isinstance(data, kind):
        raise InputError(f"expected a {kind.__name__}, got {type(data).__name__}; {kind.__name__}.read makes one")


def missing_name(what: str, name: str, names: Iterable[str]) -> str:
    """``has no column 'titel' (did you mean 'title'?); it has: item_id, title``."""
    names = [str(n) for n in names]
    near = nearest_name(name, names, likeness=0.5)
    hint = f" (did you mean {near!r}?)" if near else ""
    return f"has no {what} {name!r}{hint}; it has: {', '.join(names) or 'none'}"


def nearest_name(name: str, names: Iterable[str], *, likeness: float) -> str | None:
    """Which of `names` is most like this one, in capitals or not; None where none is as alike as `likeness`, 0 to 1."""
    folded = {one.casefold(): one for one in names}
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=likeness)
    return folded[near[0]] if near else None


def mask(values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Arrow booleans without nulls as a numpy mask."""
    return values.to_numpy(zero_copy_only=False) if isinstance(values, pa.Array) else values.to_numpy()


def _read_path(path: Path, ids: tuple[str, ...]) -> Loaded:
    file, ending = str(path), path.suffix.lower()
    if not path.exists():
        raise InputError(f"{file} does not exist")
    try:
        if ending in (".parquet", ".pq"):
            return _whole(pq.read_table(path), file)
        if ending in (".csv", ".tsv"):
            return read_csv(path.read_bytes(), file, delimiter="\t" if ending == ".tsv" else ",", ids=ids)
        if ending in (".jsonl", ".ndjson"):
            return read_jsonl(path.read_bytes(), file, ids=ids)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{file} cannot be read as {ending.lstrip('.')}: {error}") from error
    raise InputError(f"{file} has the ending {ending!r}, expected one of {ENDINGS}")


def _read_frame(source: Any, ids: tuple[str, ...]) -> Loaded:
    if hasattr(source, "iloc"):  # pandas, without importing it
        file, names = "the pandas frame", [str(name) for name in source.columns]
        columns = [
            _pandas_column(source.iloc[:, n], is_id=name in ids, where=f"{file}, column {name}")
            for n, name in enumerate(names)
        ]
        return _whole(pa.table(columns, names=names), file)
    if hasattr(source, "__arrow_c_stream__"):
        file = "the polars frame" if isinstance(source, pl.DataFrame) else "the Arrow table"
        return _whole(pa.table(source), file)
    raise InputError(
        f"cannot read a table from {type(source).__name__}, "
        f"expected a path ({ENDINGS}), an Arrow table, or a polars or pandas frame"
    )


def _pandas_column(column: Any, *, is_id: bool, where: str) -> pa.Array:
    try:
        return pa.array(column, from_pandas=True)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        values = column.astype(object).where(column.notna(), None).tolist()
        return column_of(values, is_id=is_id, where=where)


def _whole(table: pa.Table, file: str) -> Loaded:
    try:
        table.validate(full=True)
    except pa.ArrowInvalid as error:
        raise InputError(f"{file} is damaged: {error}") from error
    return Loaded(table, np.arange(1, table.num_rows + 1), file, Rejected(total=table.num_rows))


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_string(kind) or pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary(kind) or pa.types.is_binary_view(kind):
        return pa.large_binary()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.large_list(_plain(kind.value_type))
    return kind


def _ids(column: pa.ChunkedArray, where: str) -> pa.Array:
    if pa.types.is_floating(column.type):  # how pandas keeps integers beside missing values
        column = _whole_numbers(column, where)
    return id_column(column, where)


def _whole_numbers(column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    numbers = pl.Series(column).cast(pl.Float64).fill_nan(None)
    odd = numbers.filter((numbers != numbers.round()) | (numbers.abs() >= EXACT_FLOAT))
    if len(odd):
        raise InputError(f"{where}: ids must be strings or integers, got the number {odd[0]}")
    return pa.chunked_array([numbers.cast(pl.Int64).to_arrow()])


def _why_empty(loaded: Loaded) -> str:
    return f" ({loaded.rejected.summary()})" if loaded.rejected.count else ""
