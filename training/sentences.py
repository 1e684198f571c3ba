"""Sentences for training: parts of an item's own text, so that a plain sentence finds items."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

DECADES = ("twenties", "thirties", "forties", "fifties", "sixties", "seventies", "eighties", "nineties")
TAG_WORDS = 200  # a column with at most so many different words holds tags, not prose
LONG = 12  # words; a longer value gives one of its sentences
GLUE = (" ", ", ", "; ", " and ")


class SentenceSampler:
    """Draws, for an item, a sentence that says part of what its columns say.

    A subset of the columns, in any order; of tags (genres, colours) one or two words; of prose one
    sentence; of a year the year itself or its decade in figures or in words.

    Args:
        columns: name → value of each item as text, "" where it is missing; all of one length.
    """

    def __init__(self, columns: Mapping[str, Sequence[str]]) -> None:
        self._columns = list(columns.values())
        self._kinds = [_kind(values) for values in self._columns]

    def __call__(self, item: int, rng: np.random.Generator) -> str:
        """A sentence about the item at row `item`; "" where nothing is known of it."""
        present = [n for n, values in enumerate(self._columns) if values[item]]
        if not present:
            return ""
        size = int(rng.integers(1, len(present) + 1))
        chosen = rng.permutation(present)[:size]
        parts = [_part(self._columns[n][item], self._kinds[n], rng) for n in chosen]
        return GLUE[rng.integers(len(GLUE))].join(part for part in parts if part)


class SentencePool:
    """A fixed set of sentences about every item, for the epochs in which they are read by the frozen encoder.

    Args:
        sampler: draws them.
        items: number of items N.
        each: sentences of an item.
    """

    def __init__(self, sampler: SentenceSampler, items: int, each: int) -> None:
        rng = np.random.default_rng(0)  # the same for every run, so that their vectors are found in the cache
        pairs = [(item, sampler(item, rng)) for item in range(items) for _ in range(each)]
        self.items = np.array([item for item, text in pairs if text], np.int64)
        self.texts = [text for _, text in pairs if text]


def sentences_of(prose: str) -> list[str]:
    """The sentences of a text."""
    return re.split(r"(?<=[.!?])\s+", prose)


def is_prose(values: Sequence[str]) -> bool:
    """Whether a column holds sentences rather than tags or years."""
    return _kind(values) == "prose"


def _kind(values: Sequence[str]) -> str:
    filled = [value for value in values if value]
    if filled and all(re.fullmatch(r"1[89]\d\d|20\d\d", value) for value in filled):
        return "year"
    words = {word.strip(",;") for value in filled for word in value.split()}
    return "tags" if len(words) <= TAG_WORDS and len(words) < len(filled) else "prose"


def _part(value: str, kind: str, rng: np.random.Generator) -> str:
    if kind == "year":
        return _year(int(value), rng)
    words = value.split()
    if kind == "tags":
        picked = rng.permutation(len(words))[: rng.integers(1, 3)]
        return " ".join(words[n].strip(",;") for n in sorted(picked))
    if len(words) <= LONG:
        return value
    sentences = [s for s in sentences_of(value) if len(s.split()) > 2] or [value]
    return sentences[rng.integers(len(sentences))]


def _year(year: int, rng: np.random.Generator) -> str:
    decade = year // 10 * 10
    forms = [str(year), f"{decade}s"]
    if 1920 <= decade <= 1990:
        forms.append(DECADES[(decade - 1920) // 10])
    return forms[rng.integers(len(forms))]
