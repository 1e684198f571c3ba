"""The benches of an index's life: they find nothing, and would find what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import corrupt, lifecycle, readers
from benchmarks.kill import apply, killed, operation
from benchmarks.lifecycle import Job, Life, live, wear
from benchmarks.living import Plain, World
from indexing.index import ItemIndex
from indexing.writer import IndexWriter


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "ITEMS", 300)
    monkeypatch.setattr(lifecycle, "POOL", 400)
    monkeypatch.setattr(lifecycle, "WEAR_ITEMS", 200)
    monkeypatch.setattr(lifecycle, "QUERIES", 20)


@pytest.mark.parametrize("kind", ["Flat", "HNSW16"])
def test_a_life_has_no_differences(kind: str) -> None:
    row = live(Job(kind, kind, 1500))
    assert row["found"] == []
    assert row["metrics"]["operations"] >= 1500
    assert row["metrics"]["differences"] == 0
    assert sum(count > 0 for count in row["steps"].values()) >= 5


def test_nor_has_one_in_a_milvus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "MEASURED", 1)
    row = live(Job("Milvus, HNSW", "HNSW", 500))
    assert row["found"] == []
    assert row["metrics"]["operations"] >= 500
    assert all(row["steps"].values())
    assert row["metrics"]["recall_lost_at_most"] < 0.05


def test_a_life_that_forgets_is_found_out(tmp_path: Path) -> None:
    life = Life(tmp_path / "index", Job("Flat", "Flat", 0))
    life.now.remove(["i7"])
    life._reopen()
    assert "i7 is wrong: it should not be there" in life.found
    assert "the removed items are wrong" in life.found
    life.writer.close()


def test_wear_has_the_share_of_tombstones_that_it_says() -> None:
    rows = wear(Job("IVF", "IVF4,Flat", 0))
    assert [row["metrics"]["tombstones"] for row in rows] == list(lifecycle.SHARES)
    assert rows[0]["metrics"]["recall@10"] > 0.9


def test_what_was_acknowledged_outlives_a_kill(tmp_path: Path) -> None:
    plain, number = Plain(), 0
    ids = [f"i{n}" for n in range(100)]
    vectors = World(0).draw(100)
    plain.put(ids, vectors, list(range(100)))
    ItemIndex.from_arrays(ids, vectors, {"number": range(100)}).save(tmp_path / "index")
    for seed in range(3):
        done, _ = killed(tmp_path / "index", plain, number, 0.25, np.random.default_rng(seed))
        for _ in range(done):
            plain, number = apply(number, plain), number + 1
        with IndexWriter(tmp_path / "index") as writer:
            index = writer.index
        if plain.differences(index):
            plain, number = apply(number, plain), number + 1  # the one on its way
        assert plain.differences(index) == []
    assert operation(3, plain)[0] == operation(3, plain)[0]
    assert number > 0


def test_each_damage_is_refused_and_a_whole_index_is_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "index"
    for place, how in enumerate(dict.fromkeys(corrupt.DAMAGES)):
        corrupt.make(folder := tmp_path / how.replace(" ", "-"), corrupt.KINDS[place % len(corrupt.KINDS)])
        expected = corrupt.read(folder)
        assert corrupt.outcome(corrupt.read, folder, expected) == corrupt.RIGHT
        assert corrupt.outcome(corrupt.read, folder, []) == corrupt.WRONG
        if how == "full disk":
            assert corrupt.WRONG not in corrupt.on_a_full_disk(folder, rng)
            continue
        corrupt.damage(folder, how, rng)
        assert corrupt.outcome(corrupt.open_to_write, folder, []) == corrupt.REFUSED


def test_a_reader_sees_whole_rounds_and_tells_mixed_ones(tmp_path: Path) -> None:
    names = [f"i{n}" for n in range(30)]
    vectors = World(0).draw(30)
    ItemIndex.from_arrays(names, vectors, {"round": [0] * 30}).save(tmp_path)
    reader = readers.Reader(tmp_path)
    assert reader.search(vectors[:1]) == 1
    ItemIndex.from_arrays(names, vectors, {"round": [0, 1] * 15}).save(tmp_path)
    reader.index = reader.index.refresh()
    reader.close()
    assert reader.search(vectors[:1]) == 2
    assert reader.errors == []
