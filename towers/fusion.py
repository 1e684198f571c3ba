"""Masked fusion: several vectors of one thing become one, any of them may be missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F


def unit(vectors: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
    """Scale vectors to length one; similarity everywhere is the inner product of these."""
    return F.normalize(vectors, dim=-1)


def added(parts: Mapping[str, Float[Tensor, "*b d"]]) -> Float[Tensor, "*b d"]:
    """The sum of parts, in their order."""
    if not parts:
        raise ValueError("fusion of no parts at all")
    return reduce(add, parts.values())


class MaskedFusion(nn.Module):
    """Gated sum over the parts that are there, scaled to unit norm.

    ``unit(sum over present m of softplus(g_m) x_m)``: a missing part leaves the sum, it is not a zero
    vector that looks like content.

    Args:
        parts: name of each part and the gate it starts with, such as ``{"id": 1.0, "text": 1.0}``.
    """

    def __init__(self, parts: Mapping[str, float]) -> None:
        super().__init__()
        self.gates = nn.ParameterDict({name: nn.Parameter(_inverse_softplus(gate)) for name, gate in parts.items()})

    def gate(self, name: str) -> Float[Tensor, ""]:
        """How much a part counts."""
        return F.softplus(self.gates[name])

    def set_gate(self, name: str, gate: float) -> None:
        """Let a part count for `gate`, above 0."""
        with torch.no_grad():
            self.gates[name].copy_(_inverse_softplus(gate))

    def forward(
        self, parts: Mapping[str, tuple[Float[Tensor, "*b d"], Bool[Tensor, "*b"] | None]]
    ) -> Float[Tensor, "*b d"]:
        """Fuse.

        Args:
            parts: name → vectors ``(…, d)`` and mask ``(…)`` of where they are present; None: everywhere.
                Names may be left out. Where nothing is present the result is the zero vector, which
                `present` tells apart.
        """
        return unit(added(self.weighted(parts)))

    def weighted(
        self, parts: Mapping[str, tuple[Float[Tensor, "*b d"], Bool[Tensor, "*b"] | None]]
    ) -> dict[str, Float[Tensor, "*b d"]]:
        """What each part adds to the sum, before it is scaled; zero where the part is missing."""
        found = {}
        for name, (vectors, mask) in parts.items():
            part = self.gate(name) * vectors
            if mask is not None:
                part = torch.where(mask[..., None], part, torch.zeros((), dtype=part.dtype, device=part.device))
            found[name] = part
        return found


class MeanFusion(nn.Module):
    """The mean of the parts that are there, scaled to unit norm: all count alike, nothing is learned."""

    def forward(
        self, parts: Mapping[str, tuple[Float[Tensor, "*b d"], Bool[Tensor, "*b"] | None]]
    ) -> Float[Tensor, "*b d"]:
        """Fuse; see `MaskedFusion.forward`."""
        return unit(self._weighted(parts).sum(-2))

    def weighted(
        self, parts: Mapping[str, tuple[Float[Tensor, "*b d"], Bool[Tensor, "*b"] | None]]
    ) -> dict[str, Float[Tensor, "*b d"]]:
        """See `MaskedFusion.weighted`."""
        return dict(zip(parts, self._weighted(parts).unbind(-2), strict=True))

    def _weighted(self, parts: Mapping[str, tuple[Tensor, Tensor | None]]) -> Tensor:
        stacked, present = _stack(parts)
        return stacked * present[..., None]


class AttentionFusion(nn.Module):
    """A sum over the parts that are there, weighted anew for each item, scaled to unit norm.

    Each part, with a vector that tells which it is, is scored by one learned question; the weights are the softmax of
    the scores over the parts that are there.

    Args:
        parts: names of the parts.
        dimension: length d.
    """

    def __init__(self, parts: Sequence[str], dimension: int) -> None:
        super().__init__()
        self.kinds = nn.ParameterDict({name: nn.Parameter(torch.zeros(dimension)) for name in parts})
        self.key = nn.Linear(dimension, dimension)
        self.question = nn.Parameter(torch.zeros(dimension))

    def forward(
        self, parts: Mapping[str, tuple[Float[Tensor, "*b d"], Bool[Tensor, "*b"] | None]]
    ) -> Float[Tensor, "*b d"]:
        """Fuse; see `MaskedFusion.forward`."""
        return unit(self._weighted(parts).sum(-2))

    def weighted(
        self, parts: Mapping[str, tuple[Float[Tensor, "*b d"], Bool[Tensor, "*b"] | None]]
    ) -> dict[str, Float[Tensor, "*b d"]]:
        """See `MaskedFusion.weighted`; the weights are those of all parts together."""
        return dict(zip(parts, self._weighted(parts).unbind(-2), strict=True))

    def _weighted(self, parts: Mapping[str, tuple[Tensor, Tensor | None]]) -> Tensor:
        stacked, present = _stack(parts)
        kinds = torch.stack([self.kinds[name] for name in parts])
        scores = torch.tanh(self.key(unit(stacked) + kinds)) @ self.question
        weights = scores.masked_fill(~present, -1e4).softmax(-1)  # not -inf: where nothing is there it gives NaN
        weights = torch.where(present, weights, 0.0)
        return stacked * weights[..., None]


def _stack(parts: Mapping[str, tuple[Tensor, Tensor | None]]) -> tuple[Tensor, Tensor]:
    """Parts side by side ``(…, m, d)``, zero where one is missing, and where they are there ``(…, m)``."""
    if not parts:
        raise ValueError("fusion of no parts at all")
    masks = [
        torch.ones_like(vectors[..., 0], dtype=torch.bool) if mask is None else mask for vectors, mask in parts.values()
    ]
    present = torch.stack(masks, -1)
    stacked = torch.stack([vectors for vectors, _ in parts.values()], -2)
    return torch.where(present[..., None], stacked, torch.zeros((), dtype=stacked.dtype)), present


def _inverse_softplus(gate: float) -> Tensor:
    return torch.tensor(gate).expm1().log()
