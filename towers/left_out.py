"""What a sequence reader makes of a past without each of its events, in a fraction of the time of reading each anew."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from towers.fusion import unit
from towers.sequence_reader import SequenceBatch, SequenceReader
from towers.transformer_block import Block


def without_each_event(
    reader: SequenceReader, vectors: Float[Tensor, "n d"], batch: SequenceBatch, half_life: float | None = None
) -> Float[Tensor, "t ..."]:
    """The last query of one past without each of the T newest events, oldest first.

    What comes before the event that is left out moves one place towards the end, and is read alike whichever event that
    is: as in the past without the newest event. Only what comes after is read for each anew; in the last block, only
    the newest event.

    Args:
        reader: in evaluation mode.
        vectors: item vectors by catalog row.
        batch: one past of E events without padding, at least 2 and at most one more than the reader reads.
        half_life: as `SequenceReader.forward` takes it.

    Returns:
        Queries of unit norm, T of them, as many as the reader reads at most.
    """
    events = batch.items.shape[1]
    count = min(events, reader.config.length)
    older = events - count
    left, place = torch.triu_indices(count, count, 1, device=vectors.device)  # without event `left`, one after it
    hidden = reader.embed(vectors, _part(batch, older, events))[:, place]
    prior = reader.embed(vectors, _part(batch, 0, events - 1))
    without = torch.arange(events, device=vectors.device) == torch.arange(older, events, device=vectors.device)[:, None]
    looks_before = reader.looks(_part(batch, 0, events - 1), half_life).to(prior.dtype)
    looks = reader.looks(batch, half_life, reader.seen(batch) & ~without[:, None, None])
    looks = looks.to(prior.dtype).each(lambda part: part[:, :, older:])
    for number, block in enumerate(reader.blocks, start=1):
        assert isinstance(block, Block)
        query, *anew = (part[0].transpose(0, 1) for part in block.look(hidden))
        _, *before = block.look(prior)
        prior = block(prior, looks_before)
        keys, values, plain = (_beside(*both, left, place + older, count) for both in zip(before, anew, strict=True))
        own = anew[-1]
        if number == len(reader.blocks):  # only the newest event is asked for
            newest, looks = place == count - 1, looks.each(lambda part: part[:, :, -1:])
            hidden, query, own, left, place = hidden[:, newest], query[newest], own[newest], left[newest], place[newest]
            place = place - (count - 1)
        asked = query.new_zeros(count, looks.attention.shape[2], *query.shape[1:])
        asked = asked.index_put((left, place), query).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(asked, keys, values, attn_mask=looks.attention)[left, :, place]
        mean = None if looks.recent is None else (looks.recent @ plain)[left, :, place]
        hidden = block.finish(hidden, _line(mixed), _line(own), None if mean is None else _line(mean))
    return unit(reader.out(reader.norm(torch.cat([hidden[0], prior[0, -1:]]))).unflatten(-1, reader.shape))


def _part(batch: SequenceBatch, start: int, end: int) -> SequenceBatch:
    return batch.each(lambda part: part[:, start:end])


def _line(pairs: Float[Tensor, "p h c"]) -> Float[Tensor, "1 h p c"]:
    """Pairs as a block reads the events of one past."""
    return pairs.transpose(0, 1)[None]


def _beside(before: Tensor, anew: Tensor, left: Tensor, place: Tensor, count: int) -> Tensor:
    """What attention looks at without each event ``(T, H, E, d)``: what was before it, and after it what is read anew.

    Args:
        before: ``(1, H, E - 1, d)``.
        anew: ``(P, H, d)``, for pairs of an event `left` out and a `place`.
    """
    both = F.pad(before, (0, 0, 0, 1)).repeat(count, 1, 1, 1).transpose(1, 2)
    both[left, place] = anew
    return both.transpose(1, 2)
