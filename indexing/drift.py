"""How far a new model has moved the vectors of the same items, and what that does to their neighbourhoods."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from indexing.exact import exact_search
from indexing.store import Store
from towers.errors import InputError

QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class Drift:
    """What differs between two indexes in the items that both have.

    Two models may place the same items alike and yet turn the whole space; then cosines are low while neighbours are
    kept. That is no harm as long as queries and items are of the same model, which is why their vectors never mix.

    Args:
        items: how many items both have.
        added: items that only the new one has.
        dropped: items that only the old one has.
        cosine: mean cosine of an item's old and new vector; None where the two differ in dimension.
        quantiles: of these cosines, at 0.05, 0.5 and 0.95.
        turned: the same quantiles after the rotation, mirroring included, that brings the old vectors nearest to the
            new ones (orthogonal Procrustes; Schönemann 1966): what is left has moved among the items themselves.
        neighbours: share of an item's nearest among these items, in [0, 1], that are still among the nearest.
    """

    items: int
    added: int
    dropped: int
    cosine: float | None
    quantiles: tuple[float, ...] | None
    turned: tuple[float, ...] | None
    neighbours: float


def drift(old: Store, new: Store, *, k: int = 10, sample: int = 1000, seed: int = 0) -> Drift:
    """Compare the vectors of the same ids.

    Args:
        old, new: indexes of any spaces and dimensions; ids must be of one type.
        k: how many neighbours are compared, found exactly.
        sample: of how many items, drawn with `seed`; cosines are of all.

    Raises:
        InputError: fewer than two items in common, or a k or sample below 1.
    """
    if k < 1 or sample < 1:
        raise InputError(f"k and sample must be at least 1, got {k} and {sample}")
    rows = new.ids.rows(old.ids.array)
    before, after = old.vectors[np.flatnonzero(rows >= 0)], new.vectors[rows[rows >= 0]]
    count = len(before)
    if count < 2:
        raise InputError(f"the two indexes have {count} items in common, expected at least two to compare")
    cosine, quantiles, turned = None, None, None
    if old.dimension == new.dimension:
        cosines = np.vecdot(before, after)
        cosine, quantiles = float(cosines.mean()), _quantiles(cosines)
        left, _, right = np.linalg.svd((before.T @ after).astype(np.float64))
        turned = _quantiles(np.vecdot(before @ (left @ right).astype(np.float32), after))
    chosen = np.random.default_rng(seed).permutation(count)[:sample]
    depth = min(k, count - 1)
    was = exact_search(before[chosen], before, depth, exclude=chosen[:, None]).rows
    now = exact_search(after[chosen], after, depth, exclude=chosen[:, None]).rows
    kept = np.mean([len(np.intersect1d(a, b)) / depth for a, b in zip(was, now, strict=True)])
    return Drift(count, len(new) - count, len(old) - count, cosine, quantiles, turned, float(kept))


def _quantiles(cosines: np.ndarray) -> tuple[float, ...]:
    return tuple(float(one) for one in np.quantile(cosines, QUANTILES))
