"""`Source`: what an importer found in a folder, columns named as ours; checked on request, written as Parquet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from towers.artefact import artefact_writer
from towers.catalog import ITEM_ID, Catalog
from towers.interactions import Interactions
from towers.rejected import Loaded, Rejected

KIND = "twotower/data"
# In time, so that where times are equal the order of rows is right; each with its word in a column `split`.
SPLITS = {"train": "train", "valid": "validation", "test": "test"}


@dataclass(frozen=True, kw_only=True)
class Source:
    """The rows of a data set, those already set aside beside them.

    Args:
        items: rows with ``item_id``; items that only the events know have a row at the end with nothing else.
        events: rows with ``user_id`` and ``item_id``; ratings, if any, are numbers.
        people: rows with ``user_id``, or None.
        rating_range: smallest and largest rating of the scale, or None where only the data says.
        bare: how many rows at the end of `items` hold an id alone.
    """

    items: Loaded
    events: Loaded
    people: Loaded | None = None
    rating_range: tuple[float, float] | None = None
    bare: int = 0

    @classmethod
    def of(
        cls,
        items: Loaded | None,
        events: Loaded,
        *,
        people: Loaded | None = None,
        rating_range: tuple[float, float] | None = None,
    ) -> Source:
        """A source whose items include every item of the events."""
        found = pl.Series(events.table[ITEM_ID]).drop_nulls().unique(maintain_order=True)
        if items is None:
            items = Loaded(pa.table({ITEM_ID: found[:0].to_arrow()}), np.empty(0, np.int64), events.file, Rejected())
        unknown = found.filter(
            ~found.is_in(pl.Series(items.table[ITEM_ID]).implode()) & (found.cast(pl.String).str.strip_chars() != "")
        )
        table = pa.concat_tables([items.table, pa.table({ITEM_ID: unknown.to_arrow()})], promote_options="permissive")
        rows = np.concatenate([items.rows, np.zeros(len(unknown), np.int64)])  # they stand in no row of the file
        items = replace(items, table=table, rows=rows)
        return cls(items=items, events=events, people=people, rating_range=rating_range, bare=len(unknown))

    def read(self) -> tuple[Catalog, Interactions]:
        """Everything checked, bad rows set aside, ratings mapped to [0, 1].

        Raises:
            InputError: no usable item or event is left.
        """
        log = Interactions.read(self.events, rating_range=self.rating_range, people=self.people)
        return Catalog.read(self.items), log

    def write(self, out: Path) -> tuple[Catalog, Interactions]:
        """Check everything and write what is good to a folder, whole or not at all.

        The folder then holds ``items.parquet``, ``interactions.parquet`` with the ratings as they were, where there
        are people ``people.parquet``, and where rows were set aside ``rejected.jsonl``; an earlier import there is
        replaced.

        Args:
            out: the folder.

        Raises:
            InputError: no usable item or event is left.
            ArtefactError: the folder is something else, or cannot be written.
        """
        catalog, log = self.read()
        tables = {"items": catalog.table, "interactions": self._unscaled(log), "people": log.people}
        rejected = catalog.rejected + log.rejected
        about = {"rows": {name: len(table) for name, table in tables.items() if table is not None}}
        with artefact_writer(out, KIND, {**about, "rating_range": log.rating_range}) as folder:
            for name, table in tables.items():
                if table is not None:
                    pq.write_table(table, folder / f"{name}.parquet", compression="zstd")
            if rejected.count:
                rejected.write(folder / "rejected.jsonl")
        return catalog, log

    def _unscaled(self, log: Interactions) -> pa.Table:
        if log.rating_range is None:
            return log.table
        kept = pa.array(np.isin(self.events.rows, log.loaded.rows))
        return log.loaded.with_column("rating", self.events.table["rating"].filter(kept)).table


def together(parts: list[Loaded]) -> Loaded:
    """The rows of several files below one another; from here on they are counted through all files."""
    before = np.cumsum([0, *(part.rejected.total for part in parts)])
    return Loaded(
        pa.concat_tables([part.table for part in parts], promote_options="permissive"),
        np.concatenate([part.rows + start for part, start in zip(parts, before[:-1], strict=True)]),
        ", ".join(part.file for part in parts),
        sum((part.rejected for part in parts[1:]), parts[0].rejected),
    )


def numbers(loaded: Loaded, name: str, *, whole: bool = False) -> Loaded:
    """A column of text as numbers; rows with other text are set aside, missing values stay."""
    text = pl.Series(loaded.table[name])
    values = text.str.strip_chars().cast(pl.Int64 if whole else pl.Float64, strict=False)
    bad = (values.is_null() & text.is_not_null()).to_numpy()
    kind = "whole number" if whole else "number"
    kept = pa.chunked_array([values.filter(pl.Series(~bad)).to_arrow()])
    return loaded.without(bad, f"{name} is not a {kind}", name).with_column(name, kept)
