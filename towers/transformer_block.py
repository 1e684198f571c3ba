"""A transformer block that reads the past of each event: by attention and, where it is to, smoothed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

FILTERED = 0.7  # share of the filter beside attention, what BSARec has for Beauty
BEYOND = 0.25  # at first


class Looks(NamedTuple):
    """How much each event counts to each.

    Args:
        attention: what is added to the logits of attention: the bias of gaps, and what closes the future and padding.
        recent: weights of the newest events, see `newest_of`; None where nothing is smoothed.
    """

    attention: Float[Tensor, "b h t t"]
    recent: Float[Tensor, "b 1 t t"] | None

    def to(self, kind: torch.dtype) -> Looks:
        """The same in another precision."""
        return self.each(lambda part: part.to(kind))

    def each(self, change: Callable[[Tensor], Tensor]) -> Looks:
        """The same with both changed."""
        return Looks(change(self.attention), None if self.recent is None else change(self.recent))


def newest_of(
    seen: Bool[Tensor, "b 1 t t"], count: int, age: Float[Tensor, "#b 1 t t"] | None = None
) -> Float[Tensor, "b 1 t t"]:
    """Weights that make a mean of the newest events that each event sees.

    Args:
        seen: which events each event sees.
        count: how many of them at the most, at least 1.
        age: how old each is to each; it counts by ``exp(-age)``. None: all alike.
    """
    from_there_on = seen.int().flip(-1).cumsum(-1).flip(-1)
    weights = (seen & (from_there_on <= count)).float()
    if age is not None:
        weights = weights * torch.exp(-age)
    return weights / weights.sum(-1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)


class Block(nn.Module):
    """One pre-norm transformer block: attention, then a feed-forward layer four times as wide.

    Args:
        dimension: length D of vectors.
        heads: of attention.
        dropout: of what both layers add; half of it on attention's weights.
        smooths: whether the newest events are also read plainly (`smoothed`).
    """

    def __init__(self, dimension: int, heads: int, dropout: float, *, smooths: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(dimension)
        self.norm_feed = nn.LayerNorm(dimension)
        self.project = nn.Linear(dimension, 3 * dimension)
        self.join = nn.Linear(dimension, dimension)
        self.feed = nn.Sequential(
            nn.Linear(dimension, 4 * dimension), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * dimension, dimension)
        )
        self.dropout = nn.Dropout(dropout)
        self.beyond = nn.Parameter(torch.full((dimension,), BEYOND)) if smooths else None

    def forward(self, hidden: Float[Tensor, "b t d"], looks: Looks) -> Float[Tensor, "b t d"]:
        """Every event with what it reads of those that it sees."""
        query, key, value, plain = self.look(hidden)
        rate = self.dropout.p / 2 if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=looks.attention, dropout_p=rate)
        return self.finish(hidden, mixed, plain, None if looks.recent is None else looks.recent @ plain)

    def look(self, hidden: Float[Tensor, "b t d"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Queries, keys and values of attention, and the events themselves, cut into heads: ``(B, H, T, D / H)``."""
        normed = self.norm_attention(hidden)
        heads = self.project(normed).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return (*heads.unbind(), normed.unflatten(-1, (self.heads, -1)).transpose(1, 2))

    def finish(
        self,
        hidden: Float[Tensor, "b t d"],
        mixed: Float[Tensor, "b h t c"],
        plain: Float[Tensor, "b h t c"],
        mean: Float[Tensor, "b h t c"] | None,
    ) -> Float[Tensor, "b t d"]:
        """The block's result from what attention gives, the events themselves, and the mean of the newest."""
        found = self.join(_whole(mixed))
        if self.beyond is not None and mean is not None:
            found = smoothed(found, _whole(plain), _whole(mean), self.beyond)
        hidden = hidden + self.dropout(found)
        return hidden + self.dropout(self.feed(self.norm_feed(hidden)))


def _whole(heads: Float[Tensor, "b h t c"]) -> Float[Tensor, "b t d"]:
    return heads.transpose(1, 2).flatten(2)


def smoothed(
    found: Float[Tensor, "b t d"],
    plain: Float[Tensor, "b t d"],
    mean: Float[Tensor, "b t d"],
    beyond: Float[Tensor, " d"],
) -> Float[Tensor, "b t d"]:
    """What attention found, mixed with a filter of the newest events.

    BSARec (AAAI 2024, arXiv 2312.10325, section 4) splits a past into low and high frequencies by a Fourier transform
    of all of it, which sees the future. Here what is low is the mean of the newest events, and what is high the event's
    own distance from it.

    Args:
        found: what attention gives.
        plain: the events themselves.
        mean: of the newest events that each sees.
        beyond: how much what an event has beyond the mean counts, for each number of a vector.
    """
    return FILTERED * (mean + beyond * (plain - mean)) + (1 - FILTERED) * found
