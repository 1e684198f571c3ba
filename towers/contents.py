"""What an item says, shows and sounds like: the frozen vectors of a catalog's texts, pictures and sounds."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from towers.catalog import Catalog
from towers.embed import Embedded, VectorCache
from towers.encoders.configs import VECTORS, MediaConfig
from towers.encoders.contract import Encoder
from towers.fusion import unit
from towers.media import faulty, media_of, vectors_of
from towers.rejected import Rejected
from towers.tables import missing_name


@dataclass(frozen=True)
class Contents:
    """What is known of N items, by kind of content.

    Args:
        vectors: content vectors ``(N, C)`` of each kind; what stands where there is none is not looked at.
        present: ``(N,)`` where there is one.
    """

    vectors: Mapping[str, Float[Tensor, "n c"]]
    present: Mapping[str, Bool[Tensor, " n"]]

    def frozen(self) -> np.ndarray:
        """One vector for each item, float32 ``(N, sum of C)``: those of all kinds, each of unit norm, side by side."""
        parts = [unit(values) * self.present[name][:, None] for name, values in self.vectors.items()]
        return torch.cat(parts, 1).cpu().numpy()

    def take(self, rows: Int[Tensor, " m"]) -> Contents:
        """What is known of the items at these rows."""
        return Contents(
            {name: values[rows] for name, values in self.vectors.items()},
            {name: values[rows] for name, values in self.present.items()},
        )

    def to(self, device: torch.device) -> Contents:
        """The same on another device."""
        return Contents(
            {name: values.to(device) for name, values in self.vectors.items()},
            {name: values.to(device) for name, values in self.present.items()},
        )


def read_contents(
    catalog: Catalog,
    texts: Sequence[str | None],
    encoders: Mapping[str, Encoder],
    media: Mapping[str, MediaConfig],
    cache: VectorCache,
    *,
    progress: bool = False,
) -> tuple[Contents, Rejected]:
    """Frozen content vectors, and the pictures, sounds and vectors that cannot be used.

    Args:
        catalog: N items.
        texts: N texts, None for none.
        encoders: by kind of content, ``"text"`` among them.
        media: where the other kinds stand, and how they are read.
        cache: where vectors are kept.
        progress: show bars on standard error.

    Warns:
        UserWarning: the catalog has no column of a kind, which is as if no item had any.
    """
    read = {"text": cache.embed(encoders["text"], texts, progress=progress)}
    for name, config in media.items():
        if config.column not in (columns := catalog.table.column_names):
            absent = missing_name("column", config.column, columns)
            warnings.warn(f"{catalog.loaded.file} {absent}: its items are read without {name}", stacklevel=2)
            length = encoders[name].dimension if name in encoders else config.length or 0
            read[name] = Embedded(torch.zeros(len(texts), length), torch.zeros(len(texts), dtype=torch.bool))
        elif config.source == VECTORS:
            vectors, present, faults = vectors_of(catalog, config.column, config.length)
            read[name] = Embedded(torch.from_numpy(vectors), torch.from_numpy(present), faults)
        else:
            files, barred = media_of(catalog, config.column)
            read[name] = cache.embed(encoders[name], files, progress=progress)
            read[name].faults.update(barred)
    contents = Contents(
        {name: one.vectors for name, one in read.items()}, {name: one.present for name, one in read.items()}
    )
    unread = [faulty(catalog, media[name].column, one.faults) for name, one in read.items() if one.faults]
    return contents, sum(unread, Rejected(total=len(texts)))
