"""RecBole's atomic files: ``<name>.inter``, ``<name>.item``, ``<name>.user`` (Zhao et al., "RecBole", 2021).

Tab-separated, the first line naming each column and its type: ``user_id:token``, ``rating:float``,
``movie_title:token_seq``, ``vector:float_seq``.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import polars as pl
import pyarrow as pa

from towers.catalog import Catalog
from towers.errors import InputError
from towers.importers.files import first_line, refuse_no_folder
from towers.importers.lines import fields
from towers.importers.source import SPLITS, Source, numbers, together
from towers.interactions import Interactions
from towers.rejected import Loaded

INTER = re.compile(r"(?P<name>.+?)(?:\.(?P<split>train|valid|test))?\.inter")
TYPES = ("token", "token_seq", "float", "float_seq")
OURS = {"stars": "rating", "date": "timestamp", "review": "text"}  # other names that columns of events have
EVENTS = ("user_id", "item_id", "rating", "timestamp", "text")
TITLE = re.compile(r".*_(title|name)")


def read(folder: Path | str) -> tuple[Catalog, Interactions]:
    """The items, events and people of a data set in atomic files.

    Ids are integers where all of them are, else text. A sequence of tokens is text, one of floats a list. Of events,
    user_id, item_id, rating (or stars), timestamp (or date) and text (or review) are read; ``<name>.train.inter``,
    ``.valid.inter`` and ``.test.inter`` become ``split``. The range of ratings is that found.

    Args:
        folder: holds the files of one data set; ``.inter`` must be there.

    Raises:
        InputError: no such files, several data sets, or a file without its first line of names and types.
    """
    return load(folder).read()


def load(folder: Path | str) -> Source:
    """The rows as the files have them; see `read`.

    Raises:
        InputError: no such files, several data sets, or a file without its first line of names and types.
    """
    folder = Path(folder)
    refuse_no_folder(folder)
    found = [match for path in sorted(folder.iterdir()) if (match := INTER.fullmatch(path.name))]
    names = sorted({match["name"] for match in found})
    if not names:
        raise InputError(f"{folder} holds no atomic files of RecBole: looked for <name>.inter")
    if len(names) > 1:
        raise InputError(f"{folder} holds several data sets ({', '.join(names)}): give each a folder of its own")
    items, people = (_attributes(folder / f"{names[0]}{ending}") for ending in (".item", ".user"))
    item_id = items.table.column_names[0] if items is not None else "item_id"
    found.sort(key=lambda match: list(SPLITS).index(match["split"] or "train"))
    events = together([_events(folder / match.string, match["split"], item_id) for match in found])
    if items is not None:
        items = _titled(_first_is(items, "item_id"))
    if people is not None:
        people = _first_is(people, "user_id")
    items, events = _same_ids("item_id", items, events)
    people, events = _same_ids("user_id", people, events)
    return Source.of(items, events, people=people)


def atomic(path: Path) -> tuple[Loaded, dict[str, str]]:
    """The columns of an atomic file, all as text, and the type of each.

    Raises:
        InputError: the file cannot be read, or its first line does not name columns and types.
    """
    header = first_line(path)
    names, _, types = zip(*(field.rpartition(":") for field in header.split("\t")), strict=True)
    if not all(names) or not set(types) <= set(TYPES):
        raise InputError(
            f"{path} is no atomic file: its first line must name columns and types between tabs, such as "
            f"item_id:token, got {header[:80]!r}"
        )
    return fields(path, "\t", list(names), header=True), dict(zip(names, types, strict=True))


def _attributes(path: Path) -> Loaded | None:
    """All columns of items or people in their types, the id first and still as text."""
    if not path.is_file():
        return None
    loaded, types = atomic(path)
    for name, kind in list(types.items())[1:]:
        if kind == "float":
            loaded = numbers(loaded, name)
        elif kind == "float_seq":
            values = pl.Series(loaded.table[name]).str.strip_chars().str.split(" ").cast(pl.List(pl.Float32))
            loaded = loaded.with_column(name, values.to_arrow())
        elif kind == "token":
            loaded = loaded.with_column(name, _integers(pl.Series(loaded.table[name])).to_arrow())
    return loaded


def _events(path: Path, split: str | None, item_id: str) -> Loaded:
    """The columns of events that we read, ids still as text."""
    loaded, types = atomic(path)
    ours = [OURS.get(name, name) for name in types]
    ours = ["item_id" if name == item_id else name for name in ours]
    loaded = replace(loaded, table=loaded.table.rename_columns(ours))
    for name in ("user_id", "item_id"):
        if name not in ours:
            raise InputError(f"{path} has no column {name!r}; it has: {', '.join(types)}")
    loaded = replace(loaded, table=loaded.table.select([name for name in EVENTS if name in ours]))
    for name in ("rating", "timestamp"):
        if name in ours:
            loaded = numbers(loaded, name)
    if split is None:
        return loaded
    return replace(loaded, table=loaded.table.append_column("split", pa.array([SPLITS[split]] * loaded.table.num_rows)))


def _titled(items: Loaded) -> Loaded:
    """A single column such as ``movie_title`` is the title, unless one is called that already."""
    names = items.table.column_names
    found = [name for name in names if TITLE.fullmatch(name)]
    if len(found) != 1 or {"title", "name"} & set(names):
        return items
    return replace(items, table=items.table.rename_columns(["title" if name in found else name for name in names]))


def _first_is(loaded: Loaded, name: str) -> Loaded:
    """The first column is the id, whatever it is called."""
    return replace(loaded, table=loaded.table.rename_columns([name, *loaded.table.column_names[1:]]))


def _same_ids(name: str, one: Loaded | None, events: Loaded) -> tuple[Loaded | None, Loaded]:
    """Both columns of ids as integers, if all ids of both are."""
    both = [loaded for loaded in (one, events) if loaded is not None]
    whole = [_integers(pl.Series(loaded.table[name])) for loaded in both]
    if all(ids.dtype == pl.Int64 for ids in whole):
        both = [loaded.with_column(name, ids.to_arrow()) for loaded, ids in zip(both, whole, strict=True)]
    return (None if one is None else both[0]), both[-1]


def _integers(text: pl.Series) -> pl.Series:
    """Text as integers where that loses nothing (``007`` stays text)."""
    whole = text.cast(pl.Int64, strict=False)
    return whole if (whole.cast(pl.String) == text).fill_null(text.is_null()).all() else text
