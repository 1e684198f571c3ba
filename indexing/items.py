"""What an index says of its items: one of them, and those that were removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from towers.ids import Id, IdList


@dataclass(frozen=True, eq=False)
class Item:
    """One item.

    Args:
        id: as it was given.
        vector: float32 ``(D,)``, read-only.
        attributes: values by column name.
    """

    id: Id
    vector: np.ndarray
    attributes: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Removed:
    """Items that are no longer found, and the vectors that they had last.

    Args:
        ids: R of them.
        vectors: float32 ``(R, D)``.
    """

    ids: IdList
    vectors: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def none(cls, id_type: pa.DataType, dimension: int) -> Removed:
        """None at all."""
        return cls(IdList(pa.array([], id_type)), np.empty((0, dimension), np.float32))
