"""Anchors: the events after which the text reader reads, with the work of its frozen layers kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from towers.history import Histories
from towers.history_text import HistoryText
from towers.precision import autocast
from towers.text_reader import TextReader
from training.sampling import Windows, draw_anchors


@dataclass(frozen=True)
class AnchorTexts:
    """Texts read in one step.

    Args:
        content: states after `start` layers, bfloat16 ``(R, T, C)``, or token ids ``(R, T)``, of those that are read.
        mask: ``(R, T)`` real tokens.
        start: layers already applied; None where `content` are token ids.
        rows, columns: ``(A,)`` where in the step's windows each anchor stands.
        own: which of the A are read here, R of them; other processes read the others.
    """

    content: Float[Tensor, "r t c"] | Int[Tensor, "r t"]
    mask: Bool[Tensor, "r t"]
    start: int | None
    rows: Int[Tensor, " a"]
    columns: Int[Tensor, " a"]
    own: slice


class Anchors:
    """History texts after fixed events of each person.

    The outputs of the frozen layers are computed once and kept in bfloat16, as many as fit. Which ones fit is settled
    at once, and each of them is read alone, so that no value depends on what was asked for before: training goes on
    after a restart, with nothing kept yet, as if there had been none.

    Args:
        histories: training histories.
        reader: the text reader.
        text: writes histories.
        each: anchors of a person.
        budget: most bytes for kept outputs.
        rng: chooses the anchors.
    """

    def __init__(
        self,
        *,
        histories: Histories,
        reader: TextReader,
        text: HistoryText,
        each: int,
        budget: int,
        rng: np.random.Generator,
    ) -> None:
        self._reader = reader
        self._start = max(reader.encoder.frozen_layers, 0)
        self._caching = reader.encoder.frozen_layers >= 0
        drawn = draw_anchors(histories, each, rng)
        people = histories.people[drawn]
        tokens = text.tokens(histories.cut(people, histories.offsets[people], drawn + 1))
        self.events = drawn[[bool(row) for row in tokens]]  # where there is nothing to read, nobody reads later either
        self._tokens = [row for row in tokens if row]
        self._ends = np.cumsum([len(row) + 2 for row in self._tokens])  # special tokens too
        width = reader.encoder.dimension
        self._fits = 2 * width * self._ends <= budget
        # One block, filled bit by bit: thousands of small ones between a step's large ones would scatter the memory.
        size = int(self._ends[self._fits].max(initial=0)) if self._caching else 0
        self._kept = torch.empty(size, width, dtype=torch.bfloat16, device=reader.encoder.device)
        self._filled = np.zeros(len(self._tokens), bool)
        self._row_of = np.full(len(histories.items), -1)
        self._row_of[self.events] = np.arange(len(self.events))

    def texts(
        self, windows: Windows, each: int, rng: np.random.Generator, device: torch.device, own: slice = slice(None)
    ) -> AnchorTexts | None:
        """At most `each` anchors of each person that lie in their window; None if there are none.

        Read are those of `own`, a stretch of the windows' people.
        """
        found = np.where(windows.inputs.mask.cpu().numpy(), self._row_of[windows.events.cpu().numpy()], -1)
        order = np.where(found >= 0, rng.random(found.shape), np.inf).argsort(axis=1)[:, :each]
        rows = np.repeat(np.arange(len(found)), order.shape[1])
        columns = order.reshape(-1)
        real = found[rows, columns] >= 0
        rows, columns = rows[real], columns[real]
        if not len(rows):
            return None
        first, end, _ = own.indices(len(found))
        read = slice(*np.searchsorted(rows, [first, end]).tolist())
        content, mask = self._content(found[rows, columns][read], device)
        where = torch.from_numpy(rows).to(device), torch.from_numpy(columns).to(device)
        return AnchorTexts(content, mask, self._start if self._caching else None, *where, read)

    def _content(self, anchors: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
        encoder = self._reader.encoder
        if not len(anchors):
            nothing = torch.empty(0, 1, dtype=torch.bool, device=device)
            return (nothing[..., None].bfloat16() if self._caching else nothing.long()), nothing
        ids, mask = encoder.pad([self._tokens[n] for n in anchors])
        ids, mask = ids.to(device), mask.to(device)
        if not self._caching:
            return ids, mask
        lengths = mask.sum(1).tolist()
        for n in np.flatnonzero(self._fits[anchors] & ~self._filled[anchors]):
            alone = ids[n : n + 1, : lengths[n]], mask[n : n + 1, : lengths[n]]
            self._kept[self._place(int(anchors[n]))] = self._frozen(*alone)[0]
            self._filled[anchors[n]] = True
        rest = np.flatnonzero(~self._fits[anchors])
        states = dict(zip(rest, self._frozen(ids[rest], mask[rest]), strict=True)) if len(rest) else {}
        rows = [
            states[n][mask[n]] if n in states else self._kept[self._place(int(anchor))]
            for n, anchor in enumerate(anchors)
        ]
        return pad_sequence(rows, batch_first=True), mask

    def _place(self, anchor: int) -> slice:
        """Where in the block an anchor's states are kept."""
        end = int(self._ends[anchor])
        return slice(end - len(self._tokens[anchor]) - 2, end)

    @torch.no_grad()
    def _frozen(self, ids: Tensor, mask: Tensor) -> Tensor:
        with autocast(ids.device):
            return self._reader.encoder.lower(ids, mask, self._start).to(torch.bfloat16)
