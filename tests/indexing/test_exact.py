import faiss
import numpy as np
import pytest

from indexing import exact
from indexing.exact import exact_search
from indexing.excluded import Excluded
from indexing.hits import Hits
from indexing.vectors import similarity, unit
from towers.errors import InputError


@pytest.fixture
def vectors():
    return unit(np.random.default_rng(1).normal(size=(300, 24)))


@pytest.fixture
def queries():
    return unit(np.random.default_rng(2).normal(size=(40, 24)))


def test_a_case_done_by_hand():
    vectors = np.array([[1, 0], [0, 1], [0.6, 0.8], [0.8, 0.6]], np.float32)
    hits = exact_search(np.array([[1, 0], [0, 1]], np.float32), vectors, 3)
    np.testing.assert_array_equal(hits.rows, [[0, 3, 2], [1, 2, 3]])
    np.testing.assert_array_equal(hits.scores, np.array([[1, 0.8, 0.6], [1, 0.8, 0.6]], np.float32))


def test_agrees_with_faiss_and_with_float64(vectors, queries):
    hits = exact_search(queries, vectors, 10)
    flat = faiss.IndexFlatIP(24)
    flat.add(vectors)
    scores, rows = flat.search(queries, 10)
    np.testing.assert_array_equal(hits.rows, rows)
    np.testing.assert_allclose(hits.scores, scores, atol=5e-7)
    true = np.sort(queries.astype(float) @ vectors.T.astype(float), axis=1)[:, ::-1]
    np.testing.assert_allclose(hits.scores, true[:, :10], atol=5e-7)


def test_equal_scores_go_to_the_lower_row_also_at_the_last_place(vectors, queries):
    thrice = np.concatenate([vectors, vectors, vectors])
    hits = exact_search(queries, thrice, 4)
    once = exact_search(queries, vectors, 2).rows
    first, second = once[:, :1], once[:, 1:]
    np.testing.assert_array_equal(hits.rows, np.hstack([first, first + 300, first + 600, second]))


def test_rounding_of_the_matrix_product_costs_no_place(queries):
    near_copies = unit(queries[:1] + 1e-7 * np.random.default_rng(3).normal(size=(500, 24)))
    hits = exact_search(queries, near_copies, 10)
    each, every = np.divmod(np.arange(len(queries) * 500), 500)
    expected = Hits.top(similarity(queries, near_copies, each, every).reshape(-1, 500), 10)
    np.testing.assert_array_equal(hits.rows, expected.rows)
    np.testing.assert_array_equal(hits.scores, expected.scores)


def test_blocks_change_nothing(vectors, queries, monkeypatch):
    exclude = [np.arange(n) for n in range(40)]
    whole = exact_search(queries, vectors, 7, exclude=exclude)
    monkeypatch.setattr(exact, "SCORES_AT_ONCE", 900)
    blocks = exact_search(queries, vectors, 7, exclude=exclude)
    np.testing.assert_array_equal(blocks.rows, whole.rows)
    np.testing.assert_array_equal(blocks.scores, whole.scores)


def test_excluded_rows_make_way_for_the_next(vectors, queries):
    full = exact_search(queries, vectors, 300)
    seen = full.rows[:, :5]
    for exclude in (seen, list(seen), Excluded(np.repeat(np.arange(40), 5)[::-1], seen.ravel()[::-1])):
        hits = exact_search(queries, vectors, 10, exclude=exclude)
        np.testing.assert_array_equal(hits.rows, full.rows[:, 5:15])
        np.testing.assert_array_equal(hits.scores, full.scores[:, 5:15])


def test_fewer_than_k(vectors, queries):
    hits = exact_search(queries, vectors[:3], 5, exclude=[[0, 0, 2, -1]] * 39 + [[0, 1, 2]])
    np.testing.assert_array_equal(hits.rows, [[1, -1, -1, -1, -1]] * 39 + [[-1] * 5])
    assert exact_search(queries[:0], vectors, 5).rows.shape == (0, 5)
    assert (exact_search(queries, vectors[:0], 5).rows == -1).all()


@pytest.mark.parametrize(
    ("exclude", "reason"),
    [
        ([[0]], "one list of rows for each of 40 queries, got 1"),
        ([[0.5]] * 40, "integer rows"),
        ([[[0]]] * 40, "integer rows"),
        ([[300]] * 40, "rows 300 to 300, the index has 300"),
        ([[-2]] * 40, "rows -2 to -2"),
        (Excluded(np.array([40]), np.array([0])), "queries 40 to 40, there are 40"),
        (Excluded(np.array([0, 1]), np.array([0])), "2 queries for 1 rows"),
    ],
)
def test_exclusions_that_cannot_be_meant_are_refused(vectors, queries, exclude, reason):
    with pytest.raises(InputError, match=reason):
        exact_search(queries, vectors, 5, exclude=exclude)


def test_queries_of_another_dimension_and_k_of_zero_are_refused(vectors, queries):
    with pytest.raises(InputError, match="24 dimensions, expected 20"):
        exact_search(queries, np.ascontiguousarray(vectors[:, :20]), 5)
    with pytest.raises(InputError, match="k must be at least 1, got 0"):
        exact_search(queries, vectors, 0)
