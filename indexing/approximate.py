"""Indexes of FAISS: built, changed, written, read, and set to search well.

An index kind is FAISS's own factory string (https://github.com/facebookresearch/faiss/wiki/The-index-factory),
its search parameters are FAISS's own too: ``"nprobe=16"``, ``"efSearch=64,k_factor_rf=4"``.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from indexing import card
from indexing.library import layers, library, reason
from towers.errors import ArtefactError, InputError

# Numbers, items times dimensions, up to which every vector is compared: a query alone then takes about a millisecond of
# one thread (1.0 ms for 50,000 × 64, 0.4 ms for 20,000 × 64), and nothing is missed.
SCANNED = 2**22
MOST_SENSIBLE = 1_000  # how many to look at that cost little; beyond, more than there are vectors only cost memory
CODED_ALONE = 128  # dimensions up to which each has a code: beyond, reading the codes takes longer than they spare


def build(kind: str, vectors: np.ndarray) -> Any:
    """A FAISS index of `kind`, by inner product, trained on and filled with `vectors` float32 ``(N, D)``.

    Raises:
        InputError: FAISS does not know the kind, or cannot train it on these vectors.
    """
    index = empty(kind, vectors.shape[1])
    with faiss_errors(f"an index of kind {kind!r} over {len(vectors)} vectors of {vectors.shape[1]} dimensions"):
        card.train(index, vectors)
        if len(vectors):  # to be given none makes FAISS end the process where codes are packed (RaBitQfs)
            card.add(index, vectors)
    return index


def empty(kind: str, dimension: int) -> Any:
    """A FAISS index of `kind`, by inner product, that is neither trained nor filled.

    Raises:
        InputError: FAISS does not know the kind, or not for this dimension.
    """
    # Some counts of zero, such as HNSW0 and PQ8x0, and HNSW1 make FAISS end the process instead of raising.
    if re.search(r"[A-Za-z]0+(?!\d)", kind):
        raise InputError(f"the index kind {kind!r} holds a count of 0")
    if re.search(r"HNSW0*1(?!\d)", kind):
        raise InputError(f"the index kind {kind!r} has a graph of 1 neighbour, expected at least 2")
    if "ZnLattice" in kind:
        raise InputError(f"the index kind {kind!r} is one whose vectors FAISS writes and cannot read again")
    if "Panorama" in kind:  # a copy has lists of another class, which it then refuses to search
        raise InputError(f"the index kind {kind!r} is one that FAISS cannot copy, so that no item could come or go")
    with faiss_errors(f"an index of kind {kind!r} over vectors of {dimension} dimensions"):
        index = library().index_factory(dimension, kind, library().METRIC_INNER_PRODUCT)
        _accept_few_vectors(index)
    return index


def automatic_kind(count: int, dimension: int) -> str:
    """The kind that "auto" is for so many vectors: exact where that is quick, beyond it the fastest that was measured.

    That is inverted lists of codes with 4 bits for each dimension, or for each two of many, of what a vector is beyond
    the middle of its list, which FAISS compares 32 at a time, and exact scores for the best. `benchmarks.ann` holds it
    beside others; `indexing.tune.tune` measures on one's own vectors and questions.
    """
    if count * dimension <= SCANNED:
        return "Flat"
    return f"IVF{2 * square_root(count)},{codes(dimension)},RFlat"


def codes(dimension: int) -> str:
    """The codes of "auto" for vectors of so many dimensions: twice as fine where there are few."""
    return f"PQ{dimension if dimension <= CODED_ALONE or dimension % 2 else dimension // 2}x4fsr"


def square_root(count: int) -> int:
    """The power of two nearest to the root of `count`."""
    return 2 ** round(math.log2(math.sqrt(count)))


def default_parameters(index: Any) -> str:
    """Search parameters that favour recall. FAISS's own favour speed, and what that costs goes unnoticed.

    - IVF: an eighth of the lists, at least 8. FAISS looks into one list, and misses each neighbour that
      lies just across a border: often more than half of them.
    - HNSW: 128 candidates, where FAISS keeps 16.
    - RFlat: 16 times k candidates are scored again, where FAISS re-orders k and so can mend no miss.
    """
    parameters = []
    for layer in layers(index):
        if hasattr(layer, "k_factor"):
            parameters.append("k_factor_rf=16")
        if hasattr(layer, "nprobe"):
            parameters.append(f"nprobe={min(layer.nlist, max(8, layer.nlist // 8))}")
        if hasattr(layer, "hnsw"):
            parameters.append("efSearch=128")
    return ",".join(parameters)


def ladder(index: Any) -> list[str]:
    """Search parameters from fast to thorough; a single "" where a kind has none."""
    names = set()
    lists = 0
    for layer in layers(index):
        names |= {name for name in ("k_factor", "nprobe", "hnsw") if hasattr(layer, name)}
        lists = max(lists, getattr(layer, "nlist", 0))
    steps = [
        *([[f"k_factor_rf={factor}" for factor in _doubling(2, 64)]] if "k_factor" in names else []),
        *([[f"nprobe={number}" for number in _doubling(1, lists)]] if "nprobe" in names else []),
        *([[f"efSearch={number}" for number in _doubling(16, 512)]] if "hnsw" in names else []),
    ]
    return [",".join(parts) for parts in itertools.product(*steps)]


def merged(parameters: str, others: str) -> str:
    """`parameters` with the values of `others`, and behind them those that only these name."""
    return ",".join(f"{name}={value}" for name, value in (_texts(parameters) | _texts(others)).items())


def poorer(parameters: str, than: str) -> bool:
    """Whether a parameter that favours recall is less than it was chosen to be."""
    now, chosen = _values(parameters), _values(than)
    return any(now.get(name, value) < value for name, value in chosen.items())


def size(index: Any) -> int:
    """Bytes of the FAISS file."""
    writer = library().VectorIOWriter()
    library().write_index(index, writer)
    return writer.data.size()


def set_parameters(index: Any, parameters: str, example: np.ndarray) -> None:
    """Set FAISS search parameters, and search for `example` float32 ``(1, D)`` to see that they work.

    To look at more vectors than there are finds no more, so FAISS is not told to.

    Raises:
        InputError: the index has no such parameter, or cannot search with its value.
    """
    values = {name: _number(parameters, name, text) for name, text in _texts(parameters).items()}
    most = max(index.ntotal, MOST_SENSIBLE)
    said = ",".join(f"{name}={min(value, most) if _counts(name) else value:.17g}" for name, value in values.items())
    with faiss_errors(f"the search parameters {parameters!r}"):
        library().ParameterSpace().set_index_parameters(index, said)
        index.search(example, 1)


def _number(parameters: str, name: str, text: str) -> float:
    """The value of a parameter, refused before FAISS, which reads what it can of a text, has seen any."""
    try:
        value = float(text) if re.fullmatch(r"[-+.0-9e]+", text, re.IGNORECASE) else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"FAISS refuses the search parameters {parameters!r}: {name} needs a number")
    if _counts(name) and value < 1:  # of which FAISS takes some, and then finds little
        raise InputError(f"FAISS refuses the search parameters {parameters!r}: {name} must be at least 1")
    return value


def _counts(name: str) -> bool:
    """Whether a parameter says how many, or how many times k, are looked at."""
    return name.removeprefix("quantizer_") in ("nprobe", "efSearch", "k_factor_rf")


def learns(kind: str, dimension: int) -> bool:
    """Whether this kind is trained on vectors before it holds any."""
    return not library().index_factory(dimension, kind, library().METRIC_INNER_PRODUCT).is_trained


def add(index: Any, vectors: np.ndarray) -> bool:
    """Add float32 ``(n, D)`` behind those that are there; False where this kind can only be built whole."""
    try:
        index.add(vectors)
    except RuntimeError:
        return False
    return True


def copy(index: Any) -> Any:
    """The same index again, which may change without the first."""
    return library().clone_index(index)


def refill(index: Any, vectors: np.ndarray) -> Any:
    """A copy that was trained on what `index` was trained on, and holds float32 ``(N, D)`` `vectors` instead.

    Raises:
        InputError: this kind needs more vectors.
    """
    index = library().clone_index(index)
    with faiss_errors(f"to go on with {len(vectors)} vectors"):
        index.reset()
        index.add(vectors)
    return index


def write(index: Any, path: Path) -> None:
    """Write the FAISS file `path`.

    Python does the writing: FAISS's own does not notice where the last bytes find no room.

    Raises:
        OSError: it cannot be written.
    """
    with path.open("wb") as file:
        library().write_index(index, library().PyCallbackIOWriter(file.write))


def read(path: Path, *, mmap: bool = False) -> Any:
    """Read the FAISS file `path`.

    Args:
        path: the file.
        mmap: leave on the disk what need not be in memory; such an index cannot change, and FAISS ends the process of
            whoever copies and then changes it.

    Raises:
        ArtefactError: it is not one.
    """
    flags = library().IO_FLAG_MMAP_IFC | library().IO_FLAG_READ_ONLY if mmap else 0
    try:
        return library().read_index(str(path), flags)
    except RuntimeError as error:
        raise ArtefactError(f"{path} is not a readable FAISS index: {reason(error)}") from error


@contextmanager
def faiss_errors(what: str) -> Iterator[None]:
    """Raise `InputError` that FAISS refuses `what` where it raises."""
    try:
        yield
    except MemoryError as error:
        raise InputError(f"there is too little memory for {what}") from error
    except RuntimeError as error:
        raise InputError(f"FAISS refuses {what}: {reason(error)}") from error


def _texts(parameters: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in parameters.split(",") if part)
    return {name.strip(): value.strip() for name, _, value in pairs}


def _values(parameters: str) -> dict[str, float]:
    return {name: float(value) for name, value in _texts(parameters).items()}


def _doubling(low: int, high: int) -> list[int]:
    return [low * 2**step for step in range((high // low).bit_length())]


def _accept_few_vectors(index: Any) -> None:
    """Few vectors a centroid are the caller's choice, and `recall` tells its price: no warning on stderr."""
    for layer in layers(index):
        for owner in (layer, getattr(layer, "pq", None)):
            if owner is not None and hasattr(owner, "cp"):
                owner.cp.min_points_per_centroid = 1
