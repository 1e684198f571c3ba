"""One contract for every store: what is added, replaced, removed and asked is the same wherever the items are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from indexing.exact import exact_search
from indexing.index import ItemIndex
from indexing.interests import search_interests
from indexing.milvus import MilvusIndex
from indexing.store import Index, Writer, open_index, open_writer
from indexing.vectors import unit
from towers.errors import ArtefactError, InputError

COUNT, DIMENSION, K = 300, 16, 10
KINDS = {  # recall@10 that each must reach
    "Flat": 1.0,
    "HNSW16": 0.98,
    "IVF8,Flat": 0.98,
    "milvus FLAT": 1.0,
    "milvus HNSW": 0.95,
}


def draw(count: int, seed: int) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(count, DIMENSION)))


VECTORS, QUERIES = draw(COUNT, 0), draw(20, 1)
NAMES = [f"i{n}" for n in range(COUNT)]
ORDER = np.random.default_rng(2).permutation(COUNT)
ATTRIBUTES = pa.table({"order": ORDER, "genre": [("jazz", "soul", None)[n % 3] for n in range(COUNT)]})


def make(folder: Path, kind: str, ids: Any = NAMES, vectors: np.ndarray = VECTORS, **options: Any) -> Path:
    """An index of this kind; Milvus is asked to write out and index what it has, as it else does when it has much."""
    if kind.startswith("milvus "):
        MilvusIndex.build(folder / "index.db", ids, vectors, kind=kind.split()[1], **options)
        return folder / "index.db"
    ItemIndex.from_arrays(ids, vectors, kind=kind, **options).save(folder / "index")
    return folder / "index"


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def index(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Index:
    """Read by many tests, changed by none."""
    return open_index(make(tmp_path_factory.mktemp("store"), kind, attributes=ATTRIBUTES))


@pytest.fixture
def writer(kind: str, tmp_path: Path) -> Iterator[Writer]:
    with open_writer(make(tmp_path, kind, attributes=ATTRIBUTES)) as writer:
        yield writer


def agrees(index: Index, plain: dict[Any, np.ndarray], recall: float, queries: np.ndarray = QUERIES) -> None:
    """`index` holds the items of `plain`; each hit has its exact score, and enough of the nearest are found."""
    assert set(index.ids.to_list()) == set(plain)
    assert len(index) == len(plain)
    vectors = np.stack([plain[one] for one in index.ids.to_list()])
    np.testing.assert_array_equal(index.vectors[np.arange(len(plain))], vectors)
    hits, exact = index.search(queries, K), exact_search(queries, vectors, len(plain))
    for query in range(len(queries)):
        score = dict(zip(exact.rows[query].tolist(), exact.scores[query], strict=True))
        assert [score[row] for row in hits.rows[query].tolist()] == list(hits.scores[query])
        assert len(set(hits.rows[query].tolist())) == K
    found = np.mean([len(set(a) & set(b)) / K for a, b in zip(hits.rows, exact.rows[:, :K], strict=True)])
    assert found >= recall
    if recall == 1:
        np.testing.assert_array_equal(hits.rows, exact.rows[:, :K])


# Searching


def test_ids_and_scores_are_those_of_exact_search(index: Index, kind: str) -> None:
    agrees(index, dict(zip(NAMES, VECTORS, strict=True)), KINDS[kind])


def test_a_query_is_answered_alike_alone_and_in_company(index: Index) -> None:
    together = index.search(QUERIES, K)
    alone = [index.search(QUERIES[[row]], K) for row in range(len(QUERIES))]
    np.testing.assert_array_equal(np.concatenate([one.rows for one in alone]), together.rows)
    np.testing.assert_array_equal(np.concatenate([one.scores for one in alone]), together.scores)


def test_many_threads_may_search_at_once(index: Index) -> None:
    expected = index.search(QUERIES, K, where={"order": {"<": 200}})
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: index.search(QUERIES, K, where={"order": {"<": 200}}), range(8)))
    for hits in found:
        np.testing.assert_array_equal(hits.rows, expected.rows)
        np.testing.assert_array_equal(hits.scores, expected.scores)


def test_where_there_are_fewer_than_k_the_rest_is_empty(index: Index) -> None:
    hits = index.search(QUERIES[:2], COUNT + 5)
    exact = exact_search(QUERIES[:2], index.vectors[np.arange(COUNT)], COUNT + 5)
    np.testing.assert_array_equal(hits.rows, exact.rows)
    np.testing.assert_array_equal(hits.scores, exact.scores)
    assert (hits.rows[:, COUNT:] == -1).all()
    assert np.isneginf(hits.scores[:, COUNT:]).all()


@pytest.mark.parametrize("passing", [0, 1, 3, 30, 150, 299, 300])
def test_a_filtered_search_finds_what_brute_force_finds(index: Index, kind: str, passing: int) -> None:
    where = {"order": {"<": passing}}
    order = dict(zip(NAMES, ORDER.tolist(), strict=True))
    rows = np.array([row for row, one in enumerate(index.ids.to_list()) if order[one] < passing], np.int64)
    hits = index.search(QUERIES, K, where=where)
    exact = exact_search(QUERIES, index.vectors[rows], K)
    assert ((hits.rows >= 0).sum(axis=1) == min(K, passing)).all()
    right = np.append(rows, -1)[exact.rows]
    assert set(hits.rows.ravel().tolist()) <= {*rows.tolist(), -1}
    same = (hits.rows == right).mean()
    assert same == 1 if KINDS[kind] == 1 or passing <= K else same > 0.8
    np.testing.assert_array_equal(hits.scores[hits.rows == right], exact.scores[hits.rows == right])


def test_exclusions_and_filters_hold_together(index: Index) -> None:
    nearest = index.search(QUERIES, 40)
    exclude = [nearest.rows[query, : 3 * query] for query in range(10)]
    hits = index.search(QUERIES[:10], 5, exclude=exclude, where={"genre": {"!=": "jazz"}})
    genre = dict(zip(NAMES, ATTRIBUTES["genre"].to_pylist(), strict=True))
    allowed = np.array([genre[one] != "jazz" for one in index.ids.to_list()])
    for query in range(10):
        assert (hits.rows[query] >= 0).all()
        assert not set(hits.rows[query].tolist()) & set(exclude[query].tolist())
        assert allowed[hits.rows[query]].all()
    everything = index.search(QUERIES[:1], 5, exclude=[np.arange(COUNT - 2)])
    assert set(everything.rows[0].tolist()) == {COUNT - 2, COUNT - 1, -1}


def test_a_bonus_counts_among_what_passes(index: Index, kind: str) -> None:
    bonus = np.zeros(COUNT, np.float32)
    chosen = [int(index.ids.rows([one])[0]) for one in ("i0", "i3", "i1")]  # jazz, jazz and soul
    bonus[chosen] = [3, 2, 5]
    hits = index.search(QUERIES, 4, bonus=bonus, where={"genre": "jazz"})
    np.testing.assert_array_equal(hits.rows[:, :2], [chosen[:2]] * len(QUERIES))
    plain = index.search(QUERIES, 4, where={"genre": "jazz"})
    score = np.vecdot(QUERIES, index.vectors[np.array(chosen[:1])])
    np.testing.assert_allclose(hits.scores[:, 0], score + 3, atol=1e-6)
    for query in range(len(QUERIES)):
        assert set(hits.rows[query, 2:].tolist()) <= set(plain.rows[query].tolist())


def test_several_interests_give_one_list(index: Index, kind: str) -> None:
    people = QUERIES.reshape(10, 2, DIMENSION)
    hits = search_interests(index, people, K, exclude=[[row] for row in range(10)])
    scores = (people @ index.vectors[np.arange(COUNT)].T).max(axis=1)
    scores[np.arange(10), np.arange(10)] = -np.inf
    best = np.argsort(-scores, axis=1)[:, :K]
    same = np.mean([len(set(a) & set(b)) / K for a, b in zip(hits.rows, best, strict=True)])
    assert same >= KINDS[kind]


def test_get_iterate_and_contains(index: Index) -> None:
    item = index.get("i7")
    assert item is not None
    assert (item.id, item.attributes) == ("i7", {"order": ORDER[7], "genre": "soul"})
    np.testing.assert_array_equal(item.vector, VECTORS[7])
    assert not item.vector.flags.writeable
    assert index.get("x") is None
    assert "i7" in index
    assert "x" not in index
    assert not any(odd in index for odd in (True, 2**70, None, 3.5, b"i7", ("i7",)))
    items = list(index)
    assert [one.id for one in items] == index.ids.to_list()
    assert sorted(one.attributes["order"] for one in items) == list(range(COUNT))


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (lambda index: index.search(QUERIES[:, :8].copy(), K), "vectors have 8 dimensions, expected 16"),
        (lambda index: index.search(2 * QUERIES, K), "20 of 20 vectors are not of length one"),
        (lambda index: index.search(QUERIES.astype(np.float64), K), "must be a float32 array, got float64"),
        (lambda index: index.search(QUERIES, 0), "k must be at least 1, got 0"),
        (lambda index: index.search(QUERIES, 10**12), "k must be at most 16,777,216, got 1000000000000"),
        (lambda index: index.search(QUERIES, K, exclude=[[1]]), "one list of rows for each of 20 queries, got 1"),
        (lambda index: index.search(QUERIES[:1], K, exclude=[[COUNT]]), "rows 300 to 300, the index has 300"),
        (lambda index: index.search(QUERIES, K, where={"gender": "x"}), "did you mean 'genre'"),
        (lambda index: index.search(QUERIES, K, where={"order": "x"}), "a column of int64, with 'x'"),
        (lambda index: index.search(QUERIES, K, bonus=np.ones(3, np.float32)), r"a bonus must be float32 \(300,\)"),
    ],
)
def test_what_cannot_be_searched_is_one_sentence(index: Index, asked: Callable[[Index], Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        asked(index)


# Changing


def test_items_come_and_go(writer: Writer, kind: str) -> None:
    plain = dict(zip(NAMES, VECTORS, strict=True))
    for round_ in range(3):
        new, old = [f"n{round_}-{n}" for n in range(5)], [f"i{n}" for n in range(20 * round_, 20 * round_ + 8)]
        fresh = draw(10, 10 + round_)
        writer.add(new, fresh[:5], {"order": range(5), "genre": ["new"] * 5})
        writer.upsert(old[:5], fresh[5:], {"order": range(5, 10), "genre": [None] * 5})
        writer.remove(old[5:])
        plain |= dict(zip(new + old[:5], fresh, strict=True))
        for one in old[5:]:
            del plain[one]
    assert len(writer) == len(plain)
    assert "n0-3" in writer
    assert "i5" not in writer
    index = writer.index
    agrees(index, plain, KINDS[kind] - 0.03 * (KINDS[kind] < 1))
    assert index.get("i21").attributes == {"order": 6, "genre": None}
    hits = index.search(QUERIES, 4, where={"genre": "new"})
    assert all(str(one).startswith("n") for one in index.ids.take(hits.rows.ravel()))
    removed = index.removed
    assert set(removed.ids.to_list()) == {
        f"i{n}" for round_ in range(3) for n in range(20 * round_ + 5, 20 * round_ + 8)
    }
    for one, vector in zip(removed.ids.to_list(), removed.vectors, strict=True):
        np.testing.assert_array_equal(vector, VECTORS[NAMES.index(str(one))])
    writer.add(["i5"], QUERIES[:1], {"order": [0], "genre": ["back"]})
    assert "i5" not in writer.index.removed.ids.to_list()
    again = writer.index
    assert again.ids.take(again.search(QUERIES[:1], 1).rows[0]) == ["i5"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda w: w.add(["a", "i1"], VECTORS[:2], ATTRIBUTES[:2]), r"1 of 2 items \('i1'\) is in the index already"),
        (lambda w: w.upsert(["a", "a"], VECTORS[:2], ATTRIBUTES[:2]), "1 duplicates among 2"),
        (lambda w: w.upsert([], VECTORS[:0], ATTRIBUTES[:0]), "the batch is empty"),
        (lambda w: w.upsert(["a"], VECTORS[:2], ATTRIBUTES[:2]), "1 ids for 2 vectors"),
        (lambda w: w.upsert(["a"], 2 * VECTORS[:1], ATTRIBUTES[:1]), "not of length one"),
        (lambda w: w.upsert(["a"], VECTORS[:1, :8].copy(), ATTRIBUTES[:1]), "8 dimensions, expected 16"),
        (lambda w: w.upsert(["a"], VECTORS[:1]), "this index has attributes"),
        (lambda w: w.upsert(["a"], VECTORS[:1], {"order": [1]}), "attributes have the columns 'order'"),
        (lambda w: w.upsert(["a"], VECTORS[:1], ATTRIBUTES[:1], space="other"), "of the space 'other'"),
        (lambda w: w.remove(["i1", "x"]), r"1 of 2 items \('x'\) is not in the index, so nothing was removed"),
        (lambda w: w.remove([]), "the batch is empty"),
    ],
)
def test_a_batch_that_cannot_be_taken_changes_nothing(
    index: Index, change: Callable[[Writer], None], sentence: str, kind: str, tmp_path_factory: Any
) -> None:
    place = tmp_path_factory.getbasetemp() / f"refusing {kind.replace(',', '')}"
    place.mkdir(exist_ok=True)
    folder = place / ("index.db" if kind.startswith("milvus") else "index")
    with open_writer(folder if folder.exists() else make(place, kind, attributes=ATTRIBUTES)) as writer:
        with pytest.raises(InputError, match=sentence):
            change(writer)
        assert len(writer) == COUNT
        assert "i1" in writer
        assert "a" not in writer
    with pytest.raises(InputError, match="is closed; open another one"):
        writer.remove(["i1"])


def test_integer_ids_stay_integers_and_are_found_as_text_too(kind: str, tmp_path: Path) -> None:
    ids = [2**62, -5, *range(100, 198)]
    place = make(tmp_path, kind, ids, VECTORS[:100])
    with open_writer(place) as writer:
        writer.remove(["-5"])
        with pytest.raises(InputError, match="ids of this index are int64, got 'x'"):
            writer.remove(["x"])
        assert "100" in writer
        index = writer.index
    assert index.ids.take(index.search(VECTORS[:1], 1).rows[0]) == [2**62]
    assert index.get("100").id == 100
    assert sorted(index.ids.to_list()) == [*range(100, 198), 2**62]


def test_odd_ids_are_ids(kind: str, tmp_path: Path) -> None:
    odd = ['"', "'", "\\", "a' or item_id != '", "tab\t", "line\nnext", "{x}", "", "ü", "%"]
    names = odd + NAMES[: 100 - len(odd)]
    with open_writer(make(tmp_path, kind, names, VECTORS[:100])) as writer:
        index = writer.index
        for row, one in enumerate(odd):
            assert one in writer
            np.testing.assert_array_equal(index.get(one).vector, VECTORS[row])
        writer.remove(odd[:5])
        assert [one in writer for one in odd] == [False] * 5 + [True] * 5
        assert len(writer) == 95


def test_all_may_go_and_come_again(kind: str, tmp_path: Path) -> None:
    place = make(tmp_path, kind, NAMES[:100], VECTORS[:100])
    with open_writer(place) as writer:
        writer.remove(NAMES[:100])
        assert len(writer) == 0
        empty = writer.index
        assert (empty.search(QUERIES[:2], 3).rows == -1).all()
        writer.add(NAMES[:3], VECTORS[:3])
        index = writer.index
    assert index.ids.take(index.search(VECTORS[1:2], 1).rows[0]) == ["i1"]


def test_another_space_is_refused(kind: str, tmp_path: Path) -> None:
    place = make(tmp_path, kind, NAMES[:100], VECTORS[:100], space="one model")
    assert open_index(place, space="one model").space == "one model"
    with pytest.raises(
        ArtefactError, match=r"built for another model: .* of the space 'one model', expected 'another mod"
    ):
        open_index(place, space="another model")
