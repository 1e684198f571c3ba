"""What a search takes beyond FAISS is measured on both sides alike."""

from __future__ import annotations

import numpy as np

from benchmarks import ann_overhead
from benchmarks.ann_overhead import clouds, overhead
from indexing.index import ItemIndex


def test_clouds_are_unit_vectors_that_lie_together() -> None:
    vectors = clouds(300, 16, 1)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    nearest = np.sort(vectors @ vectors.T, axis=1)[:, -2]
    scattered = np.random.default_rng(0).normal(size=(300, 16))
    scattered /= np.linalg.norm(scattered, axis=1, keepdims=True)
    assert nearest.mean() > np.sort(scattered @ scattered.T, axis=1)[:, -2].mean() + 0.05


def test_the_overhead_is_the_ratio_and_the_difference_of_what_each_spends(monkeypatch) -> None:
    index = ItemIndex.from_arrays(range(50), clouds(50, 8, 1))
    monkeypatch.setattr(ann_overhead, "_spent", lambda search, _: 30.0 if search == index.search else 20.0)
    found = overhead(index, clouds(5, 8, 2), 3, 4)
    assert found == {"overhead": 1.5, "bare µs a query": 4.0, "bare µs alone": 20.0, "overhead µs alone": 10.0}
