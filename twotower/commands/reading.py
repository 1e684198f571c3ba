"""What several commands share: their options, reading data, and telling of rows that were set aside."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from towers.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from rich.console import Console

    from serving.store.store import Store
    from towers.catalog import Catalog
    from towers.interactions import Interactions
    from towers.rejected import Rejected

StoreUri = Annotated[
    str | None, typer.Option("--store", help="What people did since: a SQLite file, or the URI of a database.")
]
HalfLife = Annotated[
    float | None,
    typer.Option("--half-life", help="Days after which an event counts half as much; default: as training has it."),
]
ModelFolder = Annotated[Path, typer.Option("--model", help="Folder of a trained model.")]
IndexFolder = Annotated[Path, typer.Option("--index", help="Folder of an index.")]
CatalogFile = Annotated[Path, typer.Option("--catalog", help="Items: Parquet, CSV, TSV or JSON lines with item_id.")]
Weights = Annotated[Path | None, typer.Option(help="Folder with pretrained weights and data, used before a download.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output, and nothing else there.")]
Count = Annotated[int, typer.Option("-k", help="How many items.")]


def read_catalog(path: Path) -> Catalog:
    """The catalog; rows set aside are told of."""
    from towers.catalog import Catalog

    catalog = Catalog.read(path)
    tell_rejected(path, catalog.rejected)
    return catalog


def read_offered(path: Path) -> Catalog:
    """The catalog as a service has it: with what came to it over HTTP."""
    from serving.web.changes import Changes

    return Changes(path.parent).applied(read_catalog(path))


def read_log(path: Path, people: Path | None, rating_range: tuple[float, float] | None) -> Interactions:
    """The log, to be asked about; what is not read of it, and rows set aside, are told of.

    Args:
        path: the log.
        people: attributes of people, or None.
        rating_range: what a model learned from; not looked at where the log has no ratings.
    """
    from towers.interactions import Interactions

    log = Interactions.read(path, people=people)
    if None not in (log.rating_range, rating_range) and log.rating_range != rating_range:
        log = Interactions.read(path, people=people, rating_range=rating_range)
    _tell_log(path, people, log)
    return log


def read_log_of(
    items: Catalog, path: Path, people: Path | None, rating_range: tuple[float, float] | None
) -> Interactions:
    """The events of these items, to learn from and to measure by; what is not read, and rows set aside, are told of.

    Args:
        items: the catalog.
        path: the log.
        people: attributes of people, or None.
        rating_range: the scale of its ratings, or None for what is found.
    """
    from towers.interactions import Interactions

    log = Interactions.read(path, people=people, rating_range=rating_range).known(items)
    _tell_log(path, people, log)
    return log


def open_store(uri: str) -> Store:
    """The store of feedback that is at a path or URI: a mistyped one would be a new store that knows nobody.

    Raises:
        InputError: there is no such file.
        MissingExtraError: SQLAlchemy is not installed.
    """
    try:
        from serving.store.store import Store
    except ImportError as error:
        raise MissingExtraError("a store needs SQLAlchemy: pip install 'twotower[serve]'") from error
    file = re.sub(r"^sqlite(\+\w+)?:///", "", uri).split("?")[0]
    if not ("://" in file or file.startswith("file:") or Path(file).is_file()):
        raise InputError(f"there is no store {uri}; the service keeps its own in serve/store.sqlite beside the catalog")
    return Store.open(uri)


def tell_rejected(path: Path, rejected: Rejected) -> None:
    """One line on standard error, if any row was set aside."""
    if rejected.count:
        tell(f"{path}: {rejected.summary()}")


def _tell_log(path: Path, people: Path | None, log: Interactions) -> None:
    if log.ignored:
        tell(f"{path}: not read: {', '.join(_unread(log))}")
    tell_rejected(path, log.loaded.rejected)
    if people is not None and log.people is not None:
        tell_rejected(people, log.people_rejected)
        tell(f"{people}: has {log.described:,} of {len(log.table['user_id'].unique()):,} people of {path}")


def _unread(log: Interactions) -> Iterator[str]:
    """Each column that is not read, with the one that it may be meant for and that the log lacks."""
    from towers.interactions import COLUMNS
    from towers.tables import nearest_name

    lacking = [name for name in COLUMNS if name not in log.table.column_names]
    for name in log.ignored:
        near = nearest_name(name, lacking, likeness=0.6)
        yield f"{name} (did you mean {near}?)" if near else name


def tell(sentence: str) -> None:
    """A remark for the person at the terminal; of several processes that train together, the first one speaks."""
    if leads():
        typer.echo(sentence, err=True)


def leads() -> bool:
    """Whether this is the first, or the only, of the processes that ``torchrun`` or ``accelerate launch`` started."""
    return os.environ.get("RANK", "0") == "0"


def console() -> Console:
    """Standard error, where progress is shown."""
    from rich.console import Console

    return Console(stderr=True)


def show(table: Any, values: dict[str, Any], as_json: bool) -> None:
    """A result on standard output: a table for people, or JSON for programs."""
    from rich.console import Console

    if as_json:
        typer.echo(json.dumps(values))
    else:
        Console().print(table)
