"""What a column is compared with: the value of a filter as the column has it.

Integers, decimals, dates, times and durations are whole numbers of some unit: hundredths, days, microseconds. A value
that lies between two of them is not rounded: what is above 2.5 is what is above 2.

A date is its midnight. Moments without a zone are in UTC where the column has a zone; the other way round nobody knows
which zone is meant, and that is refused.
"""

from __future__ import annotations

import math
import operator
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa

from towers.errors import InputError

EQUAL = "=="
NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
DAY = 86_400 * NANOSECONDS["s"]
DIGITS = 400  # a number with more before or behind its point says nothing, and takes long to write out
_NAMES = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge"}


def is_whole(kind: pa.DataType) -> bool:
    """Whether values of this type are whole numbers of some unit."""
    return pa.types.is_integer(kind) or pa.types.is_decimal(kind) or _family(kind) != ""


def wholes(column: pa.Array) -> pa.Array:
    """Integers, dates, times or durations as the integers of 64 bits that they are."""
    if pa.types.is_uint64(column.type):
        return column
    if pa.types.is_temporal(column.type) and column.type.bit_width == 32:
        column = column.cast(pa.int32())  # Arrow has no shorter way
    return column.cast(pa.int64())


def as_whole(name: str, sign: str, value: Any, kind: pa.DataType) -> tuple[str, int] | bool:
    """What a column of whole numbers is compared with instead; True where each of them fits, False where none does.

    Args:
        name: of the column.
        sign: ``==`` or one of order.
        value: what the filter says.
        kind: type of the column, as `is_whole` has it.

    Raises:
        InputError: a value that cannot be compared with it.
    """
    exact = _in_units(name, kind, plain(value))
    whole = math.floor(exact)
    if whole != exact:  # a whole number is above 2.5 where it is above 2, and below it where it is at most 2
        if sign == EQUAL:
            return False
        sign = {"<": "<=", "<=": "<=", ">": ">", ">=": ">"}[sign]
    low, high = _range(kind)
    if not low <= whole <= high:
        return sign != EQUAL and getattr(operator, _NAMES[sign])(0, whole)
    return sign, whole


def as_scalar(kind: pa.DataType, name: str, value: Any) -> pa.Scalar:
    """`value` as one of a column of texts, truths or floats, as near as it can have it; half floats as float32.

    Raises:
        InputError: it cannot be compared with that column.
    """
    value = plain(value)
    try:
        if pa.types.is_floating(kind) and isinstance(value, int | Decimal) and not isinstance(value, bool):
            value = float(value)
        if isinstance(value, float) and pa.types.is_float16(kind):
            value = _half(value)
        scalar = pa.scalar(value, pa.float32() if pa.types.is_float16(kind) else kind)
    except (pa.ArrowException, ValueError, OverflowError, TypeError) as error:
        raise _wrong_type(kind, name, value) from error
    if not _is_comparable(kind, value):  # Arrow would make a truth of 1, and a number of a truth
        raise _wrong_type(kind, name, value)
    return scalar


def expected(kind: pa.DataType) -> str:
    """How a value of this type is written, in words; "" for what cannot be compared, such as a list."""
    if _family(kind) == "moment":
        zone = "with a zone or in UTC" if getattr(kind, "tz", None) else "without a zone"
        example = f"2020-01-31T12:00:00{'Z' if getattr(kind, 'tz', None) else ''}"
        return f'expected a date such as "2020-01-31", or a moment {zone} such as "{example}"'
    if _family(kind) == "time":
        return 'expected a time of day without a zone, such as "12:30:00"'
    if _family(kind) == "duration":
        return "expected seconds, or a timedelta"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "expected a number"
    if _is_text(kind):
        return "expected a text"
    return "expected true or false" if pa.types.is_boolean(kind) else ""


def _half(value: float) -> float:
    """The half float nearest to a fraction; whole numbers, and what is beyond all half floats, as they are."""
    with np.errstate(over="ignore"):
        half = float(np.float16(value))
    return value if value.is_integer() or not math.isfinite(half) else half


def plain(value: Any) -> Any:
    """A value of numpy as Python's; a moment or span of it stays where Python's is coarser."""
    if not isinstance(value, np.generic):
        return value
    ours = value.item()
    return value if isinstance(value, np.datetime64 | np.timedelta64) and isinstance(ours, int) else ours


def _in_units(name: str, kind: pa.DataType, value: Any) -> Fraction:
    """`value`, exactly, where a column's unit is 1."""
    if pa.types.is_integer(kind):
        return Fraction(_number(name, kind, value))
    if pa.types.is_decimal(kind):
        return _as_written(_number(name, kind, value)) * Fraction(10) ** kind.scale
    if _family(kind) == "duration" and isinstance(value, int | float | Decimal):
        return _as_written(_number(name, kind, value)) * NANOSECONDS["s"] / _unit(kind)
    return Fraction(_nanoseconds(name, kind, value), _unit(kind))


def _as_written(number: int | float | Decimal) -> Fraction:
    """0.1 as a tenth, which is what somebody means who compares it with tenths, and not as the float next to it."""
    return Fraction(repr(number)) if isinstance(number, float) else Fraction(number)


def _number(name: str, kind: pa.DataType, value: Any) -> int | float | Decimal:
    if isinstance(value, str) and pa.types.is_decimal(kind):
        try:
            value = Decimal(value)
        except ArithmeticError as error:
            raise _wrong_type(kind, name, value) from error
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise _wrong_type(kind, name, value)
    if isinstance(value, Decimal):
        readable = value.is_finite() and abs(value.adjusted()) <= DIGITS
    else:
        readable = isinstance(value, int) or math.isfinite(value)
    if not readable:
        raise InputError(f"{name!r} cannot be compared with {value}")
    return value


def _nanoseconds(name: str, kind: pa.DataType, value: Any) -> int:
    """Of a moment since 1970, of a time since midnight, of a span."""
    try:
        read = _parsed(kind, value) if isinstance(value, str) else pa.scalar(value)
    except (pa.ArrowException, ValueError, OverflowError, TypeError) as error:
        raise _wrong_type(kind, name, value) from error
    zone = getattr(read.type, "tz", None) or getattr(value, "tzinfo", None)
    if not read.is_valid or _family(read.type) != _family(kind) or (zone and not getattr(kind, "tz", None)):
        raise _wrong_type(kind, name, value)
    finer = 0  # what pandas has beyond microseconds, and Arrow leaves out
    if isinstance(value, datetime | timedelta):
        finer = getattr(value, "nanosecond", 0) + getattr(value, "nanoseconds", 0)
    return read.value * _unit(read.type) + finer


def _parsed(kind: pa.DataType, text: str) -> pa.Scalar:
    """The moment or time of day that a text writes.

    Raises:
        pa.ArrowInvalid: it writes none.
    """
    if pa.types.is_time(kind):
        return pa.scalar(f"1970-01-01T{text}").cast(pa.timestamp("ns")).cast(pa.time64("ns"))
    for unit, zone in (("us", None), ("us", "UTC"), ("ns", None)):  # nanoseconds reach from 1677 to 2262 only
        try:
            return pa.scalar(text).cast(pa.timestamp(unit, zone))
        except pa.ArrowInvalid:
            continue
    return pa.scalar(text).cast(pa.timestamp("ns", "UTC"))


def _family(kind: pa.DataType) -> str:
    """Which of those with a unit of time can be compared with each other; "" for others."""
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return "moment"
    return "time" if pa.types.is_time(kind) else "duration" if pa.types.is_duration(kind) else ""


def _unit(kind: pa.DataType) -> int:
    """Nanoseconds."""
    if pa.types.is_date32(kind):
        return DAY
    return NANOSECONDS["ms" if pa.types.is_date64(kind) else kind.unit]


def _range(kind: pa.DataType) -> tuple[int, int]:
    if pa.types.is_decimal(kind):
        return 1 - 10**kind.precision, 10**kind.precision - 1
    return (0, 2**64 - 1) if pa.types.is_uint64(kind) else (-(2**63), 2**63 - 1)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _is_comparable(kind: pa.DataType, value: Any) -> bool:
    if pa.types.is_floating(kind):
        return isinstance(value, int | float) and not isinstance(value, bool) and value == value
    if pa.types.is_boolean(kind):
        return isinstance(value, bool)
    return _is_text(kind) and isinstance(value, str)


def _wrong_type(kind: pa.DataType, name: str, value: Any) -> InputError:
    remedy = expected(kind) or "which cannot be compared: keep text or numbers"
    return InputError(f"the filter compares {name!r}, a column of {kind}, with {value!r}; {remedy}")
