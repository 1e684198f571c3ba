"""`Excluded`: the items that a search must not return, such as those a person has seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from towers.errors import InputError


@dataclass(frozen=True)
class Excluded:
    """Pairs (query, row): this query must not be given this row.

    A search takes them in any order, repeats allowed; inside, `of` has sorted them by query and row.

    Args:
        query: int64 ``(P,)`` positions in the batch.
        row: int64 ``(P,)`` rows of the index; -1, an item that is not in the index, is passed over.
    """

    query: np.ndarray
    row: np.ndarray

    @classmethod
    def of(cls, exclude: Exclude, batch: int, count: int) -> Excluded:
        """The distinct pairs, sorted, for `batch` queries of an index of `count` rows.

        Raises:
            InputError: not one list for each query, rows that are not integers, or a query or row outside.
        """
        pairs = exclude if isinstance(exclude, Excluded) else _from_lists(exclude, batch)
        query, row = np.asarray(pairs.query, np.int64), np.asarray(pairs.row, np.int64)
        if len(query) != len(row):
            raise InputError(f"exclude has {len(query)} queries for {len(row)} rows")
        if len(query) and not 0 <= query.min() <= query.max() < batch:
            raise InputError(f"exclude names queries {query.min()} to {query.max()}, there are {batch}")
        if len(row) and not -1 <= row.min() <= row.max() < count:
            raise InputError(f"exclude names rows {row.min()} to {row.max()}, the index has {count}")
        keys = np.unique(query[row >= 0] * count + row[row >= 0])
        return cls(keys // count, keys % count)

    def counts(self, batch: int) -> np.ndarray:
        """int64 ``(batch,)`` pairs of each query."""
        return np.bincount(self.query, minlength=batch)

    def take(self, queries: np.ndarray) -> Excluded:
        """The pairs of these queries (int64 ``(M,)``, rising), numbered 0 to M - 1."""
        starts = np.searchsorted(self.query, queries)
        lengths = np.searchsorted(self.query, queries, side="right") - starts
        query = np.repeat(np.arange(len(queries)), lengths)
        place = np.arange(len(query)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return Excluded(query, self.row[np.repeat(starts, lengths) + place])

    def holds(self, query: np.ndarray, row: np.ndarray, count: int) -> np.ndarray:
        """bool ``(P,)`` whether each of these pairs is excluded, in an index of `count` rows."""
        return np.isin(query * count + row, self.query * count + self.row)


Exclude = Excluded | Sequence[Sequence[int] | np.ndarray] | np.ndarray | None
"""What a search accepts: pairs, or one list of rows for each query, or None."""


def _from_lists(lists: Sequence[Sequence[int] | np.ndarray] | np.ndarray | None, batch: int) -> Excluded:
    if lists is None:
        return Excluded(np.empty(0, np.int64), np.empty(0, np.int64))
    if not isinstance(lists, Sequence | np.ndarray) or len(lists) != batch:
        got = len(lists) if isinstance(lists, Sequence | np.ndarray) else type(lists).__name__
        raise InputError(f"exclude must hold one list of rows for each of {batch} queries, got {got}")
    arrays = [np.asarray(rows) for rows in lists]
    if any(rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu") for rows in arrays):
        raise InputError("exclude must hold lists of integer rows, one for each query")
    row = np.concatenate([np.empty(0, np.int64), *(rows.astype(np.int64) for rows in arrays)])
    return Excluded(np.repeat(np.arange(batch), [len(rows) for rows in arrays]), row)
