"""An index with changes made to it: another index, the first stays as it is.

One mechanism for every kind. FAISS numbers vectors in the order in which it was given them, and most kinds cannot
forget one. So what is removed stays there and is passed over (a tombstone), what is put goes to the end, and compaction
builds the FAISS index again from what is alive.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from indexing import approximate
from indexing.index import ItemIndex
from indexing.items import Removed
from indexing.journal import Change
from indexing.nearest import FLAT
from towers.errors import InputError
from towers.ids import Id, IdList

DEAD_SHARE = 0.2
"""Share of tombstones beyond which FAISS is built again. Measured on 10,000 items (`benchmarks.lifecycle`, `wear`):
recall does not suffer, but a search of HNSW32 takes 1.6 times as long with a fifth and 3.1 times with a half."""

GROWTH = 2.0
"""How many times more vectors than FAISS was trained on call for training it again; chosen, not measured."""


def changed(index: ItemIndex, changes: Sequence[Change]) -> ItemIndex:
    """`index` after `changes`, which were checked; new items come last, in the order in which they were put."""
    if not changes:
        return index
    alive, last = _outcome(changes)
    puts = [change for change in changes if change.vectors is not None]
    vectors = np.concatenate(
        [np.empty((0, index.dimension), np.float32), *(c.vectors for c in puts if c.vectors is not None)]
    )
    touched = index.ids.rows(pa.array(list(alive), index.ids.array.type))
    kept = np.ones(len(index), bool)
    kept[touched[touched >= 0]] = False
    new = [one for one, lives in alive.items() if lives]
    rows = np.array([last[one] for one in new], np.int64)

    attributes = None
    if index.attributes is not None:
        new_rows = [pa.concat_tables([c.attributes for c in puts]).take(rows)] if puts else []
        attributes = pa.concat_tables([index.attributes.filter(kept), *new_rows]).combine_chunks()
    all_vectors = np.concatenate([index.vectors[kept], vectors[rows]])
    faiss, places, built = _with(index, kept, all_vectors, len(new))
    return _like(
        index,
        ids=IdList(pa.concat_arrays([index.ids.array.filter(pa.array(kept)), pa.array(new, index.ids.array.type)])),
        vectors=all_vectors,
        attributes=attributes,
        removed=_removed(index, alive, last, vectors),
        faiss=faiss,
        places=places,
        built=built,
    )


def worn(index: ItemIndex) -> bool:
    """Whether compaction is worth its while: many tombstones, or many more vectors than FAISS was trained on."""
    total = len(index) + index.tombstones
    grown = total > GROWTH * index.built and approximate.learns(index.kind, index.dimension)
    return len(index) > 0 and (index.tombstones > DEAD_SHARE * total or grown)  # nothing can be learned of none


def compacted(index: ItemIndex) -> ItemIndex:
    """The same items, rows and parameters over a FAISS index built from them alone.

    Where they are too few to train this kind on, what it was trained on before goes on serving.

    Raises:
        InputError: FAISS cannot even do that.
    """
    try:
        faiss, built = approximate.build(index.kind, index.vectors), len(index)
    except InputError:
        faiss, built = approximate.refill(index.faiss, index.vectors), index.built
    return _like(index, faiss=faiss, places=None, built=built)


def _outcome(changes: Sequence[Change]) -> tuple[dict[Id, bool], dict[Id, int]]:
    """Which ids live in the end, in the order of their last change, and which vector put was the last of each."""
    alive: dict[Id, bool] = {}
    last: dict[Id, int] = {}
    count = 0
    for change in changes:
        for one in change.ids.to_pylist():
            alive.pop(one, None)
            alive[one] = change.vectors is not None
            if alive[one]:
                last[one], count = count, count + 1
    return alive, last


def _with(index: ItemIndex, kept: np.ndarray, vectors: np.ndarray, new: int) -> tuple[Any, np.ndarray | None, int]:
    """FAISS with `new` vectors added, the places of all rows in it, and what it was built from."""
    if index.kind == FLAT:  # nothing is learned, so building is copying
        return approximate.build(FLAT, vectors), None, len(vectors)
    try:
        faiss = approximate.copy(index.faiss)
    except RuntimeError:  # a kind that FAISS cannot copy
        return approximate.build(index.kind, vectors), None, len(vectors)
    total, added = faiss.ntotal, vectors[len(vectors) - new :]
    if new and not approximate.add(faiss, added):
        try:
            return approximate.build(index.kind, vectors), None, len(vectors)
        except InputError:  # too few are alive, but not with those that are passed over
            faiss = approximate.build(index.kind, np.concatenate([faiss.reconstruct_n(0, total), added]))
    before = np.arange(len(index)) if index.places is None else index.places
    places = np.concatenate([before[kept], np.arange(total, total + new)])
    return faiss, None if len(places) == faiss.ntotal else places, index.built


def _removed(index: ItemIndex, alive: dict[Id, bool], last: dict[Id, int], vectors: np.ndarray) -> Removed:
    """Those removed before and not put again, and those removed now."""
    old = index.removed
    kept = np.array([one not in alive for one in old.ids.to_list()], bool)
    gone = [one for one, lives in alive.items() if not lives]
    rows = index.ids.rows(pa.array(gone, index.ids.array.type))
    earlier = dict(zip(old.ids.to_list(), old.vectors, strict=True))
    now = [
        vectors[last[one]] if one in last else index.vectors[row] if row >= 0 else earlier[one]
        for one, row in zip(gone, rows, strict=True)
    ]
    ids = pa.concat_arrays([old.ids.array.filter(pa.array(kept, pa.bool_())), pa.array(gone, index.ids.array.type)])
    return Removed(
        IdList(ids), np.concatenate([old.vectors[kept], np.array(now, np.float32).reshape(-1, index.dimension)])
    )


def _like(index: ItemIndex, **parts: Any) -> ItemIndex:
    same = {
        name: getattr(index, name)
        for name in ("ids", "vectors", "attributes", "removed", "kind", "space", "faiss", "places", "built")
    }
    made = ItemIndex(**{**same, **parts})
    made.set_parameters(index.parameters)
    made.tuned = dict(index.tuned)
    return made
