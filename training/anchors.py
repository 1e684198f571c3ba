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
        hidden: states after `start` layers ``(A, T, C)``.
        mask: ``(A, T)`` real tokens.
        start: layers already applied.
        rows, columns: ``(A,)`` where in the step's windows each anchor stands.
    """

    hidden: Float[Tensor, "a t c"]
    mask: Bool[Tensor, "a t"]
    start: int
    rows: Int[Tensor, " a"]
    columns: Int[Tensor, " a"]


class Anchors:
    """History texts after fixed events of each person.

    The outputs of the frozen layers are computed once and kept in bfloat16, as many as fit.

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
        self._kept: dict[int, Tensor] = {}
        self._room = budget
        self._row_of = np.full(len(histories.items), -1)
        self._row_of[self.events] = np.arange(len(self.events))

    def texts(self, windows: Windows, each: int, rng: np.random.Generator, device: torch.device) -> AnchorTexts | None:
        """At most `each` anchors of each person that lie in their window; None if there are none."""
        found = np.where(windows.inputs.mask.cpu().numpy(), self._row_of[windows.events.cpu().numpy()], -1)
        order = np.where(found >= 0, rng.random(found.shape), np.inf).argsort(axis=1)[:, :each]
        rows = np.repeat(np.arange(len(found)), order.shape[1])
        columns = order.reshape(-1)
        real = found[rows, columns] >= 0
        rows, columns = rows[real], columns[real]
        if not len(rows):
            return None
        hidden, mask = self._hidden(found[rows, columns], device)
        where = torch.from_numpy(rows).to(device), torch.from_numpy(columns).to(device)
        return AnchorTexts(hidden, mask, self._start, *where)

    def _hidden(self, anchors: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
        encoder = self._reader.encoder
        ids, mask = encoder.pad([self._tokens[n] for n in anchors])
        ids, mask = ids.to(device), mask.to(device)
        if not self._caching:
            return encoder.lower(ids, mask, 0), mask
        missing = [n for n, anchor in enumerate(anchors) if anchor not in self._kept]
        fresh: dict[int, Tensor] = {}
        if missing:
            with torch.no_grad(), autocast(device):
                hidden = encoder.lower(ids[missing], mask[missing], self._start).to(torch.bfloat16)
            for n, states in zip(missing, hidden, strict=True):
                fresh[int(anchors[n])] = self._keep(int(anchors[n]), states[: int(mask[n].sum())])
        states = [self._kept[a] if a in self._kept else fresh[a] for a in anchors.tolist()]
        return pad_sequence([s.to(device) for s in states], batch_first=True).float(), mask

    def _keep(self, anchor: int, states: Tensor) -> Tensor:
        size = states.nelement() * states.element_size()
        if size <= self._room:
            self._kept[anchor] = states.clone()
            self._room -= size
        return states
