"""The training catalog, and the item vectors of one step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from towers.contents import Contents

MULTIPLE = 64  # of rows that are read: oneDNN makes a kernel for each shape of a product, and keeps a thousand


@dataclass(frozen=True)
class Items:
    """What the item tower reads of the training catalog, by row.

    Args:
        contents: frozen content vectors.
        id_rows: ``(N,)`` row of each item's own vector, -1 for none.
        unmet: ``(N,)`` items that nobody has met in training. They are nobody's negatives: as such they would all be
            pushed away from everybody, and a new item could never be found.
    """

    contents: Contents
    id_rows: Int[Tensor, " n"]
    unmet: Bool[Tensor, " n"]

    @property
    def rows(self) -> Int[Tensor, " n"]:
        """All catalog rows."""
        return torch.arange(len(self.id_rows), device=self.id_rows.device)


class ItemVectors:
    """Item vectors of a step by catalog row: of the whole catalog, or of what the step looks at.

    Args:
        tower: reads the items; the item tower.
        items: the training catalog.
        wanted: catalog rows, any shape, repeats and all; None: the whole catalog.
    """

    def __init__(
        self, tower: Callable[[Contents, Tensor], Tensor], items: Items, wanted: Iterable[Tensor] | None
    ) -> None:
        if wanted is None:
            self.rows, contents, id_rows = None, items.contents, items.id_rows
        else:
            rows = torch.cat([part.flatten() for part in wanted]).unique()
            self.rows = torch.cat([rows, rows[-1:].expand(-len(rows) % MULTIPLE)])
            contents, id_rows = items.contents.take(self.rows), items.id_rows[self.rows]
        self.values: Float[Tensor, "n d"] = tower(contents, id_rows)

    def place(self, items: Int[Tensor, "*b"]) -> Int[Tensor, "*b"]:
        """Where the vectors of catalog rows lie in `values`."""
        return items if self.rows is None else torch.searchsorted(self.rows, items)

    def of(self, items: Int[Tensor, "*b"]) -> Float[Tensor, "*b d"]:
        """The vectors of catalog rows."""
        return F.embedding(self.place(items), self.values)

    def detached(self) -> ItemVectors:
        """The same vectors, out of reach of gradients."""
        other = copy(self)
        other.values = self.values.detach()
        return other
