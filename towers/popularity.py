"""Head, torso and tail: which items take how much of what people do."""

from __future__ import annotations

import numpy as np

GROUPS = ("head", "torso", "tail")


def popularity_groups(counts: np.ndarray) -> np.ndarray:
    """Head, torso and tail of a catalog.

    With items from most to least popular (ties: lower row first), the head is the shortest start of
    the list that takes 20 % of the interactions, head and torso the shortest that takes 80 %; the tail
    is the rest, items without interactions always included.

    Args:
        counts: int64 ``(N,)`` training interactions of each item.

    Returns:
        int64 ``(N,)``: 0 head, 1 torso, 2 tail.
    """
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    groups = np.empty(len(counts), np.int64)
    # Whole numbers, so that no rounding decides at exactly 20 or 80 %.
    groups[order] = (5 * before >= counts.sum()).astype(np.int64) + (5 * before >= 4 * counts.sum())
    return groups
