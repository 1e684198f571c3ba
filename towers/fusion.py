"""Masked fusion: several vectors of one thing become one, any of them may be missing."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F


def unit(vectors: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
    """Scale vectors to length one; similarity everywhere is the inner product of these."""
    return F.normalize(vectors, dim=-1)


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
        total: Tensor | None = None
        for name, (vectors, mask) in parts.items():
            part = self.gate(name) * vectors
            if mask is not None:
                part = torch.where(mask[..., None], part, torch.zeros((), dtype=part.dtype, device=part.device))
            total = part if total is None else total + part
        if total is None:
            raise ValueError("fusion of no parts at all")
        return unit(total)


def _inverse_softplus(gate: float) -> Tensor:
    return torch.tensor(gate).expm1().log()
