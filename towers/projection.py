"""From the text encoder's space into the space of items and queries."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from towers.fusion import unit


class TextProjection(nn.Module):
    """Unit vectors, their mean removed and rescaled, through one hidden layer.

    The item tower and the text reader have one each, of one shape, so that the reader can begin as a copy of the
    item side: both sides then start from one.

    Args:
        text_dimension: length C of a text vector.
        hidden: width of the hidden layer.
        dimension: length D of the result.
        dropout: in the hidden layer.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, *, text_dimension: int, hidden: int, dimension: int, dropout: float) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(text_dimension))
        self.register_buffer("scale", torch.ones(()))
        self.layers = nn.Sequential(
            nn.Linear(text_dimension, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dimension)
        )

    def fit_centre(self, texts: Float[Tensor, "n c"], present: Bool[Tensor, " n"]) -> None:
        """Learn the mean that is removed from text vectors of unit norm, and the scale of what is left.

        Sentence vectors share one large direction; without it they rank far better.
        """
        if not present.any():
            return
        known = unit(texts[present])
        self.centre.copy_(known.mean(0))
        norm = (known - self.centre).norm(dim=-1).mean()
        self.scale.copy_(1 / norm.clamp(min=1e-6))

    def forward(self, texts: Float[Tensor, "*b c"]) -> Float[Tensor, "*b d"]:
        """Project text vectors; the result is not scaled to unit norm."""
        return self.layers((unit(texts) - self.centre) * self.scale)
