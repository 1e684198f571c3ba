"""`Filter`: which items may be found, said of their attributes; exact, whatever the index kind.

A filter is a dictionary that could stand in a JSON file or on a command line::

    {"genre": "Comedy"}                                    equal
    {"genre": ["Comedy", "Drama"]}                         one of several
    {"year": {">=": 1990, "<": 2000}}                      a range
    {"genre": "Comedy", "year": {">=": 1990}}              both
    {"or": [{"genre": "Comedy"}, {"not": {"year": 1990}}]}

A column of lists fits where one element does. An item without a value fits no comparison, and so the ``not`` of each;
``{"year": null}`` finds it.
"""

from __future__ import annotations

import difflib
import json
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from towers.errors import InputError

AND, OR, NOT = "and", "or", "not"
EQUAL, UNEQUAL, IN = "==", "!=", "in"
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
            InputError: it is none, or has an operator that there is not.
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
    if pa.types.is_integer(column.type):
        return _compared_integers(column, name, sign, value)
    compare = pc.equal if sign == EQUAL else ORDERED[sign]
    if sign != EQUAL and pa.types.is_boolean(column.type):
        raise InputError(f"{name!r} is true or false, which {sign!r} cannot compare")
    return _mask(compare(column, as_scalar(column.type, name, value)))


def _compared_integers(column: pa.Array, name: str, sign: str, value: Any) -> np.ndarray:
    """Numbers beyond those of the column, and fractions, are compared as numbers are."""
    bound = as_whole(name, sign, value, column.type)
    if isinstance(bound, bool):
        return _mask(column.is_valid()) & bound
    sign, whole = bound
    compare = pc.equal if sign == EQUAL else ORDERED[sign]
    kind = pa.uint64() if pa.types.is_uint64(column.type) else pa.int64()
    return _mask(compare(column.cast(kind), pa.scalar(whole, kind)))


def as_whole(name: str, sign: str, value: Any, kind: pa.DataType) -> tuple[str, int] | bool:
    """What a column of integers is compared with instead; True where every integer of 64 bits fits, False where none.

    Raises:
        InputError: a value that is no number.
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise _wrong_type(kind, name, value)
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{name!r} cannot be compared with {value}")
    whole = math.floor(value)
    if whole != value:  # a whole number is above 2.5 where it is above 2, and below it where it is at most 2
        if sign == EQUAL:
            return False
        sign = {"<": "<=", "<=": "<=", ">": ">", ">=": ">"}[sign]
    low, high = (0, 2**64 - 1) if pa.types.is_uint64(kind) else (-(2**63), 2**63 - 1)
    if not low <= whole <= high:
        return sign != EQUAL and getattr(operator, _NAMES[sign])(0, whole)
    return sign, whole


_NAMES = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge"}


def as_scalar(kind: pa.DataType, name: str, value: Any) -> pa.Scalar:
    """`value` as one of a column's.

    Raises:
        InputError: it cannot be compared with that column.
    """
    value = value.item() if isinstance(value, np.generic) else value
    if not _is_comparable(kind, value):
        raise _wrong_type(kind, name, value)
    try:
        if isinstance(value, str) and pa.types.is_temporal(kind):
            return pa.scalar(value).cast(kind)
        return pa.scalar(value, kind)
    except (pa.ArrowException, ValueError, OverflowError, TypeError) as error:
        raise _wrong_type(kind, name, value) from error


def _is_comparable(kind: pa.DataType, value: Any) -> bool:
    if pa.types.is_floating(kind):
        return isinstance(value, int | float) and not isinstance(value, bool) and value == value
    if pa.types.is_boolean(kind):
        return isinstance(value, bool)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return isinstance(value, str)
    return pa.types.is_temporal(kind) and isinstance(value, str | date | datetime)


def _wrong_type(kind: pa.DataType, name: str, value: Any) -> InputError:
    return InputError(f"the filter compares {name!r}, a column of {kind}, with {value!r}")


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def _mask(found: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """bool ``(N,)``, False where nothing is known."""
    return np.asarray(pc.fill_null(found, False).to_numpy(zero_copy_only=False), bool)


def _text_of(value: Any) -> Any:
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, np.generic):
        return value.item()
    return sorted(value)
