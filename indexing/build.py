"""Build an index of a catalog with a model's item tower."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa

from indexing.index import ItemIndex
from towers.catalog import ITEM_ID, MEDIA, Catalog
from towers.errors import InputError
from towers.ids import IdList
from towers.model import TwoTower

SHOWN = 3  # items that are named where more are set aside


def readable(catalog: Catalog, vectors: np.ndarray) -> tuple[IdList, np.ndarray]:
    """The items that have a vector, and these.

    Raises:
        InputError: none has one.

    Warns:
        UserWarning: items without one.
    """
    empty = np.flatnonzero(~vectors.any(axis=1))
    if not len(empty):
        return catalog.ids, vectors
    named = ", ".join(repr(catalog.ids[row]) for row in empty[:SHOWN]) + (", …" if len(empty) > SHOWN else "")
    told = f"{len(empty):,} of {len(catalog):,} items have neither content that can be read nor a vector of their own"
    if len(empty) == len(catalog):
        raise InputError(f"{told}: give them text, or a picture or a sound that the model reads")
    warnings.warn(f"{told} and are set aside: {named}", UserWarning, stacklevel=3)
    kept = np.flatnonzero(vectors.any(axis=1))
    return IdList(catalog.ids.array.take(kept)), vectors[kept]


def attributes_of(catalog: Catalog, ids: IdList) -> pa.Table | None:
    """What filters may ask of these items: the catalog's columns, but for pictures, sounds and vectors; None of none.

    Args:
        catalog: has all of the items.
        ids: M items, a row each.
    """
    names = [field.name for field in catalog.table.schema if is_attribute(field)]
    return catalog.table.select(names).take(pa.array(catalog.rows(ids.array))) if names else None


def is_attribute(field: pa.Field) -> bool:
    """Whether it is a value of an item, or a list of words."""
    kind = field.type
    if field.name == ITEM_ID or field.name in MEDIA:
        return False
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.types.is_string(kind.value_type) or pa.types.is_large_string(kind.value_type)
    return not (pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


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
        InputError: no item of which anything can be read, or a kind that cannot be used.
        ArtefactError: `model` is not the folder of a model, or `out` cannot be written.

    Warns:
        UserWarning: items with neither content nor a vector of their own, which are set aside.
    """
    if not isinstance(model, TwoTower):
        model = TwoTower.load(model)
    vectors = model.embed_items(catalog, progress=progress)
    ids, vectors = readable(catalog, vectors)
    index = ItemIndex.from_arrays(ids, vectors, attributes_of(catalog, ids), kind=kind, space=model.space)
    if out is not None:
        index.save(out)
    return index
