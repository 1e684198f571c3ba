"""What goes to a graphics card and what does not, and that it changes nothing; a stand-in computes on the CPU."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from indexing import approximate, beyond_memory, card
from indexing.exact import exact_search
from indexing.index import ItemIndex
from indexing.vectors import unit
from indexing.writer import IndexWriter
from towers.errors import InputError

COUNT, DIMENSION = 1500, 16
VECTORS = unit(np.random.default_rng(1).normal(size=(COUNT, DIMENSION)))
QUERIES = unit(np.random.default_rng(2).normal(size=(40, DIMENSION)))
YEARS = np.random.default_rng(3).integers(1950, 2026, COUNT)
# np: without the training of polysemous codes, which takes seconds and changes nothing here.
ON_CARD = ["Flat", "IVF16,Flat", "IVF16,PQ4np", "IVF16,SQ8", "PCA8,IVF16,PQ4np", "PCA8,Flat"]
NOT_ON_CARD = {
    "HNSW16": "FAISS has no IndexHNSWFlat on a card",
    "SQ8": "FAISS has no IndexScalarQuantizer on a card",
    "IVF16,Flat,RFlat": "FAISS has no IndexRefineFlat on a card",
    "IVF16,PQ16x4fs": "FAISS has no IndexIVFPQFastScan on a card",
    "IVF16_HNSW8,Flat": "FAISS has lists on a card only where their centres are Flat",
}


@dataclass
class StandIn:
    """Copies are CPU indexes that allow one search at a time, like those on a card.

    Attributes:
        copies: all that were made.
        searched: how many vectors were searched for in copies, call by call.
        full: whether there is no room for a copy.
        refused: how many were not made for that.
    """

    copies: list[Any] = field(default_factory=list)
    searched: list[int] = field(default_factory=list)
    full: bool = False
    refused: int = 0

    def copy(self, resources: faiss.StandardGpuResources, device: int, index: Any) -> Any:
        assert isinstance(resources, faiss.StandardGpuResources)
        assert device == 0
        if self.full:
            self.refused += 1
            raise RuntimeError("Error in void f() at card.cu:1: Error: cudaMalloc error out of memory [2]")
        made = faiss.clone_index(index)
        made.search = self._one_at_a_time(made.search)
        self.copies.append(made)
        return made

    def _one_at_a_time(self, search: Any) -> Any:
        busy = threading.Lock()

        def counted(queries: np.ndarray, k: int) -> Any:
            if not busy.acquire(blocking=False):
                raise RuntimeError("two threads at once")
            try:
                self.searched.append(len(queries))
                return search(queries, k)
            finally:
                busy.release()

        return counted


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """For which everything is large enough."""
    one = StandIn()
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", one.copy)
    monkeypatch.setattr(card, "WORTH", 0)
    return one


def built(kind: str) -> ItemIndex:
    return ItemIndex.from_arrays(range(COUNT), VECTORS, {"year": YEARS}, kind=kind)


def on_cpu(monkeypatch: pytest.MonkeyPatch, kind: str) -> ItemIndex:
    """What is built and searched where there is no card."""
    with monkeypatch.context() as patch:
        patch.setattr(faiss, "get_num_gpus", lambda: 0)
        return built(kind)


def content(index: Any) -> bytes:
    return faiss.serialize_index(index).tobytes()


# Where there is no card


@pytest.mark.skipif(faiss.get_num_gpus() > 0, reason="there is a card")
@pytest.mark.parametrize("kind", ["Flat", "IVF16,PQ4np"])
def test_without_a_card_none_is_asked(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faiss, "StandardGpuResources", None)
    monkeypatch.setattr(card, "WORTH", 0)
    index = built(kind)
    assert index.place == "the CPU (there is no graphics card)"
    assert repr(index).endswith("searched on the CPU (there is no graphics card))")
    assert index.search(QUERIES, 5).rows.min() >= 0


# What goes there


@pytest.mark.parametrize("kind", ON_CARD)
def test_kinds_that_faiss_has_there_are_searched_there(
    kind: str, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = on_cpu(monkeypatch, kind).search(QUERIES, 10)
    index = built(kind)
    assert index.place == "the card, where a search is large"
    stand_in.searched.clear()
    hits = index.search(QUERIES, 10)
    assert stand_in.searched == [len(QUERIES)]
    np.testing.assert_array_equal(hits.rows, expected.rows)
    np.testing.assert_array_equal(hits.scores, expected.scores)


@pytest.mark.parametrize("kind", NOT_ON_CARD)
def test_other_kinds_stay_here_and_say_so(kind: str, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    index = built(kind)
    assert index.place == f"the CPU ({NOT_ON_CARD[kind]})"
    stand_in.copies.clear()
    hits = index.search(QUERIES, 10)
    assert not stand_in.copies
    np.testing.assert_array_equal(hits.rows, on_cpu(monkeypatch, kind).search(QUERIES, 10).rows)


def test_a_copy_is_made_once_and_not_before_it_is_wanted(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card, "WORTH", 10 * COUNT * DIMENSION)
    index = built("Flat")
    index.search(QUERIES[:9], 5)
    assert not stand_in.copies
    index.search(QUERIES[:10], 5)
    index.search(QUERIES, 5)
    assert stand_in.searched == [10, 40]
    assert len(stand_in.copies) == 1


def test_of_lists_those_that_are_looked_into_count(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    index = built("IVF16,Flat")
    stand_in.searched.clear()
    monkeypatch.setattr(card, "WORTH", len(QUERIES) * COUNT * DIMENSION // 2)
    index.set_parameters("nprobe=7")
    index.search(QUERIES, 5)
    assert not stand_in.searched
    index.set_parameters("nprobe=8")
    index.search(QUERIES, 5)
    assert stand_in.searched == [len(QUERIES)]


def test_what_a_card_cannot_do_at_once_is_done_here(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many rows a query, and so many lists."""
    index = built("IVF16,Flat")
    stand_in.searched.clear()
    monkeypatch.setattr(card, "MOST", 12)
    for parameters, k in (("nprobe=8", 13), ("nprobe=13", 5)):
        index.set_parameters(parameters)
        assert index.search(QUERIES, k).rows.min() >= 0
    assert not stand_in.searched
    index.set_parameters("nprobe=12")
    index.search(QUERIES, 12)
    assert stand_in.searched == [len(QUERIES)]


def test_the_copy_searches_with_the_parameters_of_the_index(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("IVF16,Flat", "PCA8,IVF16,PQ4np"):
        index, expected = built(kind), on_cpu(monkeypatch, kind)
        found = []
        for parameters in ("nprobe=1", "nprobe=16"):
            index.set_parameters(parameters)
            expected.set_parameters(parameters)
            found.append(index.search(QUERIES, 10).rows)
            np.testing.assert_array_equal(found[-1], expected.search(QUERIES, 10).rows)
        assert (found[0] != found[1]).any()


# Filters, exclusions, changes


@pytest.mark.parametrize("kind", ["Flat", "IVF16,Flat"])
def test_filters_and_exclusions_hold_on_the_card(kind: str, stand_in: StandIn) -> None:
    index = built(kind)
    index.set_parameters("nprobe=16" if kind != "Flat" else "")
    passing = YEARS >= 1970
    seen = index.search(QUERIES, 3).rows
    barred = [np.union1d(np.flatnonzero(~passing), rows) for rows in seen]
    stand_in.searched.clear()
    hits = index.search(QUERIES, 10, where={"year": {">=": 1970}}, exclude=seen)
    assert stand_in.searched
    np.testing.assert_array_equal(hits.rows, exact_search(QUERIES, VECTORS, 10, exclude=barred).rows)


def test_a_changed_index_has_a_copy_of_its_own(stand_in: StandIn, tmp_path: Path) -> None:
    built("IVF16,Flat").save(tmp_path / "index")
    before = ItemIndex.load(tmp_path / "index")
    best = np.unique(before.search(QUERIES, 1).rows)
    with IndexWriter(tmp_path / "index") as writer:
        writer.remove(best.tolist())
        writer.publish()
    stand_in.searched.clear()
    after = before.refresh()
    assert after.tombstones == len(best)
    found = after.ids.take(after.search(QUERIES, 10).rows.ravel())
    assert stand_in.searched
    assert not set(found) & set(best.tolist())
    np.testing.assert_array_equal(np.unique(before.search(QUERIES, 1).rows), best)


def test_many_threads_take_turns(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second one at once would fail, and warn."""
    expected = on_cpu(monkeypatch, "IVF16,Flat").search(QUERIES, 10).rows
    index = built("IVF16,Flat")
    stand_in.copies.clear()
    stand_in.searched.clear()
    with ThreadPoolExecutor(8) as pool:
        for hits in pool.map(lambda _: index.search(QUERIES, 10), range(64)):
            np.testing.assert_array_equal(hits.rows, expected)
    assert stand_in.searched == [len(QUERIES)] * 64
    assert len(stand_in.copies) == 1


# Building


@pytest.mark.parametrize("kind", [*ON_CARD, *NOT_ON_CARD])
def test_the_file_is_that_of_a_build_without_a_card(
    kind: str, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(faiss, "get_num_gpus", lambda: 0)
        expected = content(approximate.build(kind, VECTORS))
    assert content(approximate.build(kind, VECTORS)) == expected
    assert all(copy.thisown for copy in stand_in.copies)  # so that the card's memory is freed
    lists = "IVF" in kind and "HNSW" not in kind
    assert bool(stand_in.copies) == lists
    if lists:
        assert stand_in.copies[0].ntotal == 16  # it was empty, and k-means leaves its centres in what it searched
    if kind in ("IVF16,Flat", "IVF16,PQ4np", "IVF16,SQ8"):
        assert stand_in.searched == [COUNT]  # k-means calls FAISS's own search


def test_in_parts_the_file_is_the_same_too(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(beyond_memory, "PART_BYTES", 4 * DIMENSION * 400)
    expected = content(approximate.build("IVF16,SQ8", VECTORS))
    stand_in.searched.clear()
    beyond_memory.build("IVF16,SQ8", VECTORS, tmp_path)
    assert stand_in.searched == [400, 400, 400, 300]
    assert content(approximate.read(tmp_path / "index.faiss")) == expected


def test_few_vectors_are_not_brought_to_the_card(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card, "WORTH", 16 * DIMENSION * COUNT + 1)  # adding compares fewer, k-means more
    approximate.build("IVF16,Flat", VECTORS)
    assert len(stand_in.copies) == 1
    assert not stand_in.searched
    monkeypatch.setattr(card, "WORTH", 10 * 16 * DIMENSION * COUNT + 1)
    approximate.build("IVF16,Flat", VECTORS)
    assert len(stand_in.copies) == 1


def test_what_faiss_refuses_is_refused_as_without_a_card(stand_in: StandIn) -> None:
    with pytest.raises(InputError, match="FAISS refuses an index of kind 'IVF2000,Flat' over 1500 vectors"):
        approximate.build("IVF2000,Flat", VECTORS)


# Where the card fails


def test_without_room_for_a_copy_the_cpu_searches_from_then_on(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = on_cpu(monkeypatch, "Flat").search(QUERIES, 10)
    index = built("Flat")
    stand_in.full = True
    with pytest.warns(UserWarning, match=r"^the CPU had to search: the card failed, cudaMalloc error out of memory"):
        hits = index.search(QUERIES, 10)
    np.testing.assert_array_equal(hits.rows, expected.rows)
    np.testing.assert_array_equal(index.search(QUERIES, 10).rows, expected.rows)  # and does not warn again
    assert index.place == "the CPU (the card failed, cudaMalloc error out of memory [2])"


def test_threads_that_waited_for_a_failure_do_not_repeat_it(stand_in: StandIn) -> None:
    index = built("Flat")
    stand_in.full = True

    def in_turn(pool: ThreadPoolExecutor) -> list[int]:
        with index._nearest.finder._turn:
            searches = [pool.submit(index.search, QUERIES, 10) for _ in range(4)]
            time.sleep(0.2)  # they wait for their turn now
        return [search.result().rows.min() for search in searches]

    with ThreadPoolExecutor(4) as pool, pytest.warns(UserWarning, match="out of memory"):
        assert min(in_turn(pool)) >= 0
    assert stand_in.refused == 1


def test_a_card_that_fails_later_is_given_up(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    index = built("Flat")
    expected = index.search(QUERIES, 10).rows

    def broken(queries: np.ndarray, k: int) -> Any:
        raise RuntimeError("no scratch memory")

    monkeypatch.setattr(stand_in.copies[0], "search", broken)
    with pytest.warns(UserWarning, match="the CPU had to search: the card failed, no scratch memory"):
        np.testing.assert_array_equal(index.search(QUERIES, 10).rows, expected)
    assert "no scratch memory" in index.place


def test_without_room_for_the_centres_the_cpu_builds(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = content(on_cpu(monkeypatch, "IVF16,PQ4np").faiss)
    stand_in.full = True
    with pytest.warns(UserWarning, match="out of memory") as told:
        index = built("IVF16,PQ4np")
    assert [str(one.message).partition(": ")[0] for one in told] == [
        "the CPU had to find the centres of the lists",
        "the CPU had to find the lists of the vectors",
    ]
    assert content(index.faiss) == expected
