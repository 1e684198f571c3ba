"""Rows on their way in: `Loaded` holds those still good, `Rejected` those set aside, each with its reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from towers.artefact import atomic_file
from towers.errors import ArtefactError

SCHEMA = pa.schema(
    {
        "file": pa.large_string(),
        "row": pa.int64(),
        "item": pa.large_string(),
        "reason": pa.large_string(),
        "value": pa.large_string(),
    }
)
LONGEST_VALUE = 200


@dataclass(frozen=True)
class Rejected:
    """Rows that could not be used, and why.

    Args:
        table: one line a row set aside: ``file``; ``row``, the data row of that file, counted from 1 without the
            header and without blank lines; ``item``, whose it is, or null where that is not told; ``reason``;
            ``value``, the start of what stood there as text, or null.
        total: rows looked at, the good ones included.
    """

    table: pa.Table = field(default_factory=SCHEMA.empty_table)
    total: int = 0

    @classmethod
    def of(
        cls, *, file: str, rows: np.ndarray, reason: str | Sequence[str], values: pa.ChunkedArray | None = None
    ) -> Rejected:
        """Int64 ``(n,)`` `rows`, for one reason or each for its own; `values` is what stood in each, of any type."""
        count = len(rows)
        reasons = [reason] * count if isinstance(reason, str) else reason
        shown = pa.nulls(count, pa.large_string()) if values is None else _shown(values)
        items = pa.nulls(count, pa.large_string())
        return cls(pa.table([[file] * count, rows, items, reasons, shown], schema=SCHEMA))

    def __add__(self, other: Rejected) -> Rejected:
        return Rejected(pa.concat_tables([self.table, other.table]), self.total + other.total)

    @property
    def count(self) -> int:
        """Rows set aside."""
        return self.table.num_rows

    @property
    def counts(self) -> dict[str, int]:
        """Rows set aside for each reason, the most frequent first."""
        return dict(Counter(self.table["reason"].to_pylist()).most_common())

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The lines of `table`, without the values that are null."""
        return [{k: v for k, v in row.items() if v is not None} for row in self.table.to_pylist()]

    def summary(self) -> str:
        """One sentence for people: ``3 of 1,682 rows set aside: 2 duplicate item_id, 1 missing item_id``."""
        if not self.count:
            return f"none of {self.total:,} rows set aside"
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.counts.items())
        return f"{self.count:,} of {self.total:,} rows set aside: {reasons}"

    def to_bytes(self) -> bytes:
        """The same as JSON, which `from_bytes` reads."""
        return json.dumps({"total": self.total, "rows": self.table.to_pylist()}).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Rejected:
        """What `to_bytes` gave."""
        facts = json.loads(content)
        return cls(pa.Table.from_pylist(facts["rows"], schema=SCHEMA), facts["total"])

    @classmethod
    def read(cls, path: Path) -> Rejected:
        """What `write` wrote; none where there is no such file.

        Raises:
            ArtefactError: it cannot be read, or holds something else.
        """
        try:
            lines = path.read_bytes().splitlines() if path.exists() else []  # of text it would split at U+2028, too
            return cls(pa.Table.from_pylist([dict(json.loads(line)) for line in lines], schema=SCHEMA))
        except (OSError, ValueError, TypeError) as error:
            raise ArtefactError(f"{path} does not say what was set aside ({error}): move it away") from error

    def write(self, path: Path) -> None:
        """Write one JSON object a line to `path`, whole or not at all; an earlier file there is replaced.

        Raises:
            ArtefactError: `path` cannot be written.
        """
        with atomic_file(Path(path)) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows)


@dataclass(frozen=True)
class Loaded:
    """The good rows of one source.

    Args:
        table: N rows.
        rows: int64 ``(N,)`` where each stood in the source, counted as in `Rejected`.
        file: the source's name for messages.
        rejected: the rows already set aside.
    """

    table: pa.Table
    rows: np.ndarray
    file: str
    rejected: Rejected

    def take(self, rows: np.ndarray) -> Loaded:
        """Only these rows, in this order."""
        return replace(self, table=self.table.take(pa.array(rows)), rows=self.rows[rows])

    def with_column(self, name: str, values: pa.Array | pa.ChunkedArray) -> Loaded:
        """The same rows with one column replaced."""
        return replace(self, table=self.table.set_column(self.table.column_names.index(name), name, values))

    def without(self, bad: np.ndarray, reason: str, column: str | None = None) -> Loaded:
        """Set aside the rows where bool ``(N,)`` `bad` holds; `column` is shown as their value."""
        if not bad.any():
            return self
        values = None if column is None else self.table[column].filter(pa.array(bad))
        gone = Rejected.of(file=self.file, rows=self.rows[bad], reason=reason, values=values)
        good = self.table.filter(pa.array(~bad))
        return replace(self, table=good, rows=self.rows[~bad], rejected=self.rejected + gone)


def _shown(values: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_large_binary(values.type):
        values = _written(values, lambda value: value.decode("utf-8", "replace"))
    elif pa.types.is_nested(values.type):  # lists, of which Arrow makes no text
        values = _written(values, str)
    return pc.utf8_slice_codeunits(values.cast(pa.large_string()), 0, LONGEST_VALUE)


def _written(values: pa.ChunkedArray, text: Callable[[Any], str]) -> pa.ChunkedArray:
    """The text of each value, null where there is none."""
    texts = [None if value is None else text(value) for value in values.to_pylist()]
    return pa.chunked_array([texts], pa.large_string())
