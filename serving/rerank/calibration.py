"""The step that keeps a list's mix of known and unknown items near that of the person's own past."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from serving.rerank.contract import Candidates, Known, Stage, Step, followed, relevance
from towers.popularity import GROUPS

SMOOTHING = 0.01  # of the past's mix in the list's, so that a group without an item does not cost infinitely much


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Calibration(Step):
    """Calibrated popularity (Abdollahpouri et al., UMAP 2021), by the greedy choice of Steck (RecSys 2018).

    Place after place it takes the item with which ``(1 - weight) * sum of relevance / k - weight * KL(p || q)`` is
    highest: p is how a person's past divides into head, torso and tail, q how the list does so far; relevance is the
    score from 0 to 1 over the candidates. Without a past the list stays as it is.

    Args:
        weight: 0 leaves the list as it is; 1 looks at the mix alone.
    """

    name: ClassVar[str] = "calibration"
    stage: ClassVar[Stage] = Stage.LIST

    weight: Annotated[float, Field(ge=0, le=1)]

    def __call__(self, candidates: Candidates, known: Known) -> Candidates:
        """The same candidates, the first k of them as taken."""
        groups, orders = known.items.groups, []
        for person, (rows, scores) in enumerate(candidates.lists()):
            past = groups[known.histories.take([person]).items]
            if not len(past):
                orders.append(np.arange(len(rows)))
                continue
            mix = np.bincount(past, minlength=len(GROUPS)) / len(past)
            gains = (1 - self.weight) * relevance(scores) / known.k
            orders.append(calibrated(gains, groups[rows], mix, self.weight, known.k))
        return candidates.reordered(orders)


def calibrated(gains: np.ndarray, groups: np.ndarray, mix: np.ndarray, weight: float, k: int) -> np.ndarray:
    """Positions of n items, the first k taken one by one by gain less the divergence of the groups taken from `mix`.

    Args:
        gains: float ``(n,)``.
        groups: int64 ``(n,)`` in 0 to G - 1.
        mix: float ``(G,)`` that sums to 1.
        weight: of the divergence.
        k: how many are taken; the rest follows in its order.
    """
    taken: list[int] = []
    left, counts = gains.astype(np.float64), np.zeros(len(mix))
    for place in range(1, min(k, len(gains)) + 1):
        costs = divergence(mix, (counts + np.eye(len(mix))) / place)
        best = int(np.argmax(left - weight * costs[groups]))
        counts[groups[best]] += 1
        left[best] = -np.inf
        taken.append(best)
    return followed(taken, len(gains))


def divergence(wanted: np.ndarray, had: np.ndarray) -> np.ndarray:
    """``KL(wanted || had)`` in nats of mixes ``(..., G)``, `had` smoothed with a hundredth of `wanted`."""
    there = wanted > 0
    smooth = (1 - SMOOTHING) * had[..., there] + SMOOTHING * wanted[there]
    return np.log(wanted[there] / smooth) @ wanted[there]
