"""`twotower index`: build an index, have items come and go in it, look at it, go back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from towers.errors import InputError
from twotower.commands.reading import Json, read_catalog, show, tell

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from indexing.address import Address
    from indexing.reading import Vectors
    from indexing.store import Writer
    from towers.ids import IdList
    from towers.rejected import Rejected

app = typer.Typer()
index = typer.Typer(no_args_is_help=True, help="Build an index, have items come and go in it, look at it.")
app.add_typer(index, name="index")


def folder_only(path: Path) -> Path:
    from indexing.address import Address

    if (address := Address.read(path)) is not None:
        raise InputError(f"{address} is a Milvus, which compacts by itself and has no versions; expected a folder")
    return path


Folder = Annotated[Path, typer.Argument(help="Folder of an index.", callback=folder_only)]
Place = Annotated[Path, typer.Argument(help="Folder of an index, or a Milvus: milvus.db, http://host:19530#songs.")]
Model = Annotated[Path | None, typer.Option("--model", help="Folder of a trained model, which embeds the catalog.")]
Items = Annotated[
    Path | None, typer.Option("--catalog", help="Items: Parquet, CSV, TSV or JSON lines with item_id; with --model.")
]
OwnVectors = Annotated[
    Path | None,
    typer.Option("--vectors", help="Instead: Parquet with item_id, vector and attributes, or .npy with --ids."),
]
Ids = Annotated[Path | None, typer.Option("--ids", help="For a .npy of vectors: one id a line, or a .npy of ids.")]
Keep = Annotated[int, typer.Option(min=1, help="How many of the newest versions stay.")]


@index.command()
def build(
    out: Annotated[
        Path | None, typer.Option(help="Folder for the index; an earlier index there gets a new version.")
    ] = None,
    store: Annotated[
        Path | None, typer.Option(help="Instead: a Milvus, milvus.db or http://host:19530, with #songs for a name.")
    ] = None,
    model: Model = None,
    catalog: Items = None,
    vectors: OwnVectors = None,
    ids: Ids = None,
    kind: Annotated[str, typer.Option(help="FAISS factory string, Milvus's index type, or auto.")] = "auto",
    shard: Annotated[
        int | None, typer.Option(help="Items of a shard; a build that is killed goes on at the shard. Default: 4096.")
    ] = None,
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

    With --out, a build that was killed goes on when the same command is given again. Rows, pictures and sounds that
    cannot be used, and items of which nothing is left, are written, with the reason, to OUT.rejected.jsonl.
    """
    from indexing.build import SHARD, build_index, make_of
    from indexing.index import ItemIndex
    from indexing.milvus import MilvusIndex
    from indexing.nearest import FLAT
    from towers.model import TwoTower

    if (out is None) == (store is None):
        raise InputError("where should the index be? Give --out FOLDER, or --store for a Milvus")
    if store is not None:
        MilvusIndex.refuse_early(store, kind)
    if mmap and store is not None:
        raise InputError("--mmap is for --out: a Milvus keeps its vectors itself")
    if _has_model(model, catalog, vectors, ids):
        if workers is not None and not ray:
            raise InputError("--workers is for --ray: without it the items are embedded here, in this process")
        assert model is not None
        items, own = read_catalog(catalog), kind if store is None else FLAT  # type: ignore[arg-type]
        size = SHARD if shard is None else shard
        if store is not None:
            MilvusIndex.refuse_early(store, kind, make_of(TwoTower.load(model), items))
        built = build_index(model, items, out=out, kind=own, shard=size, mmap=mmap, ray=ray, workers=workers)
    elif mmap or ray or workers is not None or shard is not None:
        raise InputError(
            "--mmap, --ray, --workers and --shard are for --model and --catalog: own vectors are read whole"
        )
    else:
        built = ItemIndex.from_arrays(*_own(vectors, ids), kind=kind if store is None else FLAT)
        if out is not None:
            built.save(out)
    if store is None:
        tell(f"the index is in {out}: {built!r}")
    else:
        put = MilvusIndex.build(store, built.ids, built.vectors, built.attributes, kind=kind, space=built.space)
        tell(f"the index is in {put.address}: {put!r}")


@index.command()
def add(
    folder: Place,
    model: Model = None,
    catalog: Items = None,
    vectors: OwnVectors = None,
    ids: Ids = None,
    keep: Keep = 3,
) -> None:
    """Add items to an index, or replace those that have changed, and publish the next version, if there are any.

    Of an index in a folder, what cannot be used is written, with the reason, to FOLDER.rejected.jsonl, beside what that
    says of other items.
    """
    from indexing.address import Address
    from indexing.store import open_writer
    from indexing.unchanged import upsert_changed

    with open_writer(folder) as writer:
        before = len(writer)
        given = _items(model, catalog, vectors, ids, folder if Address.read(folder) is None else None)
        put = upsert_changed(writer, given.ids, given.vectors, given.attributes, space=given.space)
        new = len(writer) - before
        left = f", {len(given.ids) - put:,} unchanged" if put < len(given.ids) else ""
        tell(f"{new:,} items added, {put - new:,} replaced{left}; {_published(writer, keep)}")
    if given.aside is not None:
        from towers.aside import write_rejected

        write_rejected(given.aside, folder)


@index.command()
def remove(
    folder: Place,
    items: Annotated[list[str], typer.Argument(help="Their ids.")],
    keep: Keep = 3,
) -> None:
    """Have items found no more, and publish the next version. Their vectors still serve in histories."""
    from indexing.store import open_writer

    with open_writer(folder) as writer:
        writer.remove(items)
        tell(f"{len(items):,} items removed; {_published(writer, keep)}")


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
def info(folder: Place, json: Json = False) -> None:
    """What an index holds, all its checksums verified."""
    from rich.markup import escape
    from rich.table import Table

    from indexing.address import Address

    address = Address.read(folder)
    facts = _folder_facts(folder) if address is None else _milvus_facts(address)
    table = Table(show_header=False)
    for name, value in facts.items():
        table.add_row(name.replace("_", " "), escape(_readable(value)))
    show(table, facts, json)


@index.command()
def drift(
    folder: Place,
    model: Model = None,
    catalog: Items = None,
    vectors: OwnVectors = None,
    ids: Ids = None,
    k: Annotated[int, typer.Option("-k", help="How many neighbours of an item are compared.")] = 10,
    json: Json = False,
) -> None:
    """Say how far the vectors of a new model, or new vectors of your own, have moved from those of an index."""
    from dataclasses import asdict

    from rich.table import Table

    from indexing.drift import QUANTILES, drift
    from indexing.index import ItemIndex
    from indexing.nearest import FLAT
    from indexing.store import open_index

    old = open_index(folder)
    given = _items(model, catalog, vectors, ids)
    moved = drift(old, ItemIndex.from_arrays(given.ids, given.vectors, kind=FLAT, space=given.space), k=k)
    table = Table(f"{moved.items:,} items in both", *(f"{100 * share:.0f} %" for share in QUANTILES))
    for name, cosines in (("cosine of old and new", moved.quantiles), ("after the best rotation", moved.turned)):
        table.add_row(name, *("" if cosines is None else f"{one:.3f}" for one in cosines or QUANTILES))
    same = old.space == given.space
    table.caption = (
        f"{moved.neighbours:.1%} of the {k} nearest are still among them; {moved.added:,} items added, "
        f"{moved.dropped:,} dropped" + ("" if same else "; of another space: build an index of all anew")
    )
    show(table, asdict(moved) | {"same_space": same}, json)


def _folder_facts(folder: Path) -> dict[str, Any]:
    from indexing.journal import unpublished
    from indexing.published import KIND
    from indexing.versions import read_current, versions

    version, about = read_current(folder, KIND)
    facts: dict[str, Any] = {"version": version.name, "versions": versions(folder), **about}
    sizes = [file["bytes"] for file in facts.pop("files").values()]
    return facts | {"unpublished": unpublished(folder, version.name), "bytes": sum(sizes)}


def _milvus_facts(address: Address) -> dict[str, Any]:
    from indexing.milvus import MilvusIndex

    index = MilvusIndex.open(address)
    return {
        "uri": address.uri,
        "collection": address.collection,
        "kind": index.kind,
        "space": index.space,
        "dimension": index.dimension,
        "count": len(index),
        "removed": len(index.removed),
        "attributes": [] if index.schema is None else index.schema.names,
    }


def _published(writer: Writer, keep: int) -> str:
    """Where the changes are now; what a Milvus is given is seen at once."""
    from indexing.writer import IndexWriter

    if isinstance(writer, IndexWriter):
        return f"version {writer.publish(keep=keep)} of {writer.folder} is current"
    return f"{len(writer):,} are there"


def _readable(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if value is None or value == {}:
        return ""
    return f"{value:,}" if isinstance(value, int) else str(value)


class _Given(NamedTuple):
    """What is to be put, and what is to stand beside the index as set aside; None where nothing is written there."""

    ids: IdList
    vectors: np.ndarray
    attributes: pa.Table | None
    space: str
    aside: Rejected | None


def _items(
    model: Path | None, catalog: Path | None, vectors: Path | None, ids: Path | None, beside: Path | None = None
) -> _Given:
    """What is to be put into an index; `beside` is its folder, where it has one."""
    if not _has_model(model, catalog, vectors, ids):
        return _Given(*_own(vectors, ids), "", None)
    from indexing.build import attributes_of, readable
    from towers.aside import aside_before, set_aside
    from towers.media import told_of
    from towers.model import TwoTower
    from towers.rejected import Rejected

    towers, items = TwoTower.load(model), read_catalog(catalog)  # type: ignore[arg-type]
    before = Rejected() if beside is None else aside_before(items, beside)
    unread: list[Rejected] = []
    vectors_found = towers.embed_items(items, unread=unread)
    for faults in unread:
        if faults.count:
            tell(f"{catalog}: {told_of(faults)}")
    named, found = readable(items, vectors_found)
    aside = None if beside is None else before + set_aside(items, sum(unread, Rejected()), named)
    return _Given(named, found, attributes_of(items, named), towers.space, aside)


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
