"""Vectors of one's own, from files: ids, unit vectors and attributes, as `ItemIndex.from_arrays` takes them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from indexing.vectors import unit
from towers.errors import InputError
from towers.ids import IdList

ITEM_ID, VECTOR = "item_id", "vector"


class Vectors(NamedTuple):
    """N items.

    Args:
        ids: of each.
        vectors: float32 ``(N, D)``, of length one, so that their inner products are cosines.
        attributes: all other columns; None where there are none.
    """

    ids: IdList
    vectors: np.ndarray
    attributes: pa.Table | None


def read_vectors(path: str | Path, ids: str | Path | None = None) -> Vectors:
    """Read vectors of any length, and scale them to length one.

    Args:
        path: a ``.parquet`` file with the columns ``item_id`` and ``vector`` (lists of numbers) and perhaps others,
            which become attributes; or a ``.npy`` file of ``(N, D)`` numbers.
        ids: for ``.npy``: a ``.npy`` file of N strings or integers, or a text file with one id a line; None to number
            the items from 0.

    Raises:
        InputError: files that are not there, or not like that; vectors that have no direction.
    """
    path = Path(path)
    if path.suffix == ".parquet":
        if ids is not None:
            raise InputError(f"{path} has its ids in the column {ITEM_ID}; leave ids out")
        return _from_parquet(path)
    if path.suffix != ".npy":
        raise InputError(f"{path} has the ending {path.suffix!r}, expected .npy or .parquet")
    vectors = unit(_load(path, "fiu", "numbers"))
    if ids is None:
        return Vectors(IdList(range(len(vectors))), vectors, None)
    return Vectors(_read_ids(Path(ids)), vectors, None)


def _from_parquet(path: Path) -> Vectors:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read as parquet: {error}") from error
    for name in (ITEM_ID, VECTOR):
        if name not in table.column_names:
            raise InputError(f"{path} has no column {name!r}; it has: {', '.join(table.column_names)}")
    rows = table[VECTOR].combine_chunks()
    if not (pa.types.is_list(rows.type) or _is_other_list(rows.type)):
        raise InputError(f"{path}: the column {VECTOR} must hold a list of numbers in each row, got {rows.type}")
    if rows.null_count:
        row, have = rows.is_null().index(True).as_py(), "has" if rows.null_count == 1 else "have"
        raise InputError(
            f"{path}: {rows.null_count} of {len(rows)} rows {have} no vector, the first is row {row} "
            f"(id {table[ITEM_ID][row].as_py()!r})"
        )
    flat = rows.flatten()
    if flat.null_count or not (pa.types.is_floating(flat.type) or pa.types.is_integer(flat.type)):
        raise InputError(f"{path}: the column {VECTOR} must hold numbers, got {rows.type}, {flat.null_count} missing")
    lengths = np.unique(rows.value_lengths().to_numpy(zero_copy_only=False))
    if len(lengths) > 1:
        raise InputError(f"{path}: vectors must be of one length, got {lengths[0]} to {lengths[-1]}")
    others = table.drop_columns([ITEM_ID, VECTOR])
    values = flat.to_numpy(zero_copy_only=False).reshape(len(rows), -1)
    return Vectors(IdList(table[ITEM_ID]), unit(values), others if others.num_columns else None)


def _is_other_list(kind: pa.DataType) -> bool:
    return pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _load(path: Path, kinds: str, what: str) -> np.ndarray:
    """One array of numpy's `kinds`, which an error calls `what`."""
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} cannot be read as a numpy array: {error}") from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in kinds:
        got = f"one of {values.dtype}" if isinstance(values, np.ndarray) else "several"
        raise InputError(f"{path} must hold one array of {what}, got {got}")
    return values


def _read_ids(path: Path) -> IdList:
    if path.suffix == ".npy":
        return IdList(_load(path, "iuU", "texts or whole numbers").tolist())
    try:
        return IdList(path.read_text("utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as text: {error}") from error
