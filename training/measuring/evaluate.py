"""Ask a ranker questions with known answers; anything with `rank(histories, k) -> Hits` can be asked."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from indexing.hits import Hits
from towers.errors import InputError
from towers.history import Histories
from training.measuring.exposure import (
    coverage,
    debiased_ndcg,
    debiased_recall,
    gini,
    inverse_propensities,
    novelty,
    shares,
)
from training.measuring.metrics import Interval, bootstrap, group_masks, matches, ndcg, recall, reciprocal_rank
from training.measuring.splits import Questions


class Ranker(Protocol):
    """Ranks the catalog for a batch of B histories."""

    def rank(self, histories: Histories, k: int) -> Hits:
        """The k best items for each history, ``(B, k)``, items of the history itself excluded."""


@runtime_checkable
class PeopleRanker(Protocol):
    """Ranks only people it was trained on, so it must be told whose histories come next."""

    def for_people(self, people: np.ndarray) -> Ranker:
        """A ranker for one batch of histories, those of the training people ``(B,)``, in this order."""


@dataclass(frozen=True)
class Result:
    """What an evaluation found.

    Args:
        metrics: name to `Interval` (a mean over people) or to a plain number.
        people: int64 ``(M,)`` the people asked about.
        per_person: name to float64 ``(M,)``, NaN where a metric does not exist for a person: the material
            for `training.measuring.metrics.paired_difference`. The mean is that of `metrics`; to that end a person's
            debiased metric is scaled by their share (`training.measuring.exposure.shares`) and may be above 1.
        without_target: people with nothing relevant, who count in no mean.
        seconds: time the ranker took.
    """

    metrics: dict[str, Interval | float]
    people: np.ndarray
    per_person: dict[str, np.ndarray]
    without_target: int
    seconds: float

    def row(self, *, method: str, split: str, seed: int, **more: Any) -> dict[str, Any]:
        """One row of a benchmark's JSON; `more` adds keys, such as the settings that were chosen."""
        metrics = {name: _rounded(value) for name, value in self.metrics.items()}
        return {"method": method, "split": split, "seed": seed, "metrics": metrics, **more}


def evaluate(
    ranker: Ranker | PeopleRanker,
    questions: Questions,
    *,
    counts: np.ndarray,
    ks: Sequence[int] = (10, 20),
    depth: int = 200,
    batch: int = 256,
    seed: int = 0,
) -> Result:
    """Full ranking over the catalog, scored.

    For each k: ``recall@k``, ``ndcg@k``, ``mrr@k``; recall among the relevant items of each group over the people who
    have one there (``recall@k/head``, ``/torso``, ``/tail``, and ``/cold`` for the part of the tail that has no
    training interaction); ``debiased-recall@k`` and ``debiased-ndcg@k``, which count an answer the more the less known
    it is; ``novelty@k``, ``coverage@k`` and ``gini@k`` of what is shown. Recall, also by group, at `depth` besides:
    how often a re-ranker of that depth gets the right item to see. A name that no person has a value for is left out.
    Formulas and sources: `training.measuring.metrics` and `training.measuring.exposure`.

    Args:
        ranker: what to ask.
        questions: M questions.
        counts: int64 ``(N,)`` training interactions of each item of the catalog.
        ks: list lengths.
        depth: candidates that a re-ranker would be given.
        batch: questions asked at once.
        seed: of the bootstrap.

    Raises:
        InputError: no questions, a target outside the catalog, or the ranker returned an item twice, from the
            history, or from outside the catalog.
    """
    started = time.perf_counter()
    rows = ranked_rows(ranker, questions, max(*ks, depth), batch)
    seconds = time.perf_counter() - started
    return score(rows, questions, counts=counts, ks=ks, depth=depth, seed=seed, seconds=seconds)


def score(
    rows: np.ndarray,
    questions: Questions,
    *,
    counts: np.ndarray,
    ks: Sequence[int] = (10, 20),
    depth: int = 200,
    seed: int = 0,
    seconds: float = 0.0,
) -> Result:
    """Score lists that are already there; arguments and metrics as in `evaluate`.

    Args:
        rows: int64 ``(M, K)`` the ranked list for each question, at least as wide as `depth` and every k.
        seconds: time that making them took.
    """
    _check_catalog(rows, questions, len(counts))
    weights = inverse_propensities(counts)
    share = shares(questions.targets, weights)
    plain = _accuracy(rows, questions, group_masks(counts), ks, depth)
    debiased: dict[str, np.ndarray] = {}
    shown: dict[str, float] = {}
    for k in sorted(set(ks)):
        debiased[f"debiased-recall@{k}"] = debiased_recall(rows, questions.targets, weights, k)
        debiased[f"debiased-ndcg@{k}"] = debiased_ndcg(rows, questions.targets, weights, k)
        plain[f"novelty@{k}"] = novelty(rows, counts, k)
        shown[f"coverage@{k}"] = coverage(rows, len(counts), k)
        shown[f"gini@{k}"] = gini(rows, len(counts), k)
    return Result(
        metrics={**_means(plain, None, seed), **_means(debiased, share, seed), **shown},
        people=questions.people,
        per_person={**plain, **{name: share * values for name, values in debiased.items()}},
        without_target=int((questions.targets.lengths == 0).sum()),
        seconds=seconds,
    )


def ranked_rows(ranker: Ranker | PeopleRanker, questions: Questions, k: int, batch: int = 256) -> np.ndarray:
    """The k best rows for every question, int64 ``(M, k)``, checked against the contract of `Ranker`.

    Raises:
        InputError: no questions, or a list of another shape, with an item twice or from the history.
    """
    if not len(questions):
        raise InputError("there is no question to ask: the split left nobody to evaluate")
    parts = []
    for start in range(0, len(questions), batch):
        asked = questions.take(np.arange(start, min(start + batch, len(questions))))
        one = ranker.for_people(asked.people) if isinstance(ranker, PeopleRanker) else ranker
        rows = one.rank(asked.histories, k).rows
        _check(rows, asked.histories, k)
        parts.append(rows)
    return np.concatenate(parts)


def _accuracy(
    rows: np.ndarray, questions: Questions, masks: dict[str, np.ndarray], ks: Sequence[int], depth: int
) -> dict[str, np.ndarray]:
    """Whether each person's targets are found and how far up, float64 ``(M,)`` by name."""
    targets = questions.targets
    found, relevant = matches(rows, targets), targets.lengths
    found_in = {name: found & mask[rows] for name, mask in masks.items()}
    relevant_in = {name: targets.keep(mask[targets.items]).lengths for name, mask in masks.items()}
    values: dict[str, np.ndarray] = {}
    for k in sorted({*ks, depth}):
        values[f"recall@{k}"] = recall(found, relevant, k)
        for name in masks:
            values[f"recall@{k}/{name}"] = recall(found_in[name], relevant_in[name], k)
        if k in ks:
            values[f"ndcg@{k}"] = ndcg(found, relevant, k)
            values[f"mrr@{k}"] = reciprocal_rank(found, relevant, k)
    return values


def _means(values: dict[str, np.ndarray], weights: np.ndarray | None, seed: int) -> dict[str, Interval]:
    """The mean over people of each metric that anybody has a value of."""
    known = {name: value for name, value in values.items() if not np.isnan(value).all()}
    return {name: bootstrap(value, weights=weights, seed=seed) for name, value in known.items()}


def _check_catalog(rows: np.ndarray, questions: Questions, size: int) -> None:
    for what, items in {"the ranker returned": rows, "a question asks for": questions.targets.items}.items():
        if items.max(initial=-1) >= size:
            raise InputError(f"{what} row {items.max()} of a catalog of {size} items")


def _check(rows: np.ndarray, histories: Histories, k: int) -> None:
    if rows.shape != (len(histories), k):
        raise InputError(f"expected ranked lists of shape {(len(histories), k)}, got {rows.shape}")
    ordered = np.sort(rows, axis=1)
    if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
        raise InputError("the ranker returned an item twice in one list")
    if matches(rows, histories).any():
        raise InputError("the ranker returned an item of the history, which it must exclude")


def _rounded(value: Interval | float) -> list[float] | float:
    return [round(v, 6) for v in value] if isinstance(value, Interval) else round(value, 6)
