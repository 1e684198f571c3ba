"""Sequence reader: a causal transformer over the item vectors of a person's past."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from towers.errors import InputError
from towers.fusion import unit
from towers.history import Histories
from towers.precision import at_least_single
from towers.transformer_block import Block, Looks, newest_of

HALF_HOUR, DAY = 1800.0, 86_400.0
GAP_FEATURES = 4
SIZES = 32  # of groups of histories in training: oneDNN makes a kernel for each shape of a product and keeps a thousand


class SequenceConfig(BaseModel):
    """The reader of past items, in their order or as a set."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    length: int = Field(default=100, ge=1)
    """Most past items read; older ones are left out."""
    blocks: int = Field(default=2, ge=1)
    """Transformer blocks."""
    heads: int = Field(default=2, ge=1)
    """Attention heads; they divide the dimension."""
    dropout: float = Field(default=0.3, ge=0, lt=1)
    """Dropout inside the blocks."""
    input_dropout: float = Field(default=0.2, ge=0, lt=1)
    """Dropout on what goes into the first block."""
    ratings: bool = True
    """Whether the reader sees how much each item was liked."""
    gaps: bool = True
    """Whether attention sees how much time lies between two events."""
    recent: int = Field(default=6, ge=0)
    """How many of the newest events each block also reads plainly, as their mean and what the newest has beyond it,
    beside attention (`towers.transformer_block.smoothed`); 0: attention alone."""
    ordered: bool = True
    """Whether the order of events means something. Without it a past is a set, read as the mean of its items
    (`towers.set_reader`); then only `length` counts."""

    @model_validator(mode="after")
    def _a_set_is_its_mean(self) -> SequenceConfig:
        fields = type(self).model_fields
        others = [name for name in fields if name != "length" and getattr(self, name) != fields[name].default]
        if not self.ordered and others != ["ordered"]:
            others.remove("ordered")
            raise ValueError(
                f"ordered is false, and a set is read as the mean of its items, for which {', '.join(others)} "
                f"{'means' if len(others) == 1 else 'mean'} nothing: leave out {', '.join(others)}"
            )
        return self


@dataclass(frozen=True)
class SequenceBatch:
    """Histories as left-padded arrays: the newest event is always in the last column.

    Args:
        items: int64 ``(B, T)`` catalog rows, 0 in the padding.
        ratings: float32 ``(B, T)`` in [0, 1], NaN where unknown.
        times: float64 ``(B, T)`` seconds, all 0 where the log has no time.
        mask: bool ``(B, T)``, False in the padding.
        hidden: bool ``(B, T)``, events of which the reader is told that they were and when, but not what; None: none.
    """

    items: Int[Tensor, "b t"]
    ratings: Float[Tensor, "b t"]
    times: Float[Tensor, "b t"]
    mask: Bool[Tensor, "b t"]
    hidden: Bool[Tensor, "b t"] | None = None

    @classmethod
    def of(cls, histories: Histories, length: int) -> SequenceBatch:
        """The last `length` events of each history, as wide as the longest needs."""
        lengths = np.minimum(histories.lengths, length)
        width = max(int(lengths.max(initial=0)), 1)
        column = np.arange(width)
        mask = column >= (width - lengths)[:, None]
        index = np.where(mask, histories.offsets[1:, None] - width + column, 0)

        def pick(values: np.ndarray | None, empty: float, kind: type) -> Tensor:
            if values is None or len(values) == 0:
                return torch.from_numpy(np.full(mask.shape, empty, kind))
            return torch.from_numpy(np.where(mask, values[index], empty).astype(kind, copy=False))

        return cls(
            pick(histories.items, 0, np.int64),
            pick(histories.ratings, np.nan, np.float32),
            pick(histories.times, 0, np.float64),
            torch.from_numpy(mask),
        )

    def take(self, rows: slice) -> SequenceBatch:
        """Some of the histories, as wide as before."""
        return self.each(lambda part: part[rows])

    def filled(self, multiple: int) -> SequenceBatch:
        """The same histories and, behind them, empty ones, so that their number is a multiple."""
        return self.each(lambda part: torch.cat([part, part.new_zeros(-len(part) % multiple, *part.shape[1:])]))

    def sorted(self) -> SequenceBatch:
        """Each history in the order of its catalog rows, so that equal sets are equal."""
        order = self.items.masked_fill(~self.mask, -1).argsort(dim=1, stable=True)
        return self.each(lambda part: part.gather(1, order))

    def distinct(self) -> SequenceBatch:
        """Sorted, and of what is in a history several times only the newest."""
        batch = self.sorted()
        again = torch.zeros_like(batch.mask)
        again[:, :-1] = (batch.items[:, :-1] == batch.items[:, 1:]) & batch.mask[:, :-1]
        return replace(batch, mask=batch.mask & ~again)

    def by_width(self) -> Iterator[tuple[Int[Tensor, " r"], SequenceBatch]]:
        """Rows of like length and, for each kind, these without most of their padding: widths are powers of two."""
        steps = self.mask.shape[1]
        lengths = torch.where(self.mask.any(1), steps - self.mask.int().argmax(1), 1)
        widths = (2 ** lengths.log2().ceil().long()).clamp(max=steps)
        for width in widths.unique().tolist():
            rows = (widths == width).nonzero()[:, 0]
            yield rows, self.each(partial(_narrowed, rows=rows, start=steps - width))

    def to(self, device: torch.device) -> SequenceBatch:
        """The same batch on another device."""
        return self.each(lambda part: part.to(device))

    def each(self, change: Callable[[Tensor], Tensor]) -> SequenceBatch:
        """The same with each array changed."""
        parts = (self.items, self.ratings, self.times, self.mask, self.hidden)
        return SequenceBatch(*(None if part is None else change(part) for part in parts))  # type: ignore[arg-type]


def _narrowed(part: Tensor, rows: Tensor, start: int) -> Tensor:
    return part[rows, start:]


def read_by_width(
    read: Callable[[SequenceBatch], Float[Tensor, "r w ..."]],
    batch: SequenceBatch,
    shape: tuple[int, ...],
    training: bool,
) -> Float[Tensor, "b t ..."]:
    """What `read` gives of a batch, in groups of like length without most of their padding.

    Args:
        read: gives queries of `shape` at every position.
        batch: B histories.
        shape: of a query.
        training: whether groups may have empty histories besides, so that they have few sizes.
    """
    multiple = max(1, len(batch.items) // SIZES) if training else 1
    steps, places, found = batch.items.shape[1], [], []
    for rows, part in batch.by_width():
        queries = read(part.filled(multiple))[: len(rows)]
        places.append(rows)
        found.append(F.pad(queries, (*(0, 0) * len(shape), steps - queries.shape[1], 0)))
    # One copy: filling in group by group is slow to go back through.
    return torch.cat(found).index_select(0, torch.cat(places).argsort())


class SequenceReader(nn.Module):
    """Pre-norm causal transformer; the output at a position is the query after that event.

    Follows SASRec (ICDM 2018) in form; the time between two events enters as a learned bias on attention,
    as in HSTU (arXiv 2402.17152, section 3.2), here a weighted sum of `gap_features`. With `recent`, what attention
    finds is mixed with the mean of the newest events, which it would have to learn (`towers.transformer_block`).

    Args:
        config: sizes.
        dimension: length D of item vectors and of the result.
        interests: how many queries K there are of a person; each has a last layer of its own.

    Attributes:
        shape: of the query after an event: ``(D,)``, or ``(K, D)`` where there are several.

    Raises:
        InputError: the heads do not divide the dimension.
    """

    def __init__(self, *, config: SequenceConfig, dimension: int, interests: int = 1) -> None:
        super().__init__()
        if dimension % config.heads:
            raise InputError(f"user.sequence.heads is {config.heads}, which does not divide item.dimension {dimension}")
        self.config = config
        self.shape = (dimension,) if interests == 1 else (interests, dimension)
        self.positions = nn.Parameter(torch.randn(config.length, dimension) * 0.02)
        self.rating = nn.Linear(2, dimension) if config.ratings else None
        self.gap_bias = nn.Linear(GAP_FEATURES, config.heads, bias=False) if config.gaps else None
        self.blocks = nn.ModuleList(
            Block(dimension, config.heads, config.dropout, smooths=config.recent > 0) for _ in range(config.blocks)
        )
        self.norm = nn.LayerNorm(dimension)
        self.out = nn.Linear(dimension, interests * dimension)
        self.dropout = nn.Dropout(config.input_dropout)
        if self.rating is not None:
            nn.init.normal_(self.rating.weight, std=0.02)
            nn.init.zeros_(self.rating.bias)  # or all queries would begin alike
        if self.gap_bias is not None:
            nn.init.zeros_(self.gap_bias.weight)

    def forward(
        self, vectors: Float[Tensor, "n d"], batch: SequenceBatch, half_life: float | None = None
    ) -> Float[Tensor, "b t ..."]:
        """Queries of unit norm at every position, each of `shape`; what stands in the padding means nothing.

        Short histories are read apart from long ones, since most of a batch may be padding.

        Args:
            vectors: item vectors by catalog row.
            batch: B histories, T at most ``config.length``.
            half_life: seconds, above 0: wherever one event reads others, each of them counts by half as much for every
                half-life that lies between. Which of them matter beside each other is still what was learned, and the
                newest event always counts whole. None: as training has it.
        """
        return read_by_width(lambda part: self.read(vectors, part, half_life), batch, self.shape, self.training)

    def read(
        self, vectors: Float[Tensor, "n d"], batch: SequenceBatch, half_life: float | None = None
    ) -> Float[Tensor, "b t ..."]:
        """What `forward` gives where no history is much shorter than others."""
        hidden = self.dropout(self.embed(vectors, batch))
        looks = self.looks(batch, half_life).to(hidden.dtype)
        for block in self.blocks:
            hidden = block(hidden, looks)
        return unit(at_least_single(self.out(self.norm(hidden)).unflatten(-1, self.shape)))

    def embed(self, vectors: Float[Tensor, "n d"], batch: SequenceBatch) -> Float[Tensor, "b t d"]:
        """What goes into the first block: items, places and ratings."""
        steps = batch.items.shape[1]
        hidden = F.embedding(batch.items, vectors) * vectors.shape[1] ** 0.25
        if batch.hidden is not None:
            hidden = hidden.masked_fill(batch.hidden[..., None], 0)
        hidden = hidden + self.positions[-steps:]
        if self.rating is not None:
            known = ~batch.ratings.isnan() if batch.hidden is None else ~(batch.ratings.isnan() | batch.hidden)
            felt = torch.stack([torch.where(known, batch.ratings - 0.5, 0.0), known], -1).to(self.out.weight.dtype)
            hidden = hidden + self.rating(felt)
        return hidden

    def seen(self, batch: SequenceBatch) -> Bool[Tensor, "b 1 t t"]:
        """Which events each event reads: itself and those before it. Padding reads itself, never nothing."""
        place = torch.arange(batch.items.shape[1], device=batch.items.device)
        past, itself = place <= place[:, None], place == place[:, None]
        return (batch.mask[:, None, None, :] & past) | itself

    def looks(
        self, batch: SequenceBatch, half_life: float | None = None, seen: Bool[Tensor, "s 1 t t"] | None = None
    ) -> Looks:
        """How much each event counts to each; `seen` says which do, by default those of `SequenceReader.seen`."""
        seen = self.seen(batch) if seen is None else seen
        bias: Tensor = torch.zeros((), device=seen.device)
        age: Tensor | None = None
        if self.gap_bias is not None or half_life is not None:
            gaps = (batch.times[:, :, None] - batch.times[:, None, :]).clamp(min=0).to(self.out.weight.dtype)
        if self.gap_bias is not None:
            bias = self.gap_bias(gap_features(gaps)).permute(0, 3, 1, 2)
        if half_life is not None:
            age = gaps[:, None] * (math.log(2) / half_life)
            bias = bias - age  # halves what the softmax makes of it
        recent = newest_of(seen, self.config.recent, age) if self.config.recent else None
        return Looks(torch.where(seen, bias, torch.finfo(torch.float32).min), recent)


def gap_features(seconds: Float[Tensor, "*b"]) -> Float[Tensor, "*b f"]:
    """What attention sees of a gap: its logarithm (base 2, over 16), that squared, same sitting, same day."""
    size = torch.log2(seconds + 1) / 16
    return torch.stack([size, size**2, (seconds < HALF_HOUR).to(size), (seconds < DAY).to(size)], -1)
