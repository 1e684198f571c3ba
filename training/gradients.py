"""How hard each loss pulls: the norm of its gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn


def gradient_norms(
    losses: Mapping[str, Float[Tensor, ""]], module: nn.Module, mean: Callable[[Tensor], Tensor] | None = None
) -> dict[str, float]:
    """The norm of the gradient of each loss but ``"loss"``, their sum, under ``gradient/NAME``; unweighted.

    Each costs a backward pass, after which the graph is still there. Nothing is added to any ``.grad``, and no random
    number is drawn.

    Args:
        losses: by name.
        module: whose weights.
        mean: of a tensor over processes, where there are several; all of them must call.
    """
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    return {f"gradient/{name}": _norm(loss, weights, mean) for name, loss in losses.items() if name != "loss"}


def _norm(loss: Tensor, weights: list[nn.Parameter], mean: Callable[[Tensor], Tensor] | None) -> float:
    parts: list[Tensor | None] = [None] * len(weights)
    if loss.requires_grad:
        parts = list(torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True))
    if mean is not None:  # a process that has nobody to learn from has no part in some weights
        parts = [
            mean(torch.zeros_like(weight) if part is None else part)
            for weight, part in zip(weights, parts, strict=True)
        ]
    norms = [part.norm() for part in parts if part is not None]
    return float(torch.stack(norms).norm()) if norms else 0.0
