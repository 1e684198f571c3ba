"""Steps that draw lots, to learn what else people like; each item's probability at its place is kept.

`training.measuring.off_policy` reads such a log: what was shown at a place is an event, this probability is its
``logged``, and what another ranking would have earned there is estimated, as far as clicks at a place do not depend on
other places.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from serving.rerank.contract import Candidates, Known, Stage, Step, relevance

NODES = np.linspace(-6, 6, 49)  # of the trapezoid rule over standard normal noise, far finer than needed
WEIGHTS = (NODES[1] - NODES[0]) * np.exp(-(NODES**2) / 2) / np.sqrt(2 * np.pi)
AT_ONCE = 64  # people


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class EpsilonGreedy(Step):
    """Each place that is shown is given away with probability epsilon, to any item that has no place of its own.

    What stood at the places given away, and all candidates below the k shown, are drawn from alike, without repeats.

    Args:
        epsilon: above 0; at 1 all that is shown is drawn.
        keep: so many first places stay as they are, such as pinned ones.
        seed: of the lots; default: other ones each time.
    """

    name: ClassVar[str] = "epsilon-greedy"
    stage: ClassVar[Stage] = Stage.EXPLORE

    epsilon: Annotated[float, Field(gt=0, le=1)]
    keep: Annotated[int, Field(ge=0)] = 0
    seed: Annotated[int, Field(ge=0)] | None = None

    def __call__(self, candidates: Candidates, known: Known) -> Candidates:
        """The same candidates in the order drawn, with probabilities."""
        rng = np.random.default_rng(self.seed)
        place, lengths = np.arange(candidates.rows.shape[1]), candidates.lengths[:, None]
        shown = place < np.minimum(known.k, lengths)
        given = shown & (place >= self.keep) & (rng.random(candidates.rows.shape) < self.epsilon)
        order = drawn(given, given | ((place < lengths) & ~shown), rng)
        chances = np.full(order.shape, np.nan)
        for length in np.unique(lengths):
            some = lengths[:, 0] == length
            chances[some, : known.k] = self._chances(order[some], int(length), known.k)[:, : known.k]
        return replace(candidates.reordered(_present(order, candidates)), probabilities=chances)

    def _chances(self, order: np.ndarray, length: int, k: int) -> np.ndarray:
        """float64 ``(B, K)`` of the item that came from position ``order[b, p]`` to place p."""
        k = min(k, length)
        free, below, epsilon = max(k - self.keep, 0), length - k, self.epsilon
        place = np.arange(order.shape[1])
        one = epsilon * mean_inverse(1 + below, free - 1, epsilon) if free else 0.0
        two = epsilon**2 * mean_inverse(2 + below, free - 2, epsilon) if free > 1 else 0.0
        chances = np.where(order == place, 1 - epsilon + one, np.where(order < k, two, one))
        return np.where(place < min(self.keep, k), 1.0, np.where(place < k, chances, np.nan))


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Thompson(Step):
    """Sorts by what the scores might be: each is drawn from a normal distribution around what it is (Thompson 1933).

    A place's score is the one as high up among the scores of the list, on the scale from 0 to 1 over the candidates,
    so that what steps before have put high is likely to stay high.

    Args:
        noise: standard deviation, above 0.
        keep: so many first places stay as they are, such as pinned ones.
        seed: of the lots; default: other ones each time.
    """

    name: ClassVar[str] = "thompson"
    stage: ClassVar[Stage] = Stage.EXPLORE

    noise: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    keep: Annotated[int, Field(ge=0)] = 0
    seed: Annotated[int, Field(ge=0)] | None = None

    def __call__(self, candidates: Candidates, known: Known) -> Candidates:
        """The same candidates in the order drawn, with probabilities."""
        rng = np.random.default_rng(self.seed)
        means = np.where(candidates.rows < 0, -np.inf, -np.sort(-relevance(candidates.scores), axis=1))
        guesses = means + self.noise * rng.standard_normal(means.shape)
        guesses[:, : self.keep] = np.inf
        order = np.argsort(-guesses, axis=1, kind="stable")
        chances = np.full(means.shape, np.nan)
        shown = min(known.k, means.shape[1])
        chances[:, : min(self.keep, shown)] = 1.0
        if shown > self.keep:
            scaled, moved = means[:, self.keep :] / self.noise, order[:, self.keep : shown] - self.keep
            chances[:, self.keep : shown] = place_probabilities(scaled, moved)
        explored = candidates.reordered(_present(order, candidates))
        return replace(explored, probabilities=np.where(explored.rows < 0, np.nan, chances))


def _present(order: np.ndarray, candidates: Candidates) -> list[np.ndarray]:
    """The positions of each order that hold an item."""
    return [one[one < length] for one, length in zip(order, candidates.lengths, strict=True)]


def drawn(given: np.ndarray, pool: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Positions in an order in which places given away hold what was drawn from the pool.

    Args:
        given: bool ``(B, K)`` places given away.
        pool: bool ``(B, K)`` positions that are drawn from, those of `given` among them.
        rng: draws.

    Returns:
        int64 ``(B, K)``; positions of the pool that were not drawn stand behind, in their order.
    """
    shuffled = np.argsort(np.where(pool, rng.random(pool.shape), 2.0), axis=1)
    person, place = np.nonzero(given)
    winner = shuffled[person, given.cumsum(axis=1)[person, place] - 1]
    key = np.where(pool, pool.shape[1], 0) + np.arange(pool.shape[1])
    key[person, winner] = place
    return np.argsort(key, axis=1, kind="stable")


def mean_inverse(base: int, tries: int, chance: float) -> float:
    """Mean of ``1 / (base + successes)`` over a binomial number of successes; `base` at least 1."""
    if chance == 1:
        return 1 / (base + tries)
    counts = np.arange(tries + 1)
    ways = np.append(0, np.cumsum(np.log(tries - counts[:-1]) - np.log(counts[1:])))  # of 1,030 on no float holds them
    likely = np.exp(ways + counts * np.log(chance) + (tries - counts) * np.log1p(-chance))
    return float((likely / (base + counts)).sum())


def place_probabilities(means: np.ndarray, order: np.ndarray) -> np.ndarray:
    """With which probability each item stands where it stands, if the list is sorted by normal draws.

    An item is at place p where exactly p - 1 of the others have drawn more: a sum of independent events, counted one
    after the other at each value that the item itself may have drawn.

    Args:
        means: float64 ``(B, K)`` in standard deviations, -inf for what is no item.
        order: int64 ``(B, k)`` the item at each of the first k places.

    Returns:
        float64 ``(B, k)``.
    """
    found = np.empty(order.shape)
    for start in range(0, len(means), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        found[part] = _place_probabilities(means[part], order[part])
    return found


def _place_probabilities(means: np.ndarray, order: np.ndarray) -> np.ndarray:
    own = np.take_along_axis(means, order, axis=1)
    values = np.where(np.isneginf(own), 0.0, own)[:, :, None] + NODES
    places = np.arange(order.shape[1])
    ahead = np.zeros((*values.shape, len(places)))  # how probable so many of the others are ahead
    ahead[..., 0] = 1
    reached = means.max(axis=0) > values.min() - NODES.max()  # the others are ahead of nobody
    for other in np.flatnonzero(reached):
        more = torch.special.ndtr(torch.from_numpy(means[:, other, None, None] - values)).numpy()
        more = np.where(order[:, :, None] == other, 0.0, more)[..., None]
        shifted = ahead[..., :-1] * more
        ahead *= 1 - more
        ahead[..., 1:] += shifted
    return np.einsum("bkzk,z->bk", ahead, WEIGHTS)
