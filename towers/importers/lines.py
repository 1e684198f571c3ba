"""Files of plain lines, as data sets ship them: fields between separators, nothing quoted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from towers.importers.files import opened
from towers.rejected import Loaded, Rejected


def read_lines(path: Path) -> pl.Series:
    """The lines that are not blank; in UTF-8, or in Latin-1 where the file is not UTF-8.

    Raises:
        InputError: the file cannot be read.
    """
    with opened(path) as file:
        raw = file.read()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    lines = pl.Series("line", [text]).str.split("\n").explode().str.strip_chars_end("\r")
    return lines.filter(lines.str.strip_chars() != "")


def fields(path: Path, separator: str, names: list[str], *, header: bool = False) -> Loaded:
    """Columns of text; an empty field is a missing value, and a line with another number of fields is set aside.

    Args:
        path: the file.
        separator: between fields.
        names: of the columns.
        header: the first line holds names and is skipped.

    Raises:
        InputError: the file cannot be read.
    """
    lines = read_lines(path)[int(header) :]
    good = lines.str.count_matches(separator, literal=True) == len(names) - 1
    split = lines.filter(good).str.split_exact(separator, len(names) - 1).struct.rename_fields(names)
    return _loaded(path, lines, good, split.struct.unnest(), "wrong number of fields")


def groups(path: Path, pattern: str, names: list[str]) -> Loaded:
    """Columns of text, one for each group of a regular expression; a line that it does not match is set aside.

    Raises:
        InputError: the file cannot be read.
    """
    lines = read_lines(path)
    good = lines.str.contains(pattern)
    found = lines.filter(good).str.extract_groups(pattern).struct.rename_fields(names)
    return _loaded(path, lines, good, found.struct.unnest(), "wrong number of fields")


def _loaded(path: Path, lines: pl.Series, good: pl.Series, found: pl.DataFrame, reason: str) -> Loaded:
    mask = good.to_numpy()
    rows = np.arange(1, len(lines) + 1)
    texts = pa.chunked_array([lines.filter(~good).to_arrow()])
    bad = Rejected.of(file=str(path), rows=rows[~mask], reason=reason, values=texts)
    table = found.with_columns(pl.when(pl.all() != "").then(pl.all())).to_arrow()
    return Loaded(table, rows[mask], str(path), Rejected(total=len(lines)) + bad)
