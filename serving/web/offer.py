"""`Offer`: one state of the shop, whole: model, index, catalog and the retriever over them. Requests keep theirs."""

from __future__ import annotations

import gc
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from indexing.build import is_attribute
from serving.retriever import Retriever
from serving.web.limits import BusyError
from towers.catalog import Catalog
from towers.errors import TwoTowerError
from towers.ids import Id
from towers.interactions import Interactions
from towers.media import media_of
from towers.model import TwoTower
from towers.recent import Recent

WORDS = 10_000  # items whose texts are kept as they were last written
WAITING = 8  # exchanges at once, the one at work included


@dataclass(frozen=True, eq=False)
class Offer:
    """What questions are answered from.

    Args:
        retriever: over the others and an index.
        model: both towers.
        catalog: the items.
        log: what people did; None: there is none.
        version: which model and index, for people and for comparing answers.
    """

    retriever: Retriever
    model: TwoTower
    catalog: Catalog
    log: Interactions | None
    version: str
    _words: Recent[str] = field(default_factory=lambda: Recent(WORDS), init=False, repr=False)

    def row(self, item: Id) -> int:
        """The item's row in the catalog, -1 where it has none."""
        return int(self.catalog.rows([item])[0])

    def attributes(self, row: int) -> dict[str, Any]:
        """What the catalog says of an item, but for pictures, sounds and vectors."""
        names = [field.name for field in self.catalog.table.schema if is_attribute(field)]
        (values,) = self.catalog.table.select(names).slice(row, 1).to_pylist() if names else ({},)
        return {name: None if value != value else value for name, value in values.items()}  # JSON has no NaN

    def words(self, rows: np.ndarray) -> list[str]:
        """The texts of different items, as the model's template writes them, without their titles."""
        found = {row: self._words.find(row) for row in rows.tolist()}
        if new := [row for row, words in found.items() if words is None]:
            found |= {row: self._words.keep(row, words) for row, words in zip(new, self._written(new), strict=True)}
        return list(found.values())  # type: ignore[arg-type]

    def _written(self, rows: list[int]) -> list[str]:
        texts = self.catalog.select(np.array(rows)).texts(self.model.template)
        titles = (self.catalog.titles[row] for row in rows)
        return [beside(title, text) for title, text in zip(titles, texts, strict=True)]

    def media(self, row: int, kind: str) -> Path | bytes | None:
        """The picture or sound of an item: a file inside the catalog's folder, its bytes, or None."""
        if not self.has(row, kind):
            return None
        (found,), _ = media_of(self.catalog.select([row]), self.column(kind))  # type: ignore[arg-type]
        return found

    def has(self, row: int, kind: str) -> bool:
        """Whether the catalog names a picture or a sound of an item."""
        column = self.column(kind)
        return column is not None and self.catalog.table[column][row].as_py() is not None

    def column(self, kind: str) -> str | None:
        """The catalog's column of pictures or sounds, None where it has none that are files or bytes."""
        config = self.model.config.media.get(kind)
        name = config.column if config is not None and config.source != "vectors" else kind
        if name not in self.catalog.table.column_names:
            return None
        return name if str(self.catalog.table.schema.field(name).type) in ("large_string", "large_binary") else None


class Shelf:
    """Where the current offer stands. Exchanging it is one assignment: a request that began keeps the one it took.

    Args:
        offer: the first one.
    """

    def __init__(self, offer: Offer) -> None:
        self.offer = offer
        self._turn = threading.Lock()
        self._waiting = threading.BoundedSemaphore(WAITING)

    def exchange(self, make: Callable[[Offer], Offer]) -> Offer:
        """Make a new offer from the current one, try it, and only then put it in the old one's place.

        One at a time, each from what the one before left.

        Raises:
            TwoTowerError: as `make` raises; the old one stays.
            BusyError: others wait for their turn already, and each holds a thread that questions need, too.
        """
        if not self._waiting.acquire(blocking=False):
            raise BusyError("items or models are being exchanged just now")
        try:
            with self._turn:
                gc.collect()  # an offer that was exchanged earlier may hold on to itself
                new = make(self.offer)
                warm(new)
                self.offer = new
            return new
        finally:
            self._waiting.release()


def beside(title: str, text: str) -> str:
    """What a text says beside the title that it begins with: ``Alien (1979). Horror`` says ``1979. Horror``."""
    left = text.removeprefix(title).lstrip(" .,:–-")
    return re.sub(r"^\(([^()]*)\)", r"\1", left)


def warm(offer: Offer) -> None:
    """Ask once, so that the first person asked for does not wait for what is made when it is first needed."""
    for question in ({"history": [offer.catalog.ids[0]]}, {"text": "anything"}):
        try:
            offer.retriever.recommend(**question, k=1)
        except TwoTowerError:
            continue  # a model may not read this, or not know the item; what is asked later says so
