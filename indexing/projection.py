"""A map of vectors: two coordinates each, near ones together. For people to look at."""

from __future__ import annotations

import numpy as np

from towers.errors import InputError

EXAGGERATED = 100  # iterations in which neighbours pull harder, so that groups form
EXAGGERATION = 12.0


def flat_map(vectors: np.ndarray, *, perplexity: float = 30.0, iterations: int = 500) -> np.ndarray:
    """Exact t-SNE (van der Maaten and Hinton, JMLR 2008) from the two principal components; always the same result.

    Time and memory grow with N squared: meant for some thousand vectors.

    Args:
        vectors: float ``(N, D)`` of unit norm.
        perplexity: neighbours that count, about; at least 1 and below N.
        iterations: gradient steps.

    Returns:
        float32 ``(N, 2)``, centred.

    Raises:
        InputError: too few vectors for the perplexity.
    """
    if not 1 <= perplexity < len(vectors):
        raise InputError(f"a map with perplexity {perplexity:g} needs more vectors than that, got {len(vectors)}")
    distances = np.maximum(2 - 2 * (vectors @ vectors.T), 0).astype(np.float32)
    wanted = _neighbourhoods(distances, perplexity)
    places = _principal(vectors) * np.float32(1e-2)
    step, gain = np.zeros_like(places), np.ones_like(places)
    rate = len(vectors) / EXAGGERATION / 4  # Belkina et al., Nature Communications 2019, whose gradient lacks the 4
    for iteration in range(iterations):
        early = iteration < EXAGGERATED
        slope = _gradient(places, wanted, EXAGGERATION if early else 1.0)
        gain = np.maximum(np.where((slope > 0) == (step > 0), gain * 0.8, gain + 0.2), 0.01)
        step = (0.5 if early else 0.8) * step - rate * gain * slope
        places = places + step
    return (places - places.mean(axis=0)).astype(np.float32)


def _principal(vectors: np.ndarray) -> np.ndarray:
    """The first two principal components ``(N, 2)``, the first of unit variance."""
    centred = vectors - vectors.mean(axis=0)
    left, size, right = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(right[:2, np.abs(right[:2]).argmax(axis=1)].diagonal())  # a mirror image is as good: choose one
    places = left[:, :2] * size[:2] * signs
    return (places / places[:, 0].std()).astype(np.float32)


def _neighbourhoods(distances: np.ndarray, perplexity: float) -> np.ndarray:
    """Symmetric probabilities ``(N, N)`` of squared distances, each row's width found by bisection."""
    farther = distances - np.partition(distances, 1, axis=1)[:, 1:2]  # than the nearest: so no row underflows
    np.fill_diagonal(farther, np.inf)
    low, high = np.zeros((len(distances), 1), np.float32), np.full((len(distances), 1), np.inf, np.float32)
    sharpness = np.ones_like(low)
    for _ in range(40):
        near = np.exp(-farther * sharpness)
        near /= near.sum(axis=1, keepdims=True)
        entropy = -(near * np.log(np.maximum(near, 1e-12))).sum(axis=1, keepdims=True)
        wide = entropy > np.log(perplexity)
        low, high = np.where(wide, sharpness, low), np.where(wide, high, sharpness)
        sharpness = np.where(np.isinf(high), sharpness * 2, (low + high) / 2).astype(np.float32)
    return (near + near.T) / np.float32(2 * len(near))


def _gradient(places: np.ndarray, wanted: np.ndarray, exaggeration: float) -> np.ndarray:
    """``4 sum_j (p_ij - q_ij) (y_i - y_j) / (1 + |y_i - y_j|^2)``."""
    squares = (places**2).sum(axis=1)
    near = squares[:, None] + squares - 2 * (places @ places.T)
    near += 1
    np.reciprocal(near, out=near)
    np.fill_diagonal(near, 0)
    pull = wanted * np.float32(exaggeration)
    pull -= near / near.sum()
    pull *= near
    return 4 * (pull.sum(axis=1, keepdims=True) * places - pull @ places)
