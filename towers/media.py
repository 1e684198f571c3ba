"""Where a catalog's pictures, sounds and vectors are; what cannot be had is named, not guessed. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from towers.catalog import MEDIA, Catalog
from towers.errors import InputError
from towers.rejected import Rejected
from towers.tables import missing_name

OUTSIDE = "lies outside the catalog's folder"
ADDRESSES = ("http:", "https:")
NOT_FETCHED = "is a web address, which is not fetched"
NO_PATH = "is no path that leads anywhere"
OTHER_LENGTH = "is a vector of another length"
SHORTEST = 1e-12  # length of a vector below which it has no direction in float32
NO_NUMBERS = "is a vector that is not finite, or zero"


def media_of(catalog: Catalog, column: str) -> tuple[list[Path | bytes | None], dict[int, str]]:
    """The files of a column of N paths or bytes, None where there is none or it may not be read, and why not, by row.

    Paths are taken from the folder of the catalog's file, of frames from the current one, and must stay inside it.

    Raises:
        InputError: no such column, or one of another type.
    """
    values = column_of_files(catalog, column)
    if pa.types.is_large_binary(values.type):
        return [value or None for value in values.to_pylist()], {}
    found: list[Path | bytes | None] = []
    faults = {}
    folder = catalog.folder
    for row, value in enumerate(values.to_pylist()):
        path = None
        if value and value.strip().lower().startswith(ADDRESSES):
            faults[row] = NOT_FETCHED
        elif value and value.strip():
            try:
                path = (folder / value).resolve()
            except (OSError, RuntimeError, ValueError):  # a zero in it, or links that lead back to themselves
                faults[row] = NO_PATH
        if path is not None and not path.is_relative_to(folder):
            faults[row], path = OUTSIDE, None
        found.append(path)
    return found, faults


def column_of_files(catalog: Catalog, column: str) -> pa.ChunkedArray:
    """A column of paths or bytes, or without any value; raises as `media_of`."""
    values = _column(catalog, column)
    kind = values.type
    if not (pa.types.is_large_string(kind) or pa.types.is_large_binary(kind) or pa.types.is_null(kind)):
        where = f"{catalog.loaded.file}, column {column}"
        raise InputError(f"{where}: expected paths or bytes, got {kind}: {_remedy(column, kind)}")
    return values


def vectors_of(
    catalog: Catalog, column: str, length: int | None = None
) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
    """A column of N vectors: float32 ``(N, C)``, bool ``(N,)`` where there is one, and what is wrong with others.

    Args:
        catalog: N items.
        column: lists of numbers, null where there is none.
        length: C that they must have; default: that of the first.

    Raises:
        InputError: no such column, one of another type, or without any vector.
    """
    values = _column(catalog, column)
    kind = values.type
    if not _lists_numbers(kind) and not pa.types.is_null(kind):
        raise InputError(f"{catalog.loaded.file}, column {column}: expected lists of numbers, got {kind}")
    rows: Sequence[Any] = values.to_pylist()
    if length is None:
        length = next((len(row) for row in rows if row), None)
    if length is None:
        raise InputError(f"{catalog.loaded.file}, column {column}: there is no vector in it")
    vectors, faults = np.zeros((len(rows), length), np.float32), {}
    for n, row in enumerate(rows):
        if not row:
            continue
        if len(row) != length:
            faults[n] = f"{OTHER_LENGTH}: {len(row)} instead of {length}"
            continue
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and is told of
            vectors[n] = [np.nan if value is None else value for value in row]
            norm = np.linalg.norm(vectors[n])
        if not SHORTEST < norm < np.inf:  # so written that NaN is caught, too
            faults[n], vectors[n] = NO_NUMBERS, 0
    return vectors, np.asarray(vectors.any(axis=1)), faults


def faulty(catalog: Catalog, column: str, faults: dict[int, str]) -> Rejected:
    """Values of a column that cannot be used, by row, as what is set aside; their items keep what else they have."""
    rows, values = np.fromiter(faults, np.int64, len(faults)), catalog.table[column]
    return Rejected.of(
        file=catalog.loaded.file,
        rows=catalog.loaded.rows[rows],
        reason=[f"{column} {reason}" for reason in faults.values()],
        values=None if pa.types.is_large_binary(values.type) else values.take(pa.array(rows)),
    )


def told_of(faults: Rejected) -> str:
    """One sentence for people on what `faulty` gave."""
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in faults.counts.items())
    return (
        f"{faults.count:,} pictures, sounds or vectors of {faults.total:,} items cannot be used: {reasons}: "
        "these items keep what else they have"
    )


def _column(catalog: Catalog, column: str) -> pa.ChunkedArray:
    names = catalog.table.column_names
    if column not in names:
        raise InputError(f"{catalog.loaded.file} {missing_name('column', column, names)}")
    return catalog.table[column]


def _lists_numbers(kind: pa.DataType) -> bool:
    if not (pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return False
    return bool(pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type))


def _remedy(column: str, kind: pa.DataType) -> str:
    """What to set where a column holds no files; those of `MEDIA` are read without being asked for."""
    if column not in MEDIA:
        return "name a column of these in the recipe"
    vectors = f', or {column} = {{source = "vectors"}} to read these' if _lists_numbers(kind) else ""
    return f"set {column} = false in the recipe to train without it{vectors}"
