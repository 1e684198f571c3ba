"""Directions of a log, against a dense singular value decomposition."""

from __future__ import annotations

import numpy as np

from towers.history import Histories
from training.usage import usage


def test_inner_products_are_those_of_the_scaled_matrix() -> None:
    """Eleven items that six of thirty people each met, one that two people met, one that nobody did."""
    rng = np.random.default_rng(0)
    rows = [rng.choice(11, 6, replace=False) for _ in range(30)]
    rows[0][0] = rows[1][0] = 11
    items = np.concatenate(rows)
    people = np.repeat(np.arange(30), 6)
    dense = np.zeros((13, 30))
    dense[items, people] = 1
    dense /= np.sqrt(np.maximum(dense.sum(1, keepdims=True), 1) * dense.sum(0))
    dense[11] = 0  # too few to say anything
    found = usage(Histories(np.arange(31) * 6, items), 13).double().numpy()
    assert found.shape == (13, 13)
    assert not found[11:].any()
    np.testing.assert_allclose(found @ found.T, dense @ dense.T, atol=1e-5)
