"""What lists show: how much of the catalog, how evenly, how well known; and accuracy that popularity cannot flatter."""

from __future__ import annotations

import numpy as np

from towers.history import Histories
from training.measuring.metrics import cut, graded_ndcg, positions, ratio

POWER = 1.5  # gamma = 2, amid the 1.55 to 3.07 that Yang et al. found on three logs
CLIP = 0.01  # no answer counts more than a hundred times as much as one with the most popular item


def coverage(rows: np.ndarray, n_items: int, k: int) -> float:
    """Coverage@k: share of the catalog that stands in anybody's first k.

    Args:
        rows: int64 ``(B, K)`` item rows, K at least k, -1 where a list ends early.
        n_items: items in the catalog.
        k: length of the lists.
    """
    return float(np.count_nonzero(_exposure(rows, n_items, k)) / n_items)


def gini(rows: np.ndarray, n_items: int, k: int) -> float:
    """Gini@k of exposure over the whole catalog, 0 = every item shown equally often, near 1 = always the same.

    ``G = sum_i (2 i - N - 1) x_i / (N sum_i x_i)`` with x the times each of the N items stands in
    somebody's first k, in rising order, i from 1; 0 where nothing is shown at all.
    Arguments as in `coverage`.
    """
    shown = np.sort(_exposure(rows, n_items, k))
    weights = 2 * np.arange(1, n_items + 1) - n_items - 1
    return float(weights @ shown / (n_items * max(shown.sum(), 1)))


def novelty(rows: np.ndarray, counts: np.ndarray, k: int) -> np.ndarray:
    """Novelty@k: mean self-information of what a person is shown, ``mean of -log2 p(i)`` over their first k, in bits.

    ``p(i) = (count of i + 1) / (all counts + N)``: the share of item i in the training interactions, with one
    interaction added to each of the N items, so that an item nobody has met has a finite novelty, the highest. One bit
    more means half as well known (Zhou et al., PNAS 2010, with shares of interactions in place of shares of people;
    Vargas and Castells, RecSys 2011).

    Args:
        rows: int64 ``(B, K)`` item rows, K at least k, -1 where a list ends early.
        counts: int64 ``(N,)`` training interactions of each item.
        k: length of the lists.

    Returns:
        float64 ``(B,)``, NaN where a list is empty. It asks nothing of the targets.
    """
    bits = -np.log2((counts + 1) / (counts.sum() + len(counts)))
    shown = cut(rows, k)
    return ratio(np.where(shown >= 0, bits[shown], 0.0).sum(axis=1), (shown >= 0).sum(axis=1))


def diversity(rows: np.ndarray, vectors: np.ndarray, k: int) -> np.ndarray:
    """Intra-list diversity@k: mean of ``1 - cosine`` over pairs of a person's first k (Zhang and Hurley, RecSys 2008).

    Args:
        rows: int64 ``(B, K)`` item rows, K at least k, -1 where a list ends early.
        vectors: float ``(N, F)`` of what items are compared by, unit norm, or 0 for an item that is like no other.
        k: length of the lists.

    Returns:
        float64 ``(B,)``, NaN where a list has fewer than two items.
    """
    shown = cut(rows, k)
    there = (shown >= 0).astype(np.float64)
    total, own = np.zeros((len(shown), vectors.shape[1])), np.zeros(len(shown))
    for place in range(shown.shape[1]):
        one = vectors[shown[:, place]] * there[:, place, None]
        total, own = total + one, own + (one**2).sum(axis=1)
    count = there.sum(axis=1)
    # Products over all ordered pairs are the square of the sum, those of an item with itself taken off.
    pairs = count * (count - 1)
    return ratio(pairs - ((total**2).sum(axis=1) - own), pairs)


def inverse_propensities(counts: np.ndarray, *, power: float = POWER, clip: float = CLIP) -> np.ndarray:
    """How much an answer with each item counts, so that answers stand for what people like, not for what they met.

    A log holds what people like of what they came to see, and popular items are seen more often. The propensity of an
    item, its chance to get into the log where it is liked, is taken as ``(count / highest count) ** power`` with
    ``power = (gamma + 1) / 2`` (Yang et al., RecSys 2018, eq. 15); gamma is a property of a log and of what was shown
    to its people, 2 here. Below `clip` it is set to `clip`, items without any count included: that bounds the weights
    by ``1 / clip``, at the price of some bias towards the popular.

    Args:
        counts: int64 ``(N,)`` training interactions of each item.
        power: 0 makes all items equal.
        clip: in (0, 1].

    Returns:
        float64 ``(N,)`` in [1, 1 / clip].
    """
    return 1 / np.maximum((counts / max(counts.max(initial=0), 1)) ** power, clip)


def debiased_recall(rows: np.ndarray, targets: Histories, weights: np.ndarray, k: int) -> np.ndarray:
    """Recall@k with each relevant item counted by its weight, ``(weights found in the first k) / (weights relevant)``.

    For one person this is the self-normalised estimator of Yang et al. (RecSys 2018, eq. 9). With one relevant item
    its weight cancels and plain recall is left, so the mean over people has to be weighted by `shares`; then equal
    weights give the plain mean of recall.

    Args:
        rows: int64 ``(B, K)`` item rows, K at least k, no item twice, -1 where a list ends early.
        targets: what is relevant, one history for each of the B people, no item twice for one person.
        weights: float64 ``(N,)`` of each item, as of `inverse_propensities`.
        k: length of the lists.

    Returns:
        float64 ``(B,)`` in [0, 1], NaN where nothing is relevant.
    """
    gains = weights[targets.items]
    found = np.append(gains, 0.0)[positions(cut(rows, k), targets)].sum(axis=1)
    return ratio(found, _sums(targets, gains))


def debiased_ndcg(rows: np.ndarray, targets: Histories, weights: np.ndarray, k: int) -> np.ndarray:
    """NDCG@k whose gains are the items' weights, the ideal list holding the heaviest first.

    Arguments, result and what to do for a mean over people as in `debiased_recall`.
    """
    return graded_ndcg(rows, targets, weights[targets.items], k)


def shares(targets: Histories, weights: np.ndarray) -> np.ndarray:
    """How much each person counts in the mean of a debiased metric: the mean weight of their relevant items, scaled.

    Args:
        targets: what is relevant, one history for each of the B people.
        weights: float64 ``(N,)`` of each item, as of `inverse_propensities`.

    Returns:
        float64 ``(B,)`` with mean 1 over the people who have something relevant, NaN for the others.
    """
    means = ratio(_sums(targets, weights[targets.items]), targets.lengths)
    return means / np.nanmean(means) if len(targets.items) else means


def _exposure(rows: np.ndarray, n_items: int, k: int) -> np.ndarray:
    shown = cut(rows, k)
    return np.bincount(shown[shown >= 0], minlength=n_items)


def _sums(targets: Histories, values: np.ndarray) -> np.ndarray:
    """Sum of float ``(T,)`` `values` over each person's targets."""
    return np.bincount(targets.people, values, minlength=len(targets))
