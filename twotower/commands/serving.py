"""`twotower serve` and `twotower keys`: the service over HTTP, and who may ask it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from towers.artefact import MANIFEST
from towers.errors import InputError, MissingExtraError
from twotower.commands.reading import (
    CatalogFile,
    HalfLife,
    IndexFolder,
    Json,
    ModelFolder,
    read_catalog,
    read_log,
    show,
    tell,
)

if TYPE_CHECKING:
    from serving.web.keys import Keys

app = typer.Typer()
keys = typer.Typer(no_args_is_help=True, help="Who may ask a service: make keys, list them, end them.")
app.add_typer(keys, name="keys")

OWN = ("127.0.0.1", "localhost", "::1")  # addresses that nobody else reaches
File = Annotated[Path, typer.Option("--file", help="The keys of a service, as `twotower serve --keys` takes it.")]


@app.command()
def serve(
    model: ModelFolder,
    index: IndexFolder,
    catalog: CatalogFile,
    interactions: Annotated[Path | None, typer.Option(help="The log.")] = None,
    people: Annotated[Path | None, typer.Option(help="Attributes of people, as in training.")] = None,
    store: Annotated[
        str | None,
        typer.Option(
            help="Where feedback goes: a file, or sqlite:///… or postgresql+psycopg://…; default: beside the catalog."
        ),
    ] = None,
    steps: Annotated[Path | None, typer.Option(help="How answers are re-ranked: a TOML file of steps.")] = None,
    half_life: HalfLife = None,
    keys: Annotated[
        Path | None, typer.Option(help="Keys made by `twotower keys add`; needed beyond this machine.")
    ] = None,
    limits: Annotated[Path | None, typer.Option(help="Sizes, rates and times: TOML, see docs/http.md.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at.")] = 8000,
) -> None:
    """Answer over HTTP, with a page to try it; ends with Ctrl-C, answering first what was asked before."""
    if keys is None and host not in OWN:
        raise InputError(
            f"without keys this listens to this machine alone, and {host} can be reached from others: make a key with "
            "`twotower keys add NAME --role admin --file keys.json` and give --keys keys.json, or leave out --host"
        )
    _check_installed()
    from serving.rerank.recipe import read_steps
    from serving.store.store import Store
    from serving.web.changes import FOLDER, Changes
    from serving.web.limits import Limits
    from serving.web.run import run
    from serving.web.source import Source

    given = Limits() if limits is None else Limits.read(limits)
    ring = None if keys is None else _some_keys(keys)
    folder = read_catalog(catalog).folder
    own = Store.open(store or _outside(folder) / FOLDER / "store.sqlite")
    source = Source(
        model=model,
        index=index,
        catalog=lambda: read_catalog(catalog),
        log=None if interactions is None else lambda towers: read_log(interactions, people, towers.config.rating.range),
        store=own,
        changes=Changes(folder),
        settings={"steps": read_steps(steps), "half_life": half_life},
    )
    tell("loading")
    run(source, own, keys=ring, limits=given, host=host, port=port, ready=tell)


def _outside(folder: Path) -> Path:
    """The nearest folder that is no artefact: those hold what their manifest knows, and nothing else."""
    while (folder / MANIFEST).exists():
        folder = folder.parent
    return folder


@keys.command()
def add(
    name: Annotated[str, typer.Argument(help="What it is for, such as the name of a program.")],
    file: File,
    role: Annotated[
        str, typer.Option(help="reader: ask. writer: also feedback and items. admin: everything.")
    ] = "reader",
) -> None:
    """Make a key and show it, once: the file holds no more than its hash."""
    from serving.web.keys import Role
    from towers.tables import missing_name

    if role not in list(Role):
        raise InputError(f"a key {missing_name('role', role, list(Role))}")
    typer.echo(_keys(file).add(name, Role(role)))
    tell("this is shown once: keep it where secrets are kept")


@keys.command(name="list")
def list_keys(file: File, json: Json = False) -> None:
    """Show the keys that there are, without their secrets."""
    from rich.markup import escape
    from rich.table import Table

    facts: list[dict[str, Any]] = [
        {name: value for name, value in key.model_dump(mode="json").items() if name not in ("salt", "hash")}
        for key in _keys(file).all()
    ]
    table = Table("id", "name", "role", "created", "revoked")
    for one in facts:
        table.add_row(*(escape(str(value or "")) for value in one.values()))
    show(table, {"keys": facts}, json)


@keys.command()
def revoke(one: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.")], file: File) -> None:
    """End a key; a service that runs refuses it from its next request on."""
    ended = _keys(file).revoke(one)
    tell(f"the key {ended.id}, {ended.name!r}, is revoked")


def _keys(file: Path) -> Keys:
    from serving.web.keys import Keys

    return Keys(file)


def _some_keys(file: Path) -> Keys:
    """Keys of which one at least can be used.

    Raises:
        InputError: there is none, so that nobody could ask.
    """
    found = _keys(file)
    if not any(key.revoked is None for key in found.all()):
        raise InputError(f"{file} holds no key that can be used: `twotower keys add NAME --file {file}` makes one")
    return found


def _check_installed() -> None:
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import sqlalchemy  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(f"serving needs {error.name}: pip install 'twotower[serve]'") from error
