"""What speaks for an item beside its vector: words it shares with a sentence, how popular it is of late."""

from __future__ import annotations

import numpy as np

from indexing.exact import rank_pairs
from indexing.excluded import Excluded
from indexing.hits import Hits
from indexing.vectors import Rows
from towers.errors import InputError


def check_bonus(bonus: np.ndarray, count: int) -> None:
    """Refuse what cannot be added to scores.

    Raises:
        InputError: not `count` finite float32 numbers from 0 on.
    """
    if not isinstance(bonus, np.ndarray) or bonus.shape != (count,) or bonus.dtype != np.float32:
        found = f"{bonus.dtype} {bonus.shape}" if isinstance(bonus, np.ndarray) else type(bonus).__name__
        raise InputError(f"a bonus must be float32 ({count},), got {found}")
    if not np.isfinite(bonus).all() or bonus.min(initial=0) < 0:
        raise InputError("a bonus must be finite and at least 0")


def with_bonus(hits: Hits, queries: np.ndarray, vectors: Rows, bonus: np.ndarray, excluded: Excluded) -> Hits:
    """As many hits, by inner product plus bonus, from the nearest items and from those with the largest bonus.

    An item that is neither among the K nearest nor has one of the K largest bonuses is not looked at.

    Args:
        hits: the nearest, ``(B, K)``.
        queries: float32 ``(B, D)``.
        vectors: float32 ``(N, D)``.
        bonus: float32 ``(N,)``, at least 0.
        excluded: pairs that must not be returned.
    """
    batch, count = len(queries), len(vectors)
    reach = hits.k + int(excluded.counts(batch).max(initial=0))
    best = np.argsort(-bonus, kind="stable")[:reach]
    best = best[bonus[best] > 0]
    query, row = np.repeat(np.arange(batch), len(best)), np.tile(best, batch)
    allowed = ~excluded.holds(query, row, count)
    near, place = np.nonzero(hits.rows >= 0)
    keys = np.unique(
        np.concatenate([query[allowed] * count + row[allowed], near * count + hits.rows[near, place]]),
    )
    return rank_pairs(queries, vectors, hits.k, keys // count, keys % count, bonus=bonus)
