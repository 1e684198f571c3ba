"""External ids, strings or 64-bit integers, kept as given; rows are positions in one list."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, TypeGuard

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from towers.errors import InputError

Id = str | int
TOLD_AT_ONCE = 10_000
FEW = 100  # looking up fewer than one in so many goes through a dictionary kept in memory


def could_be(one: object) -> TypeGuard[Id]:
    """Whether this is a string or an integer of 64 bits, and so an id that something might have."""
    return isinstance(one, str) or (type(one) is int and -(2**63) <= one < 2**63)


class IdList:
    """An immutable list of distinct ids of one type; row r is the id at position r.

    Args:
        ids: strings, or integers that fit 64 bits, all of one type, all different.

    Raises:
        InputError: mixed or other types, or a duplicate.
    """

    def __init__(self, ids: pa.Array | pa.ChunkedArray | Iterable[Id]) -> None:
        self.array: pa.Array = as_id_array(ids)
        if self.array.null_count:
            raise InputError(f"{self.array.null_count} of {len(self.array)} ids are missing")
        series = pl.Series(self.array)
        distinct = series.n_unique()  # Arrow's count takes 300 bytes an id, and is slower
        if distinct != len(self.array):
            twice, one = len(self.array) - distinct, series.filter(series.is_duplicated())[0]
            raise InputError(f"ids must be different, got {twice} duplicates among {len(self.array)}, such as {one!r}")

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, row: int) -> Id:
        return self.array[int(row)].as_py()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IdList) and self.array.equals(other.array)

    __hash__ = None  # type: ignore[assignment]

    def rows(self, ids: pa.Array | pa.ChunkedArray | Iterable[Id]) -> np.ndarray:
        """Rows of `ids`, int64 ``(n,)``, -1 where an id is unknown.

        Text files and command lines do not say what is a number, so text finds the integer it writes and the other
        way round: ``"17"`` finds 17, ``"017"`` does not.
        """
        wanted = cast_exact(as_id_array(ids), self.array.type)
        if len(wanted) * FEW < len(self):
            return np.array([self._row_of.get(i, -1) for i in wanted.to_pylist()], np.int64)
        found = pc.index_in(wanted, value_set=self.array)
        return pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int64)

    @cached_property
    def _row_of(self) -> dict[Id, int]:
        """Built once: hashing the whole list at every request would cost more than the search."""
        return {i: row for row, i in enumerate(self.array.to_pylist())}

    def take(self, rows: Sequence[int] | np.ndarray) -> list[Id | None]:
        """Ids at `rows`; None where a row is -1."""
        wanted = np.asarray(rows, np.int64)
        return self.array.take(pa.array(wanted, mask=wanted < 0)).to_pylist()

    def to_list(self) -> list[Id]:
        """All ids in row order."""
        return self.array.to_pylist()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the list, order and type included: two things that must line up compare it."""
        digest = hashlib.sha256(str(self.array.type).encode())
        for start in range(0, len(self), TOLD_AT_ONCE):
            for part in self.array.slice(start, TOLD_AT_ONCE).to_pylist():
                text = str(part).encode()
                digest.update(len(text).to_bytes(4, "little") + text)
        return digest.hexdigest()


def as_id_array(ids: pa.Array | pa.ChunkedArray | Iterable[Id]) -> pa.Array:
    """`ids` as an Arrow array of type int64 or large_string, nulls kept.

    Raises:
        InputError: floats, booleans, mixed types, or integers beyond 64 bits.
    """
    if isinstance(ids, str | bytes) or not isinstance(ids, Iterable):
        raise InputError(f"expected a list of ids, got the one value {ids!r}: put it in a list")
    if isinstance(ids, pa.ChunkedArray):
        ids = ids.combine_chunks()
    if isinstance(ids, np.ndarray) and ids.ndim == 1 and ids.dtype.kind in "iu":
        ids = pa.array(ids)
    if not isinstance(ids, pa.Array):
        ids = _to_arrow(list(ids))
    if pa.types.is_dictionary(ids.type):
        ids = ids.dictionary_decode()
    if pa.types.is_integer(ids.type):
        return _cast(ids, pa.int64())
    if pa.types.is_string(ids.type) or pa.types.is_large_string(ids.type) or pa.types.is_string_view(ids.type):
        return _cast(ids, pa.large_string())
    if pa.types.is_null(ids.type):
        return ids.cast(pa.large_string())
    raise InputError(f"ids must be strings or integers, got {ids.type}")


def _to_arrow(ids: list[Any]) -> pa.Array:
    kinds = {type(i.item() if isinstance(i, np.generic) else i) for i in ids if i is not None}
    if kinds - {str, int} or len(kinds) > 1:
        names = ", ".join(sorted(k.__name__ for k in kinds))
        raise InputError(f"ids must be all strings or all integers, got {names}")
    try:
        return pa.array(ids, pa.int64() if kinds == {int} else pa.large_string())
    except (OverflowError, UnicodeEncodeError, pa.ArrowInvalid) as error:
        raise InputError(f"ids must be text or integers that fit 64 bits: {error}") from error


def _cast(ids: pa.Array, kind: pa.DataType) -> pa.Array:
    try:
        return ids.cast(kind)
    except pa.ArrowInvalid as error:
        raise InputError(f"ids must fit 64 bits: {error}") from error


def cast_exact(ids: pa.Array, kind: pa.DataType) -> pa.Array:
    """`ids` of `as_id_array` as `kind`, one of its types; null where another id would come out."""
    if ids.type == kind or pa.types.is_large_string(kind):
        return ids.cast(kind)
    text = pl.Series(ids)
    numbers = text.cast(pl.Int64, strict=False)
    return pl.select(pl.when(numbers.cast(pl.String) == text).then(numbers)).to_series().to_arrow()
