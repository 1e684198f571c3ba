"""Columns written as sentences: item texts from a template, people from their attributes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from towers.errors import InputError
from towers.tables import missing_name


@dataclass(frozen=True)
class Part:
    """A stretch of a template: literals and fields in turn (``literal, field, literal, …``)."""

    pieces: tuple[str, ...]
    optional: bool

    @property
    def fields(self) -> tuple[str, ...]:
        return self.pieces[1::2]

    def expression(self) -> pl.Expr:
        """Its text: null, or "" if it may vanish, where a field has no value."""
        words = [pl.col(p) if n % 2 else pl.lit(p) for n, p in enumerate(self.pieces)]
        if self.optional:
            return pl.concat_str(words).fill_null("")
        return pl.concat_str(words, ignore_nulls=True)


def parse(template: str) -> list[Part]:
    """The parts of a template such as ``"{title}[ ({year})][. {genres}]"``.

    Raises:
        InputError: brackets or braces that do not pair up, or brackets within brackets.
    """
    found = re.findall(r"\[([^\[\]]*)\]|([^\[\]]+)", template)
    whole = "".join(outer or f"[{inner}]" for inner, outer in found) == template
    parts = [Part(tuple(re.split(r"\{([^{}]+)\}", outer or inner)), optional=not outer) for inner, outer in found]
    if not whole or any(set(literal) & set("{}") for part in parts for literal in part.pieces[::2]):
        raise InputError(
            f"{template!r} is not a template: expected columns in braces and optional parts in brackets, "
            'such as "{title}[ ({year})]"'
        )
    return parts


def columns_of(template: str) -> list[str]:
    """The columns that a template names, each once.

    Raises:
        InputError: a faulty template.
    """
    return list(dict.fromkeys(field for part in parse(template) for field in part.fields))


def render(table: pa.Table, template: str, file: str) -> list[str]:
    """The template's text for each row; "" where none of its columns has a value.

    Raises:
        InputError: a faulty template, a column that is not there, or one that has no text.
    """
    parts = parse(template)
    fields = columns_of(template)
    for field in fields:
        if field not in table.column_names:
            raise InputError(f"{file} {missing_name('column', field, table.column_names)}")
    if not fields:
        if template.strip():
            raise InputError(f"the template {template!r} names no column, so that every text would be the same")
        return [""] * table.num_rows
    words = as_words(table.select(fields))
    text = pl.concat_str([part.expression() for part in parts]).str.strip_chars()
    anything = pl.any_horizontal(pl.col(fields).is_not_null())
    return words.select(pl.when(anything).then(text).otherwise(pl.lit("")).alias("text"))["text"].to_list()


def describe(table: pa.Table) -> pa.Array:
    """A sentence of names and values for each row: ``age 24, gender M``; null where a row has no value."""
    words = as_words(table)
    named = [pl.concat_str([pl.lit(name.replace("_", " ") + " "), pl.col(name)]) for name in words.columns]
    if not named:
        return pa.nulls(table.num_rows, pa.large_string())
    text = pl.concat_str(named, separator=", ", ignore_nulls=True)
    return words.select(pl.when(text != "").then(text).alias("text"))["text"].to_arrow().cast(pa.large_string())


def as_words(table: pa.Table) -> pl.DataFrame:
    """Every column as text: whole floats as integers, lists joined with ", ", blank values null.

    Raises:
        InputError: a column of bytes or of records.
    """
    frame = pl.DataFrame(table)
    return frame.select(_words(pl.col(name), frame[name].dtype, name).alias(name) for name in frame.columns)


def has_words(kind: pa.DataType) -> bool:
    """Whether a column of this type reads well in a text: strings, integers, and lists of them."""
    if pa.types.is_large_list(kind):
        return has_words(kind.value_type)
    return pa.types.is_large_string(kind) or pa.types.is_integer(kind)


def _words(value: pl.Expr, dtype: Any, name: str) -> pl.Expr:
    if isinstance(dtype, pl.Array):
        return _words(value.arr.to_list(), pl.List(dtype.inner), name)
    if isinstance(dtype, pl.List):
        inner = value.list.eval(_words(pl.element(), dtype.inner, name))
        text = inner.list.drop_nulls().list.join(", ")
    elif dtype.is_float():
        text = value.fill_nan(None).cast(pl.String).str.replace(r"\.0$", "")
    elif dtype == pl.String or dtype.is_numeric() or dtype.is_temporal() or dtype in (pl.Boolean, pl.Null):
        text = value.cast(pl.String)
    else:
        raise InputError(f"column {name!r} holds {dtype}, which cannot be written as text")
    text = text.str.strip_chars()
    return pl.when(text != "").then(text)
