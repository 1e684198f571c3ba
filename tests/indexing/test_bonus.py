"""A bonus beside the inner product: exact scores, nothing that is excluded, and what it reaches is said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from indexing.hits import Hits
from indexing.index import ItemIndex
from indexing.vectors import unit
from towers.errors import InputError


@pytest.fixture
def vectors() -> np.ndarray:
    return unit(np.random.default_rng(1).normal(size=(300, 16)))


@pytest.fixture
def queries() -> np.ndarray:
    return unit(np.random.default_rng(2).normal(size=(20, 16)))


@pytest.mark.parametrize("kind", ["Flat", "HNSW32", "IVF4,Flat"])
@pytest.mark.parametrize("strength", [0.1, 3.0])
def test_the_best_by_the_sum(vectors: np.ndarray, queries: np.ndarray, kind: str, strength: float) -> None:
    rng = np.random.default_rng(3)
    bonus = (strength * rng.random(300) * (rng.random(300) < 0.3)).astype(np.float32)
    seen = [rng.permutation(300)[: 3 * n] for n in range(20)]
    index = ItemIndex.from_arrays(range(300), vectors, kind=kind)
    hits = index.search(queries, 40, exclude=seen, bonus=bonus)
    sums = queries @ vectors.T + bonus
    for n, rows in enumerate(seen):
        sums[n, rows] = -np.inf
    expected = Hits.top(sums, 10)
    np.testing.assert_array_equal(hits.rows[:, :10], expected.rows)
    np.testing.assert_allclose(hits.scores[:, :10], expected.scores, atol=1e-6)


def test_a_case_done_by_hand() -> None:
    """Row 2 is second by cosine and gains nothing, row 1 is last and gains most; row 0 is barred."""
    index = ItemIndex.from_arrays(list("abcd"), np.array([[1, 0], [0, 1], [0.8, 0.6], [0.6, 0.8]], np.float32))
    bonus = np.array([5, 0.75, 0, 0.5], np.float32)
    hits = index.search(np.array([[1, 0]], np.float32), 3, exclude=[[0]], bonus=bonus)
    np.testing.assert_array_equal(hits.rows, [[3, 2, 1]])
    np.testing.assert_allclose(hits.scores, [[1.1, 0.8, 0.75]], rtol=1e-6)
    assert index.search(np.array([[1, 0]], np.float32), 1, exclude=[[0]], bonus=bonus).rows.tolist() == [[2]]


def test_a_bonus_for_nobody_changes_nothing(vectors: np.ndarray, queries: np.ndarray) -> None:
    index = ItemIndex.from_arrays(range(300), vectors)
    plain, none = index.search(queries, 7), index.search(queries, 7, bonus=np.zeros(300, np.float32))
    np.testing.assert_array_equal(plain.rows, none.rows)
    np.testing.assert_array_equal(plain.scores, none.scores)


@pytest.mark.parametrize(
    ("bonus", "words"),
    [
        (np.zeros(299, np.float32), r"float32 \(300,\), got float32 \(299,\)"),
        (np.zeros(300), "got float64"),
        (np.full(300, -1, np.float32), "at least 0"),
        (np.full(300, np.nan, np.float32), "finite"),
    ],
)
def test_what_is_no_bonus_is_refused(vectors: np.ndarray, queries: np.ndarray, bonus: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        ItemIndex.from_arrays(range(300), vectors).search(queries, 3, bonus=bonus)
