"""`twotower train`, `twotower index` and `twotower export`: from data to a model, an index and a small query side."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from twotower.commands.reading import (
    CatalogFile,
    Json,
    ModelFolder,
    Weights,
    leads,
    read_catalog,
    show,
    tell,
    tell_rejected,
)

app = typer.Typer()
index = typer.Typer(no_args_is_help=True, help="Build an index of a catalog, or look at one.")
app.add_typer(index, name="index")


class Precision(StrEnum):
    """In which a query tower is exported."""

    int8 = "int8"
    float32 = "float32"


@app.command()
def train(
    catalog: CatalogFile,
    out: Annotated[Path, typer.Option(help="Folder for the model; curves and rejected rows go beside it.")],
    interactions: Annotated[
        Path | None,
        typer.Option(
            help="Events: a table with user_id, item_id and perhaps more. Without them, texts, pictures and sounds of "
            "the same item learn to find each other."
        ),
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="TOML file; without it, the recipe that ships.")] = None,
    rating_range: Annotated[
        tuple[float, float] | None, typer.Option(help="Smallest and largest rating; default: those found.")
    ] = None,
    people: Annotated[Path | None, typer.Option(help="Attributes of people: a table with user_id.")] = None,
    protocol: Annotated[
        str | None, typer.Option(help="Keep from training what `twotower evaluate` asks about under this protocol.")
    ] = None,
    weights: Weights = None,
) -> None:
    """Train a model on a catalog and a log, or on a catalog alone.

    Rows that cannot be used are counted and written, with the reason, to OUT.rejected.jsonl. Where a training was
    killed, the same command goes on from its last checkpoint, in OUT.checkpoint (without a log: from the start).
    On several GPUs or CPUs: torchrun --nproc-per-node 2 -m twotower train ...
    """
    from towers.catalog import Catalog
    from towers.embed import VectorCache
    from towers.interactions import Interactions
    from training.checkpoint import checkpoint_folder
    from training.config import Recipe
    from training.trainer import train

    settings = Recipe.read(recipe)
    items = Catalog.read(catalog)
    tell_rejected(catalog, items.rejected)
    log, rejected = None, items.rejected
    if interactions is not None:
        log = Interactions.read(interactions, people=people, rating_range=rating_range or settings.rating.range)
        log = log.known(items)
        tell_rejected(interactions, log.rejected)
        rejected += log.rejected
    if leads():
        rejected.write(out.with_name(f"{out.name}.rejected.jsonl"))
    try:
        trained = train(items, log, recipe=settings, protocol=protocol, out=out, weights=weights)
    except KeyboardInterrupt:
        if checkpoint_folder(out).exists():
            tell(f"the same command goes on from the last checkpoint, in {checkpoint_folder(out)}")
        raise
    unread = trained.contents(items, VectorCache())[1]
    tell_rejected(catalog, unread)
    if leads():
        (rejected + unread).write(out.with_name(f"{out.name}.rejected.jsonl"))
    tell(f"the model is in {out}; next: twotower index build --model {out} --catalog {catalog} --out FOLDER")


@index.command()
def build(
    model: ModelFolder,
    catalog: CatalogFile,
    out: Annotated[Path, typer.Option(help="Folder for the index; an earlier index there gets a new version.")],
    kind: Annotated[str, typer.Option(help="FAISS factory string, or auto.")] = "auto",
) -> None:
    """Build an index of a catalog with a model."""
    from indexing.build import build_index

    built = build_index(model, read_catalog(catalog), out=out, kind=kind)
    tell(f"the index is in {out}: {built!r}")


@index.command()
def info(folder: Annotated[Path, typer.Argument(help="Folder of an index.")], json: Json = False) -> None:
    """What an index holds, all its checksums verified."""
    from rich.markup import escape
    from rich.table import Table

    from indexing.index import KIND
    from indexing.versions import current_version
    from towers.artefact import read_manifest

    version = current_version(folder)
    facts: dict[str, Any] = {"version": version.name, **read_manifest(version, KIND)}
    sizes = [file["bytes"] for file in facts.pop("files").values()]
    facts["bytes"] = sum(sizes)
    table = Table(show_header=False)
    for name, value in facts.items():
        table.add_row(name.replace("_", " "), escape(f"{value:,}" if isinstance(value, int) else str(value)))
    show(table, facts, json)


@app.command()
def export(
    model: ModelFolder,
    out: Annotated[Path, typer.Option(help="Folder for the exported query tower.")],
    precision: Annotated[Precision, typer.Option(help="Of its weights.")] = Precision.int8,
) -> None:
    """Export the reader of people to ONNX, for `serving.query`, which needs no torch (twotower[onnx])."""
    from serving.export import export_query
    from towers.model import TwoTower

    export_query(TwoTower.load(model), out, precision=precision.value)
    tell(f"the query tower is in {out}")
