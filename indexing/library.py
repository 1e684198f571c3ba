"""FAISS itself, imported when it is first needed, what its indexes are made of, and what it says of an error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from towers.errors import MissingExtraError


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
