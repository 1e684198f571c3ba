"""How far vectors of the same items have moved."""

from __future__ import annotations

import numpy as np
import pytest

from indexing.drift import drift
from indexing.index import ItemIndex
from indexing.vectors import unit
from towers.errors import InputError

VECTORS = unit(np.random.default_rng(0).normal(size=(200, 12)))


def index(vectors: np.ndarray, ids: list[int] | range | None = None) -> ItemIndex:
    return ItemIndex.from_arrays(ids if ids is not None else range(len(vectors)), vectors)


def test_the_same_vectors_have_not_moved_whatever_their_order() -> None:
    order = np.random.default_rng(1).permutation(200)
    found = drift(index(VECTORS), index(VECTORS[order], order.tolist()))
    assert (found.items, found.added, found.dropped, found.neighbours) == (200, 0, 0, 1.0)
    assert found.cosine == pytest.approx(1, abs=1e-6)


def test_a_turned_space_keeps_its_neighbours_and_other_vectors_do_not() -> None:
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(12, 12)))[0]
    turned = drift(index(VECTORS), index(unit(VECTORS @ turn)))
    assert turned.neighbours > 0.99
    assert abs(turned.cosine) < 0.3
    assert turned.turned == pytest.approx((1, 1, 1), abs=1e-5)
    other = drift(index(VECTORS), index(unit(np.random.default_rng(3).normal(size=(200, 12)))))
    assert other.neighbours == pytest.approx(10 / 199, abs=0.03)
    assert other.quantiles[0] < other.quantiles[1] < other.quantiles[2]
    assert other.quantiles[1] < other.turned[1] < 0.5  # as near as chance is turned


def test_a_known_angle_is_found_and_only_common_items_count() -> None:
    moved = np.zeros((200, 24), np.float32)
    moved[:, :12], moved[np.arange(200), 12 + np.arange(200) % 12] = 0.8 * VECTORS, 0.6
    old = index(np.ascontiguousarray(np.pad(VECTORS, ((0, 0), (0, 12)))))
    found = drift(old, index(unit(moved)[50:], range(50, 200)))
    assert (found.items, found.added, found.dropped) == (150, 0, 50)
    assert found.cosine == pytest.approx(0.8, abs=1e-6)
    assert found.quantiles == pytest.approx((0.8, 0.8, 0.8), abs=1e-6)


def test_spaces_of_two_dimensions_have_neighbours_but_no_cosines() -> None:
    found = drift(index(VECTORS), index(unit(VECTORS[:, :11])))
    assert found.cosine is None
    assert found.quantiles is found.turned is None
    assert 0.5 < found.neighbours < 1


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InputError, match="have 0 items in common, expected at least two"):
        drift(index(VECTORS), index(VECTORS, range(200, 400)))
    with pytest.raises(InputError, match="k and sample must be at least 1, got 0 and 1000"):
        drift(index(VECTORS), index(VECTORS), k=0)
