"""`Source`: where model, index, catalog and log lie on disk, and how they become an offer."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from indexing.attributes import as_attributes
from indexing.build import attributes_of
from indexing.index import ItemIndex
from indexing.writer import IndexWriter
from serving.retriever import Retriever
from serving.store.store import Store
from serving.web.changes import Changes, with_rows, without
from serving.web.logs import log
from serving.web.offer import Offer
from towers.catalog import Catalog
from towers.embed import NoCache
from towers.errors import InputError, TwoTowerError
from towers.ids import Id
from towers.interactions import Interactions
from towers.model import TwoTower

SAME = 0.9999  # cosine of an item embedded twice: less is more than rounding


@dataclass
class Source:
    """Files that a service reads at its start, at a swap, and when items come and go.

    Args:
        model, index: folders.
        catalog: reads the items.
        log: reads what people did, given the model; None: there is no log.
        store: what people do meanwhile.
        changes: items that came and went.
        settings: further arguments of the retriever, such as its steps.
    """

    model: Path
    index: Path
    catalog: Callable[[], Catalog]
    log: Callable[[TwoTower], Interactions] | None
    store: Store | None
    changes: Changes
    settings: dict[str, Any] = field(default_factory=dict)
    _count: itertools.count[int] = field(default_factory=lambda: itertools.count(1), init=False, repr=False)

    def load(self) -> Offer:
        """Everything, read from disk.

        Raises:
            TwoTowerError: something cannot be read, or two things do not fit together.
        """
        model = TwoTower.load(self.model)
        log = self.log(model) if self.log is not None else None
        catalog = self.changes.applied(self.catalog())
        self._catch_up(model, catalog)
        return self._offer(model, catalog, log)

    def put(self, offer: Offer, rows: Sequence[dict[str, Any]]) -> Offer:
        """Add items, or change them: in the journal, in the index, and in the offer that is returned.

        Raises:
            InputError: an item that does not fit, or of which nothing can be read; then nothing is changed.
            ArtefactError: it cannot be written, or another writer is at work.
        """
        catalog = with_rows(offer.catalog, rows)
        new = catalog.select(catalog.rows([row["item_id"] for row in rows]))
        vectors = offer.model.embed_items(new, cache=NoCache())  # a service may have no home
        if unread := int((~vectors.any(axis=1)).sum()):
            raise InputError(f"of {unread} of {len(new)} items nothing can be read: give them a text")
        with self._writer() as writer:
            writer.upsert(new.ids.array, vectors, attributes_of(new, new.ids), space=offer.model.space)
            self.changes.put(rows)
            writer.publish()
        return self._offer(offer.model, catalog, offer.log)

    def remove(self, offer: Offer, items: Sequence[Id]) -> Offer:
        """Have items found no more; one may be of the catalog alone, as of some nothing can be read.

        Raises:
            InputError: one of the index that comes twice, or the last ones of all; then nothing is changed.
            ArtefactError: it cannot be written, or another writer is at work.
        """
        left = without(offer.catalog, items)
        with self._writer() as writer:
            if there := [item for item in items if item in writer]:
                writer.remove(there)
            if not any(item.as_py() in writer for item in left.ids.array):
                raise InputError("nothing would be left that can be recommended: put other items first")
            self.changes.remove(items)
            writer.publish()
        return self._offer(offer.model, left, offer.log)

    def _catch_up(self, model: TwoTower, catalog: Catalog) -> None:
        """Have an index that was built elsewhere meanwhile, as by a refresh, hold what came over HTTP as it is now.

        The journal has the last word. What an index counts as removed may be what its builder has not seen, since the
        catalog's file does not have it; what was removed over HTTP is not among what came.
        """
        if not (came := self.changes.came()):
            return
        index = ItemIndex.load(self.index)
        if index.space != model.space:
            return
        items = catalog.select(catalog.rows(came))
        vectors = model.embed_items(items, cache=NoCache())
        try:
            behind = np.flatnonzero(vectors.any(axis=1) & ~_held(index, items, vectors))
            if not len(behind):
                return
            new = items.select(behind)
            with self._writer() as writer:
                writer.upsert(new.ids.array, vectors[behind], attributes_of(new, new.ids), space=model.space)
                writer.publish()
        except TwoTowerError as error:  # such as while somebody else writes: the next swap tries again
            log("items not caught up", level=logging.WARNING, error=error, items=len(items))

    @contextmanager
    def _writer(self) -> Iterator[IndexWriter]:
        """A writer that forgets what was refused, so that nobody else's change publishes it."""
        with IndexWriter(self.index) as writer:
            try:
                yield writer
            except BaseException:
                writer.rollback(writer.version, discard=True)
                raise

    def _offer(self, model: TwoTower, catalog: Catalog, log: Interactions | None) -> Offer:
        index = ItemIndex.load(self.index)
        retriever = Retriever(model, index, catalog, log, store=self.store, **self.settings)
        retriever.try_steps()  # else every question would be told that it is at fault
        version = f"{model.fingerprint[:8]}-{index.version}-{next(self._count)}"
        return Offer(retriever, model, catalog, log, version)


def _held(index: ItemIndex, items: Catalog, vectors: np.ndarray) -> np.ndarray:
    """bool ``(n,)`` which items an index has with these vectors and with their attributes.

    Raises:
        InputError: attributes of other columns or types than those of the index.
    """
    held, rows = np.zeros(len(items), bool), index.ids.rows(items.ids.array)
    there = np.flatnonzero(rows >= 0)
    held[there] = (index.vectors[rows[there]] * vectors[there]).sum(axis=1) > SAME
    if index.attributes is not None and len(there):
        now = as_attributes(attributes_of(items, items.ids), len(items), index.attributes.schema).take(pa.array(there))
        then = index.attributes.take(pa.array(rows[there]))
        pairs = zip(now.to_pylist(), then.to_pylist(), strict=True)
        held[there] &= [str(one) == str(other) for one, other in pairs]  # as text, NaN is equal to itself
    return held
