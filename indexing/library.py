"""FAISS itself, imported when it is first needed, what its indexes are made of, and what it says of an error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from towers.errors import MissingExtraError

# Numbers in a batch of queries from which FAISS multiplies matrices. Its own, 128,000, are 2,000 queries of 64
# dimensions; tried on 512 to 100,000 vectors of 64 to 384 dimensions, a product wins from 8 queries on, by 1.2 to 1.4,
# at 64 by 1.8 to 4.7 and at 256 by 1.9 to 6.3, while with fewer than 4 it takes up to five times as long.
PRODUCT_FROM = 2_048


def library() -> Any:
    """The `faiss` module.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise MissingExtraError(
            f"an index needs FAISS, which cannot be imported ({error}): "
            "pip install 'faiss-cpu>=1.15' (on Linux x86-64 faiss-gpu, which runs without a GPU too)"
        ) from error
    return _prepared(faiss)


@cache
def _prepared(faiss: Any) -> Any:
    """Once, so that who sets it otherwise later keeps it so."""
    faiss.cvar.distance_compute_blas_threshold = min(faiss.cvar.distance_compute_blas_threshold, PRODUCT_FROM)
    return faiss


def layers(index: Any) -> Iterator[Any]:
    """The index and those inside it: under RFlat (re-ranking), under PCA, OPQ and the like (transforms)."""
    while index is not None:
        index = library().downcast_index(index)
        yield index
        index = getattr(index, "base_index", None) or getattr(index, "index", None)


def reason(error: RuntimeError) -> str:
    """What FAISS says, without the C++ signature and source line it puts before it."""
    return re.sub(r"^Error in .*? at \S+:\d+: (Error: )?", "", str(error), flags=re.DOTALL).strip()
