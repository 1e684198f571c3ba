"""Metadata of Amazon Reviews 2023 as columns: records and lists become text, lists and numbers."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from towers.importers.objects import read_objects
from towers.rejected import Loaded

BREAK = r"\s*(?:<br\s*/?>\s*)+"


def read_items(path: Path) -> Loaded:
    """item_id and all of `COLUMNS` of one ``meta_<Category>.jsonl``, every value still as text.

    Raises:
        InputError: the file cannot be read to its end.
    """
    loaded = read_objects(path, ["parent_asin", *COLUMNS])
    return replace(loaded, table=loaded.table.rename_columns(["item_id", *COLUMNS]))


def readable(items: Loaded) -> Loaded:
    """The same rows with their values made readable; a column without any value is left out."""
    columns = {"item_id": items.table["item_id"]}
    for name, (meaning, kind) in COLUMNS.items():
        values = [None if text is None else meaning(text) for text in items.table[name].to_pylist()]
        if any(value is not None for value in values):
            columns[name] = pa.array(values, kind)
    return replace(items, table=pa.table(columns))


def _plain(text: str) -> str | None:
    return re.sub(BREAK, " ", text).strip() or None


def _texts(text: str) -> list[str] | None:
    """A list of texts, or the only one."""
    value = _json(text)
    parts = [_plain(part) for part in (value if isinstance(value, list) else [text]) if isinstance(part, str)]
    return [part for part in parts if part] or None


def _paragraph(text: str) -> str | None:
    return " ".join(_texts(text) or ()) or None


def _price(text: str) -> float | None:
    try:
        price = float(text)
    except ValueError:  # "from 11.99", a dash
        return None
    return price if math.isfinite(price) else None


def _details(text: str) -> str | None:
    """``Brand: Yes To, Item Form: Powder`` from a record, without what is a record itself, such as the sales rank."""
    value = _json(text)
    pairs = value.items() if isinstance(value, dict) else ()
    return ", ".join(f"{key}: {one}" for key, one in pairs if isinstance(one, str | int | float) and one != "") or None


def _author(text: str) -> str | None:
    """The name in a record of an author."""
    value = _json(text)
    name = value.get("name") if isinstance(value, dict) else text
    return name if isinstance(name, str) and name else None


def _images(text: str) -> list[dict[str, str | None]] | None:
    value = _json(text)
    records = [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
    return [{size: url if isinstance(url := one.get(size), str) else None for size in SIZES} for one in records] or None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


SIZES = ("variant", "large", "hi_res")
TEXT = pa.large_string()
COLUMNS: dict[str, tuple[Callable[[str], Any], pa.DataType]] = {
    "title": (_plain, TEXT),
    "subtitle": (_plain, TEXT),
    "author": (_author, TEXT),
    "main_category": (_plain, TEXT),
    "store": (_plain, TEXT),
    "categories": (_texts, pa.large_list(TEXT)),
    "features": (_texts, pa.large_list(TEXT)),
    "description": (_paragraph, TEXT),
    "price": (_price, pa.float64()),
    "details": (_details, TEXT),
    "images": (_images, pa.large_list(pa.struct([(size, TEXT) for size in SIZES]))),
}
"""What is kept of an item's metadata, how it is read, and its type."""
