"""Cold targets ranked among the cold items, and warm ones among as many warm items."""

from __future__ import annotations

import numpy as np

from indexing.hits import Hits
from towers.catalog import Catalog
from towers.model import TwoTower
from training.measuring.metrics import matches, ratio, recall
from training.measuring.splits import Questions, Split

DRAWS = 20  # of as many warm items as there are cold ones
K = 20


def cold_and_warm(model: TwoTower, catalog: Catalog, split: Split, cold: np.ndarray) -> dict[str, np.ndarray]:
    """Recall@20 of each person's cold targets among the cold items, and of the warm ones among as many warm items.

    The second is a mean of draws. Never a headline: the candidates are few. Warm items that a person has met are masked
    and cold ones never are, so that warm targets have fewer rivals.

    Args:
        model: asked by retrieval, without anything that counts beside the query.
        catalog: N items.
        split: its test questions.
        cold: bool ``(N,)`` items without any training event.

    Returns:
        float64 ``(M,)`` by name of the metric, NaN where a person has no such target.
    """
    vectors = model.embed_items(catalog)
    scores = model.encode(split.test.histories, model.memory(catalog, vectors)) @ vectors.T
    scores[:, ~vectors.any(axis=1)] = -np.inf  # nothing is known of them, so nobody finds them
    warm, rng = np.flatnonzero(np.bincount(split.refit.items, minlength=len(catalog))), np.random.default_rng(0)
    draws = np.stack([recall_among(scores, split.test, rng.permutation(warm)[: cold.sum()]) for _ in range(DRAWS)])
    return {
        f"recall@{K}/cold": recall_among(scores, split.test, np.flatnonzero(cold)),
        f"recall@{K}/warm": ratio(np.nansum(draws, axis=0), (~np.isnan(draws)).sum(axis=0)),
    }


def recall_among(scores: np.ndarray, questions: Questions, candidates: np.ndarray) -> np.ndarray:
    """Recall@20 of the targets among some items, float64 ``(M,)``, NaN for whom none is among them.

    Args:
        scores: float32 ``(M, N)``.
        questions: of M people; what is in their histories is left out.
        candidates: int64 rows of the items.
    """
    among = np.full(scores.shape, -np.inf, np.float32)
    among[:, candidates] = scores[:, candidates]
    among[questions.histories.people, questions.histories.items] = -np.inf
    targets = questions.targets.keep(np.isin(questions.targets.items, candidates))
    return recall(matches(Hits.top(among, K).rows, targets), targets.lengths, K)
