"""`Catalog`: the items, read and checked once. No torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from towers import template as templates
from towers.ids import Id, IdList
from towers.rejected import Loaded, Rejected
from towers.tables import mask, read_table, refuse_empty, without_duplicates, without_missing

ITEM_ID = "item_id"
MEDIA = ("image", "audio")
TITLES = ("title", "name")
HASHED_ROWS = 10_000


@dataclass(frozen=True)
class Catalog:
    """N items, each a row; row numbers are what the rest of the project works with.

    Build one with `Catalog.read`.
    """

    loaded: Loaded

    @classmethod
    def read(cls, source: Any, *, rejected_to: Path | str | None = None) -> Catalog:
        """Items from a Parquet, CSV, TSV or JSON lines file, an Arrow table, or a polars or pandas frame.

        Rows that are empty, without an id, or with the id of an earlier row are set aside.

        Args:
            source: has a column ``item_id`` (strings or integers, kept as given); every other column is kept too:
                text, attributes, ``image`` and ``audio`` (paths or bytes), vectors.
            rejected_to: where to write the rows set aside, one JSON object a line.

        Raises:
            InputError: a source that cannot be read, no column ``item_id``, ids of mixed types, or no item left.
        """
        loaded = read_table(source, ids=(ITEM_ID,))
        order = [ITEM_ID, *(name for name in loaded.table.column_names if name != ITEM_ID)]
        loaded = replace(loaded, table=loaded.table.select(order))
        loaded = loaded.without(_blank_rows(loaded.table), "empty row")
        loaded = without_duplicates(without_missing(loaded, ITEM_ID), ITEM_ID)
        if rejected_to is not None:
            loaded.rejected.write(Path(rejected_to))
        refuse_empty(loaded)
        return cls(loaded)

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def table(self) -> pa.Table:
        """N rows, ``item_id`` first, the other columns in the order of the source."""
        return self.loaded.table

    @property
    def folder(self) -> Path:
        """From where paths in it are taken: the folder of its file, or the current one where it came from a frame."""
        file = Path(self.loaded.file)
        return (file.parent if file.is_file() else Path.cwd()).resolve()

    @property
    def rejected(self) -> Rejected:
        """The rows set aside on the way in."""
        return self.loaded.rejected

    @cached_property
    def ids(self) -> IdList:
        """The ids in row order."""
        return IdList(self.table[ITEM_ID])

    def rows(self, ids: pa.Array | pa.ChunkedArray | Iterable[Id]) -> np.ndarray:
        """Rows of `ids`, int64 ``(n,)``, -1 where an id is unknown."""
        return self.ids.rows(ids)

    def select(self, rows: np.ndarray) -> Catalog:
        """A catalog of only these rows (int64, no repeats), in this order."""
        return Catalog(self.loaded.take(np.asarray(rows, np.int64)))

    def followed_by(self, ids: pa.Array) -> Catalog:
        """The same items and, behind them, others (of the same type of id) of which nothing but the id is known."""
        others = pa.table({ITEM_ID: ids.cast(self.ids.array.type)})
        table = pa.concat_tables([self.table, others], promote_options="default")
        numbers = np.concatenate([self.loaded.rows, np.zeros(len(ids), self.loaded.rows.dtype)])
        return Catalog(replace(self.loaded, table=table, rows=numbers))

    def texts(self, template: str) -> list[str]:
        """The text of each item, "" where none of the template's columns has a value.

        Args:
            template: columns in braces; a part in brackets vanishes where a column inside it has no value:
                ``"{title}[ ({year})][. {genres}]"``. Whole numbers are written without a point, lists with commas.

        Raises:
            InputError: a faulty template, or a column that is not there or cannot be text.
        """
        return templates.render(self.table, template, self.loaded.file)

    def default_template(self) -> str:
        """Title first, then every column of strings or whole numbers; "" if there is none.

        Strings and lists stand for themselves, numbers follow the name of their column.
        """
        names = [name for name in self.table.column_names[1:] if name not in MEDIA and not set(name) & set("{}[]")]
        names = [name for name in names if templates.has_words(self.table.schema.field(name).type)]
        names.sort(key=lambda name: name not in TITLES)  # stable: the rest keeps its order
        return "".join(f"[{self._label(name)}{{{name}}}. ]" for name in names)

    def _label(self, name: str) -> str:
        return name.replace("_", " ") + " " if pa.types.is_integer(self.table.schema.field(name).type) else ""

    @cached_property
    def titles(self) -> list[str]:
        """What to show for each item: its title or name, else its id."""
        ids = [str(i) for i in self.ids.to_list()]
        named = next((name for name in TITLES if name in self.table.column_names), None)
        if named is None:
            return ids
        return [text or fallback for text, fallback in zip(self.texts(f"{{{named}}}"), ids, strict=True)]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all rows and columns; the order of rows matters, that of columns and the file format do not."""
        digest = hashlib.sha256()
        for name in sorted(self.table.column_names):
            digest.update(json.dumps(name).encode())
            for start in range(0, len(self), HASHED_ROWS):
                values = self.table[name].slice(start, HASHED_ROWS).to_pylist()
                digest.update(json.dumps(values, default=_hashable).encode())
        return digest.hexdigest()


def _blank_rows(table: pa.Table) -> np.ndarray:
    """bool ``(N,)`` rows without any value."""
    return np.logical_and.reduce([mask(column.is_null()) for column in table.columns])


def _hashable(value: Any) -> str:
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else str(value)
