"""The words of a sentence in items' texts: names and rare words, which vectors blur."""

from __future__ import annotations

from collections.abc import Sequence

import bm25s
import numpy as np


class Words:
    """How much of a sentence an item's own text has, word for word.

    BM25 in Lucene's form, ``sum of idf(w) tf / (tf + k1 (1 - b + b length / mean length))`` over the words w of a
    sentence, divided by the sum of their idf, which it cannot exceed; so 1 stands for all of it, and words that no
    text has count against every item alike. English stop words are left out.
    (Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009, with k1 = 1.5 and b = 0.75.)

    Args:
        texts: one for each of N items, "" for none.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._count = len(texts)
        tokens = _tokens(texts)
        seen_in: dict[str, int] = {}
        for words in tokens:
            for word in set(words):
                seen_in[word] = seen_in.get(word, 0) + 1
        self._seen_in = seen_in
        self._bm25 = bm25s.BM25(method="lucene")
        if seen_in:
            self._bm25.index(tokens, show_progress=False)

    def shares(self, sentence: str) -> np.ndarray:
        """float32 ``(N,)`` in [0, 1)."""
        words = _tokens([sentence])[0]
        if not any(word in self._seen_in for word in words):
            return np.zeros(self._count, np.float32)
        return self._bm25.get_scores(words) / sum(self._idf(word) for word in words)

    def _idf(self, word: str) -> float:
        seen = self._seen_in.get(word, 0)
        return float(np.log(1 + (self._count - seen + 0.5) / (seen + 0.5)))


def _tokens(texts: Sequence[str]) -> list[list[str]]:
    return bm25s.tokenize(list(texts), stopwords="en", return_ids=False, show_progress=False)
