"""Indexes over vectors that stay in files: the same file that FAISS writes, the same hits as in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from indexing import approximate, beyond_memory
from indexing.index import ItemIndex
from indexing.vectors import repeats, unit
from indexing.writer import IndexWriter
from towers.errors import ArtefactError, InputError

DIMENSION = 16
VECTORS = unit(np.random.default_rng(0).normal(size=(3000, DIMENSION)))
QUERIES = unit(np.random.default_rng(1).normal(size=(20, DIMENSION)))
KINDS = (
    "Flat",
    "HNSW8",
    "SQ8",
    "IVF16,Flat",
    "IVF16,SQ8",
    "IVF16,PQ8x4,RFlat",
    "IVF16,PQ8x4fsr,RFlat",
    "PCA8,IVF16,Flat",
)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven parts."""
    monkeypatch.setattr(beyond_memory, "PART_BYTES", 450 * 4 * DIMENSION)


def mapped(tmp_path: Path) -> np.ndarray:
    np.save(tmp_path / "vectors.npy", VECTORS)
    return np.asarray(np.load(tmp_path / "vectors.npy", mmap_mode="r"))


@pytest.mark.parametrize("kind", KINDS)
def test_mapped_it_finds_what_it_finds_in_memory(kind: str, tmp_path: Path) -> None:
    ItemIndex.from_arrays(range(3000), VECTORS, {"n": range(3000)}, kind=kind).save(tmp_path)
    plain, other = ItemIndex.load(tmp_path), ItemIndex.load(tmp_path, mmap=True)
    assert (plain.mmap, other.mmap) == (False, True)
    for more in ({}, {"where": {"n": {"<": 1500}}}, {"exclude": [[1, 2, 3]] * 20}):
        one, two = plain.search(QUERIES, 10, **more), other.search(QUERIES, 10, **more)
        np.testing.assert_array_equal(one.rows, two.rows)
        np.testing.assert_array_equal(one.scores, two.scores)
    maps = Path("/proc/self/maps").read_text()
    assert str(tmp_path / "versions" / "000001" / "index.faiss") in maps
    assert str(tmp_path / "versions" / "000001" / "vectors.npy") in maps


@pytest.mark.parametrize("kind", ["IVF16,Flat", "IVF16,SQ8", "IVF16,PQ8x4", "IVF16_HNSW8,Flat"])
def test_lists_of_parts_merge_to_the_file_that_faiss_writes(kind: str, tmp_path: Path) -> None:
    made = beyond_memory.build(kind, mapped(tmp_path), tmp_path)
    approximate.write(approximate.build(kind, VECTORS), tmp_path / "whole.faiss")
    assert (tmp_path / "index.faiss").read_bytes() == (tmp_path / "whole.faiss").read_bytes()
    assert made.ntotal == 3000
    assert sorted(path.name for path in tmp_path.glob("*.faiss")) == ["index.faiss", "whole.faiss"]  # no part is left


def test_lists_of_parts_behind_a_transform_merge_to_what_faiss_finds(tmp_path: Path) -> None:
    """Up to the last bits: on some processors a matrix product of a part rounds otherwise than one of the whole."""
    made = beyond_memory.build("PCA8,IVF16,Flat", mapped(tmp_path), tmp_path)
    whole = approximate.build("PCA8,IVF16,Flat", VECTORS)
    assert made.ntotal == whole.ntotal == 3000
    found, expected = made.search(QUERIES, 10), whole.search(QUERIES, 10)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-5)
    np.testing.assert_array_equal(found[1], expected[1])


def test_few_filled_lists_are_written_as_faiss_writes_them(tmp_path: Path) -> None:
    rows = np.repeat(VECTORS[:3], 100, axis=0)  # 3 of 16 lists
    index = approximate.empty("IVF16,Flat", DIMENSION)
    index.train(VECTORS)
    parts = list(beyond_memory._parts(index, rows, tmp_path))
    with (tmp_path / "merged.faiss").open("wb") as file:
        beyond_memory._merge(
            approximate.copy(index), len(rows), [beyond_memory._read_lists(one) for one in parts], file
        )
    index.add(rows)
    approximate.write(index, tmp_path / "whole.faiss")
    assert (tmp_path / "merged.faiss").read_bytes() == (tmp_path / "whole.faiss").read_bytes()


def test_an_index_built_from_a_file_is_saved_loaded_and_written_on_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    vectors = mapped(tmp_path)
    index = ItemIndex.from_arrays(range(3000), vectors, kind="IVF16,Flat", scratch=tmp_path / "scratch")
    whole = ItemIndex.from_arrays(range(3000), VECTORS, kind="IVF16,Flat")
    assert np.shares_memory(index.vectors, vectors)
    assert index.parameters == whole.parameters
    index.save(tmp_path / "index")
    np.testing.assert_array_equal(index.search(QUERIES, 10).rows, whole.search(QUERIES, 10).rows)
    with IndexWriter(tmp_path / "index") as writer:
        writer.add([3000], QUERIES[:1])
        writer.publish()
    reader = ItemIndex.load(tmp_path / "index", mmap=True)
    assert reader.search(QUERIES[:1], 1).rows.tolist() == [[3000]]


def test_refresh_stays_mapped(tmp_path: Path) -> None:
    ItemIndex.from_arrays(range(3000), VECTORS, kind="IVF16,Flat").save(tmp_path)
    reader = ItemIndex.load(tmp_path, mmap=True)
    before = reader.search(QUERIES, 5)
    with IndexWriter(tmp_path) as writer:
        writer.remove([0])
        writer.publish(keep=1)
    after = reader.refresh()
    assert (after.mmap, len(after), after.version) == (True, 2999, "000002")
    np.testing.assert_array_equal(reader.search(QUERIES, 5).rows, before.rows)


def test_a_flipped_bit_is_refused_though_it_is_only_mapped(tmp_path: Path) -> None:
    ItemIndex.from_arrays(range(3000), VECTORS, kind="IVF16,Flat").save(tmp_path)
    path = tmp_path / "versions" / "000001" / "vectors.npy"
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtefactError, match=r"vectors.npy has changed"):
        ItemIndex.load(tmp_path, mmap=True)


@pytest.mark.parametrize(
    "kind", ["Flat", "HNSW32", "IVF16,FlatDedup", "IVF16,PQ8x4fs", "IVF16,Flat,RFlat", "OPQ8,HNSW8"]
)
def test_kinds_without_plain_lists_are_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is built in memory; beyond memory go"):
        beyond_memory.build(kind, VECTORS, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_kind_that_faiss_cannot_copy_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"FAISS refuses to build an index of kind 'L2norm,IVF16,Flat' in parts"):
        beyond_memory.build("L2norm,IVF16,Flat", VECTORS, tmp_path)


def test_the_sample_is_even_and_always_the_same() -> None:
    drawn = beyond_memory.sample(np.arange(10_000, dtype=np.float32)[:, None], 1000)[:, 0]
    assert len(np.unique(drawn)) == 1000
    assert abs(drawn.mean() - 5000) < 300
    np.testing.assert_array_equal(drawn, beyond_memory.sample(np.arange(10_000, dtype=np.float32)[:, None], 1000)[:, 0])


def test_automatic_lists_grow_with_the_root() -> None:
    found = {count: beyond_memory.automatic(count) for count in (10, 10_000, 1_000_000, 100_000_000)}
    assert found == {
        10: "IVF1,Flat",
        10_000: "IVF156,Flat",
        1_000_000: "IVF4096,Flat",
        100_000_000: "IVF32768,Flat",
    }


def test_repeats_are_counted() -> None:
    assert repeats(VECTORS) == 0
    assert repeats(np.concatenate([VECTORS, VECTORS[:7], VECTORS[:3]])) == 10
