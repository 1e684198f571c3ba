"""The bench of the query side: each method is asked the same, and what it answers is compared with torch's answer."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="needs the extra onnx")

from benchmarks.query_side import METHODS, TORCH, measure, rows
from indexing.index import ItemIndex
from towers.history import Histories

PEOPLE, ITEMS = 30, 60


def index() -> ItemIndex:
    """Items around a circle."""
    angles = 2 * np.pi * np.arange(ITEMS) / ITEMS
    return ItemIndex.from_arrays(range(ITEMS), np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32))


class Asked:
    """Turns the item that a person has by a number of items, in some milliseconds."""

    def __init__(self, by: int, milliseconds: float) -> None:
        self.by, self.milliseconds = by, milliseconds

    def __call__(self, one: Histories, texts: Sequence[str | None]) -> np.ndarray:
        assert (len(one), len(texts)) == (1, 1)
        time.sleep(self.milliseconds / 1000)
        return index().vectors[(one.items + self.by) % ITEMS]


def test_cosines_and_neighbours_are_those_to_torch() -> None:
    ways = dict(zip(METHODS, [Asked(0, 2), Asked(5, 0.1), Asked(30, 0.1)], strict=True))
    seconds, queries = measure(ways, Histories.of([[n] for n in range(PEOPLE)]), [None] * PEOPLE)
    found = {row["method"]: row["metrics"] for row in rows("person", seconds, queries, index(), None)}
    assert [found[method]["least cosine"] for method in METHODS] == pytest.approx([1, np.cos(np.pi / 6), -1], abs=1e-5)
    assert [found[method]["cosine"][0] for method in METHODS] == pytest.approx([1, np.cos(np.pi / 6), -1], abs=1e-5)
    # Twenty items around an item, and around the fifth one from it: fifteen are the same, save for equal distances.
    assert [found[method]["same@20"][0] for method in METHODS] == pytest.approx([1, 0.75, 0], abs=0.051)
    assert found[TORCH]["p50 ms"] >= 2
    assert all(found[method]["p99 ms"] >= found[method]["p50 ms"] for method in METHODS)
