"""What is popular of late: events of each item, older ones counting less."""

from __future__ import annotations

import numpy as np

from towers.history import Histories

DAY = 86_400.0  # seconds


def popularity_of_late(histories: Histories, items: int, half_life: float) -> np.ndarray:
    """How popular each item is at the time of the last event: ``log(1 + 2 sum of 0.5 ** (age / half-life))``.

    Args:
        histories: events with times in seconds.
        items: size N of the catalog.
        half_life: days after which an event counts half, above 0.

    Returns:
        float32 ``(N,)``, 0 for an item without events; all 0 where events have no times.
    """
    if histories.times is None or not len(histories.items):
        return np.zeros(items, np.float32)
    ages = (histories.times.max() - histories.times) / DAY
    counts = np.bincount(histories.items, 0.5 ** (ages / half_life), minlength=items)
    return np.log1p(2 * counts).astype(np.float32)
