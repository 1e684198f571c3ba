"""How good ranked lists and predicted ratings are: one number for each person, then the mean with its interval.

A person's ranking metric is read off two things: `found`, which of the K ranked items were relevant
(`matches` makes it), and `relevant`, how many there were to find. A person with nothing to find has no
metric (NaN) and is left out of every mean.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from towers.errors import InputError
from towers.history import Histories

GROUPS = ("head", "torso", "tail")


class Interval(NamedTuple):
    """A value with the bounds of its 95 % interval."""

    value: float
    low: float
    high: float


def matches(rows: np.ndarray, targets: Histories) -> np.ndarray:
    """Which ranked items are among each person's targets.

    Args:
        rows: int64 ``(B, K)`` item rows, -1 where a list ends early.
        targets: the items looked for, one history for each of the B people.

    Returns:
        bool ``(B, K)``.
    """
    if len(rows) != len(targets):
        raise InputError(f"{len(rows)} ranked lists cannot be matched with the targets of {len(targets)} people")
    span = 1 + max(rows.max(initial=0), targets.items.max(initial=0))
    keys = np.arange(len(rows))[:, None] * span + rows
    return np.isin(keys, targets.people * span + targets.items) & (rows >= 0)


def recall(found: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Recall@k ``= (relevant items in the first k) / (relevant items)``; with one relevant item, the hit rate.

    Args:
        found: bool ``(B, K)``, K at least k, no item twice.
        relevant: int64 ``(B,)`` how many different items are relevant.

    Returns:
        float64 ``(B,)`` in [0, 1], NaN where nothing is relevant.
    """
    return _ratio(_first(found, k).sum(axis=1), relevant)


def ndcg(found: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """NDCG@k with 0/1 gains ``= DCG / ideal DCG``, ``DCG = sum of 1 / log2(rank + 1)`` over found ranks up to k.

    The ideal list holds ``min(relevant, k)`` items (Järvelin and Kekäläinen, TOIS 2002).
    Arguments and result as in `recall`.
    """
    discounts = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])[np.minimum(relevant, k)]
    return _ratio(_first(found, k) @ discounts, ideal)


def reciprocal_rank(found: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """``1 / rank`` of the first relevant item, 0 where the first k hold none; its mean is MRR@k.

    Arguments and result as in `recall`.
    """
    top = _first(found, k)
    return _ratio(np.where(top.any(axis=1), 1 / (1 + top.argmax(axis=1)), 0.0), relevant > 0)


def coverage(rows: np.ndarray, n_items: int, k: int) -> float:
    """Coverage@k: share of the catalog that stands in anybody's first k.

    Args:
        rows: int64 ``(B, K)``, K at least k.
        n_items: items in the catalog.
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


def popularity_groups(counts: np.ndarray) -> np.ndarray:
    """Head, torso and tail of a catalog.

    With items from most to least popular (ties: lower row first), the head is the shortest start of
    the list that takes 20 % of the interactions, head and torso the shortest that takes 80 %; the tail
    is the rest, items without interactions always included.

    Args:
        counts: int64 ``(N,)`` training interactions of each item.

    Returns:
        int64 ``(N,)``: 0 head, 1 torso, 2 tail.
    """
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    groups = np.empty(len(counts), np.int64)
    # Whole numbers, so that no rounding decides at exactly 20 or 80 %.
    groups[order] = (5 * before >= counts.sum()).astype(np.int64) + (5 * before >= 4 * counts.sum())
    return groups


def bootstrap(values: np.ndarray, *, weights: np.ndarray | None = None, seed: int = 0, n: int = 2000) -> Interval:
    """Mean over people with its 95 % percentile bootstrap interval (Efron and Tibshirani 1993, ch. 13).

    Args:
        values: float ``(P,)``, one for each person; NaN leaves a person out.
        weights: float ``(P,)`` for a weighted mean, not negative; people are resampled with their weight.
        seed: of the resampling.
        n: resamples.

    Raises:
        InputError: no person has a value.
    """
    values = np.asarray(values, np.float64)
    weights = np.ones_like(values) if weights is None else np.asarray(weights, np.float64)
    known = ~np.isnan(values)
    people = int(known.sum())
    if not people:
        raise InputError(f"a mean needs at least one person with a value, got none among {len(values)}")
    # Equal people are interchangeable: drawing how often each distinct one comes up is the same
    # bootstrap, and far cheaper for metrics that take few values.
    pairs = np.stack([values[known] * weights[known], weights[known]], axis=1)
    distinct, counts = np.unique(pairs, axis=0, return_counts=True)
    rng = np.random.default_rng(seed)
    sums = np.stack([rng.multinomial(people, counts / people) @ distinct for _ in range(n)])
    low, high = np.percentile(sums[:, 0] / sums[:, 1], [2.5, 97.5])
    return Interval(float(pairs[:, 0].sum() / pairs[:, 1].sum()), float(low), float(high))


def paired_difference(ours: np.ndarray, theirs: np.ndarray, *, seed: int = 0, n: int = 2000) -> Interval:
    """Mean of ``ours - theirs`` over the same people, with its interval: a difference if it excludes 0.

    Args:
        ours, theirs: float ``(P,)``, one metric of the same people in the same order; NaN leaves a person out.
        seed, n: as in `bootstrap`.
    """
    if len(ours) != len(theirs):
        raise InputError(f"a paired difference needs the same people twice, got {len(ours)} and {len(theirs)}")
    return bootstrap(np.asarray(ours) - np.asarray(theirs), seed=seed, n=n)


def mae(predicted: np.ndarray, actual: np.ndarray, people: np.ndarray, *, seed: int = 0) -> Interval:
    """Mean absolute error over ratings, ``mean |predicted - actual|``, with an interval over people.

    Args:
        predicted, actual: float ``(T,)``, both in one unit, which is the unit of the result.
        people: int64 ``(T,)`` whose rating each is.
        seed: of the bootstrap.
    """
    return _error(np.abs(np.subtract(predicted, actual, dtype=np.float64)), people, seed)


def rmse(predicted: np.ndarray, actual: np.ndarray, people: np.ndarray, *, seed: int = 0) -> Interval:
    """Root mean square error over ratings, ``sqrt(mean (predicted - actual)^2)``; arguments as in `mae`."""
    return Interval(*map(float, np.sqrt(_error(np.subtract(predicted, actual, dtype=np.float64) ** 2, people, seed))))


def _error(errors: np.ndarray, people: np.ndarray, seed: int) -> Interval:
    """Mean of `errors` over ratings; people are resampled, each with all their ratings."""
    _, index, counts = np.unique(people, return_inverse=True, return_counts=True)
    return bootstrap(np.bincount(index, errors) / counts, weights=counts, seed=seed)


def _first(lists: np.ndarray, k: int) -> np.ndarray:
    if not 1 <= k <= lists.shape[1]:
        raise InputError(f"a metric at {k} needs lists of at least {k} (and 1), got {lists.shape[1]}")
    return lists[:, :k]


def _exposure(rows: np.ndarray, n_items: int, k: int) -> np.ndarray:
    shown = _first(rows, k)
    return np.bincount(shown[shown >= 0], minlength=n_items)


def _ratio(value: np.ndarray, total: np.ndarray) -> np.ndarray:
    """``value / total`` as float64, NaN where `total` is 0."""
    return np.divide(value, total, out=np.full(len(value), np.nan), where=total > 0)
