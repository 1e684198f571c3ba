"""On a graphics card: an index finds what it finds on the CPU, and its file can be read and searched there."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import faiss
import numpy as np
import pytest

from indexing import beyond_memory, card
from indexing.exact import exact_search
from indexing.index import ItemIndex
from indexing.vectors import unit

pytestmark = pytest.mark.gpu
COUNT, DIMENSION, K = 9_000, 32, 10
SAME = 0.995  # share of rows that both must find; the rest may be ties in codes, and sums in another order
RECALL = {"Flat": 1.0, "IVF64,Flat": 0.9, "IVF64,PQ8np": 0.5, "IVF64,SQ8": 0.85, "PCA16,IVF64,PQ8np": 0.3}


def clustered(count: int, seed: int) -> np.ndarray:
    centres = np.random.default_rng(0).normal(size=(200, DIMENSION))
    generator = np.random.default_rng(seed)
    return unit(centres[generator.integers(200, size=count)] + 0.5 * generator.normal(size=(count, DIMENSION)))


VECTORS, QUERIES = clustered(COUNT, 1), clustered(300, 2)
YEARS = np.random.default_rng(3).integers(1950, 2026, COUNT)


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    if not card.present():
        pytest.skip("needs a FAISS that was built for CUDA devices: faiss-gpu")
    monkeypatch.setattr(card, "WORTH", 0)


@pytest.fixture(params=RECALL)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def index(kind: str) -> Iterator[ItemIndex]:
    """Built on the card, and searched there to the end."""
    index = once(kind)
    yield index
    assert index.place == "the card, where a search is large"


def built(kind: str) -> ItemIndex:
    return ItemIndex.from_arrays(range(COUNT), VECTORS, {"year": YEARS}, kind=kind)


once = functools.cache(built)


def shared(some: np.ndarray, others: np.ndarray) -> float:
    """The share of rows that both have, a mean over queries."""
    return float(np.mean([len(set(one) & set(other)) / len(one) for one, other in zip(some, others, strict=True)]))


def test_the_card_finds_what_the_same_index_finds_on_the_cpu(index: ItemIndex) -> None:
    hits = index.search(QUERIES, K)
    assert shared(hits.rows, index.faiss.search(QUERIES, K)[1]) >= SAME
    true = np.take_along_axis(QUERIES.astype(float) @ VECTORS.T.astype(float), hits.rows, axis=1)
    np.testing.assert_allclose(hits.scores, true, atol=5e-7)
    assert (np.diff(hits.scores, axis=1) <= 0).all()


def test_built_on_the_card_it_finds_as_much_as_built_on_the_cpu(
    index: ItemIndex, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = exact_search(QUERIES, VECTORS, K).rows
    with monkeypatch.context() as patch:
        patch.setattr(faiss, "get_num_gpus", lambda: 0)
        other = built(kind)
        expected = shared(other.search(QUERIES, K).rows, best)
    found = shared(index.search(QUERIES, K).rows, best)
    assert found >= RECALL[kind]
    assert abs(found - expected) < 0.02
    assert type(faiss.downcast_index(index.faiss)) is type(faiss.downcast_index(other.faiss))


def test_its_file_is_read_and_answers_without_a_card(
    index: ItemIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hits = index.search(QUERIES, K)
    index.save(tmp_path / "index")
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
    for mmap in (False, True):
        read = ItemIndex.load(tmp_path / "index", mmap=mmap)
        assert read.place == "the CPU (there is no graphics card)"
        assert shared(read.search(QUERIES, K).rows, hits.rows) >= SAME


def test_an_index_that_stays_in_its_file_is_searched_on_the_card(tmp_path: Path, kind: str) -> None:
    once(kind).save(tmp_path / "index")
    read = ItemIndex.load(tmp_path / "index", mmap=True)
    assert shared(read.search(QUERIES, K).rows, read.faiss.search(QUERIES, K)[1]) >= SAME
    assert read.place == "the card, where a search is large"


def test_in_parts_the_file_is_that_of_a_build_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beyond_memory, "PART_BYTES", 4 * DIMENSION * 4_000)
    index = beyond_memory.build("IVF64,SQ8", VECTORS, tmp_path)
    assert index.ntotal == COUNT
    index.nprobe = 64
    assert shared(index.search(QUERIES, K)[1], exact_search(QUERIES, VECTORS, K).rows) >= 0.9


def test_filters_and_exclusions_hold(index: ItemIndex) -> None:
    seen = index.search(QUERIES, 3).rows
    hits = index.search(QUERIES, K, where={"year": {">=": 1970}}, exclude=seen)
    assert (YEARS[hits.rows] >= 1970).all()
    assert not (hits.rows[:, :, None] == seen[:, None, :]).any()
    if index.kind == "Flat":
        barred = [np.union1d(np.flatnonzero(YEARS < 1970), rows) for rows in seen]
        np.testing.assert_array_equal(hits.rows, exact_search(QUERIES, VECTORS, K, exclude=barred).rows)


def test_the_limits_of_a_card_are_those_that_are_heeded() -> None:
    """At them it still answers, beyond them the CPU does; neither warns."""
    index = ItemIndex.from_arrays(range(COUNT), VECTORS, kind="IVF2500,Flat")
    for parameters, k in ((f"nprobe={card.MOST}", card.MOST), ("nprobe=2500", 5), ("nprobe=2000", card.MOST + 1)):
        index.set_parameters(parameters)
        assert shared(index.search(QUERIES[:20], k).rows, index.faiss.search(QUERIES[:20], k)[1]) >= SAME
    assert index.place == "the card, where a search is large"


@pytest.mark.parametrize("kind", [kind for kind in RECALL if kind != "Flat"])
def test_parameters_reach_the_copy(kind: str) -> None:
    index = built(kind)
    recalls = []
    for parameters in ("nprobe=1", "nprobe=64"):
        index.set_parameters(parameters)
        recalls.append(index.recall(QUERIES, K))
    assert recalls[0] < recalls[1]


def test_many_threads_and_two_indexes(index: ItemIndex) -> None:
    other = built("Flat")
    expected = {one: one.search(QUERIES, K).rows for one in (index, other)}
    with ThreadPoolExecutor(8) as pool:
        for one, hits in pool.map(lambda one: (one, one.search(QUERIES, K)), [index, other] * 50):
            assert shared(hits.rows, expected[one]) >= SAME


def test_too_little_memory_is_told_and_the_cpu_searches() -> None:
    """Another holds all of the card's memory but half of what a copy takes to begin with."""
    import torch

    index = built("Flat")
    torch.cuda.empty_cache()
    held = torch.empty(torch.cuda.mem_get_info()[0] - card.SCRATCH // 2, dtype=torch.uint8, device="cuda")
    with pytest.warns(UserWarning, match="the CPU had to search: the card failed, .*out of memory"):
        hits = index.search(QUERIES, K)
    del held
    torch.cuda.empty_cache()
    np.testing.assert_array_equal(hits.rows, exact_search(QUERIES, VECTORS, K).rows)
    assert index.place.startswith("the CPU (the card failed")
