"""`twotower train` and `twotower export`: from data to a model, and to a small query side."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from towers.errors import InputError
from twotower.commands.reading import (
    CatalogFile,
    ModelFolder,
    Weights,
    read_catalog,
    read_log_of,
    tell,
)

app = typer.Typer()


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

    Rows, pictures and sounds that cannot be used are counted and written, with the reason, to OUT.rejected.jsonl.
    Where a training was killed, the same command goes on from its last checkpoint, in OUT.checkpoint (without a log:
    from the start).
    On several GPUs or CPUs: torchrun --nproc-per-node 2 -m twotower train ...
    """
    from training.checkpoint import checkpoint_folder
    from training.config import Recipe
    from training.trainer import train

    if interactions is None and (people is not None or rating_range is not None):
        raise InputError("--people and --rating-range tell of a log: give --interactions with them, or leave them out")
    settings = Recipe.read(recipe)
    items = read_catalog(catalog)
    log = None
    if interactions is not None:
        log = read_log_of(items, interactions, people, rating_range or settings.rating.range)
    try:
        train(items, log, recipe=settings, protocol=protocol, out=out, weights=weights)
    except KeyboardInterrupt:
        if checkpoint_folder(out).exists():
            tell(f"the same command goes on from the last checkpoint, in {checkpoint_folder(out)}")
        raise
    if log is not None:
        tell(f"read of {interactions}: {log.summary()}")
    tell(f"the model is in {out}; next: twotower index build --model {out} --catalog {catalog} --out FOLDER")


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
