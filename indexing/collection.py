"""`Collection`: items in a Milvus, and all that is asked of it; nothing else here uses pymilvus."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from indexing.address import Address
from indexing.batch import Batch, Make
from indexing.binding import ABOUT, ID, VECTOR, about, read_about, schema_of
from indexing.columns import Column, check_text, columns_of
from indexing.connection import connected, leave, told
from indexing.expressions import Said, is_in
from towers.errors import ArtefactError, InputError
from towers.ids import Id

REMOVED = "_removed"  # after a collection's name: the vectors of what was removed from it
KINDS = ("FLAT", "HNSW", "HNSW_SQ", "IVF_FLAT", "IVF_SQ8", "SCANN", "DISKANN")
MOST = 16_384  # what Milvus gives at once
BYTES_AT_ONCE = 2**24  # a quarter of what Milvus takes in one message
IDS_AT_ONCE = 1_000
SECONDS = 60.0  # after which a Milvus that does not answer is given up


def refuse_kind(kind: str) -> None:
    """Refuse what is none of Milvus's index types.

    Raises:
        InputError: it is not.
    """
    if kind not in ("auto", *KINDS):
        raise InputError(f"kind must be auto or one of Milvus's index types, {', '.join(KINDS)}; got {kind!r}")


class Collection:
    """The items of one address.

    Milvus has no transactions: of a call that breaks off, part may be done. `put` may be repeated, and where an item is
    both there and among the removed, it is there.

    Args:
        address: where it is.
        make: what its items share.
        client: pymilvus's.
    """

    def __init__(self, address: Address, make: Make, client: Any) -> None:
        self.address, self.make = address, make
        self.columns = columns_of(make.attributes)
        self._name, self._client = address.collection, client
        self.closed = False

    @classmethod
    def create(cls, address: Address, make: Make, kind: str = "auto") -> Collection:
        """A new collection without items.

        Args:
            address: where there is none yet.
            make: what its items will share.
            kind: Milvus's index type, such as ``HNSW`` or ``FLAT``; "auto" leaves it to Milvus.

        Raises:
            InputError: attributes or an index type that Milvus does not know.
            ArtefactError: it does not answer, or refuses.
        """
        refuse_kind(kind)
        index_types = {"auto": "AUTOINDEX", **{name: name for name in KINDS}}
        columns, said = columns_of(make.attributes), about(make)
        client = connected(address)
        with ExitStack() as failing, told(address):
            failing.callback(leave, client, address)
            for name, fields, index in (
                (address.collection + REMOVED, [], "FLAT"),
                (address.collection, columns, index_types[kind]),
            ):
                if client.has_collection(name, timeout=SECONDS):
                    continue
                indexes = client.prepare_index_params()
                indexes.add_index(VECTOR, index_type=index, metric_type="IP")
                client.create_collection(
                    name,
                    schema=schema_of(client, make, fields),
                    index_params=indexes,
                    consistency_level="Session",
                    properties={ABOUT: said},
                    timeout=SECONDS,
                )
            failing.pop_all()
        return cls(address, make, client)

    @classmethod
    def open(cls, address: Address, space: str | None = None) -> Collection:
        """The collection that is there.

        Args:
            address: where.
            space: the space that queries will live in; None where it is not known.

        Raises:
            ArtefactError: none is there, or a stranger's, of another space, or of a newer format; or Milvus does not
                answer.
        """
        found = cls.find(address)
        if found is None:
            raise ArtefactError(
                f"expected an index at {address}, there is none: twotower index build --store makes one"
            )
        if space is not None and found.make.space != space:
            raise ArtefactError(
                f"this index was built for another model: {address} is of the space {found.make.space[:12]!r}, "
                f"expected {space[:12]!r}; build it again with this model"
            )
        return found

    @classmethod
    def find(cls, address: Address) -> Collection | None:
        """As `open`; None where there is none."""
        if address.embedded and not Path(address.uri).exists():
            return None
        client = connected(address)
        with ExitStack() as failing, told(address):
            failing.callback(leave, client, address)
            if not client.has_collection(address.collection, timeout=SECONDS):
                return None
            make = read_about(address, client.describe_collection(address.collection, timeout=SECONDS))
            for name in (address.collection, address.collection + REMOVED):
                client.load_collection(name, timeout=SECONDS)
            failing.pop_all()
        return cls(address, make, client)

    def close(self) -> None:
        """Leave the Milvus."""
        if not self.closed:
            self.closed = True
            leave(self._client, self.address)

    def put(self, batch: Batch) -> None:
        """Add items, or replace them; what was removed under these ids is forgotten."""
        check_batch(batch, self.columns)
        self._put(self._name, batch, self.columns)
        self._delete(self._name + REMOVED, batch.ids)

    def remove(self, ids: pa.Array) -> None:
        """Take items out, which are there, and keep their vectors."""
        places, vectors = self.vectors(ids)
        self._put(self._name + REMOVED, Batch(ids.take(pa.array(places)), vectors, None), [])
        self._delete(self._name, ids)

    def flush(self) -> None:
        """Have what was put written out and indexed."""
        with told(self.address):
            for name in (self._name, self._name + REMOVED):
                self._client.flush(name, timeout=SECONDS)

    def count(self, said: Said = True) -> int:
        """How many items an expression fits."""
        if said is False:
            return 0
        with told(self.address):
            found = self._client.query(
                self._name, filter=_text(said), output_fields=["count(*)"], filter_params={}, timeout=SECONDS
            )
        return int(found[0]["count(*)"])

    def ids(self, said: Said = True) -> pa.Array:
        """Those that an expression fits, as they are at this moment."""
        return self._listed(self._name, said)[0]

    def removed(self) -> tuple[pa.Array, np.ndarray]:
        """Ids and last vectors of what was removed."""
        return self._listed(self._name + REMOVED, True, with_vectors=True)

    def vectors(self, ids: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """Vectors by id.

        Returns:
            Which of the ids are there, int64 ``(M,)``, rising; and their vectors, float32 ``(M, D)``.
        """
        found = {row[ID]: row[VECTOR] for row in self._rows(ids, [VECTOR])}
        wanted = ids.to_pylist()
        places = np.array([place for place, one in enumerate(wanted) if one in found], np.int64)
        return places, self._array([found[wanted[place]] for place in places])

    def items(self, ids: pa.Array) -> tuple[list[Id], np.ndarray, list[dict[str, Any]]]:
        """Those of these ids that are there, in any order, with vectors and attributes."""
        rows = self._rows(ids, [VECTOR, *(column.field for column in self.columns)])
        attributes: list[dict[str, Any]] = [{} for _ in rows]
        for column in self.columns:
            for one, value in zip(
                attributes, column.arrow([row[column.field] for row in rows]).to_pylist(), strict=True
            ):
                one[column.name] = value
        return [row[ID] for row in rows], self._array([row[VECTOR] for row in rows]), attributes

    def present(self, ids: pa.Array) -> np.ndarray:
        """bool ``(n,)`` which of these are there."""
        there = {row[ID] for row in self._rows(ids, [])}
        return np.array([one in there for one in ids.to_pylist()], bool)

    def nearest(self, queries: np.ndarray, depth: int, said: Said) -> list[tuple[list[Id], np.ndarray]]:
        """For each query, ids and vectors of at most `depth` items that are near and that an expression fits."""
        if said is False:
            return [([], self._array([]))] * len(queries)
        size = max(1, BYTES_AT_ONCE // (self._item_bytes * depth))
        found = []
        with told(self.address):
            for start in range(0, len(queries), size):
                found += self._client.search(
                    self._name,
                    data=list(queries[start : start + size]),
                    anns_field=VECTOR,
                    filter=_text(said),
                    filter_params={},
                    limit=depth,
                    output_fields=[VECTOR],
                    timeout=SECONDS,
                )
        return [([hit[ID] for hit in hits], self._array([hit["entity"][VECTOR] for hit in hits])) for hits in found]

    @property
    def kind(self) -> str:
        """Milvus's index type."""
        with told(self.address):
            return str(self._client.describe_index(self._name, VECTOR, timeout=SECONDS)["index_type"])

    def _put(self, name: str, batch: Batch, columns: Sequence[Column]) -> None:
        texts = 0 if batch.attributes is None else batch.attributes.nbytes // len(batch.ids)
        size = max(1, BYTES_AT_ONCE // (self._item_bytes + texts))
        with told(self.address):
            for start in range(0, len(batch.ids), size):
                some = slice(start, start + size)
                fields = {ID: batch.ids[some].to_pylist(), VECTOR: list(batch.vectors[some])}
                for column in columns:
                    assert batch.attributes is not None
                    given = batch.attributes[column.name].slice(start, size).combine_chunks()
                    fields[column.field] = column.values(given)
                rows = [dict(zip(fields, values, strict=True)) for values in zip(*fields.values(), strict=True)]
                self._client.upsert(name, rows, timeout=SECONDS)

    def _delete(self, name: str, ids: pa.Array) -> None:
        with told(self.address):
            for some in _parts(ids):
                self._client.delete(name, filter=is_in(ID, some), timeout=SECONDS)

    def _rows(self, ids: pa.Array, fields: Sequence[str]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        with told(self.address):
            for some in _parts(ids):
                found += self._client.query(
                    self._name,
                    filter=is_in(ID, some),
                    filter_params={},
                    output_fields=[ID, *fields],
                    limit=len(some),
                    timeout=SECONDS,
                )
        return found

    def _listed(self, name: str, said: Said, *, with_vectors: bool = False) -> tuple[pa.Array, np.ndarray]:
        """Ids and vectors of all that an expression fits."""
        ids, vectors = [pa.array([], self.make.ids)], [self._array([])]
        fields = [ID, VECTOR] if with_vectors else [ID]
        size = min(MOST, max(1, BYTES_AT_ONCE // self._item_bytes))
        if said is not False:
            with told(self.address):
                iterator = self._client.query_iterator(
                    name,
                    batch_size=size,
                    filter=_text(said),
                    output_fields=fields,
                    consistency_level="Strong",
                    timeout=SECONDS,
                )
                while rows := iterator.next():
                    ids.append(pa.array([row[ID] for row in rows], self.make.ids))
                    if with_vectors:
                        vectors.append(self._array([row[VECTOR] for row in rows]))
                iterator.close()
        return pa.concat_arrays(ids), np.concatenate(vectors)

    def _array(self, vectors: Sequence[Any]) -> np.ndarray:
        return np.array(vectors, np.float32).reshape(-1, self.make.dimension)

    @property
    def _item_bytes(self) -> int:
        """About what an item takes in a message."""
        return 4 * self.make.dimension + 64 * (1 + len(self.columns))


def check_batch(batch: Batch, columns: Sequence[Column]) -> None:
    """Refuse what Milvus cannot keep, before any of it is written.

    Raises:
        InputError: there is some.
    """
    if pa.types.is_large_string(batch.ids.type):
        check_text(batch.ids, "a batch of ids")
    for column in columns:
        assert batch.attributes is not None
        column.check(batch.attributes[column.name].combine_chunks())


def _parts(ids: pa.Array) -> Iterator[list[Id]]:
    return (ids[start : start + IDS_AT_ONCE].to_pylist() for start in range(0, len(ids), IDS_AT_ONCE))


def _text(said: Said) -> str:
    return said if isinstance(said, str) else ""
