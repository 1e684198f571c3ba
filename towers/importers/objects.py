"""JSON lines, plain or gzipped, of any size: read in blocks, only the columns that are wanted, each as text."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from towers.importers.files import opened
from towers.rejected import Loaded, Rejected

BLOCK_BYTES = 1 << 26


def read_objects(path: Path, names: list[str]) -> Loaded:
    """Columns of text; what is no text in the file, such as a number or a list, stands there as JSON.

    Types differ from line to line in such files (a price may be a number, a text or null), so nothing is guessed here.
    A line that is not a JSON object is set aside.

    Args:
        path: one JSON object a line, in UTF-8; gzipped if its name ends in ``.gz``.
        names: keys that are read; one that an object lacks is a missing value.

    Raises:
        InputError: the file cannot be read to its end.
    """
    schema = dict.fromkeys(names, pl.String)
    frames, rows, gone = [pl.DataFrame(schema=schema)], [np.empty(0, np.int64)], Rejected()
    for lines in _blocks(path):
        frame, bad = _parsed(lines, schema)
        numbers = gone.total + np.arange(1, len(lines) + 1)
        texts = pa.chunked_array([[lines[place] for place in bad]], pa.large_binary())
        found = Rejected.of(file=str(path), rows=numbers[bad], reason="not a JSON object", values=texts)
        gone += Rejected(found.table, len(lines))
        frames.append(frame)
        rows.append(np.delete(numbers, bad))
    return Loaded(pl.concat(frames).to_arrow(), np.concatenate(rows), str(path), gone)


def _blocks(path: Path) -> Iterator[list[bytes]]:
    """The lines that are not blank, some thousands at a time."""
    with opened(path) as file:
        rest = b""
        while block := file.read(BLOCK_BYTES):
            *lines, rest = (rest + block).split(b"\n")
            yield [line for line in lines if line.strip()]
        yield [rest] if rest.strip() else []


def _parsed(lines: list[bytes], schema: dict[str, type[pl.String]]) -> tuple[pl.DataFrame, list[int]]:
    """The objects, and the places of the lines that are none, found by halving."""
    try:
        frame = pl.read_ndjson(io.BytesIO(b"\n".join(lines)), schema=schema)
        if len(frame) == len(lines):
            return frame, []
    except pl.exceptions.PolarsError:
        pass
    if len(lines) == 1:
        return pl.DataFrame(schema=schema), [0]
    middle = len(lines) // 2
    first, bad = _parsed(lines[:middle], schema)
    second, more = _parsed(lines[middle:], schema)
    return pl.concat([first, second]), bad + [middle + place for place in more]
