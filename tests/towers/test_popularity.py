"""Groups of popularity, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from towers.popularity import popularity_groups


@pytest.mark.parametrize(
    ("counts", "groups"),
    [
        ([10, 0, 50, 20, 20], [2, 2, 0, 1, 1]),  # 50 | 20 20 | 10 0
        ([20, 60, 20], [1, 0, 2]),  # exactly 80 % before the last
        ([1] * 10, [0, 0, 1, 1, 1, 1, 1, 1, 2, 2]),  # ties: lower row first
        ([0, 0], [2, 2]),
    ],
)
def test_popularity_groups(counts: list[int], groups: list[int]) -> None:
    assert popularity_groups(np.array(counts)).tolist() == groups
