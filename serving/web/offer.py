"""`Offer`: one state of the shop, whole: model, index, catalog and the retriever over them. Requests keep theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from indexing.build import is_attribute
from serving.retriever import Retriever
from towers.catalog import Catalog
from towers.errors import TwoTowerError
from towers.ids import Id
from towers.media import media_of
from towers.model import TwoTower

Loader = Callable[[], "Offer"]


@dataclass(frozen=True, eq=False)
class Offer:
    """What questions are answered from.

    Args:
        retriever: over the other two and an index.
        model: both towers.
        catalog: the items.
        version: which model and index, for people and for comparing answers.
    """

    retriever: Retriever
    model: TwoTower
    catalog: Catalog
    version: str

    def row(self, item: Id) -> int:
        """The item's row in the catalog, -1 where it has none."""
        return int(self.catalog.rows([item])[0])

    def media(self, row: int, kind: str) -> Path | bytes | None:
        """The picture or sound of an item: a file inside the catalog's folder, its bytes, or None."""
        column = self.column(kind)
        if column is None or self.catalog.table[column][row].as_py() is None:
            return None
        (found,), _ = media_of(self.catalog.select([row]), column)  # type: ignore[arg-type]
        return found

    def has(self, row: int, kind: str) -> bool:
        """Whether the catalog names a picture or a sound of an item."""
        column = self.column(kind)
        return column is not None and self.catalog.table[column][row].as_py() is not None

    def attributes(self, row: int) -> dict[str, Any]:
        """What the catalog says of an item, but for pictures, sounds and vectors."""
        names = [field.name for field in self.catalog.table.schema if is_attribute(field)]
        (values,) = self.catalog.table.select(names).slice(row, 1).to_pylist() if names else ({},)
        return values

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
        load: makes a new one from what lies on disk.
    """

    def __init__(self, offer: Offer, load: Loader) -> None:
        self.offer, self._load = offer, load

    def renew(self) -> Offer:
        """Read model, index and catalog again, try them, and only then put them in the place of the old ones.

        Raises:
            TwoTowerError: they cannot be read or do not fit together; the old ones stay.
        """
        new = self._load()
        warm(new)
        self.offer = new
        return new


def warm(offer: Offer) -> None:
    """Ask once, so that the first person asked for does not wait for what is made when it is first needed."""
    items = offer.catalog.ids
    for question in ({"history": [items[0]]}, {"text": "anything"}):
        try:
            offer.retriever.recommend(**question, k=1)  # type: ignore[arg-type]
        except TwoTowerError:
            continue  # a model may not read this, or not know the item; what is asked later says so
