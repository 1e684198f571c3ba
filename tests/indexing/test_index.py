import functools
import subprocess
import sys

import numpy as np
import pytest

from indexing import approximate, nearest
from indexing.exact import exact_search
from indexing.index import ItemIndex
from indexing.library import library
from indexing.vectors import unit
from towers.errors import InputError, MissingExtraError

COUNT, DIMENSION = 2000, 32
RECALL = {  # kind: recall@10 that it must reach on this data
    "Flat": 1.0,
    "HNSW32": 0.98,
    "IVF16,Flat": 0.98,
    "IVF16,PQ8x4fsr,RFlat": 0.95,
    "IVF16,PQ16x4fsr": 0.35,
    "SQ8": 0.93,
    "PCA16,Flat": 0.35,
}


def clustered(count, seed):
    """Sixty clouds of points, as catalogs have genres."""
    centres = np.random.default_rng(0).normal(size=(60, DIMENSION))
    generator = np.random.default_rng(seed)
    return unit(centres[generator.integers(60, size=count)] + 0.5 * generator.normal(size=(count, DIMENSION)))


VECTORS, QUERIES = clustered(COUNT, 1), clustered(100, 2)  # so many that FAISS multiplies matrices
TRUE = QUERIES.astype(float) @ VECTORS.T.astype(float)


@functools.cache
def built(kind):
    return ItemIndex.from_arrays([f"item {row}" for row in range(COUNT)], VECTORS, kind=kind)


@pytest.fixture(params=RECALL)
def index(request):
    return built(request.param)


def small(count=20, kind="Flat", **options):
    return ItemIndex.from_arrays(range(count), np.eye(count, dtype=np.float32), kind=kind, **options)


# Every kind


def test_scores_are_the_true_ones_and_fall_and_enough_of_the_best_are_found(index):
    hits = index.search(QUERIES, 10)
    assert (hits.rows >= 0).all()
    np.testing.assert_allclose(hits.scores, np.take_along_axis(TRUE, hits.rows, axis=1), atol=5e-7)
    best = np.argsort(-TRUE, axis=1)[:, :10]
    found = np.mean([len(set(mine) & set(true)) / 10 for mine, true in zip(hits.rows, best, strict=True)])
    assert found >= RECALL[index.kind]
    assert index.recall(QUERIES, 10) == pytest.approx(found, abs=1e-9)


def test_scores_equal_those_of_exact_search_bit_for_bit(index):
    hits, exact = index.search(QUERIES, 10), exact_search(QUERIES, VECTORS, COUNT)
    for query in range(len(QUERIES)):
        score = dict(zip(exact.rows[query], exact.scores[query], strict=True))
        assert [score[row] for row in hits.rows[query]] == list(hits.scores[query])


def test_a_batch_equals_single_queries(index):
    exclude = [np.arange(5 * query) for query in range(len(QUERIES))]
    for barred in (exclude, [[]] * len(QUERIES)):
        batch = index.search(QUERIES, 10, exclude=barred)
        for query in range(len(QUERIES)):
            single = index.search(QUERIES[query : query + 1], 10, exclude=barred[query : query + 1])
            np.testing.assert_array_equal(single.rows[0], batch.rows[query])
            np.testing.assert_array_equal(single.scores[0], batch.scores[query])


def test_faiss_multiplies_matrices_for_batches_unless_told_otherwise():
    faiss = library()
    assert faiss.cvar.distance_compute_blas_threshold == 2_048
    try:
        faiss.cvar.distance_compute_blas_threshold = 5
        assert library().cvar.distance_compute_blas_threshold == 5
    finally:
        faiss.cvar.distance_compute_blas_threshold = 2_048


def test_exclusion_never_costs_a_place_however_few_are_left(index):
    generator = np.random.default_rng(3)
    left = [1, 2, 9, 10, 11, 100, 1000, 1500, 1900, 1990] * 10
    allowed = [generator.permutation(COUNT)[:count] for count in left]
    exclude = [np.setdiff1d(np.arange(COUNT), rows) for rows in allowed]
    hits = index.search(QUERIES, 10, exclude=exclude)
    exact = exact_search(QUERIES, VECTORS, 10, exclude=exclude)
    for query, count in enumerate(left):
        found = hits.rows[query][hits.rows[query] >= 0]
        assert len(set(found)) == min(10, count)
        assert set(found) <= set(allowed[query])
        if count <= 10 or index.kind == "Flat":
            np.testing.assert_array_equal(hits.rows[query], exact.rows[query])
            np.testing.assert_array_equal(hits.scores[query], exact.scores[query])


def test_excluding_the_best_gives_the_next(index):
    first = index.search(QUERIES, 20)
    again = index.search(QUERIES, 20, exclude=first.rows)
    assert not (first.rows[:, :, None] == again.rows[:, None, :]).any()
    assert (again.rows >= 0).all()
    gained = again.scores[:, 0] - exact_search(QUERIES, VECTORS, 1, exclude=first.rows).scores[:, 0]
    assert (gained <= 0).all()
    assert np.mean(gained == 0) >= RECALL[index.kind] - 0.1


def test_everything_excluded_leaves_nothing(index):
    hits = index.search(QUERIES[:2], 3, exclude=[np.arange(COUNT)] * 2)
    np.testing.assert_array_equal(hits.rows, [[-1] * 3] * 2)


def test_more_than_there_are(index):
    hits = index.search(QUERIES[:3], COUNT + 7)
    exact = exact_search(QUERIES[:3], VECTORS, COUNT)
    np.testing.assert_array_equal(hits.rows[:, :COUNT], exact.rows)
    np.testing.assert_array_equal(hits.scores[:, :COUNT], exact.scores)
    assert (hits.rows[:, COUNT:] == -1).all()


def test_neighbours_leave_the_item_itself_out(index):
    hits = index.search_ids(["item 7", "item 1999", "item 7"], 10)
    assert (hits.rows >= 0).all()
    assert not (hits.rows == [[7], [1999], [7]]).any()
    np.testing.assert_array_equal(hits.rows[0], hits.rows[2])
    own = VECTORS[[7, 1999, 7]].astype(float) @ VECTORS.T.astype(float)
    np.testing.assert_allclose(hits.scores, np.take_along_axis(own, hits.rows, axis=1), atol=5e-7)


def test_saved_and_loaded_it_answers_the_same(index, tmp_path):
    index.save(tmp_path / "index")
    again = ItemIndex.load(tmp_path / "index")
    assert (again.ids, again.kind, again.parameters) == (index.ids, index.kind, index.parameters)
    np.testing.assert_array_equal(again.vectors, index.vectors)
    before, after = index.search(QUERIES, 15), again.search(QUERIES, 15)
    np.testing.assert_array_equal(after.rows, before.rows)
    np.testing.assert_array_equal(after.scores, before.scores)


def test_no_queries(index):
    assert index.search(QUERIES[:0], 4).rows.shape == (0, 4)
    with pytest.raises(InputError, match="got none"):
        index.recall(QUERIES[:0], 4)


@pytest.mark.parametrize(
    ("queries", "reason"),
    [
        (QUERIES[:, :31].copy(), "31 dimensions, expected 32"),
        (QUERIES.astype(float), "float64"),
        (QUERIES * np.float32(2), "not of length one"),
        (np.full((1, DIMENSION), np.nan, np.float32), "not finite"),
        (QUERIES[0], "must be .N, D."),
    ],
)
def test_queries_that_cannot_be_compared_are_refused(index, queries, reason):
    with pytest.raises(InputError, match=reason):
        index.search(queries, 5)


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one_is_refused(index, k):
    with pytest.raises(InputError, match=f"k must be at least 1, got {k}"):
        index.search(QUERIES, k)


@pytest.mark.parametrize("k", [2.0, "3", True, None])
def test_a_k_that_is_no_whole_number_is_refused(index, k):
    with pytest.raises(InputError, match=f"k must be a whole number, got {k!r}"):
        index.search(QUERIES, k)


def test_a_k_of_numpy_is_a_k(index):
    np.testing.assert_array_equal(index.search(QUERIES, np.int64(3)).rows, index.search(QUERIES, 3).rows)


# Ids, ties and duplicates


def test_integer_ids():
    index = ItemIndex.from_arrays([40, -3, 2**62], np.eye(3, dtype=np.float32))
    hits = index.search(np.eye(3, dtype=np.float32)[2:], 1)
    assert index.ids.take(hits.rows[0]) == [2**62]
    np.testing.assert_array_equal(index.search_ids([-3], 2).rows, [[0, 2]])


@pytest.mark.parametrize(("ids", "first"), [([1, 99], "99"), (["x"], "'x'")])
def test_neighbours_of_unknown_items_are_refused(ids, first):
    with pytest.raises(InputError, match=f"1 of {len(ids)} items are not in the index, the first is {first}"):
        small().search_ids(ids, 3)


@pytest.mark.parametrize("kind", ["Flat", "HNSW32", "IVF4,Flat"])
def test_copies_of_a_vector_are_counted_and_ranked_by_row(kind, tmp_path):
    vectors = np.concatenate([VECTORS[:400], VECTORS[:300]])
    index = ItemIndex.from_arrays(range(700), vectors, kind=kind)
    assert index.duplicates == 300
    np.testing.assert_array_equal(index.search(VECTORS[5:6], 2).rows, [[5, 405]])
    index.save(tmp_path)
    assert ItemIndex.load(tmp_path).duplicates == 300


# Building


def test_auto_scans_small_catalogs_and_codes_larger_ones(monkeypatch):
    assert small(kind="auto").kind == "Flat"
    assert (approximate.automatic_kind(65_536, 64), approximate.automatic_kind(65_537, 64)) == (
        "Flat",
        "IVF512,PQ64x4fsr,RFlat",
    )
    monkeypatch.setattr(approximate, "SCANNED", 399)
    index = small(kind="auto")
    assert index.kind == "IVF8,PQ20x4fsr,RFlat"
    np.testing.assert_array_equal(index.search(index.vectors, 1).rows[:, 0], range(20))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("nonsense", "FAISS refuses an index of kind 'nonsense' over .*vectors of 20 dimensions: could not parse"),
        ("", "could not parse"),
        ("IVF64,Flat", r"Number of training points \(20\) should be at least as large as number of clusters \(64\)"),
        ("PQ3x4", "should be a multiple"),
        ("IDMap,Flat", "add_with_ids"),
        ("HNSW0", "count of 0"),
        ("PQ4x0", "count of 0"),
        ("HNSW00", "count of 0"),
        ("HNSW1", "graph of 1 neighbour"),
        ("ZnLattice4x10_6", "cannot read again"),
        ("IVF4,FlatPanorama2", "cannot copy"),
        ("IVF99999999999999,Flat", "stoi"),
    ],
)
def test_kinds_that_faiss_cannot_build_are_refused(kind, reason):
    with pytest.raises(InputError, match=reason):
        small(kind=kind)


def test_training_on_few_vectors_is_silent(capfd):
    for kind in ("IVF16,Flat", "IVF16,PQ8x4fs,RFlat", "PCA16,IVF16,PQ4x4", "PQ8x4", "HNSW32"):
        ItemIndex.from_arrays(range(60), VECTORS[:60], kind=kind)
    assert capfd.readouterr() == ("", "")


def test_ids_and_vectors_must_fit_together():
    with pytest.raises(InputError, match="3 ids for 4 vectors"):
        ItemIndex.from_arrays([1, 2, 3], np.eye(4, dtype=np.float32))
    with pytest.raises(InputError, match="2 of 3 vectors are exact copies"):
        ItemIndex.from_arrays([1, 2, 3], np.ones((3, 1), np.float32))
    with pytest.raises(InputError, match="no vectors to index"):
        ItemIndex.from_arrays([], np.empty((0, 4), np.float32))


def test_a_kind_is_a_text():
    with pytest.raises(InputError, match=r'kind must be "auto" or a factory string of FAISS, such as "Flat", got None'):
        small(kind=None)


def test_vectors_cannot_be_changed_through_the_index():
    with pytest.raises(ValueError, match="read-only"):
        small().vectors[0, 0] = 2


# Search parameters


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("Flat", ""),
        ("HNSW32", "efSearch=128"),
        ("IVF16,Flat", "nprobe=8"),
        ("IVF4,Flat", "nprobe=4"),
        ("IVF128,Flat", "nprobe=16"),
        ("IVF16,PQ8x4fs,RFlat", "k_factor_rf=16,nprobe=8"),
        ("PCA16,IVF16,Flat", "nprobe=8"),
        ("SQ8", ""),
    ],
)
def test_defaults_favour_recall(kind, parameters):
    assert built(kind).parameters == parameters


def test_parameters_decide_recall_and_are_saved(tmp_path):
    index = ItemIndex.from_arrays(range(COUNT), VECTORS, kind="IVF64,Flat", search="nprobe=1")
    poor = index.recall(QUERIES, 10)
    index.save(tmp_path)
    assert ItemIndex.load(tmp_path).parameters == "nprobe=1"
    assert ItemIndex.load(tmp_path).recall(QUERIES, 10) == poor
    index.set_parameters("nprobe=64")
    assert poor < 0.98 < 1.0 == index.recall(QUERIES, 10)


NUMBERS = ["", "=x", "=1.2.3", "=e", "=-1", "=0"]
REFUSED = [*(f"nprobe{number}" for number in NUMBERS), "efSearch=9", "nprobe=2,efSearch=9"]


@pytest.mark.parametrize("parameters", REFUSED)
def test_parameters_that_faiss_refuses_change_nothing(parameters):
    index = ItemIndex.from_arrays(range(COUNT), VECTORS, kind="IVF64,Flat", search="nprobe=64")
    with pytest.raises(InputError, match=f"FAISS refuses the search parameters '{parameters}'"):
        index.set_parameters(parameters)
    assert index.parameters == "nprobe=64"
    assert index.recall(QUERIES, 10) == 1.0


def test_a_refused_parameter_does_not_stay_behind_another_that_was_set():
    index = ItemIndex.from_arrays(range(COUNT), VECTORS, kind="IVF16,PQ8x4fs,RFlat", search="nprobe=16")
    recall = index.recall(QUERIES, 10)
    for parameters in ("k_factor_rf=0", "k_factor_rf=nan", "k_factor_rf"):
        with pytest.raises(InputError, match="FAISS refuses the search parameters 'k_factor_rf"):
            index.set_parameters(parameters)
    assert index.parameters == "k_factor_rf=16,nprobe=16"
    assert index.recall(QUERIES, 10) == recall


@pytest.mark.parametrize("value", ["0", "-1", "1e999"])
def test_a_graph_looks_at_one_candidate_at_least(value):
    index = ItemIndex.from_arrays(range(COUNT), VECTORS, kind="HNSW16")
    with pytest.raises(InputError, match=f"'efSearch={value}': efSearch (must be at least 1|needs a number)"):
        index.set_parameters(f"efSearch={value}")
    assert (index.parameters, index.faiss.hnsw.efSearch) == ("efSearch=128", 128)


def test_to_look_at_more_than_there_are_costs_no_more(tmp_path):
    index = ItemIndex.from_arrays(range(20), VECTORS[:20], kind="SQ8,RFlat", search="k_factor_rf=1e8")
    assert index.faiss.k_factor == 1000
    index.save(tmp_path)
    loaded = ItemIndex.load(tmp_path)
    assert loaded.parameters == "k_factor_rf=1e8"
    assert loaded.recall(QUERIES, 10) == 1.0
    index.set_parameters("k_factor_rf=2")
    assert index.faiss.k_factor == 2


def test_flat_has_no_parameters():
    with pytest.raises(InputError, match="FAISS refuses the search parameters 'nprobe=3'"):
        small(search="nprobe=3")


def test_where_faiss_finds_too_few_the_rest_is_scanned():
    index = ItemIndex.from_arrays(range(COUNT), VECTORS, kind="IVF64,Flat", search="nprobe=1")
    found = index.faiss.search(QUERIES, 300)[1]
    assert (found < 0).any(axis=1).all()
    exact = exact_search(QUERIES, VECTORS, 300)
    np.testing.assert_array_equal(index.search(QUERIES, 300).rows, exact.rows)


def test_only_queries_with_too_few_are_scanned_and_keep_their_own_exclusions():
    index = ItemIndex.from_arrays(range(COUNT), VECTORS, kind="IVF64,Flat", search="nprobe=1")
    exclude = [np.arange(8) + query for query in range(len(QUERIES))]
    short = (index.faiss.search(QUERIES, 38)[1][:, :30] < 0).any(axis=1)
    assert 0 < short.sum() < len(QUERIES)
    hits = index.search(QUERIES, 30, exclude=exclude)
    exact = exact_search(QUERIES, VECTORS, 30, exclude=exclude)
    np.testing.assert_array_equal(hits.rows[short], exact.rows[short])
    assert (hits.rows[~short] != exact.rows[~short]).any()


@pytest.mark.parametrize("kind", ["HNSW32", "IVF16,Flat"])
def test_a_history_is_filtered_without_a_scan(kind, monkeypatch):
    def scan(*_, **__):
        raise AssertionError("a scan of the whole index")

    best = exact_search(QUERIES, VECTORS, 70).rows
    monkeypatch.setattr(nearest, "exact_search", scan)
    hits = built(kind).search(QUERIES, 10, exclude=best[:, :60])
    found = np.mean([len(set(mine) & set(true)) / 10 for mine, true in zip(hits.rows, best[:, 60:], strict=True)])
    assert found >= 0.9


# Dependencies


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_searching_needs_no_torch():
    code = """
import sys
import numpy as np
from indexing.index import ItemIndex
angles = np.linspace(0, 3, 40, dtype=np.float32)
arc = np.ascontiguousarray(np.stack([np.cos(angles), np.sin(angles)], axis=1))
assert ItemIndex.from_arrays(range(40), arc, kind="Flat").search(arc, 1).rows.ravel().tolist() == list(range(40))
assert ItemIndex.from_arrays(range(40), arc, kind="HNSW8").search(arc, 1).rows.ravel().tolist() == list(range(40))
assert not {"torch", "transformers"} & set(sys.modules)
"""
    done = python(code)
    assert done.returncode == 0, done.stderr


def test_without_faiss_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'faiss-cpu>=1\.15'"):
        small(kind="HNSW32")


def test_flat_decides_equals_at_the_cut_by_the_lower_row():
    vectors = VECTORS[:60].copy()
    vectors[30:50] = vectors[30]
    index = ItemIndex.from_arrays(range(60), vectors, kind="Flat")
    assert index.search(vectors[30:31], 4).rows.tolist() == [[30, 31, 32, 33]]
    assert index.search(vectors[30:31], 2, exclude=[[30, 32]]).rows.tolist() == [[31, 33]]
