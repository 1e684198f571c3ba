"""Build a FAISS index with inverted lists over more vectors than there is memory for.

It is trained on a sample and filled part by part, each part a file of its own; then the lists of all parts are written
one after the other into one file. That is the file which FAISS itself would write, and is read by mapping it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from indexing import approximate, card
from indexing.library import library
from towers.artefact import fsync
from towers.errors import ArtefactError, InputError

PART_BYTES = 2**25  # vectors of a part: what is in memory at once, beside the sample
POINTS = 64  # vectors of the sample for each list; FAISS asks for at least 39
LEAST = 10_000  # vectors of the sample for all else that is trained; a product quantiser asks for 9,984


def check(kind: str, dimension: int) -> None:
    """Raise `InputError` where an index of this kind cannot be built so."""
    index = approximate.empty(kind, dimension)
    _lists(index, kind)
    with approximate.faiss_errors(f"to build an index of kind {kind!r} in parts"):
        approximate.copy(index)


def automatic(count: int) -> str:
    """A kind for so many vectors: about four times the square root in lists, none of the vectors compressed."""
    return f"IVF{max(1, min(2 ** round(np.log2(4 * np.sqrt(count))), count // POINTS))},Flat"


def build(kind: str, vectors: np.ndarray, folder: Path) -> Any:
    """The FAISS index, mapped from a file in `folder`.

    Args:
        kind: FAISS factory string with inverted lists, such as ``"IVF4096,SQ8"``.
        vectors: float32 ``(N, D)``, mapped from a file.
        folder: for that file and, meanwhile, the parts.

    Raises:
        InputError: a kind without inverted lists, or one that FAISS cannot train on this sample.
        ArtefactError: the file cannot be written.
    """
    check(kind, vectors.shape[1])
    index = approximate.empty(kind, vectors.shape[1])
    lists = _lists(index, kind)
    with approximate.faiss_errors(f"an index of kind {kind!r} over a sample of the vectors"):
        card.train(index, sample(vectors, max(LEAST, POINTS * lists.nlist)))
    path = folder / "index.faiss"
    try:
        parts = list(_parts(index, vectors, folder))
        with path.open("wb") as file:
            _merge(index, len(vectors), [_read_lists(part) for part in parts], file)
        fsync(path)
    except OSError as error:
        raise ArtefactError(f"cannot write {path}: {error.strerror or error}") from error
    for part in parts:
        part.unlink()
    return approximate.read(path, mmap=True)


def sample(vectors: np.ndarray, count: int) -> np.ndarray:
    """`count` rows drawn evenly, always the same ones; all where there are no more."""
    if count >= len(vectors):
        return np.array(vectors)
    return vectors[np.sort(np.random.default_rng(0).choice(len(vectors), count, replace=False))]


def _lists(index: Any, kind: str) -> Any:
    """The part of an index that has inverted lists."""
    faiss = library()
    found = faiss.downcast_index(index)
    if isinstance(found, faiss.IndexPreTransform):
        found = faiss.downcast_index(found.index)
    others = faiss.IndexIVFFastScan | faiss.IndexIVFPQR | faiss.IndexIVFFlatDedup | faiss.IndexIVFFlatPanorama
    if not isinstance(found, faiss.IndexIVF) or isinstance(found, others):
        raise InputError(
            f"an index of kind {kind!r} is built in memory; beyond memory go kinds with plain inverted lists, such as "
            "IVF4096,Flat, IVF4096,SQ8 or OPQ16,IVF4096,PQ16"
        )
    return found


def _parts(index: Any, vectors: np.ndarray, folder: Path) -> Iterator[Path]:
    """Write indexes of consecutive vectors, each numbered as in the whole."""
    size = max(1, PART_BYTES // (4 * vectors.shape[1]))
    for number, start in enumerate(range(0, len(vectors), size)):
        rows = np.arange(start, min(start + size, len(vectors)))
        part = approximate.copy(index)
        card.add(part, np.array(vectors[rows[0] : rows[-1] + 1]), rows)
        path = folder / f"{number:06d}.part.faiss"
        approximate.write(part, path)
        yield path


def _read_lists(path: Path) -> Any:
    """The inverted lists of a part, mapped."""
    faiss = library()
    index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
    inner = faiss.extract_index_ivf(index)
    lists = faiss.downcast_InvertedLists(inner.invlists)
    lists.whole = index  # or it goes, and the lists with it
    return lists


def _merge(index: Any, count: int, parts: list[Any], file: BinaryIO) -> None:
    """Write the trained, empty `index` with the `count` vectors of all parts in its lists.

    A file of FAISS ends with the lists: how many, the bytes of a code, which of them are not empty and how long they
    are, then the codes and numbers of each.
    """
    faiss = library()
    inner = faiss.extract_index_ivf(index)
    head = struct.pack("<4sQQ", b"ilar", inner.nlist, inner.code_size)
    none = head + struct.pack("<4sQ", b"sprs", 0)
    index.ntotal = inner.ntotal = count
    content = faiss.serialize_index(index).tobytes()
    if not content.endswith(none):
        raise ArtefactError(f"FAISS {faiss.__version__} writes its lists in a way that this version does not know")
    sizes = np.array([[part.list_size(number) for part in parts] for number in range(inner.nlist)], np.int64)
    lengths = sizes.sum(axis=1).astype(np.uint64)
    file.write(content[: -len(none)] + head)
    filled = np.flatnonzero(lengths)
    if len(filled) > inner.nlist // 2:
        file.write(struct.pack("<4sQ", b"full", inner.nlist) + lengths.tobytes())
    else:
        pairs = np.stack([filled.astype(np.uint64), lengths[filled]], axis=1)
        file.write(struct.pack("<4sQ", b"sprs", pairs.size) + pairs.tobytes())
    for number in filled.tolist():
        holding = [(part, int(size)) for part, size in zip(parts, sizes[number], strict=True) if size]
        for part, size in holding:
            file.write(faiss.rev_swig_ptr(part.get_codes(number), size * inner.code_size).tobytes())
        for part, size in holding:
            file.write(faiss.rev_swig_ptr(part.get_ids(number), size).tobytes())
