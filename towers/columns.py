"""What each column of an interaction log may hold; rows that hold something else are set aside."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from towers.dates import refuse_compact, seconds_of
from towers.errors import InputError
from towers.rejected import Loaded
from towers.tables import mask

LAST_SECOND = 253_402_300_799  # the end of the year 9999; milliseconds since 1978 lie beyond it
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def scale_ratings(loaded: Loaded, scale: tuple[float, float] | None) -> tuple[Loaded, tuple[float, float] | None]:
    """Ratings mapped to [0, 1] from `scale`, or from the range found; those outside are set aside.

    Raises:
        InputError: a scale that is not two finite, rising numbers.
    """
    values = pl.Series(loaded.table["rating"])
    if scale is None:
        if values.null_count() == len(values):
            return loaded, None
        scale = (float(values.min()), float(values.max()))  # type: ignore[arg-type]
    elif not (np.isfinite(scale).all() and scale[0] < scale[1]):
        raise InputError(f"rating_range must be (smallest, largest), two finite numbers, got {scale}")
    low, high = scale
    outside = ((values < low) | (values > high)).fill_null(False).to_numpy()
    loaded = loaded.without(outside, f"rating outside {low:g} to {high:g}", "rating")
    values = pl.Series(loaded.table["rating"])
    # One and the same rating everywhere says yes, not no.
    mapped = (values - low) / (high - low) if high > low else values * 0 + 1
    return loaded.with_column("rating", _arrow(mapped.cast(pl.Float32))), scale


def read_numbers(loaded: Loaded, name: str) -> Loaded:
    """A column of numbers, or of text with numbers in it, as float64; rows with other text are set aside.

    Raises:
        InputError: a column of another type.
    """
    column = loaded.table[name]
    if pa.types.is_large_string(column.type) or pa.types.is_null(column.type):
        return _parsed(loaded, name, pl.Series(column).cast(pl.Float64, strict=False), "not a number")
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)):
        raise InputError(f"{loaded.file}, column {name}: expected numbers, got {column.type}")
    return loaded.with_column(name, _arrow(pl.Series(column).cast(pl.Float64)))


def _timestamps(loaded: Loaded, name: str) -> Loaded:
    column, where = loaded.table[name], f"{loaded.file}, column {name}"
    kind = column.type
    if pa.types.is_date(kind):
        column, kind = column.cast(pa.timestamp("s")), pa.timestamp("s")
    if pa.types.is_timestamp(kind):
        seconds = pl.Series(column.cast(pa.int64())).cast(pl.Float64) / PER_SECOND[kind.unit]
        loaded = loaded.with_column(name, _arrow(seconds))
    elif pa.types.is_large_string(kind):
        text = pl.Series(column)
        numbers, dates = text.cast(pl.Float64, strict=False), seconds_of(text, where)
        refuse_compact(numbers, where)
        loaded = _parsed(loaded, name, numbers.fill_null(dates), "neither a number nor a date")
    else:
        loaded = read_numbers(loaded, name)
        refuse_compact(pl.Series(loaded.table[name]), where)
    loaded = loaded.without(mask(loaded.table[name].is_null()), f"missing {name}")
    seconds = loaded.table[name].to_numpy()
    sane = (seconds >= 0) & (seconds <= LAST_SECOND)
    return loaded.without(~sane, f"{name} not in seconds from 1970 to 9999", name)


def _positions(loaded: Loaded, name: str) -> Loaded:
    loaded = read_numbers(loaded, name)
    loaded = loaded.without(mask(loaded.table[name].is_null()), f"missing {name}")
    values = loaded.table[name].to_numpy()
    whole = np.isfinite(values) & (values == np.round(values)) & (np.abs(values) < 2.0**63)
    loaded = loaded.without(~whole, f"{name} is no whole number", name)
    return loaded.with_column(name, pa.chunked_array([loaded.table[name].to_numpy().astype(np.int64)]))


def _ratings(loaded: Loaded, name: str) -> Loaded:
    loaded = read_numbers(loaded, name)
    # NaN is how frames without nulls, and files written from them, say that there is none.
    loaded = loaded.with_column(name, _arrow(pl.Series(loaded.table[name]).fill_nan(None)))
    return loaded.without(~_finite(loaded.table[name]), f"{name} is not finite", name)


def _weights(loaded: Loaded, name: str) -> Loaded:
    loaded = read_numbers(loaded, name)
    loaded = loaded.with_column(name, _arrow(pl.Series(loaded.table[name]).fill_null(1.0).cast(pl.Float32)))
    weights = loaded.table[name].to_numpy()
    return loaded.without(~(np.isfinite(weights) & (weights >= 0)), f"{name} is negative or not finite", name)


def _words(loaded: Loaded, name: str) -> Loaded:
    try:
        return loaded.with_column(name, loaded.table[name].cast(pa.large_string()))
    except pa.ArrowException as error:
        raise InputError(f"{loaded.file}, column {name}: expected text, got {loaded.table[name].type}") from error


def _parsed(loaded: Loaded, name: str, values: pl.Series, complaint: str) -> Loaded:
    """The column replaced by what was read from its texts; rows whose text gave nothing are set aside."""
    bad = values.is_null().to_numpy() & ~mask(loaded.table[name].is_null())
    return loaded.without(bad, f"{name} is {complaint}", name).with_column(name, _arrow(values.filter(pl.Series(~bad))))


def _finite(column: pa.ChunkedArray) -> np.ndarray:
    """bool ``(N,)`` values that are finite or missing."""
    return mask(pc.fill_null(pc.is_finite(column), True))


def _arrow(values: pl.Series) -> pa.ChunkedArray:
    return pa.chunked_array([values.to_arrow()])


CHECKS: dict[str, Callable[[Loaded, str], Loaded]] = {
    "timestamp": _timestamps,
    "position": _positions,
    "rating": _ratings,
    "event": _words,
    "weight": _weights,
    "text": _words,
    "split": _words,
}
"""Each optional column's check: ``(rows, column name) -> good rows``, the column in its final type."""
