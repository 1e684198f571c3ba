"""`twotower index tune`: kind and parameters of an index, chosen by measurement."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from towers.errors import ArtefactError, InputError
from twotower.commands.keeping import folder_only
from twotower.commands.reading import Json, console, read_catalog, read_log, show, tell

if TYPE_CHECKING:
    import numpy as np

    from indexing.index import ItemIndex
    from indexing.tune import Tuned

PEOPLE = 1_000  # whose questions are asked


def tune(
    folder: Annotated[
        Path, typer.Argument(help="Folder of an index; the tuned one becomes its next version.", callback=folder_only)
    ],
    queries: Annotated[
        Path | None, typer.Option(help="People's vectors, of any length, .npy; or else a model and a log:")
    ] = None,
    model: Annotated[Path | None, typer.Option(help="Folder of a trained model.")] = None,
    catalog: Annotated[Path | None, typer.Option(help="Items.")] = None,
    interactions: Annotated[Path | None, typer.Option(help="The log.")] = None,
    recall: Annotated[float | None, typer.Option(help="Share of the nearest to be found; 0.95 without a wish.")] = None,
    latency: Annotated[
        float | None, typer.Option(help="Most milliseconds that a query alone may take: the median, one by one.")
    ] = None,
    memory: Annotated[int | None, typer.Option(help="Most bytes the FAISS index may take.")] = None,
    k: Annotated[int, typer.Option("-k", help="How many items are asked for.")] = 10,
    json: Json = False,
) -> None:
    """Choose kind and parameters of an index with people's questions."""
    from indexing import tune as tuning
    from indexing.index import ItemIndex
    from indexing.published import waiting_changes

    tuning.check_wishes(recall, latency, memory)  # before anything is read
    index = ItemIndex.load(folder)
    if waiting := waiting_changes(folder):  # before minutes of measuring, not after them
        raise ArtefactError(waiting)
    asked, counts = _questions(index, queries, model, catalog, interactions)
    with console().status("measuring"):
        tuned = tuning.tune(index, asked, recall=recall, latency_ms=latency, memory_bytes=memory, k=k, counts=counts)
    tuned.index.save(folder)
    _show(tuned, json)
    tell(f"the tuned index is in {folder}: {tuned.index!r}")


def _questions(
    index: ItemIndex, queries: Path | None, model: Path | None, catalog: Path | None, interactions: Path | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """People's vectors and, from a log, how often each item was met."""
    from indexing.reading import read_vectors

    if queries is not None:
        return read_vectors(queries).vectors, None  # of any length, as those of items are
    if model is None or catalog is None or interactions is None:
        raise InputError("tuning needs people's questions: give --queries, or --model, --catalog and --interactions")
    from serving.retriever import Retriever
    from towers.model import TwoTower

    towers = TwoTower.load(model)
    log = read_log(interactions, None, towers.config.rating.range)
    return Retriever(towers, index, read_catalog(catalog), log).questions(PEOPLE)


def _show(tuned: Tuned, json: bool) -> None:
    from rich.table import Table

    from indexing.tune import frontier

    groups = list(tuned.chosen.groups)
    table = Table("kind", "parameters", "recall", *groups, "ms", "bytes", title="measured, those that no other beats")
    best = frontier(tuned.settings)
    for one in best if tuned.chosen in best else sorted([*best, tuned.chosen], key=lambda one: one.latency_ms):
        table.add_row(
            ("→ " if one == tuned.chosen else "") + one.kind,
            one.parameters.replace(",", " "),
            f"{one.recall:.3f}",
            *(f"{one.groups[name]:.3f}" for name in groups),
            f"{one.latency_ms:.3f}",
            f"{one.bytes_per_item:.0f}",
        )
    few = tuned.index.tuned["too few targets"]
    said = [f"too few answers to tell what is found of {name} items: {count}" for name, count in few.items()]
    if tuned.on_items:
        said.append(
            f"tuned on item vectors: {tuned.on_items['parameters'] or 'no parameters'}, "
            f"recall {tuned.on_items['recall of people']:.3f} for people"
        )
    table.caption = "\n".join(said)
    facts = {
        "chosen": asdict(tuned.chosen),
        "too_few_targets": few,
        "on_items": tuned.on_items,
        "settings": list(map(asdict, tuned.settings)),
    }
    show(table, facts, json)
