"""The bench of filters: masks of a given share, and the share from which on searching pays."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import filters
from benchmarks.ann_data import mixture
from indexing.index import ItemIndex


@pytest.mark.parametrize("spread", filters.SPREADS)
def test_as_many_pass_as_the_share_says_and_at_least_one(spread: str) -> None:
    vectors = mixture(1_000, 8, 1).vectors
    assert [filters.passing(vectors, share, spread).sum() for share in (0.0, 0.01, 0.5, 1.0)] == [1, 10, 500, 1000]


def test_items_in_clouds_lie_together() -> None:
    vectors = mixture(1_000, 8, 1).vectors
    spread = {name: vectors[filters.passing(vectors, 0.02, name)].mean(axis=0) for name in filters.SPREADS}
    assert np.linalg.norm(spread["in clouds"]) > 0.8 > np.linalg.norm(spread["by chance"])


def test_both_ways_find_the_same_on_an_exact_index() -> None:
    data = mixture(2_000, 8, 5)
    index = ItemIndex.from_arrays(range(2_000), data.vectors, kind="Flat")
    for share in (0.0, 0.5):
        found = filters.compare(index, data.queries, share, "by chance")
        assert found["recall@10"] == 1
        assert found["scan µs"] > 0


def test_the_crossing_is_where_searching_is_never_slower_again() -> None:
    assert filters.crossing([0.01, 0.1, 0.5, 1.0], [3.0, 0.9, 0.8, 0.4]) == 0.1
    assert filters.crossing([0.01, 0.1, 0.5, 1.0], [0.5, 1.2, 0.8, 0.4]) == 0.5
    assert filters.crossing([0.5, 1.0], [2.0, 1.5]) == 1.0
