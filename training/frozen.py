"""States of texts after the frozen layers of their encoder, computed once and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from towers.precision import autocast
from towers.text import TextEncoder

Write = Callable[[np.ndarray], Sequence[Sequence[int]]]


class FrozenStates:
    """What the trained layers of an encoder read of N texts.

    States are kept in bfloat16, of the first texts, as many as surely fit, and each of them is read alone, so that no
    value depends on what was asked for before: training goes on after a restart, with nothing kept yet, as if there had
    been none. A text is written when a step asks for it, and no more where its states are kept.

    Args:
        encoder: what reads them, its lower layers frozen.
        write: token ids of the texts at int64 ``(R,)`` rows, special tokens not included.
        count: how many texts there are.
        longest: most tokens of one, special tokens included.
        budget: most bytes for kept states.

    `start` is the number of layers already applied; None where even the embeddings are trained, and there are token ids
    in place of states.
    """

    def __init__(self, encoder: TextEncoder, write: Write, *, count: int, longest: int, budget: int) -> None:
        self._encoder, self._write = encoder, write
        self.start = encoder.frozen_layers if encoder.frozen_layers >= 0 else None
        fitting = 0 if self.start is None else min(count, budget // (2 * encoder.dimension * longest))
        # One block, filled bit by bit: thousands of small ones between a step's large ones would scatter the memory.
        self._kept = torch.empty(fitting, longest, encoder.dimension, dtype=torch.bfloat16, device=encoder.device)
        self._lengths = np.zeros(fitting, np.int64)  # of what is kept by now, in tokens

    def of(
        self, rows: np.ndarray, device: torch.device
    ) -> tuple[Float[Tensor, "r t c"] | Int[Tensor, "r t"], Bool[Tensor, "r t"]]:
        """States (or token ids) of the texts at int64 ``(R,)`` `rows`, padded, and the mask of real tokens."""
        if not len(rows):
            nothing = torch.empty(0, 1, dtype=torch.bool, device=device)
            state = torch.empty(0, 1, self._encoder.dimension, dtype=torch.bfloat16, device=device)
            return (nothing.long() if self.start is None else state), nothing
        if self.start is None:
            return self._padded(rows, device)
        fits = rows < len(self._kept)
        kept = rows[fits]
        if len(new := np.unique(kept[self._lengths[kept] == 0])):
            self._keep(new, device)
        states = {row: self._kept[row, : self._lengths[row]] for row in kept.tolist()}
        if not fits.all():
            ids, mask = self._padded(rows[~fits], device)
            rest = [state[real] for state, real in zip(self._lower(ids, mask), mask, strict=True)]
            states |= dict(zip(rows[~fits].tolist(), rest, strict=True))
        found = [states[row] for row in rows.tolist()]
        padded = pad_sequence(found, batch_first=True)
        lengths = torch.tensor([len(one) for one in found], device=device)
        return padded, torch.arange(padded.shape[1], device=device) < lengths[:, None]

    def _keep(self, rows: np.ndarray, device: torch.device) -> None:
        """Read these texts, each alone."""
        for row, tokens in zip(rows, self._write(rows), strict=True):
            ids, mask = self._encoder.pad([tokens])
            self._lengths[row] = ids.shape[1]
            self._kept[row, : ids.shape[1]] = self._lower(ids.to(device), mask.to(device))[0]

    def _padded(self, rows: np.ndarray, device: torch.device) -> tuple[Int[Tensor, "r t"], Bool[Tensor, "r t"]]:
        ids, mask = self._encoder.pad(self._write(rows))
        return ids.to(device), mask.to(device)

    @torch.no_grad()
    def _lower(self, ids: Tensor, mask: Tensor) -> Tensor:
        assert self.start is not None
        with autocast(ids.device):
            return self._encoder.lower(ids, mask, self.start).to(torch.bfloat16)
