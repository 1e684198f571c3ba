"""FAISS on a graphics card, where there is one: k-means, the lists that vectors belong to, and large searches.

An index stays in memory and in its file what it is without a card, which has copies only: of the centroids while an
index is built, and of the whole index once a search is large enough. What the card cannot do, the CPU does.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from indexing.library import layers, library, reason

MOST = 2048  # rows a query, and lists a query, that FAISS finds on a card
# Numbers to compare from which on the way to the card and back is worth it: about 3 ms of one core. Reckoned, for no
# card was at hand to measure it.
WORTH = 2**26
# Bytes of scratch memory of each copy. FAISS's own 1.5 GiB are meant for one; what does not fit is allocated apart.
SCRATCH = 2**28
# What FAISS has on a card; classes derived from these differ.
FLAT = ("IndexFlat", "IndexFlatIP")
LISTS = ("IndexIVFFlat", "IndexIVFPQ", "IndexIVFScalarQuantizer")
TRANSFORMED = ("IndexPreTransform",)
# What has, on the CPU, the very scores of `indexing.vectors.similarity`. Others add up four vectors at a time, or by
# matrices, or score codes; Flat has ways of its own for few queries, for many, and for several threads.
EXACT = ("IndexRefineFlat", "IndexIVFFlat")

Found = tuple[np.ndarray, np.ndarray | None]


def present() -> bool:
    """Whether FAISS can use a card: one is there, and this FAISS was built for it."""
    return library().get_num_gpus() > 0


def train(index: Any, vectors: np.ndarray) -> None:
    """``index.train(vectors)``, with the k-means of inverted lists on the card where that pays.

    Raises:
        RuntimeError: FAISS cannot train it.
    """
    lists = _lists(index)
    if lists is None or not _worth(_compared(lists, len(vectors)), lists.nlist, lists.d):
        index.train(vectors)
        return

    def there() -> None:
        copy = _copy(lists.quantizer)
        try:
            lists.clustering_index = copy
            index.train(vectors)
        finally:
            lists.clustering_index = None
            copy.thisown = True  # FAISS's bindings take what is put into an index for the index's own

    _card_or_cpu("find the centres of the lists", there, lambda: index.train(vectors))


def add(index: Any, vectors: np.ndarray, numbers: np.ndarray | None = None) -> None:
    """``index.add(vectors)``, with each vector's list found on the card where that pays.

    Args:
        index: trained.
        vectors: float32 ``(n, D)``.
        numbers: int64 ``(n,)``, under which the index has them; None to go on counting.

    Raises:
        RuntimeError: FAISS cannot add to this kind.
    """
    lists = _lists(index)

    def here() -> None:
        index.add(vectors) if numbers is None else index.add_with_ids(vectors, numbers)

    # Under a transform or a re-ranking, and with fast-scan codes, FAISS finds the list itself.
    if lists is None or not _is_one_of(index, LISTS) or not _worth(len(vectors), lists.nlist, lists.d):
        here()
        return

    def there() -> None:
        rows = np.ascontiguousarray(vectors, np.float32)
        own = np.ascontiguousarray(_copy(lists.quantizer).search(rows, 1)[1][:, 0])
        pointer = library().swig_ptr
        lists.add_core(len(rows), pointer(rows), None if numbers is None else pointer(numbers), pointer(own))

    _card_or_cpu("find the lists of the vectors", there, here)


class Finder:
    """Searches an index, on the card where FAISS has its kind there and the search is large, on the CPU otherwise.

    The copy on the card is made by the first search that is large enough. One thread at a time may use it, so others
    wait. The index must not change meanwhile; its search parameters may.

    Args:
        index: FAISS index.
    """

    def __init__(self, index: Any) -> None:
        self._index, self._lists = index, _lists(index)
        self._exact = _is_one_of(library().downcast_index(index), EXACT)
        self._obstacle = _obstacle(index)
        self._copy: Any = None
        self._turn = threading.Lock()

    @property
    def place(self) -> str:
        """Where it searches, in words."""
        return f"the CPU ({self._obstacle})" if self._obstacle else "the card, where a search is large"

    def search(self, queries: np.ndarray, depth: int) -> Found:
        """What is near float32 ``(B, D)`` `queries`.

        Returns:
            int64 ``(B, depth)`` rows, -1 where FAISS found fewer, and float32 ``(B, depth)`` exact scores of those that
            it found, where it has them.
        """
        if not self._obstacle and self._suits(len(queries), depth):
            with self._turn:
                if not self._obstacle:  # which the thread before may have met
                    return _card_or_cpu(
                        "search", lambda: self._there(queries, depth), lambda: self._here(queries, depth)
                    )
        return self._here(queries, depth)

    def _suits(self, count: int, depth: int) -> bool:
        """Whether the card can do it, and sooner."""
        looked_into, share = 0, 1.0
        if self._lists is not None:
            looked_into = min(self._lists.nprobe, self._lists.nlist)
            share = looked_into / self._lists.nlist
        return max(depth, looked_into) <= MOST and _worth(count, round(share * self._index.ntotal), self._index.d)

    def _here(self, queries: np.ndarray, depth: int) -> Found:
        scores, rows = self._index.search(queries, depth)
        return rows, scores if self._exact else None

    def _there(self, queries: np.ndarray, depth: int) -> Found:
        try:
            if self._copy is None:
                self._copy = _copy(self._index)
            if self._lists is not None:
                *_, innermost = layers(self._copy)
                innermost.nprobe = self._lists.nprobe
            return self._copy.search(queries, depth)[1], None
        except RuntimeError as error:
            self._copy, self._obstacle = None, _failure(error)
            raise


def _obstacle(index: Any) -> str:
    """Why an index is not searched on a card; "" where it is."""
    if not present():
        return "there is no graphics card"
    *outer, inner = layers(index)
    for layer, known in [*((layer, TRANSFORMED) for layer in outer), (inner, FLAT + LISTS)]:
        if not _is_one_of(layer, known):
            return f"FAISS has no {type(layer).__name__} on a card"
    if _is_one_of(inner, LISTS) and _lists(index) is None:
        return "FAISS has lists on a card only where their centres are Flat"
    return ""


def _lists(index: Any) -> Any:
    """The part of an index that has inverted lists around centres that are Flat; None where there is none."""
    for layer in layers(index):
        if hasattr(layer, "nlist") and _is_one_of(library().downcast_index(layer.quantizer), FLAT):
            return layer
    return None


def _compared(lists: Any, count: int) -> int:
    """How often k-means over `count` vectors compares one with all centres."""
    return lists.cp.niter * min(count, lists.cp.max_points_per_centroid * lists.nlist)


def _is_one_of(index: Any, names: tuple[str, ...]) -> bool:
    return type(index).__name__ in names


def _worth(queries: int, vectors: int, dimension: int) -> bool:
    """Whether to compare so many with so many on the card: there is one, and it pays."""
    return present() and queries * vectors * dimension >= WORTH


def _copy(index: Any) -> Any:
    """The same on the first card, with memory and streams of its own.

    Raises:
        RuntimeError: FAISS has not this kind there, or there is too little memory.
    """
    faiss = library()
    resources = faiss.StandardGpuResources()
    resources.setTempMemory(SCRATCH)
    resources.setPinnedMemory(0)  # 256 MiB of the machine's memory otherwise, that the system may not move
    return faiss.index_cpu_to_gpu(resources, 0, index)


def _card_or_cpu(what: str, there: Callable[[], Any], here: Callable[[], Any]) -> Any:
    """What the card gives; where it fails, what the CPU gives, and a warning."""
    try:
        return there()
    except RuntimeError as error:
        failure = _failure(error)
    given = here()
    warnings.warn(f"the CPU had to {what}: {failure}", UserWarning, stacklevel=3)
    return given


def _failure(error: RuntimeError) -> str:
    return f"the card failed, {reason(error)}"
