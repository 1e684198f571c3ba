"""`twotower recommend`, `twotower explain` and `twotower similar`: questions to a model and its index."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twotower.commands.reading import (
    CatalogFile,
    Count,
    HalfLife,
    IndexFolder,
    Json,
    ModelFolder,
    StoreUri,
    console,
    open_store,
    read_catalog,
    read_log,
    show,
)

if TYPE_CHECKING:
    from serving.retriever import Retriever

app = typer.Typer()
Where = Annotated[
    str | None,
    typer.Option(help='What must hold of the items, as JSON: {"genre": "Comedy", "year": {">=": 1990}}.'),
]
History = Annotated[
    list[str] | None, typer.Option(help="Items somebody met, oldest first: a,b,c; given again, those after.")
]


@app.command()
def recommend(
    model: ModelFolder,
    index: IndexFolder,
    catalog: CatalogFile,
    interactions: Annotated[Path | None, typer.Option(help="The log; needed with --user.")] = None,
    people: Annotated[Path | None, typer.Option(help="Attributes of people, as in training.")] = None,
    user: Annotated[str | None, typer.Option(help="Somebody in the log or the store.")] = None,
    history: History = None,
    text: Annotated[str | None, typer.Option(help="What somebody would like, in words.")] = None,
    image: Annotated[Path | None, typer.Option(help="A picture of what somebody would like.")] = None,
    audio: Annotated[Path | None, typer.Option(help="A sound of what somebody would like.")] = None,
    where: Where = None,
    store: StoreUri = None,
    half_life: HalfLife = None,
    steps: Annotated[
        Path | None,
        typer.Option(help="How they are re-ranked: a TOML file of steps; default: by predicted rating."),
    ] = None,
    k: Count = 10,
    json: Json = False,
) -> None:
    """Recommend items to somebody."""
    with console().status("loading"):
        answer = _retriever(model, index, catalog, interactions, people, store, half_life).recommend(
            user=user, history=_ids(history), text=text, image=image, audio=audio, where=where, steps=steps, k=k
        )
    show(answer.table(), answer.to_json(), json)


@app.command()
def explain(
    item: Annotated[str, typer.Argument(help="An item of the index.")],
    model: ModelFolder,
    index: IndexFolder,
    catalog: CatalogFile,
    interactions: Annotated[Path | None, typer.Option(help="The log; needed with --user.")] = None,
    people: Annotated[Path | None, typer.Option(help="Attributes of people, as in training.")] = None,
    user: Annotated[str | None, typer.Option(help="Somebody in the log or the store.")] = None,
    history: History = None,
    text: Annotated[str | None, typer.Option(help="What somebody would like, in words.")] = None,
    image: Annotated[Path | None, typer.Option(help="A picture of what somebody would like.")] = None,
    audio: Annotated[Path | None, typer.Option(help="A sound of what somebody would like.")] = None,
    store: StoreUri = None,
    half_life: HalfLife = None,
    json: Json = False,
) -> None:
    """Show why an item suits somebody."""
    with console().status("loading"):
        answer = _retriever(model, index, catalog, interactions, people, store, half_life).explain(
            item, user=user, history=_ids(history), text=text, image=image, audio=audio
        )
    show(answer.table(), answer.as_dict(), json)


@app.command()
def similar(
    item: Annotated[str, typer.Argument(help="An item of the index.")],
    model: ModelFolder,
    index: IndexFolder,
    catalog: CatalogFile,
    by: Annotated[str | None, typer.Option(help="Only text, image or audio; default: all that the item is.")] = None,
    where: Where = None,
    k: Count = 10,
    json: Json = False,
) -> None:
    """Show the items most like one."""
    with console().status("loading"):
        answer = _retriever(model, index, catalog).similar(item, by=by, where=where, k=k)
    show(answer.table(), answer.to_json(), json)


def _ids(history: list[str] | None) -> list[str] | None:
    """Items as they stand on a command line."""
    if history is None:
        return None
    return [item.strip() for part in history for item in part.split(",") if item.strip()]


def _retriever(
    model: Path,
    index: Path,
    catalog: Path,
    interactions: Path | None = None,
    people: Path | None = None,
    store: str | None = None,
    half_life: float | None = None,
) -> Retriever:
    from serving.retriever import Retriever
    from towers.model import TwoTower

    gathered = None if store is None else open_store(store)
    items, towers = read_catalog(catalog), TwoTower.load(model)
    log = None if interactions is None else read_log(interactions, people, towers.config.rating.range)
    return Retriever(towers, index, items, log, store=gathered, half_life=half_life)
