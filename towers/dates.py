"""Dates and times that are written as text or as numbers, and those of which nobody can say which day they mean."""

from __future__ import annotations

import polars as pl

from towers.errors import InputError

ISO = (
    r"^(?<date>\d{4}[-/]\d{1,2}[-/]\d{1,2})"
    r"(?:[T ](?<time>\d{1,2}:\d{2})(?::(?<second>\d{2})(?<fraction>\.\d+)?)?"
    r" ?(?:Z|UTC|(?<sign>[+-])(?<hours>\d{2}):?(?<minutes>\d{2})?)?)?$"
)
DAY_OR_MONTH_FIRST = r"^\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d{2})\b"
FIRST_COMPACT, LAST_COMPACT = 1900_01_01, 2100_12_31  # as seconds, a few weeks of August 1970


def seconds_of(text: pl.Series, where: str) -> pl.Series:
    """Seconds since 1970 of ISO dates and times, each read by itself (UTC without an offset), null where there is none.

    Args:
        text: what stands in the rows.
        where: file and column, for the message.

    Raises:
        InputError: a date in which day and month could change places.
    """
    unclear = text.filter(text.str.contains(DAY_OR_MONTH_FIRST))
    if len(unclear):
        raise InputError(
            f"{where}: {unclear[0]!r} does not say which is the day and which the month: write dates as 2024-01-31"
        )
    parts = text.str.extract_groups(ISO).struct.unnest()
    whole = pl.concat_str(
        pl.col("date").str.replace_all("/", "-"),
        pl.col("time").fill_null("00:00"),
        pl.col("second").fill_null("00"),
        separator=" ",
    ).str.to_datetime("%Y-%m-%d %H:%M %S", time_unit="us", strict=False)
    fraction = pl.col("fraction").cast(pl.Float64).fill_null(0)
    offset = 3600 * _number("hours") + 60 * _number("minutes")
    east = pl.when(pl.col("sign") == "-").then(-offset).otherwise(offset)
    return parts.select(whole.to_physical() / 10**6 + fraction - east).to_series()


def refuse_compact(numbers: pl.Series, where: str) -> None:
    """Raise `InputError` where all numbers look like 20240131: days, which would be read as seconds of August 1970."""
    found = numbers.drop_nulls()
    month, day = found // 100 % 100, found % 100
    days = found.is_between(FIRST_COMPACT, LAST_COMPACT) & month.is_between(1, 12) & day.is_between(1, 31)
    if len(found) and (days & (found == found.floor())).all():
        raise InputError(
            f"{where}: {found[0]:.0f} and all others look like days without hyphens, expected seconds since 1970, or "
            "dates: write 2024-01-31 for 20240131"
        )


def _number(name: str) -> pl.Expr:
    return pl.col(name).cast(pl.Int64).fill_null(0)
