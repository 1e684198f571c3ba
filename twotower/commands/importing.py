"""`twotower import`: a public data set, as it is downloaded, becomes files that `twotower train` reads."""

from __future__ import annotations

import shlex
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twotower.commands.reading import Json, console, show, tell

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer()


class DataSet(StrEnum):
    """What can be imported; each is a module of `towers.importers`."""

    movielens = "movielens"
    amazon = "amazon"
    recbole = "recbole"


@app.command(name="import")
def import_(
    kind: Annotated[DataSet, typer.Argument(help="MovieLens, Amazon Reviews 2023, or RecBole's atomic files.")],
    folder: Annotated[Path, typer.Argument(help="Where its files lie.")],
    out: Annotated[Path, typer.Option(help="Folder for items.parquet, interactions.parquet, people.parquet.")],
    json: Json = False,
) -> None:
    """Bring a public data set into the form that train reads.

    Rows that cannot be used are counted and written, with the reason, to OUT/rejected.jsonl.
    """
    from towers.artefact import refuse_unwritable
    from towers.importers.source import KIND

    importer = import_module(f"towers.importers.{kind.value}")
    refuse_unwritable(out, KIND)
    with console().status("reading"):
        source = importer.load(folder)
        catalog, log = source.write(out)
    rejected = catalog.rejected + log.rejected
    facts: dict[str, Any] = {
        "items": len(catalog),
        "without_metadata": source.bare,
        "interactions": len(log),
        "people": None if log.people is None else log.people.num_rows,
        "rating_range": log.rating_range,
        "rejected": rejected.counts,
        "out": str(out),
    }
    show(_table(facts), facts, json)
    tell(f"next: {_next(facts)}")


def _table(facts: dict[str, Any]) -> Table:
    from rich.table import Table

    table = Table(show_header=False)
    table.add_row("items", f"{facts['items']:,}")
    if facts["without_metadata"]:
        table.add_row("of these with an id alone", f"{facts['without_metadata']:,}")
    table.add_row("interactions", f"{facts['interactions']:,}")
    if facts["people"] is not None:
        table.add_row("people with attributes", f"{facts['people']:,}")
    for reason, count in facts["rejected"].items():
        table.add_row(f"set aside: {reason}", f"{count:,}")
    if facts["rating_range"]:
        table.add_row("--rating-range", _range(facts))
    return table


def _next(facts: dict[str, Any]) -> str:
    words = ["twotower train", f"--catalog {_file(facts, 'items')}", f"--interactions {_file(facts, 'interactions')}"]
    if facts["people"] is not None:
        words.append(f"--people {_file(facts, 'people')}")
    if facts["rating_range"]:
        words.append(f"--rating-range {_range(facts)}")
    return " ".join([*words, "--out FOLDER"])


def _file(facts: dict[str, Any], name: str) -> str:
    return shlex.quote(str(Path(facts["out"]) / f"{name}.parquet"))


def _range(facts: dict[str, Any]) -> str:
    low, high = facts["rating_range"]
    return f"{low:g} {high:g}"
