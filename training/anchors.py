"""Anchors: the events after which the text reader reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from towers.history import Histories
from towers.history_text import HistoryText
from towers.text_reader import TextReader
from training.frozen import FrozenStates
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
    """History texts after fixed events of each person, with the work of the reader's frozen layers kept.

    A text is written when a step reads it, so that a longer log takes no more memory for its texts.

    `events` are those after which the reader reads, `states` what it reads.

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
        drawn = draw_anchors(histories, each, rng)
        self.events = drawn[text.tells(histories)[drawn]]  # where there is nothing to read, nobody reads later either
        self._histories, self._text = histories, text
        self.states = FrozenStates(
            reader.encoder, self._write, count=len(self.events), longest=text.config.budget, budget=budget
        )
        self._row_of = np.full(len(histories.items), -1)
        self._row_of[self.events] = np.arange(len(self.events))

    def _write(self, rows: np.ndarray) -> list[list[int]]:
        """Token ids of what the people had done up to these of the `events`."""
        events = self.events[rows]
        people = np.searchsorted(self._histories.offsets, events, side="right") - 1  # `people` is as long as the log
        return self._text.tokens(self._histories.cut(people, self._histories.offsets[people], events + 1))

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
        content, mask = self.states.of(found[rows, columns][read], device)
        where = torch.from_numpy(rows).to(device), torch.from_numpy(columns).to(device)
        return AnchorTexts(content, mask, self.states.start, *where, read)
