"""The loss against numbers done by hand, a brute-force float64 version, and the full catalog in expectation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from towers.fusion import unit
from training.losses import full_softmax, sampled_softmax, softmax_loss
from training.sampling import Negatives


def test_by_hand() -> None:
    # exp: 3 against 1 + 2, then 1 against 4 alone as the other negative is taken out
    positive = torch.tensor([3.0, 1.0]).log()
    negatives = torch.tensor([[1.0, 2.0], [4.0, 0.0]]).log()
    assert softmax_loss(positive, negatives).mean().item() == pytest.approx((math.log(6 / 3) + math.log(5 / 1)) / 2)


def test_scale_multiplies_the_cosine() -> None:
    items = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    none = torch.zeros(1, 3, dtype=torch.bool)
    loss = full_softmax(items[:1], items, torch.tensor([0]), scale=torch.tensor(2.0), known=none)
    assert loss.item() == pytest.approx(math.log((math.exp(2) + math.exp(0) + math.exp(1.2)) / math.exp(2)))


def test_a_correction_is_added_after_the_scale() -> None:
    items = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    loss = sampled_softmax(
        items[:1],
        items,
        torch.tensor([0]),
        scale=torch.tensor(2.0),
        candidates=torch.tensor([1, 2]),
        log_weight=torch.tensor([3.0, 0.5]).log(),
        known=torch.zeros(1, 2, dtype=torch.bool),
    )
    rest = 3 * math.exp(0) + 0.5 * math.exp(1.2)
    assert loss.item() == pytest.approx(math.log((math.exp(2) + rest) / math.exp(2)))


def test_nothing_to_tell_apart_costs_nothing_and_has_no_gradient() -> None:
    """Somebody who knows the whole catalog must not make the step NaN."""
    queries = unit(torch.randn(1, 4)).requires_grad_()
    loss = full_softmax(
        queries,
        unit(torch.randn(3, 4)),
        torch.tensor([1]),
        scale=torch.tensor(10.0),
        known=torch.ones(1, 3, dtype=torch.bool),
    )
    loss.backward()
    assert loss.item() == 0
    assert queries.grad is not None
    assert queries.grad.tolist() == [[0.0] * 4]


def test_gradcheck() -> None:
    generator = torch.Generator().manual_seed(0)
    positive = torch.randn(3, dtype=torch.float64, generator=generator).requires_grad_()
    negatives = torch.randn(3, 5, dtype=torch.float64, generator=generator).requires_grad_()
    assert torch.autograd.gradcheck(softmax_loss, (positive, negatives))


@settings(max_examples=60, deadline=None)
@given(
    people=st.integers(1, 6),
    count=st.integers(1, 9),
    scale=st.floats(0.5, 30),
    seed=st.integers(0, 2**20),
    full=st.booleans(),
)
def test_against_brute_force(people: int, count: int, scale: float, seed: int, full: bool) -> None:
    """Value and gradients; targets may repeat, be known, and stand among the candidates."""
    rng = np.random.default_rng(seed)
    queries, items = (unit(torch.from_numpy(rng.normal(size=(n, 5)))) for n in (people, count))
    targets = rng.integers(count, size=people)
    chosen = np.arange(count) if full else np.flatnonzero(rng.random(count) < 0.6)
    known = rng.random((people, len(chosen))) < 0.3
    weight = np.ones(len(chosen)) if full else rng.uniform(0.2, 5, len(chosen))

    leaves = [t.clone().requires_grad_() for t in (queries, items, torch.tensor(scale, dtype=torch.float64))]
    expected = brute_force(*leaves, targets=targets, candidates=chosen, weight=weight, known=known)
    expected.backward()

    ours = [t.float().clone().requires_grad_() for t in (queries, items, torch.tensor(scale))]
    mask = torch.from_numpy(known)
    if full:
        loss = full_softmax(ours[0], ours[1], torch.from_numpy(targets), scale=ours[2], known=mask)
    else:
        loss = sampled_softmax(
            ours[0],
            ours[1],
            torch.from_numpy(targets),
            scale=ours[2],
            candidates=torch.from_numpy(chosen),
            log_weight=torch.from_numpy(weight).log().float(),
            known=mask,
        )
    loss = loss.mean()
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-4)
    for mine, reference in zip(ours, leaves, strict=True):
        assert mine.grad is not None
        torch.testing.assert_close(mine.grad.double(), reference.grad, rtol=1e-3, atol=1e-3)


def brute_force(
    queries: Tensor,
    items: Tensor,
    scale: Tensor,
    *,
    targets: np.ndarray,
    candidates: np.ndarray,
    weight: np.ndarray,
    known: np.ndarray,
) -> Tensor:
    """One exponential at a time."""
    total = 0 * (queries.sum() + items.sum()) * scale
    for person, target in enumerate(targets):
        own = (scale * (queries[person] * items[target]).sum()).exp()
        rest = 0 * own
        for column, candidate in enumerate(candidates):
            if candidate != target and not known[person, column]:
                rest = rest + weight[column] * (scale * (queries[person] * items[candidate]).sum()).exp()
        total = total - (own / (own + rest)).log()
    return total / len(targets)


@pytest.mark.parametrize("uniform", [1, 6])
def test_sampled_sum_is_the_catalogs_sum_on_average(uniform: int) -> None:
    """The point of logQ: sum of w exp(s) over the sample estimates the sum of exp(s) over everything.

    Popular items have the high logits here, so that without a correction the estimate is far off.
    """
    counts = np.array([50, 25, 15, 5, 5])
    sizes = torch.tensor([2.0, 1.5, 0.0, -0.5, 1.0]).exp()
    negatives = Negatives(counts, uniform)
    generator = torch.Generator().manual_seed(0)
    share = torch.from_numpy(counts / counts.sum())
    estimates, uncorrected = [], []
    for _ in range(4000):
        targets = torch.multinomial(share, 4, replacement=True, generator=generator)
        candidates, log_weight = negatives.draw(targets, generator)
        estimates.append(float((log_weight.exp() * sizes[candidates]).sum()))
        uncorrected.append(float(sizes[candidates].sum()))
    error = np.std(estimates) / math.sqrt(len(estimates))
    assert error < 0.01 * sizes.sum().item()
    assert np.mean(estimates) == pytest.approx(sizes.sum().item(), abs=4 * error)
    assert abs(np.mean(uncorrected) - sizes.sum().item()) > 10 * error
