"""`twotower doctor`: what is wrong here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from towers.errors import InputError
from twotower.commands.reading import Json, console, show

app = typer.Typer()


@app.command()
def doctor(
    model: Annotated[Path | None, typer.Option(help="Folder of a trained model.")] = None,
    index: Annotated[Path | None, typer.Option(help="Folder of its index.")] = None,
    catalog: Annotated[Path | None, typer.Option(help="Its items.")] = None,
    interactions: Annotated[Path | None, typer.Option(help="Its log.")] = None,
    people: Annotated[Path | None, typer.Option(help="Attributes of people, as in training.")] = None,
    json: Json = False,
) -> None:
    """Look at what twotower runs on; given a run, at why its recall is low.

    Without options: versions, FAISS, hardware, pretrained weights. With --model, --index, --catalog and
    --interactions: vectors, search, ids, texts, people, recommendations. Exit code 0: all is as it should be;
    1: something is not, and the last lines say what to do.
    """
    from twotower.doctor import examine_folders, report
    from twotower.environment import environment

    with console().status("examining"):
        if model and index and catalog and interactions:
            findings = examine_folders(model, index, catalog, interactions, people)
        elif not (model or index or catalog or interactions or people):
            findings = environment()
        else:
            raise InputError("a run is --model, --index, --catalog and --interactions together: give all, or none")
    healthy = all(one.ok for one in findings)
    show(report(findings), {"healthy": healthy, "findings": [one.to_json() for one in findings]}, json)
    raise typer.Exit(0 if healthy else 1)
