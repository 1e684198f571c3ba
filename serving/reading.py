"""How one person is read: each reader's part of their query, and what is left of it without each past item."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from serving.moment import LESS
from serving.people import Person
from towers.fusion import added, unit
from towers.history import Histories
from towers.left_out import without_each_event
from towers.model import TwoTower
from towers.sequence_reader import SequenceBatch, SequenceReader
from towers.set_reader import SetReader
from towers.user import Memory, PastReader

SMALLEST = 1e-12  # a norm that is divided by
QUICK = 256  # events up to which all pasts without one of them fit into memory at once, and are quicker read together
AT_ONCE = 2_000_000  # pairs of events that attention looks at


@dataclass(frozen=True)
class Question:
    """Somebody who asks.

    Args:
        person: who it is.
        history: what the readers read: the person's history, and what was shown with the question.
        memory: of what `history` speaks of.
        text: the sentence that was asked with, if any.
    """

    person: Person
    history: Histories
    memory: Memory
    text: str | None

    @property
    def digest(self) -> bytes:
        """The same for questions that are read alike."""
        past = self.history
        shown = self.memory.vectors[len(self.memory.vectors) - 1 :]  # a picture or a sound stands last
        known = [past.items, past.ratings, *([] if past.times is None else [past.times]), shown.cpu().numpy()]
        said = [part if part is None else part.to_pylist() for part in (past.texts, past.about)]
        digest = hashlib.blake2b(repr((self.text, said)).encode(), digest_size=16)
        for values in known:
            digest.update(values.tobytes())
        return digest.digest()

    def without(self, row: int) -> Question:
        """The same if the person had never met an item, which could then be recommended to them."""
        past, met = self.person.history, self.person.seen
        person = replace(self.person, history=past.keep(past.items != row), seen=met[met != row])
        return replace(self, person=person, history=self.history.keep(self.history.items != row))


@dataclass(frozen=True)
class Reading:
    """One person as a model reads them.

    Args:
        query: float32 ``(K, D)`` of unit norm, one for each of K interests.
        parts: what each reader adds to it, ``(K, D)``, and what the person wants less of takes away (``"less"``).
    """

    query: Tensor
    parts: dict[str, Tensor]


@torch.inference_mode()
def read(model: TwoTower, question: Question) -> Reading | None:
    """How a person is read; None where no reader has anything to read."""
    sequence, text = model.user.readings(question.history, question.memory, question.text)
    weighted = model.user.weighted(sequence, text, asked=bool(question.text))
    if not weighted:
        return None
    total = added(weighted)
    norm = total.norm(dim=-1, keepdim=True).clamp(min=SMALLEST)
    parts = {name: _by_interest(part / norm) for name, part in weighted.items()}
    reading = Reading(_by_interest(unit(total)), parts)
    less = torch.from_numpy(question.person.less)
    return _moved(reading, question.memory.vectors[less]) if len(less) else reading


def _moved(reading: Reading, less: Tensor) -> Reading:
    """A reading away from what the person wants less of, as `serving.moment.away_from` moves queries."""
    away = -LESS * less.mean(dim=0).expand_as(reading.query)
    norm = (reading.query + away).norm(dim=-1, keepdim=True)
    parts = {name: part / norm for name, part in {**reading.parts, "less": away}.items()}
    return Reading((reading.query + away) / norm, parts)


@dataclass(frozen=True)
class LeftOut:
    """A person read once without each of their past items.

    Args:
        reader: which reader reads past items: ``"sequence"``, or ``"text"`` where there is no other.
        rows: int64 ``(M,)`` the items that it has read.
        vectors: what it makes of the person without each, ``(M, K, D)`` of unit norm, zero where nothing is left.
    """

    reader: str
    rows: np.ndarray
    vectors: Tensor


@torch.inference_mode()
def leave_out(model: TwoTower, question: Question) -> LeftOut:
    """What the reader of past items makes of a person without each of those that it reads."""
    history, memory, user = question.history, question.memory, model.user
    if user.sequence is not None:
        rows, vectors = _left_out_of_sequence(user.sequence, history, memory)
        return LeftOut("sequence", rows, vectors.reshape(len(rows), int(np.prod(user.shape[:-1])), user.shape[-1]))
    nothing = LeftOut("text", np.empty(0, np.int64), torch.empty(0, 1, memory.vectors.shape[1]))
    if user.text is None or memory.text is None or question.text is not None:
        return nothing
    told = np.unique(memory.text.told(history)[0]).astype(np.int64)
    rows = np.unique(history.items[told[told >= 0]])
    if not len(rows):
        return nothing
    tokens = memory.text.tokens(history.without_each(rows))
    ids, mask = user.text.encoder.pad(tokens)
    vectors = user.text(ids.to(memory.vectors.device), mask.to(memory.vectors.device))
    return LeftOut("text", rows, _where(np.array([len(one) > 0 for one in tokens], bool), vectors[:, None]))


def _left_out_of_sequence(reader: PastReader, history: Histories, memory: Memory) -> tuple[np.ndarray, Tensor]:
    """The items that are read, and what the reader makes of the person without each, zero where nothing is left."""
    length, device = reader.config.length, memory.vectors.device
    window = history.items[-length - 1 :]
    distinct = len(window) == len(np.unique(window))
    if isinstance(reader, SetReader) and distinct and 1 <= len(window) <= length:
        batch = SequenceBatch.of(history, length).to(device)
        return window, reader.without_each(memory.vectors, batch, memory.half_life)
    if isinstance(reader, SequenceReader) and distinct and 2 <= len(window) <= QUICK:
        batch = SequenceBatch.of(history, length + 1).to(device)
        return window[-length:], without_each_event(reader, memory.vectors, batch, memory.half_life)
    rows = np.unique(history.items[-length:])
    left = history.without_each(rows)
    together = max(1, AT_ONCE // max(1, int(left.lengths.max(initial=0))) ** 2)
    found = [torch.empty(0, *reader.shape, device=device)]
    for start in range(0, len(rows), together):
        some = left.take(range(start, min(start + together, len(rows))))
        read_anew = reader(memory.vectors, SequenceBatch.of(some, length).to(device), memory.half_life)[:, -1]
        read_anew[torch.from_numpy(some.lengths == 0)] = 0
        found.append(read_anew)
    return rows, torch.cat(found)


def _by_interest(vectors: Tensor) -> Tensor:
    """``(1, D)`` or ``(1, K, D)`` as ``(K, D)``."""
    return vectors.reshape(-1, vectors.shape[-1])


def _where(there: np.ndarray, vectors: Tensor) -> Tensor:
    return vectors * torch.from_numpy(there).to(vectors)[:, None, None]
