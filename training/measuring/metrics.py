"""How good ranked lists and predicted ratings are: one number for each person, then the mean with its interval.

A person's ranking metric is read off two things: `found`, which of the K ranked items were relevant
(`matches` makes it), and `relevant`, how many there were to find. A person with nothing to find has no
metric (NaN) and is left out of every mean. What lists show, found or not, is measured in `training.measuring.exposure`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from towers.errors import InputError
from towers.history import Histories
from towers.popularity import GROUPS, popularity_groups

MANY = 5_000  # distinct values from which the bootstrap draws people instead


class Interval(NamedTuple):
    """A value with the bounds of its 95 % interval."""

    value: float
    low: float
    high: float


def positions(rows: np.ndarray, targets: Histories) -> np.ndarray:
    """Which target each ranked item is.

    Args:
        rows: int64 ``(B, K)`` item rows, -1 where a list ends early.
        targets: the items looked for, one history for each of the B people.

    Returns:
        int64 ``(B, K)`` positions in ``targets.items``, -1 where the item is none of the person's targets.
    """
    if len(rows) != len(targets):
        raise InputError(f"{len(rows)} ranked lists cannot be matched with the targets of {len(targets)} people")
    span = 1 + max(rows.max(initial=0), targets.items.max(initial=0))
    known = targets.people * span + targets.items
    order = np.argsort(known, kind="stable")
    # One key above all others, so that every search ends inside.
    known, order = np.append(known[order], len(rows) * span), np.append(order, -1)
    keys = np.arange(len(rows))[:, None] * span + rows
    at = np.searchsorted(known, keys)
    return np.where((known[at] == keys) & (rows >= 0), order[at], -1)


def matches(rows: np.ndarray, targets: Histories) -> np.ndarray:
    """Which ranked items are among each person's targets, bool ``(B, K)``; arguments as in `positions`."""
    return positions(rows, targets) >= 0


def recall(found: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Recall@k ``= (relevant items in the first k) / (relevant items)``; with one relevant item, the hit rate.

    Args:
        found: bool ``(B, K)``, K at least k, no item twice.
        relevant: int64 ``(B,)`` how many different items are relevant.

    Returns:
        float64 ``(B,)`` in [0, 1], NaN where nothing is relevant.
    """
    return ratio(cut(found, k).sum(axis=1), relevant)


def ndcg(found: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """NDCG@k with 0/1 gains ``= DCG / ideal DCG``, ``DCG = sum of 1 / log2(rank + 1)`` over found ranks up to k.

    The ideal list holds ``min(relevant, k)`` items (Järvelin and Kekäläinen, TOIS 2002).
    Arguments and result as in `recall`.
    """
    discounts = _discounts(k)
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])[np.minimum(relevant, k)]
    return ratio(cut(found, k) @ discounts, ideal)


def graded_ndcg(rows: np.ndarray, targets: Histories, gains: np.ndarray, k: int) -> np.ndarray:
    """NDCG@k with graded gains ``= DCG / ideal DCG``, ``DCG = sum of gain / log2(rank + 1)`` over found ranks up to k.

    Gains are linear (Järvelin and Kekäläinen, TOIS 2002), as in trec_eval: they count as they are given, and 4 stars
    are worth twice 2. For exponential ones (Burges et al., ICML 2005), where 5 stars are worth ten times 2, pass
    ``2.0**stars - 1``. The ideal list holds the k highest gains, highest first; gains of 1 make it `ndcg`.

    Args:
        rows: int64 ``(B, K)`` item rows, K at least k, no item twice, -1 where a list ends early.
        targets: the items that have a gain, one history for each of the B people, no item twice for one person.
        gains: float ``(T,)`` of each of ``targets.items``, finite and not negative, such as stars.
        k: length of the lists.

    Returns:
        float64 ``(B,)`` in [0, 1], NaN where a person has nothing to gain.

    Raises:
        InputError: gains of another number than targets, negative, or not finite.
    """
    gains = np.asarray(gains, np.float64)
    if gains.shape != targets.items.shape:
        raise InputError(f"every target needs one gain, got {gains.size} gains for {len(targets.items)} targets")
    if not (np.isfinite(gains) & (gains >= 0)).all():
        raise InputError("a gain is negative or not finite; give 0 to a target that is worth nothing")
    discounts = _discounts(k)
    dcg = np.append(gains, 0.0)[positions(cut(rows, k), targets)] @ discounts
    highest_first = gains[np.lexsort((-gains, targets.people))]
    rank = np.arange(len(gains)) - np.repeat(targets.offsets[:-1], targets.lengths)
    inside = rank < k
    ideal = np.bincount(targets.people[inside], highest_first[inside] * discounts[rank[inside]], minlength=len(targets))
    return ratio(dcg, ideal)


def reciprocal_rank(found: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """``1 / rank`` of the first relevant item, 0 where the first k hold none; its mean is MRR@k.

    Arguments and result as in `recall`.
    """
    top = cut(found, k)
    return ratio(np.where(top.any(axis=1), 1 / (1 + top.argmax(axis=1)), 0.0), relevant > 0)


def subtopic_recall(rows: np.ndarray, targets: Histories, topics: np.ndarray, k: int) -> np.ndarray:
    """S-recall@k ``= (topics of the targets that the first k items have) / (topics of the targets)``.

    How much of what a person cares for a list reaches at all, whether or not it has the very items (subtopic recall,
    Zhai, Cohen and Lafferty, SIGIR 2003). An item may have several topics, such as genres, or none.

    Args:
        rows: int64 ``(B, K)`` item rows, K at least k, -1 where a list ends early.
        targets: what each of the B people liked.
        topics: bool ``(N, G)`` which of G topics each item of the catalog has.
        k: length of the lists.

    Returns:
        float64 ``(B,)`` in [0, 1], NaN where no target has a topic.
    """
    liked = np.zeros((len(rows), topics.shape[1]), bool)
    np.logical_or.at(liked, targets.people, topics[targets.items])
    top = cut(rows, k)
    shown = (topics[top] & (top >= 0)[:, :, None]).any(axis=1)
    return ratio((liked & shown).sum(axis=1), liked.sum(axis=1))


def group_masks(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Which items belong to each group that is reported: bool ``(N,)`` by name.

    Head, torso and tail are those of `popularity_groups` and make up the catalog. Cold are the items without any
    training interaction; they belong to the tail, too.

    Args:
        counts: int64 ``(N,)`` training interactions of each item.
    """
    groups = popularity_groups(counts)
    return {name: groups == number for number, name in enumerate(GROUPS)} | {"cold": counts == 0}


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
    pairs = np.stack([values[known] * weights[known], weights[known]], axis=1)
    sums = _resampled_sums(pairs, np.random.default_rng(seed), n)
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


def relative_difference(ours: np.ndarray, theirs: np.ndarray, *, seed: int = 0, n: int = 2000) -> Interval:
    """``mean of ours / mean of theirs - 1`` over the same people, with its interval: by what share it rose or fell.

    Args:
        ours, theirs: as in `paired_difference`; where either is NaN a person is left out.
        seed, n: as in `bootstrap`.

    Raises:
        InputError: not the same people, or a mean of theirs of 0.
    """
    pairs = np.stack([np.asarray(ours, np.float64), np.asarray(theirs, np.float64)], axis=1)
    pairs = pairs[~np.isnan(pairs).any(axis=1)]
    if not pairs[:, 1].sum():
        raise InputError("nothing can be said relative to a mean of 0")
    sums = _resampled_sums(pairs, np.random.default_rng(seed), n)
    low, high = np.percentile(sums[:, 0] / sums[:, 1], [2.5, 97.5]) - 1
    return Interval(float(pairs[:, 0].sum() / pairs[:, 1].sum()) - 1, float(low), float(high))


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


def cut(lists: np.ndarray, k: int) -> np.ndarray:
    """The first k of each of ``(B, K)`` lists.

    Raises:
        InputError: k below 1 or above K.
    """
    if not 1 <= k <= lists.shape[1]:
        raise InputError(f"a metric at {k} needs lists of at least {k} (and 1), got {lists.shape[1]}")
    return lists[:, :k]


def ratio(value: np.ndarray, total: np.ndarray) -> np.ndarray:
    """``value / total`` as float64, NaN where `total` is 0."""
    return np.divide(value, total, out=np.full(len(value), np.nan), where=total > 0)


def _discounts(k: int) -> np.ndarray:
    """What a find at each of the first k ranks is worth."""
    return 1 / np.log2(np.arange(2, k + 2))


def _resampled_sums(pairs: np.ndarray, rng: np.random.Generator, n: int) -> np.ndarray:
    """Sums ``(n, 2)`` of n times as many rows, drawn with replacement, as float ``(P, 2)`` `pairs` has."""
    people = len(pairs)
    distinct, counts = np.unique(pairs, axis=0, return_counts=True)
    # Equal people are interchangeable: drawing how often each distinct one comes up is the same
    # bootstrap, and far cheaper for metrics that take few values; where most are distinct, drawing people is.
    if len(distinct) > max(MANY, people // 10):
        draws = (np.bincount(rng.integers(people, size=people), minlength=people) for _ in range(n))
        return np.stack([drawn @ pairs for drawn in draws])
    return np.stack([rng.multinomial(people, counts / people) @ distinct for _ in range(n)])
