"""Sounds of any length as windows of one length, and one vector out of the vectors of a sound's windows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

SHARED = 4  # a window has the last quarter of the one before, so that what is short is whole in one of them
OVERLAP = f"1/{SHARED} of each shared, the last moved back"  # for fingerprints
BUSY = 16  # times as many windows at once on an accelerator as on the CPU


def windows(blocks: Iterable[Float[Tensor, "time ..."]], length: int) -> Iterator[Float[Tensor, "length ..."]]:
    """Windows of `length` over the first axis of a stream of blocks, each with the last quarter of the one before.

    The last one is moved back to end with the stream, so that all of it is read and no window is padded; a stream
    shorter than `length` is one window as it is.
    """
    held, start, given = None, 0, 0  # where the next window begins in `held`, and how much of it was in one already
    for block in blocks:
        held = block if held is None else torch.cat([held, block])
        while len(held) - start >= length:
            yield held[start : start + length].clone()  # a view would keep the whole block
            held, start, given = held[start:], length - length // SHARED, length
    if held is not None and len(held) > given:
        yield held[-length:].clone()


def frames(blocks: Iterable[Float[Tensor, " samples"]], size: int, hop: int) -> Iterator[Float[Tensor, " samples"]]:
    """Blocks cut anew for a transform of overlapping frames of `size` each `hop`: each holds whole frames only.

    The transforms of the results, put together, are the transform of the whole.
    """
    held = torch.empty(0)
    for block in blocks:
        held = torch.cat([held, block])
        count = (len(held) - size) // hop + 1
        if count > 0:
            yield held[: (count - 1) * hop + size]
            held = held[count * hop :]


def joined(parts: Iterable[Float[Tensor, "_ ..."]]) -> Float[Tensor, "_ ..."]:
    """A stream of parts as one tensor, without the copy beside it that `torch.cat` of a list needs."""
    whole = np.empty(0, np.float32)
    count = 0
    for part in parts:
        whole.resize((count + len(part), *part.shape[1:]), refcheck=False)  # grows in place: few bytes are moved
        whole[count:] = part.numpy()
        count = len(whole)
    return torch.from_numpy(whole)


def mean_over_windows(
    sounds: Sequence[Float[Tensor, "_ ..."]],
    forward: Callable[[Tensor], Float[Tensor, "n d"]],
    *,
    dimension: int,
    device: torch.device,
    chunk: int,
) -> Float[Tensor, "b d"]:
    """For each of B sounds the mean of the vectors of its windows.

    Args:
        sounds: the windows of each; their shape may differ from sound to sound, no window is ever padded.
        forward: windows on `device` to vectors.
        dimension: their length D.
        device: where to compute.
        chunk: how many windows to compute at once on a CPU, which bounds the memory; on others `BUSY` times as many.

    Returns:
        float32 on `device`.
    """
    chunk = chunk if device.type == "cpu" else chunk * BUSY
    means = torch.zeros(len(sounds), dimension, device=device)
    for rows, batch in _batches(sounds, chunk):
        owners = torch.tensor(rows, device=device)
        shares = torch.tensor([1 / len(sounds[row]) for row in rows], device=device)
        vectors = forward(batch.to(device, non_blocking=True)).float()
        means = means.index_add(0, owners, vectors * shares[:, None])
    return means


def _batches(sounds: Sequence[Tensor], chunk: int) -> Iterator[tuple[list[int], Tensor]]:
    """Windows of one shape, at most `chunk` together, each with the row of its sound."""
    rows: list[int] = []
    parts: list[Tensor] = []
    for row in sorted(range(len(sounds)), key=lambda n: sounds[n].shape[1:]):
        for part in sounds[row].split(chunk):
            if parts and (part.shape[1:] != parts[0].shape[1:] or len(rows) + len(part) > chunk):
                yield rows, torch.cat(parts)
                rows, parts = [], []
            rows += [row] * len(part)
            parts.append(part)
    if parts:
        yield rows, torch.cat(parts)
