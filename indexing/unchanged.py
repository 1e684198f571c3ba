"""Items that an index has already, just so, are left out of a batch: nothing needs to be written or built for them."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa

from indexing.batch import Make, checked_batch
from indexing.index import ItemIndex
from indexing.store import Writer
from indexing.writer import IndexWriter
from towers.ids import IdList

LAST_BITS = 1e-6  # by how much a number of a vector may differ with what it was computed together with


def upsert_changed(writer: Writer, ids: IdList, vectors: np.ndarray, attributes: pa.Table | None, *, space: str) -> int:
    """Put those items of a batch that the index of a writer has not just so; how many they are.

    A Milvus is given all of them: it makes no version and builds nothing anew.

    Args:
        writer: of a folder, or of a Milvus.
        ids, vectors, attributes, space: as in `indexing.writer.IndexWriter.upsert`.

    Raises:
        InputError, ArtefactError: as `upsert` does.
    """
    put = np.arange(len(ids))
    if isinstance(writer, IndexWriter):
        put = np.flatnonzero(~unchanged(writer.index, ids, vectors, attributes, space=space))
    if len(put) < len(ids):
        ids, vectors = IdList(ids.array.take(pa.array(put))), vectors[put]
        attributes = None if attributes is None else attributes.take(pa.array(put))
    if len(put):
        writer.upsert(ids.array, vectors, attributes, space=space)
    return len(put)


def unchanged(
    index: ItemIndex, ids: IdList, vectors: np.ndarray, attributes: pa.Table | None, *, space: str
) -> np.ndarray:
    """bool ``(n,)`` which items of a batch the index has with the same attributes and, but for last bits, vector.

    Raises:
        InputError: a batch that the index cannot take.
    """
    schema = None if index.attributes is None else index.attributes.schema
    make = Make(index.ids.array.type, index.dimension, index.space, schema)
    batch = checked_batch(ids.array, vectors, attributes, space, make)
    rows = index.ids.rows(batch.ids)
    same = rows >= 0
    same[same] = (np.abs(index.vectors[rows[same]] - vectors[same]) <= LAST_BITS).all(axis=1)
    if index.attributes is not None and batch.attributes is not None:
        there = index.attributes.take(pa.array(rows[same]))
        given = batch.attributes.filter(pa.array(same))
        for name in there.column_names:
            if pa.types.is_decimal256(there[name].type):  # which polars does not know
                same[same] = False
                break
            equal = pl.Series(there[name]).eq_missing(pl.Series(given[name])).to_numpy()
            there, given = there.filter(pa.array(equal)), given.filter(pa.array(equal))
            same[same] = equal
    return same
