"""Set reader: the mean of what somebody has, where order means nothing."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from towers.fusion import unit
from towers.precision import at_least_single
from towers.sequence_reader import SequenceBatch, SequenceConfig, read_by_width


class SetReader(nn.Module):
    """The mean of item vectors, turned a little; the output at a position is the query of all up to it.

    Linear, as ELSA is (RecSys 2022): on sets a transformer learned slower, and found less
    (`benchmarks/results/LOG.md`).

    Args:
        config: how much is read.
        dimension: length D of item vectors and of the result.

    Attributes:
        shape: of a query: ``(D,)``.
    """

    def __init__(self, *, config: SequenceConfig, dimension: int) -> None:
        super().__init__()
        self.config = config
        self.shape = (dimension,)
        self.turn = nn.Linear(dimension, dimension, bias=False)
        nn.init.zeros_(self.turn.weight)

    def forward(
        self, vectors: Float[Tensor, "n d"], batch: SequenceBatch, half_life: float | None = None
    ) -> Float[Tensor, "b t d"]:
        """Queries of unit norm at every position, zero where nothing is there or all of it is zero.

        Outside training the same set has the same bits in every order, and what was met several times counts once.

        Args:
            vectors: item vectors by catalog row.
            batch: B sets of at most T items.
            half_life: seconds, above 0: an item counts by half as much for every half-life between it and the newest.
                None: all count alike.
        """
        batch = batch if self.training else batch.distinct()
        return read_by_width(lambda part: self.read(vectors, part, half_life), batch, self.shape, self.training)

    def read(
        self, vectors: Float[Tensor, "n d"], batch: SequenceBatch, half_life: float | None = None
    ) -> Float[Tensor, "b t d"]:
        """What `forward` gives, added up in the order given."""
        return self._turned(self._counted(vectors, batch, half_life).cumsum(1))

    def without_each(
        self, vectors: Float[Tensor, "n d"], batch: SequenceBatch, half_life: float | None = None
    ) -> Float[Tensor, "t d"]:
        """The query of one set without each of its T distinct items, unpadded; zero where nothing is left.

        Leaving out the newest makes all others count more, and by as much each: the mean is the same.
        """
        counted = self._counted(vectors, batch, half_life)[0]
        return self._turned(counted.sum(0) - counted)

    def _counted(
        self, vectors: Float[Tensor, "n d"], batch: SequenceBatch, half_life: float | None
    ) -> Float[Tensor, "b t d"]:
        """Item vectors, each times as much as it counts."""
        there = batch.mask if batch.hidden is None else batch.mask & ~batch.hidden
        counts = there.to(self.turn.weight.dtype)
        if half_life is not None:
            newest = batch.times.masked_fill(~there, -torch.inf).amax(1, keepdim=True)
            ages = torch.where(there, newest - batch.times, 0)
            counts = counts * torch.exp2(-ages / half_life).to(counts)
        return F.embedding(batch.items, vectors) * counts[..., None]

    def _turned(self, totals: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        mean = unit(totals)
        return unit(at_least_single(mean + self.turn(mean)))
