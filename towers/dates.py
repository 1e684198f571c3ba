"""Dates and times that are written as text or as numbers, and those of which nobody can say which day they mean."""

from __future__ import annotations

import polars as pl

from towers.errors import InputError

ISO = (
    r"^(?<date>\d{4}[-/.]\d{1,2}[-/.]\d{1,2})"
    r"(?:[T ](?<time>\d{1,2}:\d{2})(?::(?<second>\d{2})(?<fraction>\.\d+)?)?"
    r" ?(?:Z|UTC|(?<sign>[+-])(?<hours>[01]\d|2[0-3]):?(?<minutes>[0-5]\d)?)?)?$"
)
BASIC = r"^(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})?"  # without hyphens and colons; a time tells it from a number
YEAR_LAST = r"^\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d{2})([T ]|$)"
FIRST_COMPACT, LAST_COMPACT = 1900_01_01, 2100_12_31  # as seconds, a few weeks of August 1970


def seconds_of(text: pl.Series, where: str) -> pl.Series:
    """Seconds since 1970 of ISO dates and times, each read by itself (UTC without an offset), null where there is none.

    Args:
        text: what stands in the rows.
        where: file and column, for the message.

    Raises:
        InputError: more dates whose year comes last, so that day and month could change places, than others.
    """
    extended = text.str.replace(BASIC, "$1-$2-${3}T$4:$5:$6").str.replace(r":([Z+-]|$)", "$1")
    parts = extended.str.extract_groups(ISO).struct.unnest()
    unclear = text.filter(text.str.contains(YEAR_LAST))
    if len(unclear) > parts["date"].count():
        raise InputError(
            f"{where}: {unclear[0]!r} does not begin with the year, so that day and month could change places: write "
            "dates as 2024-01-31"
        )
    whole = pl.concat_str(
        pl.col("date").str.replace_all(r"[/.]", "-"),
        pl.col("time").fill_null("00:00"),
        pl.col("second").fill_null("00"),
        separator=" ",
    ).str.to_datetime("%Y-%m-%d %H:%M %S", time_unit="us", strict=False)
    fraction = pl.col("fraction").cast(pl.Float64).fill_null(0)
    offset = 3600 * _number("hours") + 60 * _number("minutes")
    east = pl.when(pl.col("sign") == "-").then(-offset).otherwise(offset)
    return parts.select(whole.to_physical() / 10**6 + fraction - east).to_series()


def refuse_compact(numbers: pl.Series, where: str) -> None:
    """Raise `InputError` where all numbers above 0 look like 20240131: days, not seconds of August 1970."""
    found = numbers.fill_nan(None).drop_nulls()
    found = found.filter(found > 0)
    month, day = found // 100 % 100, found % 100
    days = found.is_between(FIRST_COMPACT, LAST_COMPACT) & month.is_between(1, 12) & day.is_between(1, 31)
    if len(found) and (days & (found == found.floor())).all():
        raise InputError(
            f"{where}: {found[0]:.0f} and all other numbers look like days without hyphens, expected seconds since "
            "1970, or dates: write 2024-01-31 for 20240131"
        )


def _number(name: str) -> pl.Expr:
    return pl.col(name).cast(pl.Int64).fill_null(0)
