"""`twotower index`: build an index, have items come and go in it, look at it, go back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from towers.errors import InputError
from twotower.commands.reading import Json, read_catalog, show, tell

if TYPE_CHECKING:
    from indexing.reading import Vectors

app = typer.Typer()
index = typer.Typer(no_args_is_help=True, help="Build an index, have items come and go in it, look at it.")
app.add_typer(index, name="index")

Folder = Annotated[Path, typer.Argument(help="Folder of an index.")]
Model = Annotated[Path | None, typer.Option("--model", help="Folder of a trained model, which embeds the catalog.")]
Items = Annotated[
    Path | None, typer.Option("--catalog", help="Items: Parquet, CSV, TSV or JSON lines with item_id; with --model.")
]
OwnVectors = Annotated[
    Path | None,
    typer.Option("--vectors", help="Instead: Parquet with item_id, vector and attributes, or .npy with --ids."),
]
Ids = Annotated[Path | None, typer.Option("--ids", help="For a .npy of vectors: one id a line, or a .npy of ids.")]
Keep = Annotated[int, typer.Option(help="How many of the newest versions stay.")]


@index.command()
def build(
    out: Annotated[Path, typer.Option(help="Folder for the index; an earlier index there gets a new version.")],
    model: Model = None,
    catalog: Items = None,
    vectors: OwnVectors = None,
    ids: Ids = None,
    kind: Annotated[str, typer.Option(help="FAISS factory string, or auto.")] = "auto",
    shard: Annotated[int, typer.Option(help="Items of a shard; a build that is killed goes on at the shard.")] = 4096,
    mmap: Annotated[
        bool, typer.Option("--mmap", help="Keep vectors in files, not in memory; for kinds of lists.")
    ] = False,
    ray: Annotated[
        bool, typer.Option("--ray", help="Embed on the Ray cluster of RAY_ADDRESS, or one started here.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="With --ray: how many; default: all there is room for.")
    ] = None,
) -> None:
    """Build an index of a catalog with a model, or of vectors of your own.

    A build that was killed goes on when the same command is given again.
    """
    from indexing.build import build_index
    from indexing.index import ItemIndex

    if _has_model(model, catalog, vectors, ids):
        assert model is not None
        items = read_catalog(catalog)  # type: ignore[arg-type]
        built = build_index(model, items, out=out, kind=kind, shard=shard, mmap=mmap, ray=ray, workers=workers)
    elif mmap or ray or workers is not None:
        raise InputError("--mmap, --ray and --workers are for --model and --catalog: own vectors are read whole")
    else:
        built = ItemIndex.from_arrays(*_own(vectors, ids), kind=kind)
        built.save(out)
    tell(f"the index is in {out}: {built!r}")


@index.command()
def add(
    folder: Folder,
    model: Model = None,
    catalog: Items = None,
    vectors: OwnVectors = None,
    ids: Ids = None,
    keep: Keep = 3,
) -> None:
    """Add items to an index, or replace them, and publish the next version."""
    from indexing.build import attributes_of, readable
    from indexing.writer import IndexWriter
    from towers.model import TwoTower

    with IndexWriter(folder) as writer:
        before = len(writer)
        if _has_model(model, catalog, vectors, ids):
            towers, items = TwoTower.load(model), read_catalog(catalog)  # type: ignore[arg-type]
            named, found = readable(items, towers.embed_items(items))
            writer.upsert(named.array, found, attributes_of(items, named), space=towers.space)
        else:
            named, found, attributes = _own(vectors, ids)
            writer.upsert(named.array, found, attributes)
        new = len(writer) - before
        version = writer.publish(keep=keep)
    tell(f"{new:,} items added, {len(named) - new:,} replaced; version {version} of {folder} is current")


@index.command()
def remove(
    folder: Folder,
    items: Annotated[list[str], typer.Argument(help="Their ids.")],
    keep: Keep = 3,
) -> None:
    """Have items found no more, and publish the next version. Their vectors still serve in histories."""
    from indexing.writer import IndexWriter

    with IndexWriter(folder) as writer:
        writer.remove(items)
        version = writer.publish(keep=keep)
    tell(f"{len(items):,} items removed; version {version} of {folder} is current")


@index.command()
def compact(folder: Folder, keep: Keep = 3) -> None:
    """Build the FAISS index again from the items that are there, and publish it with all changes that wait."""
    from indexing.writer import IndexWriter

    with IndexWriter(folder) as writer:
        tombstones = writer.index.tombstones
        writer.compact()
        version = writer.publish(keep=keep)
    tell(f"{tombstones:,} tombstones gone; version {version} of {folder} is current")


@index.command()
def rollback(
    folder: Folder,
    to: Annotated[
        str | None, typer.Option(help="Such as 000003; default: what the current version was made from.")
    ] = None,
    discard: Annotated[bool, typer.Option("--discard", help="Drop changes that are not published.")] = False,
) -> None:
    """Make an earlier version the current one; none is removed."""
    from indexing.writer import rollback

    tell(f"version {rollback(folder, to, discard=discard)} of {folder} is current")


@index.command()
def info(folder: Folder, json: Json = False) -> None:
    """What an index holds, all its checksums verified."""
    from rich.markup import escape
    from rich.table import Table

    from indexing.journal import unpublished
    from indexing.published import KIND
    from indexing.versions import read_current, versions

    version, about = read_current(folder, KIND)
    facts: dict[str, Any] = {"version": version.name, "versions": versions(folder), **about}
    sizes = [file["bytes"] for file in facts.pop("files").values()]
    facts |= {"unpublished": unpublished(folder, version.name), "bytes": sum(sizes)}
    table = Table(show_header=False)
    for name, value in facts.items():
        table.add_row(name.replace("_", " "), escape(_readable(value)))
    show(table, facts, json)


def _readable(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if value is None or value == {}:
        return ""
    return f"{value:,}" if isinstance(value, int) else str(value)


def _has_model(model: Path | None, catalog: Path | None, vectors: Path | None, ids: Path | None) -> bool:
    """Whether a model embeds the items; else they come with vectors."""
    if vectors is not None and model is None and catalog is None:
        return False
    if vectors is None and ids is None and model is not None and catalog is not None:
        return True
    raise InputError("where do the items come from? Give --model and --catalog, or --vectors (and --ids)")


def _own(vectors: Path | None, ids: Path | None) -> Vectors:
    from indexing.reading import read_vectors

    assert vectors is not None
    return read_vectors(vectors, ids)
