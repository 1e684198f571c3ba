"""What steps know of the items: vectors, attributes, popularity, and how alike two of them are."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexing.filters import Filter, Where
from towers.errors import InputError
from towers.ids import IdList
from towers.popularity import popularity_groups
from towers.tables import missing_name

KEPT = 100  # filters whose answers are kept


class _Values(NamedTuple):
    """A column as numbers: item n has the values ``codes[offsets[n]:offsets[n + 1]]``."""

    offsets: np.ndarray
    codes: np.ndarray


@dataclass(frozen=True)
class Items:
    """N items.

    Args:
        ids: the id of each row.
        vectors: float32 ``(N, D)``, unit norm, or 0 where an item has none.
        attributes: a row for each.
        counts: int64 ``(N,)`` events of each; None where there is no log.
    """

    ids: IdList
    vectors: np.ndarray
    attributes: pa.Table
    counts: np.ndarray | None = None
    _columns: dict[str, _Values] = field(default_factory=dict, init=False, repr=False)
    _passing: dict[str, np.ndarray] = field(default_factory=dict, init=False, repr=False)

    def similarities(self, rows: np.ndarray, by: str | None = None) -> np.ndarray:
        """Cosines of n items with one another, float32 ``(n, n)``.

        Args:
            rows: int64 ``(n,)``.
            by: the column whose values are compared, as vectors with 1 for each value that an item has, so that the
                cosine is ``common values / sqrt(values of one * values of the other)``; elements of a list, or what
                commas part in a text. Default: the model's vectors.
        """
        vectors = self.vectors[rows] if by is None else self.features(rows, by)
        return vectors @ vectors.T

    def features(self, rows: np.ndarray, by: str) -> np.ndarray:
        """Unit vectors of the values of a column, float32 ``(n, V)`` for the V values of these items; else 0."""
        if by not in self._columns:
            self._columns[by] = _values(self.attributes, by)
        offsets, codes = self._columns[by]
        lengths = (offsets[1:] - offsets[:-1])[rows]
        ends = np.cumsum(lengths)
        own = codes[np.arange(lengths.sum()) + np.repeat(offsets[rows] - (ends - lengths), lengths)]
        known, value = np.unique(own, return_inverse=True)
        vectors = np.zeros((len(rows), len(known)), np.float32)
        vectors[np.repeat(np.arange(len(rows)), lengths), value] = 1
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1)

    def passing(self, where: Where) -> np.ndarray:
        """bool ``(N,)`` which items a filter lets pass; kept, as steps ask the same again and again."""
        condition = Filter.read(where)
        key = condition.to_json()
        passing = self._passing.get(key)
        if passing is None:
            passing = condition.passing(self.attributes)
            if len(self._passing) >= KEPT:
                self._passing.clear()
            self._passing[key] = passing
        return passing

    @cached_property
    def groups(self) -> np.ndarray:
        """int64 ``(N,)`` 0 head, 1 torso, 2 tail; see `towers.popularity.popularity_groups`."""
        return popularity_groups(self._counted)

    @cached_property
    def bits(self) -> np.ndarray:
        """float64 ``(N,)`` how little known each is: ``-log2((count + 1) / (all counts + N))``."""
        return -np.log2((self._counted + 1) / (self._counted.sum() + len(self.ids)))

    @property
    def _counted(self) -> np.ndarray:
        if self.counts is None:
            raise InputError("without a log nothing is known of what is popular: give one, or leave the step out")
        return self.counts


def _values(table: pa.Table, name: str) -> _Values:
    if name not in table.column_names:
        raise InputError(f"the catalog {missing_name('column', name, table.column_names)}")
    column = table[name].combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = pc.split_pattern(column, ",")
    elif not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        numbers = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
        codes = column.drop_null().dictionary_encode().indices.to_numpy()
        return _Values(np.searchsorted(numbers, np.arange(len(column) + 1)), codes.astype(np.int64))
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    values = pc.list_flatten(column)
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        values = pc.utf8_trim_whitespace(values)
    codes = values.dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return _Values(np.concatenate([[0], np.cumsum(lengths)]), codes.astype(np.int64))
