import faiss
import numpy as np
import pytest

from indexing import approximate
from indexing.index import ItemIndex
from indexing.vectors import check_items, check_vectors, similarity, similarity_found, unit
from towers.errors import InputError


def eye(count):
    return np.eye(count, dtype=np.float32)


def with_row(row, value):
    vectors = eye(4)
    vectors[row] = value
    return vectors


def test_unit_scales_rows_to_length_one():
    found = unit(np.array([[3, 4], [0, -2]], np.int64))
    np.testing.assert_array_equal(found, np.array([[0.6, 0.8], [0, -1]], np.float32))
    assert check_vectors(found) is found


def test_unit_keeps_the_direction_of_huge_and_tiny_rows():
    np.testing.assert_allclose(unit(np.array([[3e30, 4e30], [3e-30, 4e-30]], np.float32)), [[0.6, 0.8]] * 2, rtol=1e-6)


@pytest.mark.parametrize(
    ("vectors", "reason"),
    [
        (np.zeros((2, 3)), "2 of 2 vectors are all zeros and have no direction; the first is row 0"),
        (np.array([[1.0, 0], [np.nan, 0]]), "1 of 2 vectors have values that are not finite; the first is row 1"),
        (np.ones(3), "must be .N, D."),
    ],
)
def test_unit_refuses_rows_without_a_direction(vectors, reason):
    with pytest.raises(InputError, match=reason):
        unit(vectors)


@pytest.mark.parametrize(
    ("vectors", "reason"),
    [
        ([[1.0, 0.0]], "got list"),
        (np.eye(2), "got float64"),
        (eye(2)[0], "got the shape .2,."),
        (np.empty((3, 0), np.float32), "D at least 1"),
        (eye(3), "3 dimensions, expected 4"),
        (np.asfortranarray(eye(4)), "C-contiguous"),
        (with_row(2, np.nan), "1 of 4 vectors have values that are not finite; the first is row 2"),
        (with_row(1, np.inf), "1 of 4 vectors have values that are not finite; the first is row 1"),
        (with_row(3, 0), "1 of 4 vectors are all zeros; the first is row 3"),
        (with_row(0, 0.6), "1 of 4 vectors are not of length one; .* the first is row 0"),
        (with_row(0, 3e30), "1 of 4 vectors are not of length one"),
        (eye(4) * np.float32(1.002), "4 of 4 vectors are not of length one"),
    ],
)
def test_vectors_that_cannot_be_compared_are_refused(vectors, reason):
    with pytest.raises(InputError, match=reason):
        check_vectors(vectors, 4)


def test_small_rounding_and_no_rows_pass():
    assert len(check_vectors(eye(4) * np.float32(1.0009), 4)) == 4
    assert len(check_vectors(np.empty((0, 4), np.float32), 4)) == 0


@pytest.mark.parametrize(("rows", "repeats"), [([0], 0), ([0, 1, 2], 0), ([0, 1, 0, 2, 0], 2), ([0, 0, 1, 1], 2)])
def test_a_few_repeats_are_counted(rows, repeats):
    assert check_items(np.ascontiguousarray(eye(4)[rows])) == repeats


@pytest.mark.parametrize(("rows", "repeats"), [([0, 0], 1), ([3] * 9, 8), ([0, 0, 0, 1, 1], 3)])
def test_a_collapsed_tower_is_refused(rows, repeats):
    with pytest.raises(InputError, match=f"{repeats} of {len(rows)} vectors are exact copies"):
        check_items(np.ascontiguousarray(eye(4)[rows]))


def test_an_empty_catalog_is_refused():
    with pytest.raises(InputError, match="no vectors to index"):
        check_items(np.empty((0, 4), np.float32))


def test_similarity_of_pairs_beyond_one_chunk():
    generator = np.random.default_rng(0)
    queries, vectors = unit(generator.normal(size=(7, 5))), unit(generator.normal(size=(90, 5)))
    query, row = generator.integers(7, size=40_000), generator.integers(90, size=40_000)
    expected = (queries.astype(float) @ vectors.T.astype(float))[query, row]
    found = similarity(queries, vectors, query, row)
    np.testing.assert_allclose(found, expected, atol=5e-7)
    assert (similarity(queries, vectors, query[-1:], row[-1:]) == found[-1:]).all()


@pytest.mark.parametrize("kind", ["IVF4,Flat", "IVF4,PQ1x4fsr,RFlat"])
@pytest.mark.parametrize("dimension", [2, 3, 16, 31, 64, 100, 384])
def test_similarity_has_the_bits_of_kinds_that_compare_vector_by_vector(kind, dimension):
    """On which `indexing.card.Finder` relies: it takes their scores as they are."""
    generator = np.random.default_rng(dimension)
    queries, vectors = unit(generator.normal(size=(50, dimension))), unit(generator.normal(size=(900, dimension)))
    scores, rows = approximate.build(kind, vectors).search(queries, 20)
    scores[rows < 0] = -np.inf  # a list may hold fewer
    assert (rows >= 0).mean() > 0.8
    found = similarity_found(queries, vectors, rows)
    np.testing.assert_array_equal(found, scores)
    each = similarity(queries, vectors, np.repeat(np.arange(50), 20), rows.ravel())
    np.testing.assert_array_equal(found.ravel(), each)
    expected = np.where(rows < 0, -np.inf, np.vecdot(queries[:, None], vectors[rows]))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["Flat", "IVF16,Flat", "IVF16,PQ8x4fsr,RFlat", "HNSW8"])
@pytest.mark.parametrize("threads", [1, 4])
def test_scores_do_not_depend_on_threads_or_company(kind, threads):
    """FAISS compares few queries with 10,000 vectors and more in another order where there are several threads."""
    generator = np.random.default_rng(0)
    queries, vectors = unit(generator.normal(size=(40, 16))), unit(generator.normal(size=(12_000, 16)))
    index = ItemIndex.from_arrays(range(12_000), vectors, kind=kind)
    before = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(threads)
        together = index.search(queries, 10)
        alone = [index.search(queries[n : n + 1], 10) for n in range(40)]
    finally:
        faiss.omp_set_num_threads(before)
    np.testing.assert_array_equal(np.concatenate([one.scores for one in alone]), together.scores)
    np.testing.assert_array_equal(np.concatenate([one.rows for one in alone]), together.rows)
    each = similarity(queries, vectors, np.repeat(np.arange(40), 10), together.rows.ravel())
    np.testing.assert_array_equal(together.scores.ravel(), each)


def test_similarity_of_strided_and_read_only_arrays():
    generator = np.random.default_rng(0)
    vectors = unit(generator.normal(size=(20, 8)))
    query, row = np.arange(10), np.arange(10)[::-1]
    expected = np.vecdot(vectors[query], vectors[row])
    vectors.flags.writeable = False
    np.testing.assert_allclose(similarity(vectors, vectors, query, row), expected, atol=1e-6)
    np.testing.assert_allclose(similarity(vectors, np.asfortranarray(vectors), query, row), expected, atol=1e-6)
    assert similarity_found(vectors[:1], vectors, np.array([[0, -1]])).tolist() == [[pytest.approx(1), -np.inf]]


def test_what_does_not_fit_is_refused_and_not_read():
    with pytest.raises(InputError, match=r"2 queries of 4 dimensions do not fit vectors of 3"):
        similarity(eye(4)[:2], eye(3), np.zeros(2, int), np.zeros(2, int))
    with pytest.raises(InputError, match=r"2 queries of 4 dimensions do not fit vectors of 3"):
        similarity_found(eye(4)[:2], eye(3), np.zeros((2, 1), int))
    with pytest.raises(InputError, match=r"rows were found for 3 queries, and there are 2"):
        similarity_found(eye(4)[:2], eye(4), np.zeros((3, 1), int))
    with pytest.raises(InputError, match=r"there are 1 queries for 2 rows"):
        similarity(eye(4), eye(4), np.zeros(1, int), np.zeros(2, int))
    with pytest.raises(InputError, match="there is no row 4 among 4 vectors"):
        similarity(eye(4), eye(4), np.array([4]), np.zeros(1, int))


def test_a_row_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="there is no row 4 among 4 vectors"):
        similarity(eye(4), eye(4), np.zeros(2, int), np.array([3, 4]))
    with pytest.raises(InputError, match=r"there is no row 1000000000000 among 4 vectors"):
        similarity_found(eye(4)[:1], eye(4), np.array([[0, 10**12]]))
