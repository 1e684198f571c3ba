"""How well the shop's true tastes find what was chosen: the ceiling for every method, and for each modality.

With `StudioSettings` as it is, in percent for the seeds 0, 1 and 2 (Recall@20, the tracks of the history left out)::

    true parts        known             new tracks        new listeners
    none               1.9   1.9   1.9   1.7   1.8   2.4   2.1   2.2   1.5
    text               6.6   7.6   7.7   9.6   8.2  11.0   6.8   7.1   6.5
    image              7.3   7.6   7.4  10.5   8.1  10.2   6.0   7.3   7.4
    audio              6.1   8.2   6.9  11.3   9.4  10.6   7.8   7.6   6.4
    text+image        24.4  23.8  24.6  37.8  35.3  35.1  20.4  23.5  22.8
    text+audio        22.2  25.4  23.7  37.5  37.3  36.8  24.7  23.7  22.1
    image+audio       22.4  22.8  23.1  39.4  37.5  36.3  21.0  24.1  23.4
    text+image+audio  48.3  49.4  49.2  67.9  68.6  66.2  45.6  48.5  46.8

Two parts find half of what all three find, one part a seventh.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from towers.catalog import ITEM_ID
from towers.interactions import USER_ID
from twotower.studio.oracle import recall, subsets
from twotower.studio.shop import Shop


def ceiling(shop: Shop, k: int = 20) -> dict[str, dict[str, float]]:
    """Recall@k of the true utilities of each subset of the parts, popularity always included.

    Args:
        shop: as it was made.
        k: how many tracks are shown.

    Returns:
        For ``none``, ``text``, …, ``text+image+audio``: ``known`` (test choices of the listeners of the log),
        ``new tracks`` (what the same listeners choose of those; all tracks compete) and ``new listeners`` (their test
        choices).
    """
    log, new = shop.log.table, shop.new_listeners.table
    tested, met = log.filter(pc.equal(log["split"], "test")), _grid(shop, log)
    asked = new.filter(pc.equal(new["split"], "test"))
    known, target, later = _grid(shop, tested), _grid(shop, asked), _grid(shop, shop.new_tracks)
    questions = {
        "known": (met & ~known, known),
        "new tracks": (met, later & met.any(axis=1, keepdims=True)),
        "new listeners": (_grid(shop, new) & ~target, target),
    }
    table = {}
    for parts in subsets():
        utilities = shop.oracle.utilities(parts)
        table["+".join(parts) or "none"] = {
            name: recall(utilities, seen, targets, k) for name, (seen, targets) in questions.items()
        }
    return table


def _grid(shop: Shop, events: pa.Table) -> np.ndarray:
    """bool ``(U, N)`` who has an event with what."""
    grid = np.zeros((len(shop.users), len(shop.catalog)), bool)
    grid[shop.users.rows(events[USER_ID]), shop.catalog.rows(events[ITEM_ID])] = True
    return grid
