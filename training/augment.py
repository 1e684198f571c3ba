"""Two views of one past that should read alike: cropped, thinned out or reordered (CL4SRec, arXiv 2010.14395)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from towers.sequence_reader import SequenceBatch

CROP, DROP, REORDER = 0.6, 0.3, 0.6  # share that is kept, left out, shuffled


def augmented(past: SequenceBatch, generator: torch.Generator) -> SequenceBatch:
    """Each past as a view of it, by one of three ways drawn at random; the newest event stays in the last column.

    Cropping keeps a stretch of 0.6 of the events, thinning leaves out three of ten (the paper puts a mark in their
    place), reordering shuffles a stretch of 0.6; times then stay where they are. At least one event stays.

    Args:
        past: B pasts, on any device.
        generator: of the draws, on the CPU.
    """
    mask = past.mask.cpu()
    way = torch.randint(3, (len(mask),), generator=generator)[:, None]
    crop, cropped = _crop(mask, generator)
    thin, thinned = _thin(mask, generator)
    shuffle = _reorder(mask, generator)
    index = torch.where(way == 0, crop, torch.where(way == 1, thin, shuffle)).to(past.mask.device)
    kept = torch.where(way == 0, cropped, torch.where(way == 1, thinned, mask)).to(past.mask.device)
    still = torch.arange(mask.shape[1], device=index.device).expand_as(index)
    when = torch.where(way.to(index.device) == 2, still, index)
    items, ratings = (values.gather(1, index) for values in (past.items, past.ratings))
    return SequenceBatch(items, ratings, past.times.gather(1, when), kept)


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


def _thin(mask: Tensor, generator: torch.Generator) -> Chosen:
    stays = torch.rand(mask.shape, generator=generator)
    stays = mask & ((stays >= DROP) | (stays == stays.masked_fill(~mask, -1).amax(1, keepdim=True)))
    index = stays.int().argsort(dim=1, stable=True)
    return index, stays.gather(1, index)


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
