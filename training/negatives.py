"""Negatives: what stands for the catalog in a step's denominators, how much each counts, and what is left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from towers.history import Histories

POPULARITY_POWER = 0.75  # of the popular ones: between uniform and the training frequency (arXiv 1310.4546)

Correction = Literal["refined", "standard", "none"]


@dataclass(frozen=True)
class Candidates:
    """A sample of the catalog, the same for every query of a step.

    Args:
        items: ``(M,)`` distinct catalog rows, ascending.
        log_weight: ``(M,)`` log of (times drawn / times expected): what makes the sample stand for the catalog.
        targets_log_weight: ``(P,)`` log of (1 / times expected) of each target.
        fresh: ``(M,)`` False where an item comes from the memory alone.
        kept: ``(S, D)`` the vectors of those, as the memory has them.
        raised: ``(M,)`` how many times the gradient of a negative's vector counts, as it gets none in a step where the
            memory alone has it; means nothing there; None where nothing is kept.
    """

    items: Int[Tensor, " m"]
    log_weight: Float[Tensor, " m"]
    targets_log_weight: Float[Tensor, " p"]
    fresh: Bool[Tensor, " m"]
    kept: Float[Tensor, "s d"]
    raised: Float[Tensor, " m"] | None


class Negatives:
    """Draws items from several sources at once, with the correction that fits what was drawn.

    The sources are the targets of the batch, uniform draws, draws by popularity, and the targets of steps before, with
    the vectors they had then (cross-batch memory: arXiv 1912.06798, for two towers arXiv 2110.15154). An item that
    comes from several of them is one candidate: it counts as often as it was drawn, and today's vector goes before a
    kept one. So the sum of ``weight * exp(logit)`` over what a person does not know estimates the catalog's without
    bias whatever is mixed, as in multiple importance sampling (balance heuristic: Veach and Guibas, SIGGRAPH 1995).
    Their own targets they know, so that it is the others' among which an item is expected. What kept vectors stand for
    has no gradient; `Candidates.raised` makes up for it, or else rare items are drawn to people and hardly pushed away.

    Targets are expected by how many a step has, not by how many steps have in the mean. Where people are asked equally
    often that is the same; where some are asked far more often it errs by two hundredths in steps of four people, by a
    half of one in steps of sixteen, and spares about half of the sum's noise.

    Args:
        shares: ``(N,)`` what share of others' targets each item is to who does not know it, as
            `training.sampling.shares_of_others` says.
        uniform: how many rows are drawn uniformly from the catalog in each step.
        popular: how many are drawn by their count to the power of `POPULARITY_POWER`.
        memory: how many targets of steps before are kept.
    """

    def __init__(self, shares: np.ndarray, uniform: int, *, popular: int = 0, memory: int = 0) -> None:
        smoothed = shares**POPULARITY_POWER
        self._share = torch.from_numpy(shares)
        self._popularity = torch.from_numpy(smoothed / (smoothed.sum() or 1))
        self._up_to = self._popularity.cumsum(0)
        self._uniform, self._popular = uniform, popular
        self.memory = Memory(memory)

    def draw(self, targets: Int[Tensor, " p"], people: int, generator: torch.Generator) -> Candidates:
        """What P targets of so many people and the other sources give."""
        others = len(targets) * (1 - 1 / people)
        today = torch.cat(self.sources(targets, generator))
        items, drawn = torch.cat([today, self.memory.items]).unique(return_counts=True)
        fresh = torch.isin(items, today)
        return Candidates(
            items,
            drawn.double().log() - self._expected(items, others).log(),
            -self._expected(targets.cpu(), others).log(),
            fresh,
            self.memory.vectors[self.memory.newest(items[~fresh])],
            self._raised(items, others) if len(self.memory.items) else None,
        )

    def sources(self, targets: Int[Tensor, " p"], generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """What is drawn today: the targets, uniform and popular ones, repeats and all."""
        uniform = torch.randint(len(self._share), (self._uniform,), generator=generator)
        at = torch.rand(self._popular, generator=generator, dtype=torch.float64) * self._up_to[-1]
        popular = torch.searchsorted(self._up_to, at, right=True).clamp(max=len(self._up_to) - 1)
        return targets.cpu(), uniform, popular

    def _expected(self, items: Tensor, others: float) -> Float[Tensor, " m"]:
        """How often an item is expected by who does not know it: ``(O + K) f + U / N + V g``.

        That is O targets of the others in the step and K kept ones, which are others' too, as nobody is met twice in an
        epoch, with its share f of others' targets; U uniform draws from N items; V draws with its share g of the
        popularity.
        """
        frequent = (others + len(self.memory.items)) * self._share[items] + self._popular * self._popularity[items]
        return frequent + self._uniform / len(self._share)

    def _raised(self, items: Tensor, others: float) -> Float[Tensor, " m"]:
        """One over the weight with which an item is expected among today's, ``(T + K f (1 - missed)) / (T + K f)``.

        T is how often it is expected today, K f how often among the kept ones, ``missed`` how likely it is not drawn,
        as if each target were drawn by itself.
        """
        kept, share = len(self.memory.items), self._share[items]
        missed = (1 - share).clamp(min=0) ** others * (1 - self._popularity[items]) ** self._popular
        missed = missed * (1 - 1 / len(self._share)) ** self._uniform
        expected = self._expected(items, others)
        return expected / (expected - kept * share * missed)


class Memory:
    """The targets of steps before and the vectors that they had then, the newest last; the oldest are forgotten.

    Args:
        size: how many are kept.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.items = torch.empty(0, dtype=torch.int64)
        self.vectors = torch.empty(0, 0)

    def keep(self, items: Int[Tensor, " p"], vectors: Float[Tensor, "p d"]) -> None:
        """Remember the targets of a step and their vectors."""
        if not self.size:
            return
        vectors = vectors.detach()
        before = self.vectors.to(vectors) if len(self.items) else vectors[:0]
        self.items = torch.cat([self.items, items.cpu()])[-self.size :]
        self.vectors = torch.cat([before, vectors])[-self.size :]

    def newest(self, items: Int[Tensor, " m"]) -> Int[Tensor, " m"]:
        """Where the newest vector of each of these items lies, all of which are there."""
        found, order = self.items.sort(stable=True)
        return order[torch.searchsorted(found, items, right=True) - 1]


class Known:
    """What each person is known to like, to keep it out of the negatives.

    Args:
        histories: training histories.
        count: number of items N.
    """

    def __init__(self, histories: Histories, count: int) -> None:
        self._count = count
        self._histories = Histories(histories.offsets, histories.items)  # without texts, which nobody takes here
        self._keys = torch.from_numpy(np.unique(histories.people * count + histories.items))

    def of_catalog(self, people: np.ndarray) -> Bool[Tensor, "b n"]:
        """bool ``(B, N)`` over the whole catalog."""
        past = self._histories.take(people)
        known = torch.zeros(len(people), self._count, dtype=torch.bool)
        known[torch.from_numpy(past.people), torch.from_numpy(past.items)] = True
        return known

    def of(self, people: np.ndarray, candidates: Int[Tensor, " m"]) -> Bool[Tensor, "b m"]:
        """bool ``(B, M)`` over `candidates`, in any order, repeats and all; no other matrix of that size is made."""
        past = self._histories.take(people)
        items, owner = torch.from_numpy(past.items), torch.from_numpy(past.people)
        ordered, place = candidates.cpu().sort()
        first = torch.searchsorted(ordered, items)
        often = torch.searchsorted(ordered, items, right=True) - first
        event = torch.arange(len(items)).repeat_interleave(often)
        repeat = torch.arange(len(event)) - (often.cumsum(0) - often)[event]
        known = torch.zeros(len(people), len(candidates), dtype=torch.bool)
        known[owner[event], place[first[event] + repeat]] = True
        return known

    def pairs(self, people: np.ndarray, items: Int[Tensor, " p"]) -> Bool[Tensor, " p"]:
        """Whether each of int64 ``(P,)`` people knows the item beside them."""
        wanted = torch.from_numpy(people) * self._count + items.cpu()
        if not len(self._keys):
            return torch.zeros(wanted.shape, dtype=torch.bool)
        found = torch.searchsorted(self._keys, wanted).clamp(max=len(self._keys) - 1)
        return self._keys[found] == wanted


def among(items: Int[Tensor, " m"], lists: Int[Tensor, "b h"]) -> Bool[Tensor, "b m"]:
    """Which of some items, ascending, stand in each list; -1 in a list stands for nothing."""
    place = torch.searchsorted(items, lists).clamp(max=len(items) - 1)
    place = torch.where(items[place] == lists, place, len(items))
    found = torch.zeros(len(lists), len(items) + 1, dtype=torch.bool, device=lists.device)
    return found.scatter_(1, place, True)[:, :-1]


def with_targets(
    barred: Bool[Tensor, "p m"], items: Int[Tensor, " m"], targets: Int[Tensor, " p"]
) -> Bool[Tensor, "p m"]:
    """What is barred already and, set in place, the target of each query among some items, ascending."""
    place = torch.searchsorted(items, targets).clamp(max=len(items) - 1)
    barred[torch.arange(len(targets), device=targets.device), place] |= items[place] == targets
    return barred
