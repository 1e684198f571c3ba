"""`Changes`: items that came, changed and went while the service ran, kept beside the catalog's file."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from indexing.bounds import EQUAL, as_whole, expected, is_whole
from towers.artefact import atomic_file, fsync
from towers.catalog import ITEM_ID, MEDIA, Catalog
from towers.errors import ArtefactError, InputError
from towers.ids import Id
from towers.tables import missing_name

FOLDER = "serve"  # beside the catalog's file: paths of pictures and sounds must lie inside its folder
JOURNAL, FILES = "items.jsonl", "media"
FILE = "file"  # what the journal has in the place of bytes, in columns of bytes alone: where they lie
KEPT = re.compile(rf"{FOLDER}/{FILES}/[0-9a-f]{{64}}")  # as `Changes.keep` names what it keeps


class Changes:
    """A journal of items, applied to the catalog's file whenever that is read.

    A change is on disk when `put` and `remove` return. The catalog's own file is never written.

    Args:
        folder: of the catalog's file.
    """

    def __init__(self, folder: Path) -> None:
        self._base = folder
        self._path = folder / FOLDER / JOURNAL

    def put(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write down items that are new, or what of them is changed.

        Raises:
            ArtefactError: it cannot be written.
        """
        self._append([{"put": {name: self._written(value) for name, value in row.items()}} for row in rows])

    def remove(self, items: Sequence[Id]) -> None:
        """Write down items that are gone."""
        self._append([{"remove": item} for item in items])

    def keep(self, content: bytes) -> str:
        """Keep a picture or a sound; the path that a catalog names it by."""
        name = f"{FOLDER}/{FILES}/{hashlib.sha256(content).hexdigest()}"
        if not (path := self._base / name).exists():
            with atomic_file(path) as temporary:
                temporary.write_bytes(content)
        return name

    def applied(self, catalog: Catalog) -> Catalog:
        """The catalog with all changes.

        Raises:
            ArtefactError: the journal, or a picture or a sound that it names, cannot be read.
            InputError: a change does not fit the catalog, such as one whose columns are others now.
        """
        kinds = {field.name: field.type for field in catalog.table.schema}
        fate: dict[Id, dict[str, Any] | None] = {}
        for line in self._lines():
            if "put" in line:
                item = line["put"][ITEM_ID]
                before = fate.get(item, {})
                if before is None:  # it was removed: nothing of the file's row comes back with it
                    before = dict.fromkeys(catalog.table.column_names)
                now = {name: self._read(value, kinds.get(name)) for name, value in line["put"].items()}
                fate[item] = before | now
            else:
                fate[line["remove"]] = None
        rows = [row for row in fate.values() if row is not None]
        try:
            changed = with_rows(catalog, rows)
        except InputError as error:
            remedy = "give the catalog the columns that it had, or take the item's lines out of the journal"
            raise InputError(f"the journal {self._path} does not fit the catalog: {error}; {remedy}") from error
        return without(changed, [item for item, row in fate.items() if row is None])

    def came(self) -> list[Id]:
        """Ids of the items that came or were changed, and have not gone since."""
        there: dict[Id, bool] = {}
        for line in self._lines():
            there |= {line["put"][ITEM_ID]: True} if "put" in line else {line["remove"]: False}
        return [item for item, is_there in there.items() if is_there]

    def _written(self, value: Any) -> Any:
        return {FILE: self.keep(value)} if isinstance(value, bytes) else value

    def _read(self, value: Any, kind: pa.DataType | None) -> Any:
        """What a value of the journal stands for in a column of this type; None: the catalog has no such column."""
        if not isinstance(value, dict) or kind is None or not pa.types.is_large_binary(kind):
            return value
        name = str(value.get(FILE))
        if not KEPT.fullmatch(name):
            raise ArtefactError(
                f"{self._path} names {name!r:.200}, expected what the service keeps in {FOLDER}/{FILES}"
            )
        try:
            return (self._base / name).read_bytes()
        except OSError as error:
            raise ArtefactError(f"{self._path} names {name}, which cannot be read: {error.strerror}") from error

    def _lines(self) -> list[dict[str, Any]]:
        """What was acknowledged: a last line without an end was not."""
        try:
            text = self._path.read_bytes() if self._path.exists() else b""
            return [json.loads(line) for line in text[: text.rfind(b"\n") + 1].splitlines()]
        except (OSError, ValueError) as error:
            raise ArtefactError(f"{self._path} is no journal of items that can be read: {error}") from error

    def _append(self, lines: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines).encode()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise ArtefactError(f"cannot write {self._path}: {error.strerror}") from error
        end = os.fstat(handle).st_size
        try:
            if end and os.pread(handle, 1, end - 1) != b"\n":  # a write that was cut short: not acknowledged
                end = os.pread(handle, end, 0).rfind(b"\n") + 1
                os.ftruncate(handle, end)
            if os.write(handle, text) != len(text):
                raise OSError(28, "no space left on the disk")
            os.fsync(handle)
            if not end:  # the journal may be new, and the folder's list of names not on the disk yet
                fsync(self._path.parent)
                fsync(self._base)
        except OSError as error:
            os.ftruncate(handle, end)
            raise ArtefactError(f"cannot write {self._path}: {error.strerror}") from error
        finally:
            os.close(handle)


def with_rows(catalog: Catalog, rows: Sequence[Mapping[str, Any]]) -> Catalog:
    """A catalog with these items: what is told of those that are there already is changed, others come behind all.

    Raises:
        InputError: a column that the catalog lacks, or a value that does not fit one.
    """
    if not rows:
        return catalog
    schema = catalog.table.schema
    for row in rows:
        if strange := [name for name in row if name not in schema.names]:
            has = missing_name("column", strange[0], schema.names)
            raise InputError(f"item {row[ITEM_ID]!r}: the catalog {has}")
    if len({row[ITEM_ID] for row in rows}) < len(rows):
        raise InputError("an item comes twice in one change")
    fitted = [_fitted(row, schema) for row in rows]
    try:
        new = pa.Table.from_pylist([_before(catalog, row[ITEM_ID]) | row for row in fitted], schema)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"an item does not fit the catalog's columns: {error}") from error
    at = catalog.rows(new[ITEM_ID])
    order = np.arange(len(catalog))
    order[at[at >= 0]] = len(catalog) + np.flatnonzero(at >= 0)
    order = np.concatenate([order, len(catalog) + np.flatnonzero(at < 0)])
    table = pa.concat_tables([catalog.table, new]).take(pa.array(order))
    numbers = np.concatenate([catalog.loaded.rows, np.zeros(len(rows), catalog.loaded.rows.dtype)])[order]
    return Catalog(replace(catalog.loaded, table=table.combine_chunks(), rows=numbers))


def _before(catalog: Catalog, item: Id) -> dict[str, Any]:
    at = int(catalog.rows([item])[0])
    return catalog.table.slice(at, 1).to_pylist()[0] if at >= 0 else {}


def _fitted(row: Mapping[str, Any], schema: pa.Schema) -> dict[str, Any]:
    """What JSON says of an item, as Arrow takes it; dates, times and decimals are written as in filters.

    Raises:
        InputError: a value that does not fit its column; it names both.
    """
    fitted = {}
    for name, value in row.items():
        kind = schema.field(name).type
        try:
            fitted[name] = _exact(name, kind, value) if is_whole(kind) and not pa.types.is_integer(kind) else value
            pa.array([fitted[name]], kind)
            if isinstance(value, bool) != pa.types.is_boolean(kind) and value is not None:
                raise TypeError("true and false are no numbers")
            if isinstance(value, float) and pa.types.is_integer(kind) and not value.is_integer():
                raise ValueError("expected a whole number")  # Arrow would cut it
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            got = f"item {row[ITEM_ID]!r} does not fit the column {name!r}, which is of {kind}: got {value!r:.50}"
            raise InputError(f"{got}; {expected(kind) or error}") from error
    return fitted


def _exact(name: str, kind: pa.DataType, value: Any) -> int | Decimal | None:
    """A date or a time as the whole number that it is in the column, or a decimal."""
    if value is None:
        return None
    exact = as_whole(name, EQUAL, value, kind)
    if isinstance(exact, bool):
        raise InputError("the column holds nothing so fine, or so great")
    _, whole = exact
    return Decimal(f"{whole}E{-kind.scale}") if pa.types.is_decimal(kind) else whole


def without(catalog: Catalog, items: Sequence[Id]) -> Catalog:
    """A catalog without these items, as far as it has them."""
    gone = catalog.rows(items) if items else np.empty(0, np.int64)
    return catalog.select(np.setdiff1d(np.arange(len(catalog)), gone)) if (gone >= 0).any() else catalog


def refuse_media(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Pictures and sounds are sent, not named: a path in an item could name any file of this machine.

    Raises:
        InputError: an item that names one.
    """
    for row in rows:
        if named := [name for name in row if name in {*MEDIA, *columns}]:
            raise InputError(f"{named[0]} is sent as a file, to /v1/items/media, not named in an item")


def refuse_no_json(row: Mapping[str, Any]) -> None:
    """Python reads NaN and Infinity in JSON, where they do not belong and no journal of JSON can keep them.

    Raises:
        InputError: a row that holds one, or half of a pair of surrogates.
    """
    try:
        json.dumps(row, ensure_ascii=False, allow_nan=False).encode()
    except ValueError as error:
        raise InputError(f"an item holds what JSON cannot: {error}") from None
