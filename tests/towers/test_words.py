"""Shares of a sentence's words, by hand and against the library's own BM25."""

from __future__ import annotations

import bm25s
import numpy as np
import pytest

from towers.words import Words

TEXTS = ["a red fox", "the red red dog and a cat", "", "blue fox"]


def idf(seen: int, count: int = 4) -> float:
    return np.log(1 + (count - seen + 0.5) / (seen + 0.5))


def test_shares_by_hand() -> None:
    """Lengths without stop words are 2, 4, 0 and 2, 2 on average."""
    norm = [1.5 * (0.25 + 0.75 * length / 2) for length in (2, 4, 0, 2)]
    red = idf(2) * np.array([1 / (1 + norm[0]), 2 / (2 + norm[1]), 0, 0])
    fox = idf(2) * np.array([1 / (1 + norm[0]), 0, 0, 1 / (1 + norm[3])])
    words = Words(TEXTS)
    np.testing.assert_allclose(words.shares("The red FOX!"), (red + fox) / (2 * idf(2)), rtol=1e-5)
    np.testing.assert_allclose(words.shares("red unicorns"), red / (idf(2) + idf(0)), rtol=1e-5)


def test_the_order_is_that_of_bm25() -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(f"word{n}" for n in rng.zipf(1.5, 20) % 60) for _ in range(200)]
    index = bm25s.BM25(method="lucene")
    index.index([text.split() for text in texts], show_progress=False)
    words = Words(texts)
    for start in range(10):
        asked = [f"word{n}" for n in range(start, start + 5)]
        shares, scores = words.shares(" ".join(asked)), index.get_scores(asked)
        ratio = shares[scores > 0] / scores[scores > 0]
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)
        assert 0 < shares.max() < 1


@pytest.mark.parametrize("sentence", ["", "  ", "of the", "unicorns only", "!?"])
def test_nothing_in_common_is_zero(sentence: str) -> None:
    np.testing.assert_array_equal(Words(TEXTS).shares(sentence), np.zeros(4, np.float32))


def test_items_without_any_word() -> None:
    np.testing.assert_array_equal(Words(["", "the"]).shares("red fox"), np.zeros(2, np.float32))
