"""From an encoder's space into the space of items and queries."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from towers.fusion import unit

Normalise = Literal["centre", "whiten", "none"]

SHRINKAGE = 0.1  # of the variances toward their mean, so that whitening does not blow up noise


class Normaliser(nn.Module):
    """Unit vectors, without what they share, rescaled so that their entries have variance one.

    Args:
        length: C of a vector.
        normalise: ``centre`` removes the mean, ``whiten`` also makes all directions vary alike, ``none`` leaves unit
            vectors as they are.
    """

    centre: Tensor
    scale: Tensor
    whitener: Tensor

    def __init__(self, length: int, normalise: Normalise = "centre") -> None:
        super().__init__()
        self.normalise = normalise
        self.register_buffer("centre", torch.zeros(length))
        self.register_buffer("scale", torch.ones(()))
        if normalise == "whiten":
            self.register_buffer("whitener", torch.eye(length))

    def fit_centre(self, contents: Float[Tensor, "n c"], present: Bool[Tensor, " n"]) -> None:
        """Learn the mean that is removed from content vectors of unit norm, and what scales the rest to variance one.

        Vectors of one encoder share one large direction; without it they rank far better (Mu and Viswanath,
        "All-but-the-top", ICLR 2018).
        """
        if not present.any():
            return
        known = unit(contents[present])
        if self.normalise != "none":
            self.centre.copy_(known.mean(0))
        if self.normalise == "whiten":
            self.whitener.copy_(_whitener(known - self.centre))
        norm = self._spread(known).norm(dim=-1).mean()
        self.scale.copy_(math.sqrt(known.shape[1]) / norm.clamp(min=1e-6))

    def normalised(self, contents: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        """The same vectors normalised."""
        return self._spread(unit(contents)) * self.scale

    def _spread(self, units: Tensor) -> Tensor:
        centred = units - self.centre
        return centred @ self.whitener if self.normalise == "whiten" else centred


class ContentProjection(Normaliser):
    """Unit vectors, their mean removed and rescaled, through one hidden layer.

    The item tower and the text reader have one each, of one shape, so that the reader can begin as a copy of the
    item side: both sides then start from one.

    At first, what differs between contents must outweigh what they share, or all items begin in one direction, all
    queries follow, and training may never leave it: so the entries going in have variance one, as the layer's first
    weights expect, and the last weights cancel what all hidden units have in common.

    Args:
        content: length C of a content vector.
        hidden: width of the hidden layer.
        dimension: length D of the result.
        dropout: in the hidden layer.
        normalise: what is done before: ``centre`` removes the mean, ``whiten`` also makes all directions vary alike,
            ``none`` leaves unit vectors as they are.
    """

    def __init__(
        self, *, content: int, hidden: int, dimension: int, dropout: float, normalise: Normalise = "centre"
    ) -> None:
        super().__init__(content, normalise)
        last = nn.Linear(hidden, dimension)
        self.layers = nn.Sequential(nn.Linear(content, hidden), nn.GELU(), nn.Dropout(dropout), last)
        with torch.no_grad():
            last.weight -= last.weight.mean(1, keepdim=True)
            last.bias.zero_()

    def forward(self, contents: Float[Tensor, "*b c"]) -> Float[Tensor, "*b d"]:
        """Project content vectors; the result is not scaled to unit norm."""
        return self.layers(self.normalised(contents))


class NamedProjection(ContentProjection):
    """Of an encoder's vector and the names it gives (`towers.encoders.named`): the vector by layers of its own, the
    names by those of texts, so that what is learned of texts holds for what nobody has described.

    Args:
        content: length C + T of both.
        texts: the projection of texts, of length T; shared, and no part of these weights.
        sizes: as for any content.
    """

    def __init__(self, *, content: int, texts: ContentProjection, **sizes: Any) -> None:
        length = len(texts.centre)
        super().__init__(content=content - length, **sizes)
        self.names = Normaliser(length)
        self._texts = (texts,)  # a tuple, so that its weights are not listed twice

    def fit_centre(self, contents: Float[Tensor, "n c"], present: Bool[Tensor, " n"]) -> None:
        """Learn what is removed from vectors and from names; see `Normaliser`."""
        own, names = self._split(contents)
        super().fit_centre(own, present)
        self.names.fit_centre(names, present)

    def forward(self, contents: Float[Tensor, "*b c"]) -> Float[Tensor, "*b d"]:
        """Project content vectors; the result is not scaled to unit norm."""
        own, names = self._split(contents)
        return super().forward(own) + self._texts[0].layers(self.names.normalised(names))

    def _split(self, contents: Tensor) -> tuple[Tensor, Tensor]:
        return contents[..., : len(self.centre)], contents[..., len(self.centre) :]


def _whitener(centred: Float[Tensor, "n c"]) -> Float[Tensor, "c c"]:
    """The symmetric map (ZCA) after which all directions vary alike, as far as `SHRINKAGE` lets it."""
    covariance = centred.double().T @ centred.double() / len(centred)
    values, directions = torch.linalg.eigh(covariance)
    values = (1 - SHRINKAGE) * values + SHRINKAGE * values.mean()
    return ((directions * values.clamp(min=1e-12).rsqrt()) @ directions.T).to(centred.dtype)
