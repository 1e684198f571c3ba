"""What a new item is up against without any training: nearest neighbours by content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from towers.errors import InputError
from towers.history import Histories
from training.measuring.baseline import Baseline


@dataclass(kw_only=True, eq=False)
class ContentKNN(Baseline):
    """Items by the cosine of their content vector and the mean of those of the last items in the history.

    It needs no event of an item, so it ranks cold ones as well as others. Vectors are centred before they are
    normalised: those of one encoder share a large common part, which says nothing about any item and pushes all
    cosines together (Mu and Viswanath, "All-but-the-top", ICLR 2018). The centre is the mean over the whole catalog,
    cold items included, since content is known without any event.

    Items without content are never returned. A history tells it nothing if none of its items has content.

    Args:
        vectors: float ``(N, d)`` content of each item of the catalog, such as those of a frozen text encoder; a row
            that is all zero or not finite has none.
        last: how many of a history's items count, the newest that have content; at least 1.

    Raises:
        InputError: vectors of another shape, no item with content, or `last` below 1; from `fit`: vectors of another
            number of items.
    """

    vectors: np.ndarray
    last: int = 10

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2:
            raise InputError(f"content vectors must be (N, d), got the shape {self.vectors.shape}")
        if self.last < 1:
            raise InputError(f"at least the last 1 item of a history must count, got last={self.last}")

    @property
    def settings(self) -> dict[str, Any]:
        """What was chosen, for the record; the vectors are not a choice."""
        return {"last": self.last}

    def _learn(self, train: Histories) -> None:
        if len(self.vectors) != len(self.popularity):
            raise InputError(f"content vectors of {len(self.vectors)} items, the catalog has {len(self.popularity)}")
        self._has_content = np.isfinite(self.vectors).all(axis=1) & (self.vectors != 0).any(axis=1)
        if not self._has_content.any():
            raise InputError(f"none of {len(self.vectors)} items has a content vector that is finite and not all zero")
        vectors = self.vectors[self._has_content].astype(np.float32)
        self._units: np.ndarray = np.zeros(self.vectors.shape, np.float32)
        self._units[self._has_content] = _normalised(vectors - vectors.mean(axis=0))

    def _score(self, histories: Histories) -> np.ndarray:
        scores = _normalised(self._sums(histories)) @ self._units.T
        scores[:, ~self._has_content] = -np.inf
        return scores

    def _reads(self, histories: Histories) -> np.ndarray:
        return histories.keep(self._has_content[histories.items]).lengths > 0

    def _sums(self, histories: Histories) -> np.ndarray:
        """float32 ``(B, d)`` over the newest items with content, 0 where there is none; a cosine asks no more."""
        seen = histories.keep(self._has_content[histories.items])
        ends = seen.offsets[1:]
        newest = seen.cut(np.arange(len(seen)), np.maximum(seen.offsets[:-1], ends - self.last), ends)
        sums = np.zeros((len(histories), self._units.shape[1]), np.float32)
        filled = newest.lengths > 0
        if filled.any():
            sums[filled] = np.add.reduceat(self._units[newest.items], newest.offsets[:-1][filled])
        return sums


def _normalised(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1; those of length 0 stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
