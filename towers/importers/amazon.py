"""Amazon Reviews 2023 (Hou et al., "Bridging Language and Items for Retrieval and Recommendation", 2024).

Reads what stands in one folder, plain or gzipped, of one category or several:

- ``<Category>.jsonl``, reviews;
- ``meta_<Category>.jsonl``, items;
- ``<Category>.csv`` or ``<Category>.train.csv``, ``.valid.csv``, ``.test.csv``, the benchmark files (0-core, 5-core).

Where there are benchmark files, they decide: only their events and items count, the part of the split becomes
``split``, and reviews only give their text.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import polars as pl
import pyarrow as pa

from towers.catalog import Catalog
from towers.errors import InputError
from towers.importers.amazon_items import BREAK, read_items, readable
from towers.importers.files import first_line, refuse_no_folder
from towers.importers.lines import fields
from towers.importers.objects import read_objects
from towers.importers.source import SPLITS, Source, numbers, together
from towers.interactions import Interactions
from towers.rejected import Loaded

LOOKED_FOR = (
    "<Category>.jsonl (reviews) or <Category>.csv, <Category>.train.csv and so on (benchmark files), "
    "and meta_<Category>.jsonl (items), each perhaps with .gz"
)
FILE = re.compile(
    r"(?P<meta>meta_)?(?P<category>[^.]+)(?:\.(?P<split>train|valid|test))?\.(?P<kind>jsonl|csv)(?:\.gz)?"
)
REVIEW = ["user_id", "parent_asin", "rating", "timestamp", "text"]
BENCHMARK = ["user_id", "parent_asin", "rating", "timestamp"]
STARS = (1.0, 5.0)
PER_SECOND = 1000


def read(folder: Path | str) -> tuple[Catalog, Interactions]:
    """Items by ``parent_asin`` and reviews as events, their text included.

    Items have title, subtitle, author, main_category, store, categories, features, description, price, details and
    images (records of URLs), as far as any has a value. The ratings' mean and number and the sales rank are left out:
    they were counted after the last event. An item without metadata has its id alone.

    Args:
        folder: holds the files, see above.

    Raises:
        InputError: the folder holds no such files, or one of them is unusable.
    """
    return load(folder).read()


def load(folder: Path | str) -> Source:
    """The rows as the files have them; see `read`.

    Raises:
        InputError: the folder holds no such files, or one of them cannot be read.
    """
    folder = Path(folder)
    refuse_no_folder(folder)
    reviews, metas, benchmarks = _files(folder)
    if not reviews and not benchmarks:
        raise InputError(f"{folder} holds no Amazon Reviews 2023: looked for {LOOKED_FOR}")
    written = together([_reviews(path) for path in reviews]) if reviews else None
    items = together([read_items(path) for path in metas]) if metas else None
    if items is not None:
        _refuse_without(items, "item_id")
    if not benchmarks:
        assert written is not None
        return Source.of(readable(items) if items else None, written, rating_range=STARS)
    events = together([_benchmark(path, split) for path, split in benchmarks])
    if written is not None:
        events = _with_texts(events, written)
    return Source.of(readable(_only(items, events)) if items else None, events, rating_range=STARS)


def _files(folder: Path) -> tuple[list[Path], list[Path], list[tuple[Path, str | None]]]:
    """Reviews, metadata and benchmark files; of a file that is there twice, the unpacked one, or the one in parts."""
    found: dict[str, re.Match[str]] = {}
    for path in sorted(folder.iterdir()):
        if match := FILE.fullmatch(path.name):
            found.setdefault(path.name.removesuffix(".gz"), match)
    parted = {match["category"] for match in found.values() if match["split"]}
    reviews: list[Path] = []
    metas: list[Path] = []
    benchmarks: list[tuple[Path, str | None]] = []
    for match in found.values():
        path = folder / match.string
        if match["kind"] == "csv":
            whole_too = match["category"] in parted and not match["split"]
            if not whole_too and set(BENCHMARK) <= set(first_line(path).split(",")):
                benchmarks.append((path, match["split"]))
        elif not match["split"]:
            (metas if match["meta"] else reviews).append(path)
    return reviews, metas, sorted(benchmarks, key=lambda one: list(SPLITS).index(one[1] or "train"))


def _reviews(path: Path) -> Loaded:
    """user_id, item_id, rating, timestamp, text of one file of reviews."""
    loaded = read_objects(path, REVIEW)
    _refuse_without(loaded, "user_id", "parent_asin")
    text = pl.col("text").str.replace_all(BREAK, " ").str.strip_chars()
    table = pl.DataFrame(loaded.table).with_columns(pl.when(text != "").then(text).alias("text"))
    return _in_seconds(replace(loaded, table=table.to_arrow()))


def _benchmark(path: Path, split: str | None) -> Loaded:
    """user_id, item_id, rating, timestamp of a benchmark file, and its part of the split, if it is one."""
    loaded = fields(path, ",", first_line(path).split(","), header=True)
    loaded = _in_seconds(replace(loaded, table=loaded.table.select(BENCHMARK)))
    if split is None:
        return loaded
    return replace(loaded, table=loaded.table.append_column("split", pa.array([SPLITS[split]] * loaded.table.num_rows)))


def _in_seconds(loaded: Loaded) -> Loaded:
    for name in ("rating", "timestamp"):
        loaded = numbers(loaded, name)
    table = pl.DataFrame(loaded.table).with_columns(pl.col("timestamp") / PER_SECOND)
    return replace(loaded, table=table.rename({"parent_asin": "item_id"}).to_arrow())


def _with_texts(events: Loaded, reviews: Loaded) -> Loaded:
    """Benchmark events with the text of their review; rows of the reviews that were set aside are still told of."""
    same = ["user_id", "item_id", "timestamp"]
    texts = pl.DataFrame(reviews.table).select([*same, "text"]).unique(same, keep="first")
    table = pl.DataFrame(events.table).join(texts, on=same, how="left", maintain_order="left")
    return replace(events, table=table.to_arrow(), rejected=events.rejected + reviews.rejected)


def _only(items: Loaded, events: Loaded) -> Loaded:
    """The items that the events know: a benchmark ranks no others."""
    known = pl.Series(items.table["item_id"]).is_in(pl.Series(events.table["item_id"]).unique().implode())
    return items.take(known.fill_null(True).arg_true().to_numpy())


def _refuse_without(loaded: Loaded, *names: str) -> None:
    """Raise where a key that every line should have is nowhere, as in older releases."""
    for name in names:
        if loaded.table.num_rows and loaded.table[name].null_count == loaded.table.num_rows:
            raise InputError(f"{loaded.file} is not of Amazon Reviews 2023: no line has the key {name!r}")
