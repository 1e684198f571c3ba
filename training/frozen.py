"""States of texts after the frozen layers of their encoder, computed once and kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from towers.precision import autocast
from towers.text import TextEncoder


class FrozenStates:
    """What the trained layers of an encoder read of N texts.

    States are kept in bfloat16, as many as fit. Which ones fit is settled at once, and each of them is read alone, so
    that no value depends on what was asked for before: training goes on after a restart, with nothing kept yet, as if
    there had been none.

    Args:
        encoder: what reads them, its lower layers frozen.
        tokens: token ids of each text, special tokens not included.
        budget: most bytes for kept states.

    `start` is the number of layers already applied; None where even the embeddings are trained, and there are token ids
    in place of states.
    """

    def __init__(self, encoder: TextEncoder, tokens: Sequence[Sequence[int]], budget: int) -> None:
        self._encoder, self._tokens = encoder, tokens
        self.start = encoder.frozen_layers if encoder.frozen_layers >= 0 else None
        self._ends = np.cumsum([len(row) + 2 for row in tokens])  # special tokens too
        self._fits = 2 * encoder.dimension * self._ends <= budget
        # One block, filled bit by bit: thousands of small ones between a step's large ones would scatter the memory.
        size = 0 if self.start is None else int(self._ends[self._fits].max(initial=0))
        self._kept = torch.empty(size, encoder.dimension, dtype=torch.bfloat16, device=encoder.device)
        self._filled = np.zeros(len(tokens), bool)

    def of(
        self, rows: np.ndarray, device: torch.device
    ) -> tuple[Float[Tensor, "r t c"] | Int[Tensor, "r t"], Bool[Tensor, "r t"]]:
        """States (or token ids) of the texts at int64 ``(R,)`` `rows`, padded, and the mask of real tokens."""
        if not len(rows):
            nothing = torch.empty(0, 1, dtype=torch.bool, device=device)
            state = torch.empty(0, 1, self._encoder.dimension, dtype=torch.bfloat16, device=device)
            return (nothing.long() if self.start is None else state), nothing
        ids, mask = self._encoder.pad([self._tokens[row] for row in rows])
        ids, mask = ids.to(device), mask.to(device)
        if self.start is None:
            return ids, mask
        lengths = mask.sum(1).tolist()
        for n in np.flatnonzero(self._fits[rows] & ~self._filled[rows]):
            alone = ids[n : n + 1, : lengths[n]], mask[n : n + 1, : lengths[n]]
            self._kept[self._place(int(rows[n]))] = self._lower(*alone)[0]
            self._filled[rows[n]] = True
        rest = np.flatnonzero(~self._fits[rows])
        states = dict(zip(rest, self._lower(ids[rest], mask[rest]), strict=True)) if len(rest) else {}
        kept = [states[n][mask[n]] if n in states else self._kept[self._place(int(row))] for n, row in enumerate(rows)]
        return pad_sequence(kept, batch_first=True), mask

    def _place(self, row: int) -> slice:
        """Where in the block a text's states are kept."""
        end = int(self._ends[row])
        return slice(end - len(self._tokens[row]) - 2, end)

    @torch.no_grad()
    def _lower(self, ids: Tensor, mask: Tensor) -> Tensor:
        assert self.start is not None
        with autocast(ids.device):
            return self._encoder.lower(ids, mask, self.start).to(torch.bfloat16)
