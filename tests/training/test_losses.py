"""The loss against numbers done by hand; all that is mixed in it is in test_contrast."""

from __future__ import annotations

import math

import pytest
import torch

from towers.fusion import unit
from training.losses import contrastive, softmax_loss


def test_by_hand() -> None:
    # exp: 3 against 1 + 2, then 1 against 4 alone as the other negative is taken out
    positive = torch.tensor([3.0, 1.0]).log()
    negatives = torch.tensor([[1.0, 2.0], [4.0, 0.0]]).log().logsumexp(1)
    assert softmax_loss(positive, negatives).mean().item() == pytest.approx((math.log(6 / 3) + math.log(5 / 1)) / 2)


def test_scale_multiplies_the_cosine() -> None:
    items = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    own = torch.tensor([[True, False, False]])
    loss = contrastive(items[:1], items[:1], items, scale=torch.tensor(2.0), left_out=own)
    assert loss.item() == pytest.approx(math.log((math.exp(2) + math.exp(0) + math.exp(1.2)) / math.exp(2)))


def test_a_correction_is_added_after_the_scale() -> None:
    items = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    none, weight = torch.zeros(1, 2, dtype=torch.bool), torch.tensor([3.0, 0.5]).log()
    sample = {"scale": torch.tensor(2.0), "left_out": none, "log_weight": weight}
    rest = 3 * math.exp(0) + 0.5 * math.exp(1.2)
    refined = contrastive(items[:1], items[:1], items[1:], **sample)
    assert refined.item() == pytest.approx(math.log((math.exp(2) + rest) / math.exp(2)))
    standard = contrastive(items[:1], items[:1], items[1:], **sample, positive_log_weight=torch.tensor([0.25]).log())
    assert standard.item() == pytest.approx(math.log((math.exp(2) / 4 + rest) / (math.exp(2) / 4)))


def test_negatives_of_ones_own_count_once_each() -> None:
    items = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    none = torch.zeros(1, 1, dtype=torch.bool)
    more = {"own": items[None, [2, 0]], "own_left_out": torch.tensor([[False, True]])}
    loss = contrastive(items[:1], items[:1], items[1:2], scale=torch.tensor(2.0), left_out=none, **more)
    assert loss.item() == pytest.approx(math.log((math.exp(2) + math.exp(0) + math.exp(1.2)) / math.exp(2)))


def test_several_interests_by_hand() -> None:
    """Each item counts by the sum over both, and so do negatives of one's own."""
    items = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    queries, none = items[None, :2], torch.zeros(1, 1, dtype=torch.bool)
    more = {"own": items[None, 2:], "own_left_out": none}
    loss = contrastive(queries, items[:1], items[1:2], scale=torch.tensor(2.0), left_out=none, **more)
    positive, other, own = math.exp(2) + math.exp(0), math.exp(0) + math.exp(2), math.exp(1.2) + math.exp(1.6)
    assert loss.item() == pytest.approx(math.log((positive + other + own) / positive))


def test_nothing_to_tell_apart_costs_nothing_and_has_no_gradient() -> None:
    """Somebody who knows the whole catalog must not make the step NaN."""
    queries, items = unit(torch.randn(1, 4)).requires_grad_(), unit(torch.randn(3, 4))
    everything = torch.ones(1, 3, dtype=torch.bool)
    loss = contrastive(queries, items[1:2], items, scale=torch.tensor(10.0), left_out=everything)
    loss.backward()
    assert loss.item() == 0
    assert queries.grad is not None
    assert queries.grad.tolist() == [[0.0] * 4]


def test_gradcheck() -> None:
    generator = torch.Generator().manual_seed(0)
    positive, negatives = (torch.randn(3, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(2))
    assert torch.autograd.gradcheck(softmax_loss, (positive, negatives))
