"""Build an index of a catalog with a model's item tower."""

from __future__ import annotations

from pathlib import Path

from indexing.index import ItemIndex
from towers.catalog import Catalog
from towers.model import TwoTower


def build_index(
    model: TwoTower | str | Path,
    catalog: Catalog,
    *,
    out: str | Path | None = None,
    kind: str = "auto",
    progress: bool = True,
) -> ItemIndex:
    """An index of all items of `catalog`, bound to the vector space of `model`.

    Args:
        model: a model, or the folder of one.
        catalog: N items.
        out: index folder in which to write a new version; None keeps the index in memory only.
        kind: FAISS factory string, or "auto".
        progress: show a bar on standard error.

    Raises:
        InputError: an item that has neither text nor a vector of its own, or a kind that cannot be used.
        ArtefactError: `model` is not the folder of a model, or `out` cannot be written.
    """
    if not isinstance(model, TwoTower):
        model = TwoTower.load(model)
    vectors = model.embed_items(catalog, progress=progress)
    index = ItemIndex.from_arrays(catalog.ids, vectors, kind=kind, space=model.space)
    if out is not None:
        index.save(out)
    return index
