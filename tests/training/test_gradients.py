"""The norm of each loss's gradient, against what its own backward pass leaves."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from training.gradients import gradient_norms


def test_norms_are_those_of_a_backward_pass_each_and_leave_no_trace() -> None:
    """Also through what is computed again for its gradients, and for a weight that a loss does not know."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2), nn.Linear(2, 2))
    net[3].requires_grad_(False)
    hidden = checkpoint(net[:3], torch.randn(5, 3), use_reentrant=False)
    losses = {"loss": hidden.sum(), "square": hidden.square().mean(), "bias": 3 * net[2].bias.sum()}
    state = torch.get_rng_state()
    norms = gradient_norms(losses, net)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(weight.grad is None for weight in net.parameters())
    losses["square"].backward()
    square = math.sqrt(sum(float(weight.grad.square().sum()) for weight in net.parameters() if weight.grad is not None))
    assert norms == {"gradient/square": pytest.approx(square), "gradient/bias": pytest.approx(3 * math.sqrt(2))}


def test_of_several_processes_it_is_the_norm_of_the_mean() -> None:
    """Here of this process and one that has nobody; and of that one, whose loss knows no weight."""
    net = nn.Linear(2, 1)
    losses = {"one": net(torch.ones(1, 2)).sum(), "nobody": torch.zeros(())}
    shared = gradient_norms(losses, net, lambda gradient: gradient / 2)
    assert shared == {"gradient/one": pytest.approx(math.sqrt(3) / 2), "gradient/nobody": 0.0}
