"""The contrastive core, whatever is mixed, against float64 sums of one exponential at a time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from towers.contents import Contents
from towers.fusion import unit
from towers.history import Histories
from training.config import TrainConfig
from training.contrast import Asked, Contrast
from training.items import Items, ItemVectors
from training.mining import HardNegatives
from training.negatives import Correction, Known, Negatives
from training.ranks import Ranks

DIMENSION = 4


@dataclass
class Case:
    """A step's queries, the catalog, and where its negatives come from."""

    queries: Tensor
    vectors: Tensor
    scale: float
    targets: Tensor
    owner: Tensor
    weights: Tensor
    people: np.ndarray
    past: Histories
    unmet: Tensor
    counts: np.ndarray
    hard: Tensor
    kept: list[tuple[Tensor, Tensor]]

    @classmethod
    def draw(cls, seed: int, items: int, queries: int, hard: int, interests: int = 1) -> Case:
        """With several interests a query is as many vectors, with one it is one."""
        rng = np.random.default_rng(seed)
        people = rng.permutation(5)[: rng.integers(2, 5)]  # who is alone has uniform negatives, which here may be none
        past = Histories.of([rng.integers(items, size=rng.integers(0, 5)).tolist() for _ in range(5)])
        targets = torch.from_numpy(rng.integers(items, size=queries))
        unmet = torch.from_numpy(rng.random(items) < 0.2)
        unmet[targets] = False
        known = [set(past.take([person]).items.tolist()) for person in range(5)]
        lists = torch.full((5, hard), -1)
        for person in range(5):
            free = [n for n in rng.permutation(items) if n not in known[person] and not unmet[n]][:hard]
            lists[person, : len(free)] = torch.tensor(free, dtype=torch.int64)
        kept = [(torch.from_numpy(rng.integers(items, size=n)), _units(rng, n)) for n in rng.integers(1, 4, size=2)]
        owner = torch.from_numpy(rng.integers(len(people), size=queries))
        weights = torch.from_numpy(rng.exponential(size=queries).astype(np.float32))
        shape = (queries, interests, DIMENSION) if interests > 1 else (queries, DIMENSION)
        return cls(
            _units(rng, queries * interests).reshape(shape), _units(rng, items), float(rng.uniform(0.5, 20)),
            targets, owner, weights, people, past, unmet, rng.integers(1, 30, items), lists, kept,
        )  # fmt: skip

    def negatives(self, uniform: int, popular: int, memory: int) -> Negatives:
        """The sampler after two steps, whose vectors were others."""
        negatives = Negatives(self.counts / self.counts.sum(), uniform, popular=popular, memory=memory)
        for items, vectors in self.kept:
            negatives.memory.keep(items, vectors)
        return negatives

    def ours(self, negatives: Negatives | None, correction: Correction, part: int, processes: int = 1) -> list[Tensor]:
        """Loss, and its gradients for queries, items and scale; of several processes the mean of theirs."""
        leaves = [t.clone().requires_grad_() for t in (self.queries, self.vectors, torch.tensor(self.scale).double())]
        queries, catalog, scale = leaves
        items = Items(Contents({}, {}), torch.arange(len(self.vectors)), self.unmet)
        hard = HardNegatives(5, self.hard.shape[1]) if negatives is not None and self.hard.shape[1] else None
        if hard is not None:
            hard.lists = self.hard
        sample = None
        if negatives is not None:
            sample = negatives.draw(self.targets, len(self.people), torch.Generator().manual_seed(1))
        losses = []
        for ranks in (Ranks(rank, processes) for rank in range(processes)):
            contrast = Contrast(items, Known(self.past, len(catalog)), hard, _config(correction, part), ranks)
            asked = Asked(self.targets, self.people, self.owner, self.weights, sample, ranks.share(len(queries)))
            losses.append(contrast(queries[asked.own], ItemVectors(lambda *_: catalog, items, None), asked, scale))
        loss = torch.stack(losses).mean()
        loss.backward()
        return [loss.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]

    def brute_force(self, negatives: Negatives | None, correction: Correction) -> list[Tensor]:
        """The same, one exponential at a time."""
        leaves = [t.clone().requires_grad_() for t in (self.queries, self.vectors, torch.tensor(self.scale).double())]
        queries, catalog, scale = leaves
        weights, expected, vectors = self._weights(negatives, catalog, correction)
        total = 0 * sum(leaf.sum() for leaf in leaves)
        each = zip(queries, self.targets.tolist(), self.owner.tolist(), self.weights.tolist(), strict=True)
        for query, target, owner, counts in each:
            person = self.people[owner]
            barred = {target, *self.past.take([person]).items.tolist(), *self.unmet.nonzero()[:, 0].tolist()}
            own = [n for n in self.hard[person].tolist() if n >= 0 and n != target] if negatives is not None else []
            positive = (scale * (query @ catalog[target])).exp().sum()
            if correction == "standard":
                positive = positive / expected[target]
            rest = sum(((scale * (query @ catalog[n])).exp().sum() for n in own), start=0 * positive)
            for item, weight in weights.items():
                if item not in barred and item not in own:
                    weight = 1.0 if correction == "none" else weight
                    rest = rest + weight * (scale * (query @ vectors[item])).exp().sum()
            total = total - counts * (positive / (positive + rest)).log() / len(queries)
        total.backward()
        return [total.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]

    def _weights(
        self, negatives: Negatives | None, catalog: Tensor, correction: Correction
    ) -> tuple[dict, list[float], dict]:
        """Of each candidate (times drawn / expected); times expected of every item; the candidates' vectors."""
        count = len(catalog)
        if negatives is None:
            return dict.fromkeys(range(count), 1.0), [], dict(enumerate(catalog))
        sources = negatives.sources(self.targets, torch.Generator().manual_seed(1))
        kept = negatives.memory.items.tolist()
        today = Counter(torch.cat(sources).tolist())
        share, smoothed = self.counts / self.counts.sum(), self.counts**0.75 / (self.counts**0.75).sum()
        targets, uniform, popular = (len(source) for source in sources)
        others = targets * (len(self.people) - 1) / len(self.people)
        expected = [(others + len(kept)) * share[n] + uniform / count + popular * smoothed[n] for n in range(count)]
        stale = {item: negatives.memory.vectors[row] for row, item in enumerate(kept)}  # the newest comes last
        missed = [(1 - share[n]) ** others * (1 - smoothed[n]) ** popular * (1 - 1 / count) ** uniform for n in today]
        with_gradient = [expected[n] - len(kept) * share[n] * miss for n, miss in zip(today, missed, strict=True)]
        vectors = stale | {item: catalog[item] for item in today}
        if correction != "none":
            for item, found in zip(today, with_gradient, strict=True):
                times = expected[item] / found
                vectors[item] = times * catalog[item] - (times - 1) * catalog[item].detach()
        drawn = today + Counter(kept)
        return {item: times / expected[item] for item, times in drawn.items()}, expected, vectors


def _config(correction: Correction, part: int) -> TrainConfig:
    return TrainConfig(correction=correction, part=part)


def _units(rng: np.random.Generator, count: int) -> Tensor:
    return unit(torch.from_numpy(rng.normal(size=(count, DIMENSION))))


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    items=st.integers(2, 12),
    queries=st.integers(1, 8),
    uniform=st.integers(0, 6),
    popular=st.integers(0, 6),
    memory=st.integers(0, 5),
    hard=st.integers(0, 4),
    correction=st.sampled_from(["refined", "standard", "none"]),
    part=st.sampled_from([1, 2, 100]),
    interests=st.sampled_from([1, 1, 2, 3]),
    processes=st.sampled_from([1, 1, 2, 3]),
)
def test_every_mixture_against_brute_force(
    seed: int,
    items: int,
    queries: int,
    uniform: int,
    popular: int,
    memory: int,
    hard: int,
    correction: Correction,
    part: int,
    interests: int,
    processes: int,
) -> None:
    """In-batch, uniform, popular, kept, hard and other processes' negatives, with duplicates, known positives and
    accidental hits; shares of a batch are uneven, and may be empty."""
    case = Case.draw(seed, items, queries, hard, interests)
    ours = case.ours(case.negatives(uniform, popular, memory), correction, part, processes)
    reference = case.brute_force(case.negatives(uniform, popular, memory), correction)
    for mine, theirs in zip(ours, reference, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    items=st.integers(2, 12),
    queries=st.integers(1, 8),
    part=st.sampled_from([1, 100]),
    interests=st.sampled_from([1, 2]),
)
def test_the_full_softmax_against_brute_force(seed: int, items: int, queries: int, part: int, interests: int) -> None:
    case = Case.draw(seed, items, queries, 0, interests)
    for mine, theirs in zip(case.ours(None, "refined", part), case.brute_force(None, "refined"), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("memory", [0, 300])
def test_the_refined_form_has_the_gradient_of_the_full_softmax(memory: int) -> None:
    """In the mean of 600 draws, on a catalog of ten whose popular items have the high logits; the memory holds the
    vectors that items still have, so that only its lack of gradients could tell."""
    rng = np.random.default_rng(0)
    counts = np.array([400, 200, 100, 50, 20, 10, 5, 5, 5, 5])
    vectors, query = _units(rng, 10), _units(rng, 1)
    vectors = unit(vectors + query * torch.linspace(1.5, 0, 10)[:, None])
    share = torch.from_numpy(counts / counts.sum())
    target = torch.tensor([0, 4, 9])
    case = Case(
        query.expand(3, -1), vectors, 4.0, target, torch.zeros(3, dtype=torch.int64), torch.ones(3), np.array([0]),
        Histories.of([[]] * 5), torch.zeros(10, dtype=torch.bool), counts, torch.empty(5, 0, dtype=torch.int64), [],
    )  # fmt: skip
    full = case.ours(None, "refined", 100)[2]
    generator = torch.Generator().manual_seed(0)
    found: dict[str, Tensor] = {}
    for correction in ("refined", "standard", "none"):
        total = torch.zeros_like(full)
        for _ in range(600):
            batch = torch.multinomial(share, 120, replacement=True, generator=generator)
            kept = torch.multinomial(share, memory, replacement=True, generator=generator) if memory else None
            total += _gradient(case, batch, correction, generator, kept)
        found[correction] = (total / 600 - full).norm() / full.norm()
    assert found["refined"] < 0.05
    assert found["standard"] > 2 * found["refined"]
    assert found["none"] > 2 * found["refined"]


def _gradient(
    case: Case, batch: Tensor, correction: Correction, generator: torch.Generator, kept: Tensor | None
) -> Tensor:
    """For the items, of three queries beside a batch of others and what is kept of batches before."""
    catalog = case.vectors.clone().requires_grad_()
    items = Items(Contents({}, {}), torch.arange(len(catalog)), case.unmet)
    negatives = Negatives(case.counts / case.counts.sum(), 4, memory=0 if kept is None else len(kept))
    if kept is not None:
        negatives.memory.keep(kept, case.vectors[kept])
    contrast = Contrast(items, Known(case.past, len(catalog)), None, _config(correction, 100), Ranks())
    sample = negatives.draw(batch, 10**9, generator)  # who asks is none of those whose targets these are
    sample = replace(sample, targets_log_weight=-negatives._expected(case.targets, len(batch)).log())
    asked = Asked(case.targets, case.people, case.owner, torch.ones(3), sample, slice(None))
    scale = torch.tensor(case.scale).double()
    contrast(case.queries, ItemVectors(lambda *_: catalog, items, None), asked, scale).backward()
    assert catalog.grad is not None
    return catalog.grad
