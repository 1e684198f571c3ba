"""`Filter`: which items may be found, said of their attributes; exact, whatever the index kind.

A filter is a dictionary that could stand in a JSON file or on a command line::

    {"genre": "Comedy"}                                    equal
    {"genre": ["Comedy", "Drama"]}                         one of several
    {"year": {">=": 1990, "<": 2000}}                      a range
    {"genre": "Comedy", "year": {">=": 1990}}              both
    {"or": [{"genre": "Comedy"}, {"not": {"year": 1990}}]}

A column of lists fits where one element does. An item without a value fits no comparison, and so the ``not`` of each;
``{"year": null}`` finds it. Integers, decimals, dates and times are compared as they are, and never rounded to what a
column can hold; a column of floats is compared with the nearest float that it can hold. See `indexing.bounds`.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexing.bounds import EQUAL, as_scalar, as_whole, is_whole, plain, wholes
from towers.errors import InputError

AND, OR, NOT = "and", "or", "not"
RESERVED = (AND, OR, NOT)
DEEPEST = 100  # filters in filters
UNEQUAL, IN = "!=", "in"
ORDERED: dict[str, Callable[[Any, Any], Any]] = {
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
OPERATORS = (EQUAL, UNEQUAL, IN, *ORDERED)


@dataclass(frozen=True)
class Filter:
    """A condition on attributes; made by `read`.

    Args:
        condition: as the module says.
    """

    condition: Mapping[str, Any]

    @classmethod
    def read(cls, source: Where) -> Filter:
        """A filter from a dictionary, from JSON text, or a filter itself.

        Raises:
            InputError: it is none, has an operator that there is not, or is nested too deep.
        """
        if isinstance(source, Filter):
            return source
        if isinstance(source, str):
            try:
                source = json.loads(source)
            except (ValueError, RecursionError) as error:
                raise InputError(
                    f'a filter must be JSON such as {{"genre": "Comedy", "year": {{">=": 1990}}}}, got {source!r}: '
                    f"{error}"
                ) from error
        _refuse_deep(source)
        _check(source)
        assert isinstance(source, Mapping)
        return cls(source)

    def passing(self, attributes: pa.Table | None) -> np.ndarray:
        """bool ``(N,)`` which rows of `attributes` it lets pass.

        Raises:
            InputError: no attributes, a column that they do not have, or a value that cannot be compared with it.
        """
        if attributes is None:
            raise InputError("a filter needs attributes, and this index has none: build it with some")
        return _passing(self.condition, attributes)

    def to_json(self) -> str:
        """Text that `read` reads."""
        return json.dumps(self.condition, default=_text_of)


Where = Filter | Mapping[str, Any] | str
"""What a search accepts: a filter, or what `Filter.read` makes one of."""


def _refuse_deep(condition: Any) -> None:
    """Refuse what Python could not follow into, nor write down."""
    level = [condition] if isinstance(condition, Mapping | list | tuple) else []
    for _ in range(DEEPEST):
        inner = [part for one in level for part in (one.values() if isinstance(one, Mapping) else one)]
        level = [part for part in inner if isinstance(part, Mapping | list | tuple)]
        if not level:
            return
    raise InputError(f"a filter is nested more than {DEEPEST} deep: say it with fewer and, or, not in each other")


def _check(condition: Any) -> None:
    """Refuse what has not the form of a filter."""
    if not isinstance(condition, Mapping) or not condition:
        raise InputError(f"a filter must be a dictionary that names at least one column, got {condition!r}")
    for name, said in condition.items():
        if not isinstance(name, str):
            raise InputError(f"a filter names columns, got {name!r}")
        if name in (AND, OR):
            if not isinstance(said, list | tuple) or not said:
                raise InputError(f"{name!r} must hold a list of filters, got {said!r}")
            for one in said:
                _check(one)
        elif name == NOT:
            _check(said)
        elif isinstance(said, Mapping):
            unknown = [sign for sign in said if sign not in OPERATORS]
            if unknown or not said:
                raise InputError(f"{name!r} is compared by {', '.join(OPERATORS)}; got {unknown or said!r}")
            if IN in said and not isinstance(said[IN], list | tuple | set | frozenset):
                raise InputError(f"{name!r}: 'in' must be given a list of values, got {said[IN]!r}")


def _passing(condition: Mapping[str, Any], table: pa.Table) -> np.ndarray:
    passing = np.ones(table.num_rows, bool)
    for name, said in condition.items():
        if name == AND:
            passing &= np.logical_and.reduce([_passing(one, table) for one in said])
        elif name == OR:
            passing &= np.logical_or.reduce([_passing(one, table) for one in said])
        elif name == NOT:
            passing &= ~_passing(said, table)
        else:
            passing &= _fits(_column(name, table), name, said)
    return passing


def _column(name: str, table: pa.Table) -> pa.Array:
    if name not in table.column_names:
        near = difflib.get_close_matches(name, table.column_names, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(map(repr, table.column_names))}"
        raise InputError(f"the filter names the column {name!r}, which the attributes do not have; {hint}")
    column = table[name].combine_chunks()
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _fits(column: pa.Array, name: str, said: Any) -> np.ndarray:
    """bool ``(N,)`` whether a column's values are as said."""
    if isinstance(said, Mapping):
        return np.logical_and.reduce([_compared(column, name, sign, value) for sign, value in said.items()])
    if isinstance(said, list | tuple | set | frozenset):
        return _compared(column, name, IN, said)
    return _compared(column, name, EQUAL, said)


def _compared(column: pa.Array, name: str, sign: str, value: Any) -> np.ndarray:
    if sign == UNEQUAL:
        return ~_compared(column, name, EQUAL, value)
    if sign == IN:
        one_by_one = [_compared(column, name, EQUAL, one) for one in value]
        return np.logical_or.reduce(one_by_one) if one_by_one else np.zeros(len(column), bool)
    if value is None:
        if sign != EQUAL:
            raise InputError(f"{name!r} cannot be {sign} null")
        return _mask(column.is_null())
    if _is_list(column.type):
        elements = _compared(column.flatten(), name, sign, value)
        owners = pc.list_parent_indices(column).to_numpy(zero_copy_only=False)
        return np.bincount(owners[elements], minlength=len(column)) > 0
    if pa.types.is_null(column.type):
        return np.zeros(len(column), bool)
    if is_whole(column.type):
        return _compared_wholes(column, name, sign, value)
    compare = pc.equal if sign == EQUAL else ORDERED[sign]
    if sign != EQUAL and pa.types.is_boolean(column.type):
        raise InputError(f"{name!r} is true or false, which {sign!r} cannot compare")
    bound = as_scalar(column.type, name, value)
    return _mask(compare(column.cast(bound.type), bound))  # of half floats, which Arrow does not compare


def _compared_wholes(column: pa.Array, name: str, sign: str, value: Any) -> np.ndarray:
    """Values beyond those of the column, and between them, are compared as numbers are."""
    bound = as_whole(name, sign, value, column.type)
    if isinstance(bound, bool):
        return _mask(column.is_valid()) & bound
    sign, whole = bound
    compare = pc.equal if sign == EQUAL else ORDERED[sign]
    if pa.types.is_decimal(column.type):  # which has no integers to be had of it
        return _mask(compare(column, pa.scalar(Decimal(f"{whole}E{-column.type.scale}"), column.type)))
    column = wholes(column)
    return _mask(compare(column, pa.scalar(whole, column.type)))


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def _mask(found: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """bool ``(N,)``, False where nothing is known."""
    return np.asarray(pc.fill_null(found, False).to_numpy(zero_copy_only=False), bool)


def _text_of(value: Any) -> Any:
    value = plain(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta | np.timedelta64):
        return float(value / timedelta(seconds=1) if isinstance(value, timedelta) else value / np.timedelta64(1, "s"))
    if isinstance(value, Decimal):
        if not value.is_finite():
            return str(value)
        number = int(value) if value == value.to_integral_value() else float(value)
        return number if Decimal(repr(number)) == value else str(value)
    if isinstance(value, np.datetime64):
        return str(value)
    return sorted(value) if isinstance(value, set | frozenset) else value
