"""Filters as Milvus's expressions, of the same meaning as in `indexing.filters`.

In Milvus a comparison with a missing value is neither true nor false, and so is its ``not``. So none is ever asked for:
each condition becomes two expressions, of the items that it fits and of those that it does not, and ``not`` swaps them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from indexing.bounds import EQUAL, as_scalar, as_whole, is_whole
from indexing.columns import Column
from indexing.filters import AND, IN, NOT, OR, UNEQUAL, Filter, Where
from towers.errors import InputError

Said = str | bool
"""An expression; True of all items, False of none."""

OPPOSITE = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}


class Both(NamedTuple):
    """What a condition fits, and what it does not."""

    fits: Said
    fails: Said


def expression(where: Where, schema: pa.Schema | None, columns: Sequence[Column]) -> Said:
    """What a filter lets pass.

    Args:
        where: a filter, or what `Filter.read` makes one of.
        schema: of the attributes; None where there are none.
        columns: how they are kept.

    Raises:
        InputError: what `Filter.passing` would refuse, or the elements of a list compared by more or less.
    """
    read = Filter.read(where)
    read.passing(None if schema is None else schema.empty_table())
    return _both(read.condition, {column.name: column for column in columns}).fits


def all_of(parts: Sequence[Said]) -> Said:
    """What each of them fits."""
    return False if False in parts else _joined(parts, " and ", True)


def any_of(parts: Sequence[Said]) -> Said:
    """What one of them fits."""
    return True if True in parts else _joined(parts, " or ", False)


def literal(value: str | int | float | bool) -> str:
    """A value as an expression says it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + escaped.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t") + '"'
    return repr(value)


def is_in(field: str, values: Sequence[Any]) -> str:
    """That a field has one of these values."""
    return f"{field} in [{', '.join(map(literal, values))}]"


def _joined(parts: Sequence[Said], word: str, nothing: bool) -> Said:
    said = [part for part in parts if isinstance(part, str)]
    if not said:
        return nothing
    return said[0] if len(said) == 1 else word.join(f"({part})" for part in said)


def _both(condition: Mapping[str, Any], columns: Mapping[str, Column]) -> Both:
    return _and([_said(name, said, columns) for name, said in condition.items()])


def _said(name: str, said: Any, columns: Mapping[str, Column]) -> Both:
    if name == AND:
        return _and([_both(one, columns) for one in said])
    if name == OR:
        return _not(_and([_not(_both(one, columns)) for one in said]))
    if name == NOT:
        return _not(_both(said, columns))
    if isinstance(said, Mapping):
        return _and([_compared(columns[name], sign, value) for sign, value in said.items()])
    return _compared(columns[name], IN if isinstance(said, list | tuple | set | frozenset) else EQUAL, said)


def _and(parts: Sequence[Both]) -> Both:
    return Both(all_of([part.fits for part in parts]), any_of([part.fails for part in parts]))


def _not(said: Both) -> Both:
    return Both(said.fails, said.fits)


def _compared(column: Column, sign: str, value: Any) -> Both:
    if sign == UNEQUAL:
        return _not(_compared(column, EQUAL, value))
    if sign in (EQUAL, IN):
        return _among(column, [value] if sign == EQUAL else list(value))
    if column.is_list:
        raise InputError(f"{column.name!r} is a list, whose elements Milvus cannot compare by {sign!r}")
    field = column.field
    bound = _bound(column, sign, value)
    if isinstance(bound, bool):
        there = f"{field} is not null"
        return Both(there, f"{field} is null") if bound else Both(False, True)
    sign, value = bound
    return Both(f"{field} {sign} {literal(value)}", f"({field} is null) or ({field} {OPPOSITE[sign]} {literal(value)})")


def _among(column: Column, values: list[Any]) -> Both:
    """Equal to one of them, or missing where None is among them."""
    field, missing = column.field, None in values
    known = [one for one in (_equal(column, value) for value in values if value is not None) if one is not None]
    if not known:
        return Both(f"{field} is null", f"{field} is not null") if missing else Both(False, True)
    if any(isinstance(one, float) and one == 0 for one in known):
        known = [*known, 0.0, -0.0]  # which are equal, but not to Milvus
    if column.is_list:  # array_contains cannot read a negative number
        fits = f"array_contains_any({field}, [{', '.join(map(literal, known))}])"
        fails = f"not {fits}"
    else:
        fits = is_in(field, known)
        fails = f"{field} not {fits.removeprefix(field + ' ')}"
    if missing:
        return Both(any_of([f"{field} is null", fits]), all_of([f"{field} is not null", fails]))
    return Both(fits, any_of([f"{field} is null", fails]))


def _equal(column: Column, value: Any) -> Any:
    """The value as it is kept; None where no item can have it."""
    kind = column.kind.value_type if column.is_list else column.kind
    if pa.types.is_null(kind):
        return None
    if is_whole(kind):
        bound = as_whole(column.name, EQUAL, value, kind)
        return bound[1] if isinstance(bound, tuple) else None
    kept = as_scalar(kind, column.name, value).as_py()
    return kept if not isinstance(kept, float) or math.isfinite(kept) else None


def _bound(column: Column, sign: str, value: Any) -> tuple[str, Any] | bool:
    """What a column is compared with; True where every value fits, False where none does."""
    if pa.types.is_null(column.kind):
        return False
    if is_whole(column.kind):
        return as_whole(column.name, sign, value, column.kind)
    kept = as_scalar(column.kind, column.name, value).as_py()
    if isinstance(kept, float) and math.isinf(kept):
        return (kept > 0) == sign.startswith("<")
    return sign, kept
