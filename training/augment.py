"""Two views of one past that should read alike: cropped, masked or reordered (CL4SRec, arXiv 2010.14395)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from towers.sequence_reader import SequenceBatch

CROP, MASK, REORDER = 0.6, 0.3, 0.6  # share that is kept, masked, shuffled


def augmented(past: SequenceBatch, generator: torch.Generator) -> SequenceBatch:
    """Each past as a view of it, by one of three ways drawn at random; the newest event stays in the last column.

    Cropping keeps a stretch of 0.6 of the events, masking hides what three of ten were (the paper puts a learned mark
    in their place, here it is the zero vector), reordering shuffles a stretch of 0.6; times then stay where they are.
    At least one event stays, and can be seen.

    Args:
        past: B pasts, on any device.
        generator: of the draws, on the CPU.
    """
    mask = past.mask.cpu()
    way = torch.randint(3, (len(mask),), generator=generator)[:, None]
    crop, cropped = _crop(mask, generator)
    masked = _masked(mask, generator)
    shuffle = _reorder(mask, generator)
    still = torch.arange(mask.shape[1]).expand_as(shuffle)
    device = past.mask.device
    index = torch.where(way == 0, crop, torch.where(way == 1, still, shuffle)).to(device)
    when = torch.where(way == 0, crop, still).to(device)
    kept, hidden = torch.where(way == 0, cropped, mask).to(device), ((way == 1) & masked).to(device)
    items, ratings = (values.gather(1, index) for values in (past.items, past.ratings))
    return SequenceBatch(items, ratings, past.times.gather(1, when), kept, hidden)


def views_loss(
    first: Float[Tensor, "b d"], second: Float[Tensor, "b d"], scale: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """Cross-entropy of finding each person's one view among everybody's others, mean of both ways.

    Args:
        first, second: unit vectors of two views of B people.
        scale: inverse temperature.
    """
    logits = scale * first @ second.T
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


Chosen = tuple[Int[Tensor, "b t"], Bool[Tensor, "b t"]]  # the column that each column takes, and which are real


def _crop(mask: Tensor, generator: torch.Generator) -> Chosen:
    width, lengths = mask.shape[1], mask.sum(1)
    kept = _stretch(lengths, CROP)
    start = width - lengths + _below(lengths - kept + 1, generator)
    index = start[:, None] + kept[:, None] - width + torch.arange(width)
    return index.clamp(min=0), index >= start[:, None]


def _masked(mask: Tensor, generator: torch.Generator) -> Bool[Tensor, "b t"]:
    draws = torch.rand(mask.shape, generator=generator)
    return mask & (draws < MASK) & (draws < draws.masked_fill(~mask, -1).amax(1, keepdim=True))


def _reorder(mask: Tensor, generator: torch.Generator) -> Int[Tensor, "b t"]:
    width, lengths = mask.shape[1], mask.sum(1)
    shuffled, columns = _stretch(lengths, REORDER), torch.arange(width)
    start = (width - lengths + _below(lengths - shuffled + 1, generator))[:, None]
    inside = (columns >= start) & (columns < start + shuffled[:, None])
    draws = start + torch.rand(mask.shape, generator=generator) * (shuffled[:, None] - 1e-3)
    return torch.where(inside, draws, columns.float()).argsort(dim=1, stable=True)


def _stretch(lengths: Int[Tensor, " b"], share: float) -> Int[Tensor, " b"]:
    return (lengths * share).ceil().long().clamp(min=1)


def _below(bounds: Int[Tensor, " b"], generator: torch.Generator) -> Int[Tensor, " b"]:
    """A number from 0 up to, but without, each bound."""
    return (torch.rand(len(bounds), generator=generator) * bounds).long()
