"""A map keeps near vectors together."""

from __future__ import annotations

import numpy as np
import pytest

from indexing.projection import _gradient, _neighbourhoods, flat_map
from towers.errors import InputError


@pytest.fixture(scope="module")
def clusters() -> np.ndarray:
    """200 unit vectors: 50 around each of four directions."""
    rng = np.random.default_rng(0)
    vectors = np.repeat(np.eye(16)[:4], 50, axis=0) + rng.normal(scale=0.08, size=(200, 16))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_groups_stay_together_and_apart(clusters: np.ndarray) -> None:
    places = flat_map(clusters, perplexity=15, iterations=300)
    distances = ((places[:, None] - places) ** 2).sum(axis=2)
    np.fill_diagonal(distances, np.inf)
    nearest = np.argsort(distances, axis=1)[:, :15]
    assert (nearest // 50 == np.arange(200)[:, None] // 50).mean() == 1.0
    assert places.dtype == np.float32
    assert np.abs(places.mean(axis=0)).max() < 1e-4


def test_the_same_vectors_give_the_same_map(clusters: np.ndarray) -> None:
    first, second = (flat_map(clusters, perplexity=15, iterations=20) for _ in range(2))
    assert (first == second).all()


def test_every_row_reaches_the_perplexity(clusters: np.ndarray) -> None:
    distances = np.maximum(2 - 2 * clusters @ clusters.T, 0)
    joint = _neighbourhoods(distances, 15.0)
    assert joint.sum() == pytest.approx(1, abs=1e-5)
    assert (joint == joint.T).all()
    one = np.array([[0, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 0]], np.float32)
    assert _neighbourhoods(one, 2.5)[0] == pytest.approx([0, 1 / 12, 1 / 12, 1 / 12])


def test_the_gradient_is_that_of_the_divergence() -> None:
    rng = np.random.default_rng(1)
    places = rng.normal(size=(6, 2))
    wanted = rng.random((6, 6))
    wanted += wanted.T
    np.fill_diagonal(wanted, 0)
    wanted /= wanted.sum()

    def divergence(at: np.ndarray) -> float:
        near = 1 / (1 + ((at[:, None] - at) ** 2).sum(axis=2))
        np.fill_diagonal(near, 0)
        return float(sum(p * np.log(p / q) for p, q in zip(wanted.flat, (near / near.sum()).flat, strict=True) if p))

    slope = _gradient(places, wanted, 1.0)
    for row, axis in [(0, 0), (3, 1), (5, 0)]:
        ahead, behind = places.copy(), places.copy()
        ahead[row, axis] += 1e-5
        behind[row, axis] -= 1e-5
        assert slope[row, axis] == pytest.approx((divergence(ahead) - divergence(behind)) / 2e-5, rel=1e-4)


def test_too_few_vectors_are_refused() -> None:
    with pytest.raises(InputError, match=r"perplexity 30 needs more vectors than that, got 30"):
        flat_map(np.eye(30, dtype=np.float32))
