"""Attributes: columns beside the vectors, a row for each item."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from indexing.filters import RESERVED
from towers.errors import InputError


def as_attributes(values: Any, count: int, schema: pa.Schema | None = None) -> pa.Table:
    """`values` as an Arrow table.

    Text becomes ``large_string``, dictionaries become what they encode.

    Args:
        values: an Arrow table, a polars or pandas frame, or lists by column name.
        count: how many rows it must have.
        schema: the columns that it must have, in any order; None where it says itself which there are.

    Raises:
        InputError: no table, other columns, one with the name of a word of filters, types that cannot be had without
            loss, or too many or few rows.
    """
    try:
        table = values if isinstance(values, pa.Table) else pa.table(values)
    except (pa.ArrowException, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"attributes must be a table or lists by column name, got {type(values).__name__}: {error}"
        ) from error
    names = table.column_names
    if not names:
        raise InputError("attributes have no column; leave them out")
    if schema is None and (words := [name for name in names if name in RESERVED]):
        raise InputError(f"attributes have a column {words[0]!r}, which filters could not name: call it otherwise")
    if len(set(names)) < len(names):
        raise InputError(f"attributes have two columns of one name: {', '.join(names)}")
    if table.num_rows != count:
        raise InputError(f"attributes have {table.num_rows} rows for {count} items, expected one for each")
    if schema is None:
        schema = pa.schema([(field.name, _plain(field.type)) for field in table.schema])
    elif set(names) != set(schema.names):
        raise InputError(f"attributes have the columns {_named(names)}, this index has {_named(schema.names)}")
    return pa.table([_cast(table[field.name], field) for field in schema], schema=schema)


def _cast(column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    try:
        return column.cast(field.type)
    except (pa.ArrowException, ValueError) as error:
        raise InputError(f"attributes must be of the index's types ({field.name}: {field.type}): {error}") from error


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    return pa.large_string() if pa.types.is_string(kind) or pa.types.is_string_view(kind) else kind


def _named(names: list[str]) -> str:
    return ", ".join(map(repr, sorted(names))) or "none"
