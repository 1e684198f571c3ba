"""`Column`: an attribute as Milvus keeps it, and back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from indexing.bounds import wholes
from towers.errors import InputError

TEXT_BYTES = 65_535  # the longest text that Milvus keeps
LIST_LENGTH = 4_096  # the longest list
PLAIN = {"INT64": pa.int64(), "DOUBLE": pa.float64(), "BOOL": pa.bool_()}


@dataclass(frozen=True)
class Column:
    """One attribute.

    Whole numbers, dates and times are kept as 64-bit integers, other numbers as doubles, all of which is exact.

    Args:
        name: as it was given.
        kind: its Arrow type.
        field: what Milvus calls it, where names are letters, digits and underscores.
        stored: Milvus's type, of an element where it is a list.
        is_list: whether it is one.
    """

    name: str
    kind: pa.DataType
    field: str
    stored: str
    is_list: bool

    def check(self, column: pa.Array) -> None:
        """Refuse an Arrow column of this kind with values that Milvus cannot keep.

        Raises:
            InputError: there are some.
        """
        name, elements = repr(self.name), column.flatten() if self.is_list else column
        if self.is_list and elements.null_count:
            raise InputError(f"{name} has lists with missing elements, which Milvus cannot keep")
        if self.is_list and (longest := pc.max(pc.list_value_length(column)).as_py() or 0) > LIST_LENGTH:
            raise InputError(f"{name} has a list of {longest:,} elements, Milvus keeps {LIST_LENGTH:,}")
        if self.stored == "VARCHAR":
            check_text(elements, name)
        if self.stored == "DOUBLE" and pc.all(pc.is_finite(elements)).as_py() not in (True, None):
            raise InputError(f"{name} has numbers that are not finite, which Milvus cannot keep")

    def values(self, column: pa.Array) -> list[Any]:
        """The values of a checked Arrow column of this kind as Milvus takes them."""
        if not self.is_list:
            return self._plain(column).to_pylist()
        flat = self._plain(column.flatten()).to_pylist()
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_pylist()
        starts = [0, *accumulate(lengths)]
        there = column.is_valid().to_pylist()
        return [
            flat[start : start + length] if has else None
            for has, start, length in zip(there, starts, lengths, strict=False)
        ]

    def arrow(self, values: Sequence[Any]) -> pa.Array:
        """Values that Milvus gave as an Arrow column."""
        if pa.types.is_null(self.kind):
            return pa.nulls(len(values))
        whole = pa.types.is_temporal(self.kind)
        if not whole:
            return pa.array([None if one is None else list(one) if self.is_list else one for one in values], self.kind)
        numbers = pa.array(values, pa.int64())
        return (numbers.cast(pa.int32()) if self.kind.bit_width == 32 else numbers).cast(self.kind)

    def _plain(self, column: pa.Array) -> pa.Array:
        if self.stored == "INT64" and pa.types.is_temporal(column.type):
            return wholes(column)
        return column.cast(
            {"INT64": pa.int64(), "DOUBLE": pa.float64(), "BOOL": pa.bool_()}.get(self.stored, column.type)
        )


def columns_of(schema: pa.Schema | None) -> list[Column]:
    """How Milvus keeps these attributes.

    Raises:
        InputError: a type that it has not.
    """
    return [_column(place, field) for place, field in enumerate(schema or [])]


def check_text(texts: pa.Array, name: str) -> None:
    """Refuse texts that Milvus cannot keep.

    Raises:
        InputError: one is too long.
    """
    longest = pc.max(pc.binary_length(texts)).as_py() or 0
    if longest > TEXT_BYTES:
        raise InputError(f"{name} has a text of {longest:,} bytes, Milvus keeps {TEXT_BYTES:,}")


def _column(place: int, field: pa.Field) -> Column:
    is_list = pa.types.is_list(field.type) or pa.types.is_large_list(field.type)
    kind = field.type.value_type if is_list else field.type
    stored = _stored(kind)
    if stored is None or (is_list and (pa.types.is_temporal(kind) or pa.types.is_null(kind))):
        raise InputError(f"{field.name!r} is of the type {field.type}, which Milvus cannot keep: leave it out")
    readable = re.sub(r"\W", "_", field.name, flags=re.ASCII)[:100]
    return Column(field.name, field.type, f"a{place}_{readable}", stored, is_list)


def _stored(kind: pa.DataType) -> str | None:
    if pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return "BOOL"
    if pa.types.is_floating(kind):
        return "DOUBLE"
    if (pa.types.is_integer(kind) and kind != pa.uint64()) or pa.types.is_temporal(kind):
        return None if pa.types.is_interval(kind) else "INT64"
    return "VARCHAR" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else None
