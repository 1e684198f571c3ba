"""Where FAISS keeps whole vectors, memory has them once."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest

from indexing.index import ItemIndex
from indexing.vectors import unit
from indexing.writer import IndexWriter

WHOLE = ["Flat", "HNSW8", "IVF4,PQ4x4fsr,RFlat", "PCA8,IVF4,Flat,RFlat"]
CODES = ["IVF4,Flat", "SQ8", "PCA8,HNSW8", "IVF4,PQ4"]


def _vectors() -> np.ndarray:
    return unit(np.random.default_rng(0).normal(size=(300, 16)))


@pytest.mark.parametrize("kind", WHOLE)
def test_where_faiss_keeps_whole_vectors_ours_are_let_go(kind: str) -> None:
    vectors = _vectors()
    expected, given = vectors.copy(), weakref.ref(vectors)
    index = ItemIndex.from_arrays(range(300), vectors, kind=kind)
    del vectors
    assert given() is None
    assert (index.vectors == expected).all()
    assert not index.vectors.flags.writeable
    assert (index.search(expected[:5], 1).rows[:, 0] == range(5)).all()


@pytest.mark.parametrize("kind", CODES)
def test_where_faiss_keeps_codes_or_lists_ours_serve(kind: str) -> None:
    vectors = _vectors()
    index = ItemIndex.from_arrays(range(300), vectors, kind=kind)
    assert np.shares_memory(index.vectors, vectors)


def test_vectors_outlive_the_index_that_they_came_from() -> None:
    expected = _vectors()
    kept = ItemIndex.from_arrays(range(300), _vectors(), kind="Flat").vectors
    gc.collect()
    np.empty(expected.nbytes // 4, np.float32).fill(7)  # what would lie in memory that was given back
    assert (kept == expected).all()


def test_an_index_that_was_loaded_has_them_once_and_a_mapped_one_leaves_them_in_their_file(tmp_path: Path) -> None:
    ItemIndex.from_arrays(range(300), _vectors(), kind="HNSW8").save(tmp_path / "index")
    loaded, mapped = ItemIndex.load(tmp_path / "index"), ItemIndex.load(tmp_path / "index", mmap=True)
    assert np.shares_memory(loaded.vectors, _memory_of(loaded))
    assert not np.shares_memory(mapped.vectors, _memory_of(mapped))
    assert (loaded.vectors == mapped.vectors).all()


def test_with_tombstones_rows_are_ours_and_compaction_shares_again(tmp_path: Path) -> None:
    ItemIndex.from_arrays(range(300), _vectors(), kind="HNSW8").save(tmp_path / "index")
    with IndexWriter(tmp_path / "index") as writer:
        writer.remove([0])
        writer.publish()
        worn = ItemIndex.load(tmp_path / "index")
        writer.compact()
        writer.publish()
    compact = ItemIndex.load(tmp_path / "index")
    assert (worn.tombstones, compact.tombstones) == (1, 0)
    assert not np.shares_memory(worn.vectors, _memory_of(worn))
    assert np.shares_memory(compact.vectors, _memory_of(compact))
    assert (worn.vectors == _vectors()[1:]).all()
    assert (compact.vectors == _vectors()[1:]).all()


def _memory_of(index: ItemIndex) -> np.ndarray:
    """The vectors in an HNSW index of FAISS, read where they lie."""
    import faiss

    storage = faiss.downcast_index(index.faiss.storage)
    return faiss.rev_swig_ptr(storage.get_xb(), storage.ntotal * storage.d)
