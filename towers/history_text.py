"""History text: what BERT reads of a person, newest event first. No torch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from towers.history import Histories

Tokens = list[int]
Piece = tuple[str, Tokens, int]  # words, and the event that they tell of; -1: none
Tokenize = Callable[[Sequence[str]], list[Tokens]]

LIKING = ("hated", "disliked", "found fair", "liked", "loved")
"""Words for a rating in [0, 1], five equal parts."""

DAY = 86_400.0
AT_ONCE = 2**14  # texts of which the tokens are held
AGES = (
    (1 * DAY, "a day before:"),
    (7 * DAY, "a week before:"),
    (30 * DAY, "a month before:"),
    (365 * DAY, "a year before:"),
)
"""Words for how long before the newest event, from that many seconds on."""


class HistoryTextConfig(BaseModel):
    """How a history becomes text."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    template: str | None = None
    """Columns and words that stand for one past item, such as `"{title}[, {genres}]"`; default: the item's own text."""
    budget: int = Field(default=64, ge=16)
    """Most tokens of a history, special tokens included; the oldest events are dropped first."""
    item_budget: int = Field(default=20, ge=4)
    """Most tokens of one past item."""
    comment_budget: int = Field(default=24, ge=0)
    """Most tokens of what the person wrote about one item, and of what is known about the person."""


class HistoryText:
    """Writes histories as text and as token ids, piece by piece, so that both always agree.

    Args:
        config: template and budgets.
        items: the text of each item by catalog row; "" where there is none.
        tokenize: texts → token ids without special tokens.
        prefix: instruction that the encoder wants before every text.
    """

    def __init__(
        self, *, config: HistoryTextConfig, items: Sequence[str], tokenize: Tokenize, prefix: str = ""
    ) -> None:
        self.config = config
        self._tokenize = tokenize
        self._prefix = tokenize([prefix])[0] if prefix else []
        self._items = [(text, ids[: config.item_budget]) for text, ids in zip(items, tokenize(items), strict=True)]
        words = [*LIKING, *(phrase for _, phrase in AGES), ";"]
        self._words = dict(zip(words, zip(words, tokenize(words), strict=True), strict=True))

    def with_one_more(self) -> HistoryText:
        """The same for a catalog with one more item at its end, which has no text."""
        other = copy.copy(self)
        other._items = [*self._items, ("", [])]
        return other

    def tokens(self, histories: Histories) -> list[Tokens]:
        """Token ids of each history, prefix included, at most ``budget - 2``, without special tokens.

        Events of items without text on which nothing was written are passed over.
        """
        written = [list(chain.from_iterable(ids for _, ids, _ in pieces)) for pieces in self._pieces(histories)]
        return [[*self._prefix, *ids] if ids else [] for ids in written]

    def tells(self, histories: Histories) -> np.ndarray:
        """Whether `tokens` has something to say of each past as it was after each event, bool ``(E,)``."""
        told = np.array([bool(ids) for _, ids in self._items], bool)[histories.items]
        if histories.texts is not None:
            told[~told] = self._any_written(histories.texts, np.flatnonzero(~told))
        before = np.append(0, told.cumsum())
        people, events = histories.people, np.arange(len(histories.items))
        tells = before[events + 1] > before[histories.offsets[people]]
        if histories.about is not None:
            silent = np.unique(people[~tells])
            about = np.zeros(len(histories), bool)
            about[silent] = self._any_written(histories.about, silent)
            tells |= about[people]
        return tells

    def told(self, histories: Histories) -> list[list[int]]:
        """Which event each of `tokens` tells of, as its place in ``histories.items``; -1 for none of them."""
        written = [[event for _, ids, event in pieces for _ in ids] for pieces in self._pieces(histories)]
        return [[*[-1] * len(self._prefix), *events] if events else [] for events in written]

    def texts(self, histories: Histories) -> list[str]:
        """The same histories in words, for people. The last piece may be cut in the tokens."""
        return [
            " ".join(text for text, _, _ in pieces if text).replace(" ;", ";") for pieces in self._pieces(histories)
        ]

    def _pieces(self, histories: Histories) -> list[list[Piece]]:
        about = histories.about.to_pylist() if histories.about is not None else [None] * len(histories)
        liking = np.minimum(np.nan_to_num(histories.ratings, nan=-1) * len(LIKING), len(LIKING) - 1).astype(int)
        return [self._person(histories, liking, person, about[person]) for person in range(len(histories))]

    def _person(self, histories: Histories, liking: np.ndarray, person: int, about: str | None) -> list[Piece]:
        start, end = histories.offsets[person : person + 2]
        room = self.config.budget - 2 - len(self._prefix)
        pieces: list[Piece] = []
        if about and (written := self._written(about)):
            room = self._add(pieces, [*written, self._words[";"]], -1, room, cut=True)
        age, newest = 0, True
        for event in range(end - 1, start - 1, -1):
            if room <= 0:
                break
            said = [self._items[histories.items[event]], *self._comment(histories, event)]
            if not any(ids for _, ids in said):
                continue
            group: list[tuple[str, Tokens]] = []
            if histories.times is not None and (now := _age(histories.times[end - 1] - histories.times[event])) > age:
                age = now
                group.append(self._words[AGES[age - 1][1]])
            if not np.isnan(histories.ratings[event]):
                group.append(self._words[LIKING[liking[event]]])
            room = self._add(pieces, [*group, *said, self._words[";"]], event, room, cut=newest)
            newest = False
        return pieces

    def _comment(self, histories: Histories, event: int) -> list[tuple[str, Tokens]]:
        comment = histories.texts[event].as_py() if histories.texts is not None else None
        return self._written(comment) if comment else []

    def _any_written(self, texts: pa.Array, rows: np.ndarray) -> np.ndarray:
        """Which of the texts at int64 ``(R,)`` `rows` have tokens that would be written, bool ``(R,)``."""
        found = np.zeros(len(rows), bool)
        for start in range(0, len(rows) if self.config.comment_budget else 0, AT_ONCE):
            some = texts.take(pa.array(rows[start : start + AT_ONCE])).fill_null("").to_pylist()
            found[start : start + AT_ONCE] = [bool(ids) for ids in self._tokenize(some)]
        return found

    def _written(self, text: str) -> list[tuple[str, Tokens]]:
        ids = self._tokenize([text])[0][: self.config.comment_budget]
        return [(text, ids)] if ids else []

    def _add(self, pieces: list[Piece], group: list[tuple[str, Tokens]], event: int, room: int, *, cut: bool) -> int:
        """Append a group; one that does not fit is cut or dropped whole. Returns the room that is left."""
        size = sum(len(ids) for _, ids in group)
        if size <= room:
            pieces += [(text, ids, event) for text, ids in group]
            return room - size
        for text, ids in group if cut else []:
            pieces.append((text, ids[:room], event))
            room -= len(pieces[-1][1])
        return 0


def _age(seconds: float) -> int:
    return sum(seconds >= least for least, _ in AGES)
