"""The files of one version of an index.

- ``vectors.npy``, ``ids.parquet``: what `ItemIndex.vectors` and `ItemIndex.ids` are.
- ``index.faiss``: an ordinary FAISS file.
- ``attributes.parquet``, ``removed.parquet``, ``places.npy``: where there are attributes, removed items, tombstones.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from indexing import approximate
from indexing.items import Removed
from towers.errors import ArtefactError
from towers.ids import IdList

if TYPE_CHECKING:
    from indexing.index import ItemIndex

VECTORS, IDS, FAISS = "vectors.npy", "ids.parquet", "index.faiss"
ATTRIBUTES, REMOVED, PLACES = "attributes.parquet", "removed.parquet", "places.npy"


def about(index: ItemIndex) -> dict[str, Any]:
    """What the manifest says of an index."""
    return {
        "space": index.space,
        "ids": index.ids.fingerprint,
        "count": len(index),
        "dimension": index.dimension,
        "duplicates": index.duplicates,
        "index_kind": index.kind,
        "parameters": index.parameters,
        "tuned": index.tuned,
        "built": index.built,
        "tombstones": index.tombstones,
        "removed": len(index.removed),
        "attributes": index.attributes.column_names if index.attributes is not None else [],
    }


def write(index: ItemIndex, folder: Path) -> None:
    """Write the files into an empty folder.

    Raises:
        OSError: they cannot be written.
    """
    np.save(folder / VECTORS, index.vectors, allow_pickle=False)
    pq.write_table(pa.table({"item_id": index.ids.array}), folder / IDS)
    approximate.write(index.faiss, folder / FAISS)
    if index.attributes is not None:
        pq.write_table(index.attributes, folder / ATTRIBUTES)
    if len(index.removed):
        pq.write_table(_removed_table(index.removed), folder / REMOVED)
    if index.places is not None:
        np.save(folder / PLACES, index.places, allow_pickle=False)


def read(folder: Path, about: dict[str, Any], *, mmap: bool = False) -> dict[str, Any]:
    """What `ItemIndex` is made of, from files whose checksums were verified; with `mmap` vectors stay in the files.

    Raises:
        ArtefactError: they do not belong together.
        KeyError, TypeError, ValueError, OSError, pyarrow.ArrowException: they are not what their names say.
    """
    vectors = np.asarray(np.load(folder / VECTORS, mmap_mode="r" if mmap else None, allow_pickle=False))
    ids = IdList(pq.read_table(folder / IDS)["item_id"])
    faiss = approximate.read(folder / FAISS, mmap=mmap)
    attributes = pq.read_table(folder / ATTRIBUTES).combine_chunks() if about["attributes"] else None
    removed = _read_removed(folder / REMOVED) if about["removed"] else None
    places = np.load(folder / PLACES, allow_pickle=False) if (folder / PLACES).exists() else None

    shape = (about["count"], about["dimension"])
    shapes = [vectors.shape, (len(ids), shape[1]), (faiss.ntotal - about["tombstones"], faiss.d)]
    if vectors.dtype != np.float32 or any(found != shape for found in shapes):
        raise ArtefactError(f"{folder}: vectors, ids and FAISS index do not line up: {shapes} for {shape}")
    if ids.fingerprint != about["ids"]:
        raise ArtefactError(f"{folder}: the ids are not those that the vectors were written with")
    if attributes is not None and (attributes.num_rows, attributes.column_names) != (len(ids), about["attributes"]):
        raise ArtefactError(f"{folder}: the attributes do not line up with the items")
    if removed is not None and (len(removed), removed.vectors.shape[1]) != (about["removed"], shape[1]):
        raise ArtefactError(f"{folder}: the removed items are not those of the manifest")
    _check_places(folder, places, len(ids), faiss.ntotal)
    return {
        "ids": ids,
        "vectors": vectors,
        "kind": about["index_kind"],
        "space": about["space"],
        "faiss": faiss,
        "duplicates": about["duplicates"],
        "attributes": attributes,
        "removed": removed,
        "places": places,
        "built": about["built"],
    }


def _check_places(folder: Path, places: np.ndarray | None, count: int, total: int) -> None:
    if places is None:
        fits = count == total
    else:
        fits = places.dtype == np.int64 and places.shape == (count,)
        fits = fits and len(np.unique(places)) == count and bool(((places >= 0) & (places < total)).all())
    if not fits:
        raise ArtefactError(f"{folder}: it is not clear which of the {total} vectors in the FAISS index are whose")


def _removed_table(removed: Removed) -> pa.Table:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(removed.vectors.ravel()), removed.vectors.shape[1])
    return pa.table({"item_id": removed.ids.array, "vector": vectors})


def _read_removed(path: Path) -> Removed:
    table = pq.read_table(path)
    vectors = table["vector"].combine_chunks()
    flat = vectors.flatten().to_numpy(zero_copy_only=False)
    ids = IdList(table["item_id"])
    return Removed(ids, np.ascontiguousarray(flat.reshape(len(ids), vectors.type.list_size), np.float32))
