"""Several losses as one: with fixed weights, or by how uncertain each task is."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn


class FixedWeights(nn.Module):
    """The weighted sum.

    Args:
        weights: by name; 1 for a loss that is not there.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        self._weights = dict(weights)

    def forward(self, losses: Mapping[str, Tensor], total: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """`total` and the losses."""
        for name, loss in losses.items():
            total = total + self._weights.get(name, 1.0) * loss
        return total

    def figures(self, names: Collection[str]) -> dict[str, float]:
        """Nothing that changes."""
        return {}


class UncertaintyWeights(nn.Module):
    """The negative log-likelihood with one learned variance a loss (arXiv 1705.07115, equations 7 and 10).

    ``sum_i k_i exp(-s_i) L_i + s_i / 2`` with the log-variances s, and k = 1/2 for squared errors, 1 for
    cross-entropies: what is hard to tell counts less. At its best a loss counts ``1 / (2 L)``, whatever its kind.

    Args:
        names: of all losses that a training may have.
        squared: those that are squared errors.
    """

    def __init__(self, names: Collection[str], squared: Collection[str]) -> None:
        super().__init__()
        self.log_variances = nn.ParameterDict({name: nn.Parameter(torch.zeros(())) for name in names})
        self._factors = {name: 0.5 if name in squared else 1.0 for name in names}

    def forward(self, losses: Mapping[str, Tensor], total: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """`total` and the losses; a loss that a step does not have leaves its variance alone."""
        for name, loss in losses.items():
            log_variance = self.log_variances[name]
            total = total + self._factors[name] * (-log_variance).exp() * loss + log_variance / 2
        return total

    def figures(self, names: Collection[str]) -> dict[str, float]:
        """What the losses of these names count now, under ``weight/NAME``."""
        return {
            f"weight/{name}": self._factors[name] * float((-value.detach()).exp())
            for name, value in self.log_variances.items()
            if name in names
        }
