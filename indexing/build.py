"""Build an index of a catalog with a model's item tower: shard by shard, here or on a Ray cluster, the same code."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch

from indexing import approximate, beyond_memory
from indexing.attributes import as_attributes
from indexing.batch import Make
from indexing.index import ItemIndex
from indexing.published import remember, waiting_changes
from indexing.shards import Shards, agree_on_plan, working_folder
from indexing.spread import Embed, here, over_ray
from indexing.versions import refuse_stranger
from towers.aside import set_aside, write_rejected
from towers.bar import bar
from towers.catalog import ITEM_ID, MEDIA, Catalog
from towers.embed import VectorCache
from towers.errors import ArtefactError, InputError
from towers.ids import IdList
from towers.media import media_of, told_of
from towers.model import TwoTower
from towers.rejected import Rejected
from towers.tables import refuse_unread

SHOWN = 3  # items that are named where more are set aside
SHARD = 4096  # items; a text encoder on a CPU takes seconds for them, one of pictures minutes

Spread = Callable[..., Iterator[tuple[int, np.ndarray, bytes]]]


def readable(catalog: Catalog, vectors: np.ndarray) -> tuple[IdList, np.ndarray]:
    """The items that have a vector, and these.

    Raises:
        InputError: none has one.

    Warns:
        UserWarning: items without one.
    """
    has = np.asarray(vectors.any(axis=1))
    ids = readable_ids(catalog, has)
    return ids, vectors if has.all() else vectors[has]


def readable_ids(catalog: Catalog, has: np.ndarray) -> IdList:
    """The items that have a vector, as bool ``(N,)`` says; see `readable`."""
    empty = np.flatnonzero(~has)
    if not len(empty):
        return catalog.ids
    named = ", ".join(repr(catalog.ids[row]) for row in empty[:SHOWN]) + (", …" if len(empty) > SHOWN else "")
    told = f"{len(empty):,} of {len(catalog):,} items have neither content that can be read nor a vector of their own"
    if len(empty) == len(catalog):
        raise InputError(f"{told}: give them text, or a picture or a sound that the model reads")
    warnings.warn(f"{told} and are set aside: {named}", UserWarning, stacklevel=4)
    return IdList(catalog.ids.array.take(np.flatnonzero(has)))


def attributes_of(catalog: Catalog, ids: IdList) -> pa.Table | None:
    """What filters may ask of these items: the catalog's columns, but for pictures, sounds and vectors; None of none.

    Args:
        catalog: has all of the items.
        ids: M items, a row each.
    """
    names = [field.name for field in catalog.table.schema if is_attribute(field)]
    return catalog.table.select(names).take(pa.array(catalog.rows(ids.array))) if names else None


def make_of(model: TwoTower, catalog: Catalog) -> Make:
    """What the items of an index of this catalog will share."""
    table = attributes_of(catalog, IdList(catalog.ids.array[:0]))
    schema = None if table is None else as_attributes(table, 0).schema
    return Make(catalog.ids.array.type, model.config.item.dimension, model.space, schema)


def is_attribute(field: pa.Field) -> bool:
    """Whether it is a value of an item, or a list of words."""
    kind = field.type
    if field.name == ITEM_ID or field.name in MEDIA:
        return False
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.types.is_string(kind.value_type) or pa.types.is_large_string(kind.value_type)
    return not (pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def build_index(
    model: TwoTower | str | Path,
    catalog: Catalog,
    *,
    out: str | Path | None = None,
    kind: str = "auto",
    progress: bool = True,
    shard: int = SHARD,
    mmap: bool = False,
    ray: bool = False,
    workers: int | None = None,
    cache: VectorCache | None = None,
) -> ItemIndex:
    """An index of all items of `catalog`, bound to the vector space of `model`.

    It is built shard by shard. With `out`, what is done is kept in a folder beside it until the index is published, so
    that a build which was killed goes on where it was when it is called again. Contents that were embedded before, with
    the same encoder, are not embedded again. What cannot be used is written to ``OUT.rejected.jsonl``, a JSON object a
    line: rows of the catalog, pictures, sounds and vectors, and items of which nothing is left.

    Args:
        model: a model, or the folder of one.
        catalog: N items.
        out: index folder in which to write a new version; None keeps the index in memory only.
        kind: FAISS factory string, or "auto".
        progress: show a bar on standard error.
        shard: items of a shard, which is what a kill repeats at most; the same vectors come of the same shards.
        mmap: keep the vectors in files, not in memory, while building and in the index that is returned; needs `out`,
            and a `kind` that `indexing.beyond_memory` can build.
        ray: embed on a Ray cluster (`indexing.spread.over_ray`), with the same vectors, bit for bit.
        workers: of the cluster, with `ray` alone; None for as many as it has room for.
        cache: where content vectors are kept; default: the cache folder.

    Raises:
        InputError: what is no `Catalog`, no item of which anything can be read, a kind that cannot be used, or `mmap`
            or `workers` without what they need.
        ArtefactError: `model` is not the folder of a model, `out` cannot be written, or is being built by another.

    Warns:
        UserWarning: pictures, sounds or vectors that cannot be used, and items with neither content nor a vector of
            their own, which are set aside.
    """
    refuse_unread(catalog, Catalog)
    if shard < 1:
        raise InputError(f"a shard needs at least 1 item, got {shard}")
    if workers is not None and not ray:
        raise InputError("workers are those of a Ray cluster: ask for one, with ray, or leave them out")
    if mmap and out is None:
        raise InputError("mmap keeps the vectors in the files of an index: say in which folder, with out")
    towers = model if isinstance(model, TwoTower) else TwoTower.load(model)
    out = None if out is None else Path(out)
    _refuse_early(towers, catalog, out, kind, mmap)
    with working_folder(out) as work:
        job = _Job.of(towers, catalog, shard, work, cache or VectorCache())
        shards = Shards(work, job.keys)
        if ray:
            if isinstance(model, TwoTower):
                model.save(work / "model")
                model = work / "model"
            make = partial(_Embedder.load, Path(model).absolute(), job)
            made: Spread = partial(over_ray, workers=workers, threads=job.threads)
        else:
            make, made = partial(_Embedder, towers, job), here
        _embed(shards, made, make, catalog, shard, progress)
        index, unread = _gather(shards, catalog, towers.space, kind, work if mmap else None)
        _tell(unread, catalog, index, out)
        if out is not None:
            remember(index, out)
            index.save(out)
    return ItemIndex.load(out, mmap=True) if mmap and out is not None else index


class _Job(NamedTuple):
    """What is settled before the first shard, also for the workers of a cluster.

    Args:
        space: of the model.
        keys: all that fixes the vectors of a shard, for each.
        cache: folder of content vectors.
        known: its files that are looked at.
        threads: of torch, since how sums are split may change their last bits.
    """

    space: str
    keys: list[str]
    cache: Path
    known: list[str]
    threads: int

    @classmethod
    def of(cls, model: TwoTower, catalog: Catalog, shard: int, work: Path, cache: VectorCache) -> _Job:
        """Settle it, or find how it was settled before a kill."""
        same = {"space": model.space, "shard": shard, "cache": str(cache.folder)}
        plan = agree_on_plan(work, same, {"threads": torch.get_num_threads(), "known": cache.files()})
        media = [config.column for config in model.config.media.values()]
        count = -(-len(catalog) // shard)
        keys = [_key(model.space, _part(shard, catalog, number), media) for number in range(count)]
        return cls(model.space, keys, cache.folder.absolute(), plan["known"], plan["threads"])


class _Embedder:
    """Embeds the items of a shard, wherever that is.

    Args:
        model: the model.
        job: of the whole build.
    """

    def __init__(self, model: TwoTower, job: _Job) -> None:
        self._model, self._threads = model, job.threads
        self._cache = VectorCache(job.cache, only=job.known)

    @classmethod
    def load(cls, model: Path, job: _Job) -> _Embedder:
        """The same on a machine that has to read the model first.

        Raises:
            ArtefactError: another model lies there now.
        """
        towers = TwoTower.load(model)
        if towers.space != job.space:
            raise ArtefactError(f"the model in {model} has changed since this build began: give the same command again")
        return cls(towers, job)

    def __call__(self, part: Catalog) -> tuple[np.ndarray, bytes]:
        before = torch.get_num_threads()
        torch.set_num_threads(self._threads)
        try:
            unread: list[Rejected] = []
            vectors = self._model.embed_items(part, cache=self._cache, unread=unread)
            return vectors, sum(unread, Rejected()).to_bytes()
        finally:
            torch.set_num_threads(before)


def _refuse_early(model: TwoTower, catalog: Catalog, out: Path | None, kind: str, mmap: bool) -> None:
    """Raise before hours of embedding what would be raised after them."""
    dimension = make_of(model, catalog).dimension  # refuses columns that cannot be attributes
    if kind != "auto":
        beyond_memory.check(kind, dimension) if mmap else approximate.empty(kind, dimension)
    if out is not None:
        refuse_stranger(out)
        if waiting := waiting_changes(out):
            raise ArtefactError(waiting)


def _part(shard: int, catalog: Catalog, number: int) -> Catalog:
    """The items of a shard."""
    return catalog.select(np.arange(number * shard, min((number + 1) * shard, len(catalog))))


def _key(space: str, part: Catalog, media: list[str]) -> str:
    """All that fixes the vectors of these items; of files of pictures and sounds their size and time stand for them."""
    digest = hashlib.sha256(f"2 {space} {part.fingerprint}".encode())
    for column in media:
        if column in part.table.column_names and not pa.types.is_nested(part.table.schema.field(column).type):
            for path in media_of(part, column)[0]:
                if isinstance(path, Path):
                    digest.update(f"{path} {_state(path)}\n".encode())
    return digest.hexdigest()


def _state(path: Path) -> str:
    try:
        facts = path.stat()
    except OSError:
        return "absent"
    return f"{facts.st_size} {facts.st_mtime_ns}"


def _embed(
    shards: Shards, made: Spread, make: Callable[[], Embed], catalog: Catalog, shard: int, progress: bool
) -> None:
    """Make the shards that are missing."""
    missing = shards.missing()
    if not missing:
        return
    with bar("embedding items", len(catalog), shown=progress) as advance, warnings.catch_warnings():
        advance(len(catalog) - sum(min(shard, len(catalog) - number * shard) for number in missing), before=True)
        for number, vectors, notes in made(make, partial(_part, shard), catalog, missing):
            shards.write(number, vectors, notes)
            advance(len(vectors))
            warnings.simplefilter("ignore", UserWarning)  # the first shard has told what encoders say of many contents


def _gather(shards: Shards, catalog: Catalog, space: str, kind: str, work: Path | None) -> tuple[ItemIndex, Rejected]:
    """The index of all shards, with a working folder over vectors in a file of it; and what of them was not read."""
    present, unread, dimension = [], Rejected(), 0
    for vectors, notes in shards:
        present.append(vectors.any(axis=1))
        unread, dimension = unread + Rejected.from_bytes(notes), vectors.shape[1]
    ids = readable_ids(catalog, np.concatenate(present))
    if work is None:
        vectors = np.empty((len(ids), dimension), np.float32)
    else:
        vectors = np.lib.format.open_memmap(work / "vectors.npy", "w+", np.float32, (len(ids), dimension))
    filled = 0
    for one, _ in shards:
        kept = one[one.any(axis=1)]
        vectors[filled : filled + len(kept)] = kept
        filled += len(kept)
    attributes = attributes_of(catalog, ids)
    index = ItemIndex.from_arrays(ids, np.asarray(vectors), attributes, kind=kind, space=space, scratch=work)
    return index, unread


def _tell(unread: Rejected, catalog: Catalog, index: ItemIndex, out: Path | None) -> None:
    """Warn of pictures, sounds and vectors that cannot be used; write down beside the index all that is set aside."""
    if unread.count:
        warnings.warn(told_of(unread), UserWarning, stacklevel=3)
    if out is not None:
        write_rejected(set_aside(catalog, unread, index.ids), out)
