"""Similarity: the inner product of unit vectors, decided here and nowhere else."""

from __future__ import annotations

import hashlib
from typing import Any, Protocol

import numpy as np

from indexing.library import library
from towers.errors import InputError

UNIT_TOLERANCE = 1e-3
_NEAREST, _FARTHEST = (1 - UNIT_TOLERANCE) ** 2, (1 + UNIT_TOLERANCE) ** 2
_FLOAT32 = np.dtype(np.float32)
PAIRS_AT_ONCE = 16_384
ROWS_AT_ONCE = 2**14  # vectors
FEW = 64  # numbers that Python compares sooner than numpy is called


class Rows(Protocol):
    """Vectors by row: an array, or what fetches them from where they are."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any: ...


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length one, float32 ``(N, D)``, C-contiguous.

    Args:
        vectors: real numbers ``(N, D)``.

    Raises:
        InputError: not ``(N, D)``, or a row that has no direction: all zeros, or not finite.
    """
    rows = np.asarray(vectors)
    if rows.ndim != 2:
        raise InputError(f"vectors must be (N, D), got the shape {rows.shape}")
    scaled, norms, finite = np.empty(rows.shape, np.float32), np.empty(len(rows)), np.empty(len(rows), bool)
    for start in range(0, len(rows), ROWS_AT_ONCE):  # in float64, of which all of a file would not fit beside it
        block = slice(start, start + ROWS_AT_ONCE)
        wide = rows[block].astype(np.float64)
        finite[block] = np.isfinite(wide).all(axis=1)
        norms[block] = np.linalg.norm(wide, axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):  # refused below
            scaled[block] = wide / norms[block, None]
    _refuse(~finite, "have values that are not finite")
    _refuse(norms == 0, "are all zeros and have no direction")
    return scaled


def check_vectors(vectors: np.ndarray, dimension: int | None = None) -> np.ndarray:
    """`vectors`, unchanged, if they can be compared: finite float32 ``(N, D)`` rows of length one, C-contiguous.

    Args:
        vectors: the array to check; lengths may be off by `UNIT_TOLERANCE`.
        dimension: the D they must have.

    Raises:
        InputError: anything else, with how many rows are at fault and which is the first.
    """
    if not isinstance(vectors, np.ndarray) or vectors.dtype != _FLOAT32:
        found = vectors.dtype if isinstance(vectors, np.ndarray) else type(vectors).__name__
        raise InputError(f"vectors must be a float32 array, got {found}; indexing.vectors.unit makes one")
    if vectors.ndim != 2 or vectors.shape[1] == 0:
        raise InputError(f"vectors must be (N, D) with D at least 1, got the shape {vectors.shape}")
    if dimension is not None and vectors.shape[1] != dimension:
        raise InputError(f"vectors have {vectors.shape[1]} dimensions, expected {dimension}")
    if not vectors.flags.c_contiguous:
        raise InputError("vectors must be C-contiguous, got a strided view; numpy.ascontiguousarray copies it")
    # Neither is so with a NaN. One vector alone goes the short way: a single query notices each step.
    if len(vectors) == 1 and _NEAREST <= np.dot(one := vectors[0], one) <= _FARTHEST:
        return vectors
    with np.errstate(over="ignore", invalid="ignore"):  # refused below
        squares = np.vecdot(vectors, vectors)
    if len(vectors) and squares.min() >= _NEAREST and squares.max() <= _FARTHEST:
        return vectors
    _refuse(~np.isfinite(vectors).all(axis=1), "have values that are not finite")
    norms = np.sqrt(squares)
    _refuse(norms == 0, "are all zeros")
    _refuse(np.abs(norms - 1) > UNIT_TOLERANCE, "are not of length one; indexing.vectors.unit scales them")
    return vectors


def check_items(vectors: np.ndarray, dimension: int | None = None) -> int:
    """Check the vectors of a catalog as `check_vectors` does, and count the rows that repeat an earlier one.

    A few repeats are honest (two items with the same text) and are only counted. Where more than half
    of the rows repeat another, or all are the same, the tower has collapsed or the wrong column was
    embedded, and every search would look fine and mean nothing: that is refused.

    Returns:
        How many rows are equal, bit for bit, to an earlier row.

    Raises:
        InputError: no rows, rows that `check_vectors` refuses, or too many repeats.
    """
    count = len(check_vectors(vectors, dimension))
    if count == 0:
        raise InputError("there are no vectors to index, expected at least one")
    copies = repeats(vectors)
    if 2 * copies > count or (copies and copies == count - 1):
        raise InputError(
            f"{copies} of {count} vectors are exact copies of another, so items cannot be told apart: "
            "look at the texts and the model that the vectors came from"
        )
    return copies


def repeats(vectors: np.ndarray) -> int:
    """How many rows of float32 ``(N, D)`` are equal, bit for bit, to an earlier row."""
    digests = np.fromiter((_digest(row) for row in vectors), np.uint64, len(vectors))
    ordered = np.sort(digests)
    alike = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    rows = np.flatnonzero(np.isin(digests, alike))  # few, so that only they are compared bit for bit
    return len(rows) - len({vectors[row].tobytes() for row in rows})


def _digest(row: np.ndarray) -> int:
    return int.from_bytes(hashlib.blake2b(row.data, digest_size=8).digest(), "little")


def similarity(queries: np.ndarray, vectors: Rows, query: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Inner products of pairs, float32 ``(P,)``: ``queries[query[p]] · vectors[row[p]]``.

    FAISS sums each pair on its own, so that its score depends neither on what else is asked at the same time, as in a
    matrix product, nor on who sums: an index of kind ``IVF…,Flat`` or ``…,RFlat`` has the same bits.

    Args:
        queries: float32 ``(B, D)``.
        vectors: float32 ``(N, D)``.
        query, row: int64 ``(P,)``; a row of -1 is none, and scores -inf.

    Raises:
        InputError: a row of N or beyond, or arrays that do not fit together.
    """
    if isinstance(vectors, np.ndarray) and vectors.flags.c_contiguous:
        return _similarity(queries, vectors, query, row)
    parts = [slice(start, start + PAIRS_AT_ONCE) for start in range(0, len(row), PAIRS_AT_ONCE)]
    fetched = (_similarity(queries, vectors[row[part]], query[part], np.arange(len(row[part]))) for part in parts)
    return np.concatenate([np.empty(0, np.float32), *fetched])


def _similarity(queries: np.ndarray, vectors: np.ndarray, query: np.ndarray, row: np.ndarray) -> np.ndarray:
    _refuse_unfit(queries, vectors)
    _refuse_beyond(query, queries)
    _refuse_beyond(row, vectors)
    if len(query) != len(row):
        raise InputError(f"there are {len(query)} queries for {len(row)} rows")
    faiss, scores = library(), np.empty(len(row), np.float32)
    arrays = [np.ascontiguousarray(array) for array in (queries, query, vectors, row)]
    pointers = [faiss.swig_ptr(array) for array in (*arrays, scores)]
    faiss.pairwise_indexed_inner_product(queries.shape[1], len(row), *pointers)
    return scores


def similarity_found(queries: np.ndarray, vectors: np.ndarray, found: np.ndarray) -> np.ndarray:
    """`similarity` of each query with the rows found for it, float32 ``(B, K)``; -inf where the row is -1.

    Args:
        queries: float32 ``(B, D)``.
        vectors: float32 ``(N, D)``.
        found: int64 ``(B, K)`` rows, or -1.

    Raises:
        InputError: a row of N or beyond, or arrays that do not fit together.
    """
    _refuse_unfit(queries, vectors)
    _refuse_beyond(found, vectors)
    if len(found) != len(queries):
        raise InputError(f"rows were found for {len(found)} queries, and there are {len(queries)}")
    faiss, scores = library(), np.empty(found.shape, np.float32)
    pointers = [faiss.swig_ptr(array) for array in (scores, queries, vectors, found)]
    faiss.fvec_inner_products_by_idx(*pointers, queries.shape[1], *found.shape)
    return scores


def _refuse_unfit(queries: np.ndarray, vectors: np.ndarray) -> None:
    """FAISS is given addresses, and reads whatever lies beyond."""
    if queries.shape[1] != vectors.shape[1]:
        said = f"{len(queries)} queries of {queries.shape[1]} dimensions do not fit vectors of {vectors.shape[1]}"
        raise InputError(said)


def _refuse_beyond(rows: np.ndarray, vectors: np.ndarray) -> None:
    if np.maximum.reduce(rows, axis=None, initial=-1) >= len(vectors):
        raise InputError(f"there is no row {rows.max()} among {len(vectors)} vectors")


def least(rows: np.ndarray) -> int:
    """The least of int64 rows, in few steps, as a single query notices each; 0 where there are none."""
    if 0 < rows.size < FEW:
        return min(rows.ravel().tolist())
    return np.minimum.reduce(rows, axis=None, initial=0)


def _refuse(bad: Any, fault: str) -> None:
    if bad.any():
        raise InputError(f"{bad.sum()} of {len(bad)} vectors {fault}; the first is row {bad.argmax()}")
