"""`twotower refresh`: learn from what people did since, and change over only if that is not worse."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from towers.errors import InputError
from twotower.commands.reading import Json, StoreUri, open_store, read_log, read_offered, tell

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
    from twotower import releases
    from twotower.refresh import begin
    from twotower.refresh import refresh as improve

    if dry_run and (rollback or model is not None):
        raise InputError("--dry-run says what a refresh would do: leave it out with --rollback or --model")
    if rollback:
        name = releases.rollback(folder)
        return _show(f"release {name} of {folder} is current", {"release": name}, json)
    if catalog is None or interactions is None:
        raise InputError("a refresh reads --catalog and --interactions")
    items = read_offered(catalog)
    rating_range = _rating_range(model or folder / releases.CURRENT / "model")
    log = read_log(interactions, people, rating_range)
    if model is not None:
        name = begin(folder, model, items, log)
        return _show(f"release {name} of {folder} is current; next: without --model", {"release": name}, json)
    gathered = None if store is None else open_store(store)
    outcome = improve(folder, items, log, store=gathered, epochs=epochs, keep=keep, dry_run=dry_run)
    _show(outcome.said, outcome.to_json(), json)
    if outcome.refused:
        raise typer.Exit(1)


def _show(said: str, facts: dict[str, Any], json: bool) -> None:
    """A sentence for people, or an object for programs."""
    if not json:
        return tell(said)
    import json as lines

    typer.echo(lines.dumps(facts))


def _rating_range(model: Path) -> tuple[float, float] | None:
    """What a model learned from; None where there is no model, which is told later."""
    from towers.model_config import ModelConfig

    file = model / "config.json"
    return ModelConfig.model_validate_json(file.read_text("utf-8")).rating.range if file.is_file() else None
