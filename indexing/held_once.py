"""Vectors that a FAISS index keeps as they are, read where FAISS has them, so that memory holds them once."""

from __future__ import annotations

from mmap import mmap
from typing import Any

import numpy as np

from indexing.library import library


class _InFaiss:
    """Memory of FAISS for numpy; the array keeps this alive, and this the index."""

    def __init__(self, index: Any, flat: Any) -> None:
        self.index = index
        memory = library().rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d)
        self.__array_interface__ = {**memory.__array_interface__, "shape": (flat.ntotal, flat.d)}


def held_once(index: Any, vectors: np.ndarray) -> np.ndarray:
    """FAISS's own copy of `vectors`, where it has one; else `vectors`.

    Args:
        index: the FAISS index, which must not change from now on.
        vectors: float32 ``(N, D)``; mapped from a file they stay as they are, since they take no memory there.
    """
    if _mapped(vectors) or not len(vectors):
        return vectors
    flat = _flat(library().downcast_index(index))
    if flat is None or (flat.ntotal, flat.d) != vectors.shape:
        return vectors
    held = np.asarray(_InFaiss(index, flat))
    return held if np.array_equal(held, vectors) else vectors


def _mapped(array: Any) -> bool:
    while array is not None and not isinstance(array, mmap):
        array = getattr(array, "base", None)
    return array is not None


def _flat(index: Any) -> Any | None:
    """What of this index keeps whole vectors: all of Flat, the storage of HNSW, the end of ``,RFlat``."""
    part = getattr(index, "refine_index", None) or getattr(index, "storage", None) or index
    part = library().downcast_index(part)
    return part if isinstance(part, library().IndexFlat) else None
