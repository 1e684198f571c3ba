"""User tower: two readers of one person, fused into one query."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from towers.encoders.contract import Encoder
from towers.errors import InputError
from towers.evaluating import evaluating
from towers.fusion import MaskedFusion, added, unit
from towers.history import NOTHING_KNOWN, Histories
from towers.history_text import HistoryText
from towers.recent import Recent
from towers.sequence_reader import DAY, SequenceBatch, SequenceConfig, SequenceReader
from towers.set_reader import SetReader
from towers.text_reader import TextReader, TextReaderConfig

TEXT_GATE = 0.25  # at first; after training it is chosen on validation data
TOGETHER = 128  # people read at once
SHORTEST = 1e-6  # seconds of a half-life; what is divided by a much shorter one is no number in float32

# Of B people, each (D,), or (K, D) for K interests, and of whom there was something to read.
Reading = tuple[Float[Tensor, "b ..."], Bool[Tensor, " b"]]

PastReader = SequenceReader | SetReader


@dataclass(frozen=True)
class Memory:
    """What the user tower knows of the items that histories speak of, by catalog row.

    Args:
        vectors: item vectors float32 ``(N, D)``.
        id_rows: row of each item's own vector in the model ``(N,)``, -1 for none.
        text: writes histories for the text reader; None where it is off.
        half_life: seconds after which an event counts half to the sequence reader; None: as training has it.
        read: what the text reader made of the last texts, by a digest of their tokens; None keeps nothing, as it must
            be where the model still changes.
        shown: ``(1, D)`` the vector of a picture or a sound that a question came with, the last row; None: none did.
    """

    vectors: Float[Tensor, "n d"]
    id_rows: Int[Tensor, " n"]
    text: HistoryText | None
    half_life: float | None = None
    read: Recent[Tensor | None] | None = None
    shown: Float[Tensor, "1 d"] | None = None

    def fading(self, days: float | None) -> Memory:
        """The same, with old events counting less; None: not so.

        Raises:
            InputError: not above 0.
        """
        if days is not None and not 0 < days < math.inf:
            raise InputError(f"half_life must be a number of days above 0, got {days!r}")
        return replace(self, half_life=None if days is None else max(days * DAY, SHORTEST))

    def with_one_more(self, vector: Float[Tensor, "1 d"]) -> Memory:
        """The same and, as the last row, one more item of which nothing but its vector is known."""
        vector = vector.to(self.vectors.device)
        new_row = torch.full((1,), -1, device=self.id_rows.device)
        return Memory(
            torch.cat([self.vectors, vector]),
            torch.cat([self.id_rows, new_row]),
            self.text.with_one_more() if self.text is not None else None,
            self.half_life,
            self.read,
            vector,
        )


class UserTower(nn.Module):
    """Histories or sentences to queries of unit norm, one for each person or one for each of their interests.

    The sequence reader tells interests apart. A text speaks of the whole person, or of what they ask for now, so it is
    fused into each of them: its gate means the same for any number, and a sentence draws all of them its way.

    Args:
        sequence: configuration of the sequence reader, None for none.
        text: configuration of the text reader, None for none.
        encoder: the item side's text encoder, needed by the text reader.
        hidden: width of the text reader's projection.
        dimension: length D of a query.
        interests: how many queries K the sequence reader makes of a person.

    Attributes:
        shape: of what is asked for a person: ``(D,)``, or ``(K, D)`` for several interests.

    Raises:
        InputError: both readers are off, or the text reader cannot use this encoder.
    """

    def __init__(
        self,
        *,
        sequence: SequenceConfig | None,
        text: TextReaderConfig | None,
        encoder: Encoder,
        hidden: int,
        dimension: int,
        interests: int = 1,
    ) -> None:
        super().__init__()
        if sequence is None and text is None:
            raise InputError("a user tower needs a reader: turn on [user.sequence], [user.text] or both")
        self.sequence = _past_reader(sequence, dimension, interests) if sequence else None
        self.text = TextReader(config=text, encoder=encoder, hidden=hidden, dimension=dimension) if text else None
        self.fusion = MaskedFusion({"sequence": 1.0, "text": TEXT_GATE})
        self.shape = (dimension,) if self.sequence is None else self.sequence.shape
        self.reads_text = text is not None  # False while only the sequence reader has been trained

    def fuse(
        self,
        sequence: tuple[Float[Tensor, "*q d"], Bool[Tensor, "*b"] | None] | None,
        text: tuple[Float[Tensor, "*b d"], Bool[Tensor, "*b"] | None] | None,
    ) -> Float[Tensor, "*q d"]:
        """Queries from what the readers gave, each with the mask of where it has something to say."""
        parts = {}
        if sequence is not None:
            parts["sequence"] = sequence[0], self._for_each(sequence[1])
        if text is not None:
            parts["text"] = self._beside_each(text[0]), self._for_each(text[1])
        return self.fusion(parts)

    def _beside_each(self, vectors: Float[Tensor, "*b d"]) -> Float[Tensor, "*q d"]:
        """The same vector for each interest of a person."""
        several = self.shape[:-1]
        return vectors.unsqueeze(-2).expand(*vectors.shape[:-1], *self.shape) if several else vectors

    def _for_each(self, mask: Bool[Tensor, "*b"] | None) -> Bool[Tensor, "*q"] | None:
        several = self.shape[:-1]
        return mask.unsqueeze(-1).expand(*mask.shape, *several) if mask is not None and several else mask

    @torch.inference_mode()
    def encode(self, histories: Histories, memory: Memory, texts: Sequence[str | None] | None = None) -> np.ndarray:
        """Queries float32 ``(B, D)``, or ``(B, K, D)`` for K interests, each person read alone.

        Reading people one at a time, unpadded, makes a query independent of who else is asked for:
        the same person has the same bits in evaluation, from Python and from a terminal.

        Args:
            histories: B pasts, which may be empty.
            memory: items that they speak of.
            texts: a sentence for each person, read instead of the history text; None: none. Beside a history it counts
                as much as the history.

        Raises:
            InputError: a person of whom nothing is known that a reader of this model could read.
        """
        sentences = list(texts) if texts is not None else [None] * len(histories)
        queries = np.empty((len(histories), *self.shape), np.float32)
        for person in range(len(histories)):
            sequence, text = self.readings(histories.take([person]), memory, sentences[person])
            if sequence is None and text is None:
                raise InputError(NOTHING_KNOWN)
            query = unit(added(self.weighted(sequence, text, asked=bool(sentences[person]))))
            queries[person] = query[0].cpu().numpy()
        return queries

    def weighted(
        self,
        sequence: Float[Tensor, "*q d"] | None,
        text: Float[Tensor, "*b d"] | None,
        *,
        asked: bool,
    ) -> dict[str, Float[Tensor, "*q d"]]:
        """What each of the `readings` of people adds to their queries before these are scaled to unit norm.

        Args:
            sequence, text: what the readers gave, None where they had nothing to read.
            asked: whether the text is a sentence: what a person asks for counts as much as what they did.

        Returns:
            Parts called ``"sequence"`` and ``"text"``; where no reader of past items is there, what was shown is called
            ``"shown"`` and counts as much as the text.
        """
        first = "shown" if self.sequence is None else "sequence"
        parts = {} if sequence is None else {first: sequence}
        if text is not None:
            parts["text"] = self._beside_each(text)
        if "shown" in parts or (asked and len(parts) == 2):
            return parts
        return {name: self.fusion.gate(name) * part for name, part in parts.items()}

    @torch.inference_mode()
    def readings(
        self, one: Histories, memory: Memory, sentence: str | None = None
    ) -> tuple[Float[Tensor, "1 ..."] | None, Float[Tensor, "1 d"] | None]:
        """What each reader says of one person, None where it has nothing to read: sequence, text.

        Where there is no reader of past items, a picture or a sound that was shown speaks for itself: items and queries
        are of one space.
        """
        device = memory.vectors.device
        with evaluating(self):
            tokens = self._tokens(one, sentence, memory)
            return self._read_sequence(one, memory, device), self._recall_text(tokens, memory)

    @torch.inference_mode()
    def read_together(
        self, histories: Histories, memory: Memory, texts: Sequence[str | None] | None = None
    ) -> tuple[Reading | None, Reading | None]:
        """What each reader says of B people, many read at once: sequence, text; None for a reader that is off.

        Much faster than one at a time, and the same but for the last bits.
        """
        with evaluating(self):
            return self._sequences(histories, memory), self._texts(histories, memory, texts or [None] * len(histories))

    @torch.inference_mode()
    def encode_together(
        self, histories: Histories, memory: Memory, texts: Sequence[str | None] | None = None
    ) -> np.ndarray:
        """What `encode` gives but for the last bits, many people read at once.

        Raises:
            InputError: as `encode` does.
        """
        sequence, text = self.read_together(histories, memory, texts)
        known = torch.stack([mask for _, mask in filter(None, (sequence, text))])
        if not known.any(0).all():
            raise InputError(NOTHING_KNOWN)
        queries = self.fuse(sequence, text)
        if texts is not None and sequence is not None and text is not None:
            asked = known.all(0) & torch.tensor([bool(one) for one in texts], device=known.device)
            queries[asked] = unit(added(self.weighted(sequence[0][asked], text[0][asked], asked=True)))
        return queries.float().cpu().numpy()

    def _sequences(self, histories: Histories, memory: Memory) -> Reading | None:
        if self.sequence is None:
            return None
        length, found = self.sequence.config.length, _nothing(len(histories), self.sequence.shape, memory)
        for rows in _of_like_length(np.minimum(histories.lengths, length)):
            batch = SequenceBatch.of(histories.take(rows), length).to(memory.vectors.device)
            _fill(found, rows, self.sequence(memory.vectors, batch, memory.half_life)[:, -1])
        return found

    def _texts(self, histories: Histories, memory: Memory, texts: Sequence[str | None]) -> Reading | None:
        if self.text is None or memory.text is None or not self.reads_text:
            return None
        tokens = [self._tokens(histories.take([person]), text, memory) for person, text in enumerate(texts)]
        found = _nothing(len(histories), self.shape[-1:], memory)
        lengths = np.array([len(ids) for ids in tokens])
        for row, one in enumerate(tokens):
            if memory.read is not None and (vector := memory.read.find(_digest(one))) is not None:
                _fill(found, np.array([row]), vector)
                lengths[row] = 0  # there is nothing left to read
        for rows in _of_like_length(lengths):
            ids, mask = self.text.encoder.pad([tokens[row] for row in rows])
            vectors = self.text(ids.to(memory.vectors.device), mask.to(memory.vectors.device))
            _fill(found, rows, vectors)
            if memory.read is not None:
                for row, vector in zip(rows, vectors, strict=True):
                    memory.read.keep(_digest(tokens[row]), vector[None])
        return found

    def _tokens(self, one: Histories, sentence: str | None, memory: Memory) -> list[int]:
        if self.text is None or memory.text is None or not self.reads_text:
            return []
        if sentence:
            return self.text.encoder.tokenize([sentence])[0]
        return memory.text.tokens(one)[0]

    def _read_sequence(self, one: Histories, memory: Memory, device: torch.device) -> Tensor | None:
        if self.sequence is None:
            return memory.shown
        if len(one.items) == 0:
            return None
        batch = SequenceBatch.of(one, self.sequence.config.length).to(device)
        return self.sequence(memory.vectors, batch, memory.half_life)[:, -1]

    def _recall_text(self, tokens: list[int], memory: Memory) -> Tensor | None:
        """What the text reader makes of tokens, read only where it is not remembered."""
        device = memory.vectors.device
        if memory.read is None or not tokens:
            return self._read_text(tokens, device)
        return memory.read.get(_digest(tokens), lambda: self._read_text(tokens, device))

    def _read_text(self, tokens: list[int], device: torch.device) -> Tensor | None:
        if self.text is None or not tokens:
            return None
        ids, mask = self.text.encoder.pad([tokens])
        return self.text(ids.to(device), mask.to(device))


def _past_reader(config: SequenceConfig, dimension: int, interests: int) -> PastReader:
    if config.ordered:
        return SequenceReader(config=config, dimension=dimension, interests=interests)
    return SetReader(config=config, dimension=dimension)


def _digest(tokens: list[int]) -> bytes:
    return hashlib.blake2b(np.array(tokens, np.int64).tobytes(), digest_size=16).digest()


def _nothing(people: int, shape: tuple[int, ...], memory: Memory) -> Reading:
    vectors = torch.zeros(people, *shape, device=memory.vectors.device)
    return vectors, torch.zeros(people, dtype=torch.bool, device=vectors.device)


def _fill(reading: Reading, rows: np.ndarray, vectors: Float[Tensor, "some ..."]) -> None:
    where = torch.from_numpy(rows).to(vectors.device)
    reading[0][where], reading[1][where] = vectors.to(reading[0]), True


def _of_like_length(lengths: np.ndarray) -> list[np.ndarray]:
    """Rows of what is not empty, `TOGETHER` of like length at a time."""
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    return [order[start : start + TOGETHER] for start in range(0, len(order), TOGETHER)]
