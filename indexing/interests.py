"""People with several interests: each of their vectors is searched for, and an item counts by the nearest of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from indexing.exact import best_pairs
from indexing.excluded import Exclude, Excluded
from indexing.filters import Where
from indexing.hits import Hits
from indexing.store import Store
from indexing.vectors import Rows, similarity


def search_interests(
    index: Store,
    queries: np.ndarray,
    k: int,
    *,
    exclude: Exclude = None,
    bonus: np.ndarray | None = None,
    where: Where | None = None,
) -> Hits:
    """The k items nearest to any interest of each person; for one interest what `Store.search` gives.

    Args:
        index: of N items.
        queries: float32 ``(B, D)``, or ``(B, K, D)`` for K interests of each of B people, unit norm.
        k, exclude, bonus, where: as in `Store.search`, for each person.

    Returns:
        Hits ``(B, k)``, no item twice, by the largest inner product with any of the person's vectors, plus the bonus.
    """

    def nearest(queries: np.ndarray, excluded: Exclude) -> Hits:
        return index.search(queries, k, exclude=excluded, bonus=bonus, where=where)

    if queries.ndim != 3:
        return nearest(queries, exclude)
    return merged(nearest, queries, index.vectors, Excluded.of(exclude, len(queries), len(index)), bonus)


def merged(
    search: Callable[[np.ndarray, Excluded], Hits],
    queries: np.ndarray,
    vectors: Rows,
    excluded: Excluded,
    bonus: np.ndarray | None,
) -> Hits:
    """What `search` finds for the vectors of each person, as one list.

    An item among the k best of a person is among the k best of the interest that is nearest to it; so lists of k for
    each interest are enough, and the answer is exact where `search` is.

    Args:
        search: the k best for ``(M, D)`` vectors and what each must not be given.
        queries: float32 ``(B, D)``, which are searched for as they are, or ``(B, K, D)``.
        vectors: float32 ``(N, D)`` of the items.
        excluded: what each person must not be given.
        bonus: float32 ``(N,)``, which `search` added; None: nothing.
    """
    if queries.ndim != 3:
        return search(queries, excluded)
    batch, interests, dimension = queries.shape
    hits = search(queries.reshape(batch * interests, dimension), _for_each(excluded, interests))
    found = hits.rows.reshape(batch, -1)
    person, place = np.nonzero(found >= 0)
    keys = np.unique(person * len(vectors) + found[person, place])
    person, row = keys // len(vectors), keys % len(vectors)
    each = [similarity(np.ascontiguousarray(one), vectors, person, row) for one in queries.swapaxes(0, 1)]
    score = np.max(each, axis=0)
    return best_pairs(batch, hits.k, person, row, score if bonus is None else score + bonus[row])


def similarities(queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Inner products ``(B, N)``: with the query of each person ``(B, D)``, or the nearest of theirs ``(B, K, D)``."""
    products = queries @ vectors.T
    return products if products.ndim == 2 else products.max(axis=1)


def _for_each(excluded: Excluded, interests: int) -> Excluded:
    """What a person must not be given, for each of their vectors."""
    first = np.repeat(excluded.query * interests, interests)
    return Excluded(first + np.tile(np.arange(interests), len(excluded.query)), np.repeat(excluded.row, interests))
