"""The map of items keeps near vectors together."""

from __future__ import annotations

import numpy as np

from twotower.plots import places_of


def test_groups_stay_together_and_the_map_is_always_the_same() -> None:
    rng = np.random.default_rng(0)
    vectors = np.repeat(np.eye(16)[:4], 50, axis=0) + rng.normal(scale=0.08, size=(200, 16))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    places = places_of(vectors)
    distances = ((places[:, None] - places) ** 2).sum(axis=2)
    np.fill_diagonal(distances, np.inf)
    nearest = np.argsort(distances, axis=1)[:, :15]
    assert (nearest // 50 == np.arange(200)[:, None] // 50).mean() > 0.99
    assert (places_of(vectors) == places).all()
