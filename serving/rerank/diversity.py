"""Steps that make lists diverse: maximal marginal relevance, determinantal point processes, and sums of distances."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from serving.rerank.contract import Candidates, Known, Stage, Step, followed, relevance

SHARED = 0.99  # of an item can be alike; so two with the same values are not the same, and both may be shown


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Mmr(Step):
    """Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998).

    Place after place it takes the item with the highest ``(1 - weight) * relevance - weight * similarity``, relevance
    being the score from 0 to 1 over the candidates of a person, similarity the highest cosine with an item taken
    before, 0 for the first.

    Args:
        weight: 0 leaves the list as it is; 1 looks at similarity alone.
        by: the column whose values are compared, see `serving.rerank.items.Items.similarities`; default: the model's
            vectors.
    """

    name: ClassVar[str] = "mmr"
    stage: ClassVar[Stage] = Stage.LIST

    weight: Annotated[float, Field(ge=0, le=1)]
    by: str | None = None

    def __call__(self, candidates: Candidates, known: Known) -> Candidates:
        """The same candidates, the first k of them as taken."""
        orders = [
            mmr((1 - self.weight) * relevance(scores), self.weight * known.items.similarities(rows, self.by), known.k)
            for rows, scores in candidates.lists()
        ]
        return candidates.reordered(orders)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Dpp(Step):
    """The most probable list of a determinantal point process, taken greedily (Chen, Zhang and Zhou, NeurIPS 2018).

    It is the one of the highest ``(1 - weight) * sum of relevance + weight * log det(S)`` with S the similarities of
    its items: unlike MMR it sees whether an item is made up of several of the others. Relevance is as for `Mmr`.

    Args:
        weight: 0 leaves the list as it is; 1 looks at similarities alone.
        by: what is compared, as for `Mmr`.
    """

    name: ClassVar[str] = "dpp"
    stage: ClassVar[Stage] = Stage.LIST

    weight: Annotated[float, Field(ge=0, le=1)]
    by: str | None = None

    def __call__(self, candidates: Candidates, known: Known) -> Candidates:
        """The same candidates, the first k of them as taken."""
        orders = []
        for rows, scores in candidates.lists():
            kernel = SHARED * known.items.similarities(rows, self.by).astype(np.float64)
            np.fill_diagonal(kernel, 1)
            orders.append(dpp((1 - self.weight) * relevance(scores), kernel, self.weight, known.k))
        return candidates.reordered(orders)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class MaxSum(Step):
    """Max-sum diversification (Gollapudi and Sharma, WWW 2009), taken greedily (Borodin, Lee and Ye, PODS 2012).

    It looks for the list of the highest ``(1 - weight) * sum of relevance + weight * sum of distances / (k - 1)`` over
    its items and its pairs, a distance being ``1 - cosine``, and shows it in the order that it was given: diverse as a
    whole, with what suits best still on top. Relevance is as for `Mmr`.

    Args:
        weight: 0 leaves the list as it is; 1 looks at distances alone.
        by: what is compared, as for `Mmr`.
    """

    name: ClassVar[str] = "max-sum"
    stage: ClassVar[Stage] = Stage.LIST

    weight: Annotated[float, Field(ge=0, le=1)]
    by: str | None = None

    def __call__(self, candidates: Candidates, known: Known) -> Candidates:
        """The same candidates, the first k of them as taken, in their order."""
        share, orders = self.weight / max(known.k - 1, 1), []
        for rows, scores in candidates.lists():
            distances = 1 - known.items.similarities(rows, self.by)
            orders.append(max_sum((1 - self.weight) * relevance(scores), share * distances, known.k))
        return candidates.reordered(orders)


def mmr(gains: np.ndarray, costs: np.ndarray, k: int) -> np.ndarray:
    """Positions of n items, the first k taken one by one by gain less the highest cost beside what was taken.

    Args:
        gains: float ``(n,)``.
        costs: float ``(n, n)`` of an item beside another.
        k: how many are taken; the rest follows in its order.
    """
    taken: list[int] = []
    left, highest = gains.astype(np.float64), np.zeros(len(gains))
    for _ in range(min(k, len(gains))):
        best = int(np.argmax(left - highest))
        highest = np.maximum(highest, costs[best]) if taken else costs[best].astype(np.float64)
        left[best] = -np.inf
        taken.append(best)
    return followed(taken, len(gains))


def max_sum(gains: np.ndarray, distances: np.ndarray, k: int) -> np.ndarray:
    """Positions of n items, first k that were taken one by one by gain and by distances to what was taken before.

    Args:
        gains: float ``(n,)``.
        distances: float ``(n, n)``.
        k: how many are taken; they, and then the rest, keep their order.
    """
    taken: list[int] = []
    left = gains.astype(np.float64)
    for _ in range(min(k, len(gains))):
        best = int(np.argmax(left))
        left = left + distances[best]
        left[best] = -np.inf
        taken.append(best)
    return followed(sorted(taken), len(gains))


def dpp(gains: np.ndarray, kernel: np.ndarray, weight: float, k: int) -> np.ndarray:
    """Positions of n items, the first k taken one by one by gain and by what they add to the log determinant.

    What an item would multiply the determinant by is kept up to date by one row of a Cholesky factor for each item
    taken, so that n items cost ``O(k^2 n)`` (arXiv 1709.05135, algorithm 1).

    Args:
        gains: float ``(n,)``.
        kernel: float64 ``(n, n)``, symmetric, positive definite, with 1 on the diagonal.
        weight: of the log determinant.
        k: how many are taken; the rest follows in its order.
    """
    taken: list[int] = []
    left, factor, adds = gains.astype(np.float64), np.zeros((k, len(gains))), np.ones(len(gains))
    for place in range(min(k, len(gains))):
        best = int(np.argmax(left + weight * np.log(np.maximum(adds, np.finfo(np.float64).tiny))))
        row = (kernel[best] - factor[:place, best] @ factor[:place]) / np.sqrt(adds[best])
        factor[place], adds = row, adds - row**2
        left[best] = -np.inf
        taken.append(best)
    return followed(taken, len(gains))
