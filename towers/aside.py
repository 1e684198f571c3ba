"""What stands beside an index as set aside of a catalog: ``OUT.rejected.jsonl``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from towers.catalog import ITEM_ID, Catalog
from towers.ids import IdList
from towers.rejected import Rejected


def set_aside(catalog: Catalog, unread: Rejected, ids: IdList) -> Rejected:
    """All that an index has not of a catalog, each with the item whose it is.

    Args:
        catalog: items, and the rows of their file that were set aside.
        unread: their pictures, sounds and vectors that cannot be used.
        ids: items that the index was given; of the others nothing can be read.
    """
    empty = catalog.select(np.flatnonzero(ids.rows(catalog.ids.array) < 0))
    rows, values = empty.loaded.rows, empty.table[ITEM_ID]
    nothing = Rejected.of(file=empty.loaded.file, rows=rows, reason="item of which nothing can be read", values=values)
    every = catalog.rejected + unread + nothing
    at = pc.index_in(every.table["row"], value_set=pa.array(catalog.loaded.rows))
    items = catalog.ids.array.cast(pa.large_string()).take(at.combine_chunks())
    place = every.table.column_names.index("item")
    return Rejected(every.table.set_column(place, "item", items), every.total)


def aside_before(catalog: Catalog, out: Path) -> Rejected:
    """What was set aside beside an index before, but for the items of a catalog and the faulty rows of its file.

    Raises:
        ArtefactError: the file that says so cannot be read.
    """
    before = Rejected.read(_rejected_of(out))
    same_file = pc.equal(before.table["file"], catalog.loaded.file)
    again = pc.if_else(before.table["item"].is_valid(), pa.array(catalog.rows(before.table["item"]) >= 0), same_file)
    return Rejected(before.table.filter(pc.invert(again)))


def write_rejected(every: Rejected, out: Path) -> None:
    """Write what is set aside to ``OUT.rejected.jsonl``, which is gone if there is nothing.

    Raises:
        ArtefactError: the file cannot be written.
    """
    if every.count:
        every.write(_rejected_of(out))
    else:
        _rejected_of(out).unlink(missing_ok=True)


def _rejected_of(out: Path) -> Path:
    return out.with_name(f"{out.name}.rejected.jsonl")
