"""`twotower refresh`: learn from what people did since, and change over only if that is not worse."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from towers.errors import InputError
from twotower.commands.reading import Json, StoreUri, open_store, read_catalog, read_log, tell

app = typer.Typer()


@app.command()
def refresh(
    folder: Annotated[Path, typer.Argument(help="Folder of releases; FOLDER/current is the one to serve.")],
    catalog: Annotated[Path | None, typer.Option(help="Items, as in training.")] = None,
    interactions: Annotated[Path | None, typer.Option(help="The log, with timestamps: old events and new.")] = None,
    people: Annotated[Path | None, typer.Option(help="Attributes of people, as in training.")] = None,
    store: StoreUri = None,
    model: Annotated[
        Path | None, typer.Option(help="To begin with: a model trained on this log becomes the first release.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over all people.")] = 2,
    keep: Annotated[int, typer.Option(min=1, help="How many of the newest releases stay.")] = 3,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Back to the release before, and nothing else.")] = False,
    json: Json = False,
) -> None:
    """Continue training on what came since, compare on the newest of it, and change over if that is not worse.

    Exit code 1 where the new model was refused: the current release then stays.
    """
    from serving.web.changes import Changes
    from twotower import releases
    from twotower.refresh import begin
    from twotower.refresh import refresh as improve

    if rollback:
        return tell(f"release {releases.rollback(folder)} of {folder} is current")
    if catalog is None or interactions is None:
        raise InputError("a refresh reads --catalog and --interactions")
    items = Changes(catalog.parent).applied(read_catalog(catalog))  # what came over HTTP, too
    rating_range = _rating_range(model or folder / releases.CURRENT / "model")
    log = read_log(interactions, people, rating_range)
    if model is not None:
        return tell(f"release {begin(folder, model, items, log)} of {folder} is current; next: without --model")
    gathered = None if store is None else open_store(store)
    outcome = improve(folder, items, log, store=gathered, epochs=epochs, keep=keep, dry_run=dry_run)
    if json:
        import json as lines

        typer.echo(lines.dumps(outcome.to_json()))
    else:
        tell(outcome.said)
    if outcome.refused:
        raise typer.Exit(1)


def _rating_range(model: Path) -> tuple[float, float] | None:
    """What a model learned from; None where there is no model, which is told later."""
    from towers.model_config import ModelConfig

    file = model / "config.json"
    return ModelConfig.model_validate_json(file.read_text("utf-8")).rating.range if file.is_file() else None
