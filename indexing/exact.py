"""Exact search: every vector is compared. Right by construction, and the fastest there is for small catalogs."""

from __future__ import annotations

from operator import gt

import numpy as np

from indexing.excluded import Exclude, Excluded
from indexing.hits import Hits
from indexing.vectors import FEW, Rows, check_vectors, least, similarity, similarity_found
from towers.errors import InputError

SCORES_AT_ONCE = 2**24
MOST_K = 2**24  # 200 MB for each query


def exact_search(queries: np.ndarray, vectors: np.ndarray, k: int, *, exclude: Exclude = None) -> Hits:
    """The k rows of `vectors` with the largest inner product; equal scores go to the lower row.

    Args:
        queries: float32 ``(B, D)``, unit norm.
        vectors: float32 ``(N, D)``, unit norm (checked when an index is built, not at each search).
        k: how many, at least 1.
        exclude: rows that must not be returned: one list for each query, or `Excluded` pairs.

    Raises:
        InputError: `queries`, `k` or `exclude` cannot be used.
    """
    check_vectors(queries, vectors.shape[1])
    k = check_k(k)
    excluded = Excluded.of(exclude, len(queries), len(vectors))
    size = max(1, SCORES_AT_ONCE // max(1, len(vectors)))
    blocks = [np.arange(start, min(start + size, len(queries))) for start in range(0, len(queries), size)]
    hits = [_scan(queries[block], vectors, k, excluded.take(block)) for block in blocks]
    return Hits(
        np.concatenate([np.empty((0, k), np.int64), *(h.rows for h in hits)]),
        np.concatenate([np.empty((0, k), np.float32), *(h.scores for h in hits)]),
    )


def check_k(k: int) -> int:
    """`k` as Python's integer, which FAISS wants; refused where it is none, below 1, or beyond all memory."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer):
        raise InputError(f"k must be a whole number, got {k!r}")
    if k < 1:
        raise InputError(f"k must be at least 1, got {k}")
    if k > MOST_K:
        raise InputError(f"k must be at most {MOST_K:,}, got {k}: an answer has room for k items, found or not")
    return int(k)


def rank_pairs(
    queries: np.ndarray,
    vectors: Rows,
    k: int,
    query: np.ndarray,
    row: np.ndarray,
    *,
    bonus: np.ndarray | None = None,
) -> Hits:
    """The k best of each query's candidates, by exact inner product; equal scores go to the lower row.

    Args:
        queries: float32 ``(B, D)``.
        vectors: float32 ``(N, D)``.
        k: width of the result.
        query, row: int64 ``(P,)`` candidates in any order, no pair twice.
        bonus: float32 ``(N,)`` added to the inner product.
    """
    score = similarity(queries, vectors, query, row)
    if bonus is not None:
        score = score + bonus[row]
    return best_pairs(len(queries), k, query, row, score)


def best_pairs(batch: int, k: int, query: np.ndarray, row: np.ndarray, score: np.ndarray) -> Hits:
    """The k best of each query's candidates by float32 ``(P,)`` scores; the rest as in `rank_pairs`."""
    order = np.lexsort((row, -score, query))
    query, row, score = query[order], row[order], score[order]
    place = np.arange(len(query)) - np.searchsorted(query, query)
    best = place < k
    rows = np.full((batch, k), -1, np.int64)
    scores = np.full((batch, k), -np.inf, np.float32)
    rows[query[best], place[best]] = row[best]
    scores[query[best], place[best]] = score[best]
    return Hits(rows, scores)


def rank_found(
    queries: np.ndarray, vectors: np.ndarray, found: np.ndarray, scores: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Rows found for each query in the order of their exact inner products; equal scores go to the lower row.

    Args:
        queries: float32 ``(B, D)``.
        vectors: float32 ``(N, D)``.
        found: int64 ``(B, K)``, no row twice for a query; -1 is no row.
        scores: float32 ``(B, K)``, the exact inner products, where they are known; changed.

    Returns:
        The rows, with each -1 at the end, and their scores, float32 ``(B, K)``.
    """
    if scores is None:
        scores = similarity_found(queries, vectors, found)
    elif least(found) < 0:
        scores[found < 0] = -np.inf
    if _falls(scores):
        return found, scores
    wrong = np.flatnonzero((scores[:, :-1] <= scores[:, 1:]).any(axis=1))
    order = np.lexsort((found[wrong], -scores[wrong]), axis=1)
    rows = found.copy()
    rows[wrong] = np.take_along_axis(found[wrong], order, axis=1)
    scores[wrong] = np.take_along_axis(scores[wrong], order, axis=1)
    return rows, scores


def _falls(scores: np.ndarray) -> bool:
    """Whether each score is below the one before, without an equal."""
    # After a search that emptied the caches, a single query notices each call of numpy.
    if len(scores) == 1 and scores.size < FEW:
        values = scores[0].tolist()
        return all(map(gt, values, values[1:]))
    return bool((scores[:, :-1] > scores[:, 1:]).all())


def scan_rows(queries: np.ndarray, vectors: Rows, k: int, rows: np.ndarray, excluded: Excluded) -> Hits:
    """`exact_search` among these rows alone (int64 ``(M,)``, rising)."""
    place = np.searchsorted(rows, excluded.row)
    among = np.flatnonzero(np.append(rows, -1)[place] == excluded.row)
    kept = Excluded(excluded.query[among], place[among])
    hits = exact_search(queries, vectors[rows], k, exclude=kept)
    return Hits(np.append(rows, -1)[hits.rows], hits.scores)


def _scan(queries: np.ndarray, vectors: np.ndarray, k: int, excluded: Excluded) -> Hits:
    """A matrix product finds the candidates; `rank_pairs` scores and orders them.

    The product and `similarity` each stand at most D·2⁻²⁴ from the true value (unit vectors), so that
    nothing among the k best scores less than the k-th product minus twice their sum.
    """
    count, dimension = vectors.shape
    scores = queries @ vectors.T
    scores[excluded.query, excluded.row] = -np.inf
    depth = min(k, count)
    if depth == 0:
        return rank_pairs(queries, vectors, k, np.empty(0, np.int64), np.empty(0, np.int64))
    kth = np.partition(scores, count - depth, axis=1)[:, count - depth]
    margin = np.float32(2 * dimension * np.finfo(np.float32).eps)
    query, row = np.nonzero((scores >= kth[:, None] - margin) & (scores > -np.inf))
    return rank_pairs(queries, vectors, k, query, row)
