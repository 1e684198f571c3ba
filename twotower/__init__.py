"""Multimodal two-tower retrieval for recommendation.

The public names are loaded when they are first used, so that `import twotower` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from twotower.shadow import refuse_shadows

if TYPE_CHECKING:
    from indexing.build import build_index
    from indexing.index import ItemIndex
    from indexing.writer import IndexWriter
    from serving.retriever import Retriever
    from towers.catalog import Catalog
    from towers.interactions import Interactions
    from towers.model import TwoTower
    from training.trainer import train

__version__ = "0.1.0"

__all__ = [
    "Catalog",
    "IndexWriter",
    "Interactions",
    "ItemIndex",
    "Retriever",
    "TwoTower",
    "__version__",
    "build_index",
    "train",
]

_HOMES = {
    "Catalog": "towers.catalog",
    "IndexWriter": "indexing.writer",
    "Interactions": "towers.interactions",
    "ItemIndex": "indexing.index",
    "Retriever": "serving.retriever",
    "TwoTower": "towers.model",
    "build_index": "indexing.build",
    "train": "training.trainer",
}

refuse_shadows()


def __getattr__(name: str) -> Any:
    """Load a public name from its home (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'twotower' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
