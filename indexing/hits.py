"""`Hits`: what every search, ranker and re-ranker returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from towers.errors import InputError


@dataclass(frozen=True)
class Hits:
    """Ranked rows for a batch of B queries, best first.

    Args:
        rows: int64 ``(B, K)`` positions in the id list; -1 where fewer than K were found.
        scores: float32 ``(B, K)``, falling along K; -inf where `rows` is -1.

    Raises:
        InputError: shapes or types differ from that, or a row of scores rises.
    """

    rows: np.ndarray
    scores: np.ndarray

    def __post_init__(self) -> None:
        if self.rows.ndim != 2 or self.rows.shape != self.scores.shape:
            raise InputError(f"rows and scores must both be (B, K), got {self.rows.shape} and {self.scores.shape}")
        if self.rows.dtype != np.int64 or self.scores.dtype != np.float32:
            raise InputError(f"expected int64 rows and float32 scores, got {self.rows.dtype} and {self.scores.dtype}")
        if np.isnan(self.scores).any() or (self.scores[:, 1:] > self.scores[:, :-1]).any():
            raise InputError("scores must fall from first to last and not be NaN")
        if ((self.rows < 0) != np.isneginf(self.scores)).any():
            raise InputError("a row of -1 and a score of -inf must stand in the same places")
        for array in (self.rows, self.scores):
            array.flags.writeable = False

    @classmethod
    def sure(cls, rows: np.ndarray, scores: np.ndarray) -> Hits:
        """Hits of which it is known that they are as they must be; checking takes longer than many a search."""
        hits = object.__new__(cls)
        hits.__dict__["rows"], hits.__dict__["scores"] = rows, scores
        rows.setflags(write=False)
        scores.setflags(write=False)
        return hits

    @property
    def k(self) -> int:
        """Width K of the lists."""
        return self.rows.shape[1]

    def __len__(self) -> int:
        return self.rows.shape[0]

    def first(self, k: int) -> Hits:
        """Only the first k of each list."""
        return Hits(self.rows[:, :k].copy(), self.scores[:, :k].copy())

    def rescored(self, scores: np.ndarray) -> Hits:
        """The same rows in the order of new float32 scores ``(B, K)``; equal scores keep their order."""
        scores = np.where(self.rows < 0, -np.inf, scores).astype(np.float32)
        order = np.argsort(-scores, axis=1, kind="stable")
        return Hits(np.take_along_axis(self.rows, order, axis=1), np.take_along_axis(scores, order, axis=1))

    @classmethod
    def top(cls, scores: np.ndarray, k: int) -> Hits:
        """The K best of dense scores ``(B, N)``; ties go to the lower row, -inf is never a hit.

        The result is K wide even where N is smaller.
        """
        batch, count = scores.shape
        scores = scores.astype(np.float32, copy=False)
        depth = min(k, count)
        rows = np.full((batch, k), -1, np.int64)
        best = np.full((batch, k), -np.inf, np.float32)
        if depth:
            rows[:, :depth] = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
            best[:, :depth] = np.take_along_axis(scores, rows[:, :depth], axis=1)
            rows[np.isneginf(best)] = -1
        return cls(rows, best)
