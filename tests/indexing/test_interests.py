"""Several vectors a person: the list is that of the best of them, exact where the index is."""

from __future__ import annotations

import numpy as np
import pytest

from indexing.excluded import Excluded
from indexing.hits import Hits
from indexing.index import ItemIndex
from indexing.interests import search_interests, similarities
from indexing.vectors import unit

COUNT = 600
VECTORS = unit(np.random.default_rng(1).normal(size=(COUNT, 16)))
QUERIES = unit(np.random.default_rng(2).normal(size=(20 * 3, 16))).reshape(20, 3, 16)
SEEN = [np.random.default_rng(n).permutation(COUNT)[: 5 * n] for n in range(20)]


def best(bonus: np.ndarray | None = None, k: int = 10) -> Hits:
    """The largest of three inner products, one person and one interest at a time."""
    scores = np.full((20, COUNT), -np.inf, np.float32)
    for person, interests in enumerate(QUERIES):
        for query in interests:
            scores[person] = np.maximum(scores[person], VECTORS @ query)
    if bonus is not None:
        scores += bonus
    for person, rows in enumerate(SEEN):
        scores[person, rows] = -np.inf
    return Hits.top(scores, k)


def test_exact_against_every_item_and_every_interest() -> None:
    index = ItemIndex.from_arrays(range(COUNT), VECTORS, kind="Flat")
    hits = search_interests(index, QUERIES, 10, exclude=SEEN)
    np.testing.assert_array_equal(hits.rows, best().rows)
    np.testing.assert_allclose(hits.scores, best().scores, atol=1e-6)
    pairs = Excluded(np.repeat(np.arange(20), [len(rows) for rows in SEEN]), np.concatenate(SEEN))
    np.testing.assert_array_equal(search_interests(index, QUERIES, 10, exclude=pairs).rows, hits.rows)


@pytest.mark.parametrize("strength", [0.1, 3.0])
def test_a_bonus_is_added_to_the_best(strength: float) -> None:
    rng = np.random.default_rng(3)
    bonus = (strength * rng.random(COUNT) * (rng.random(COUNT) < 0.3)).astype(np.float32)
    index = ItemIndex.from_arrays(range(COUNT), VECTORS, kind="Flat")
    hits = search_interests(index, QUERIES, 60, exclude=SEEN, bonus=bonus).first(10)
    np.testing.assert_array_equal(hits.rows, best(bonus).rows)
    np.testing.assert_allclose(hits.scores, best(bonus).scores, atol=1e-6)


@pytest.mark.parametrize("kind", ["HNSW16", "IVF8,Flat"])
def test_what_an_approximate_index_finds_has_exact_scores(kind: str) -> None:
    """As many as it finds for one vector, or more, and the score is of the nearest interest, whichever found it."""
    index = ItemIndex.from_arrays(range(COUNT), VECTORS, kind=kind)
    hits = search_interests(index, QUERIES, 10, exclude=SEEN)
    exact = best()
    found = np.mean([len(set(ours) & set(truth)) / 10 for ours, truth in zip(hits.rows, exact.rows, strict=True)])
    assert found >= min(index.recall(QUERIES.reshape(-1, 16), 10), 0.99) - 0.05
    products = np.einsum("bkd,bnd->bkn", QUERIES, VECTORS[hits.rows]).max(axis=1)
    np.testing.assert_allclose(hits.scores, products, atol=1e-6)
    assert all(len(set(rows)) == 10 for rows in hits.rows)
    assert not any(set(rows) & set(seen.tolist()) for rows, seen in zip(hits.rows.tolist(), SEEN, strict=True))


def test_one_interest_is_one_query_to_the_bit() -> None:
    index = ItemIndex.from_arrays(range(COUNT), VECTORS, kind="Flat")
    first = np.ascontiguousarray(QUERIES[:, 0])
    plain = index.search(first, 10, exclude=SEEN)
    for queries in (first, first[:, None], np.stack([first, first], axis=1)):
        hits = search_interests(index, queries, 10, exclude=SEEN)
        assert hits.rows.tobytes() == plain.rows.tobytes()
        assert hits.scores.tobytes() == plain.scores.tobytes()


def test_a_case_done_by_hand() -> None:
    """Row 0 is near to one interest, row 1 to the other, row 2 to both, once; equal scores go to the lower row."""
    vectors = np.array([[1, 0], [0, 1], [0.6, 0.8], [-1, 0]], np.float32)
    queries = np.array([[[1, 0], [0, 1]]], np.float32)
    index = ItemIndex.from_arrays(list("abcd"), vectors)
    hits = search_interests(index, queries, 5)
    assert hits.rows.tolist() == [[0, 1, 2, 3, -1]]
    np.testing.assert_allclose(hits.scores, [[1, 1, 0.8, 0, -np.inf]], rtol=1e-6)
    assert search_interests(index, queries, 2, exclude=[[0]]).rows.tolist() == [[1, 2]]
    np.testing.assert_allclose(similarities(queries, vectors), [[1, 1, 0.8, 0]], rtol=1e-6)
    np.testing.assert_allclose(similarities(queries[:, 0], vectors), [[1, 0, 0.6, -1]], rtol=1e-6)
