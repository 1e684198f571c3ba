"""Rivals for plain sentences, words (BM25) and the frozen text encoder, and how all are scored."""

from __future__ import annotations

from collections.abc import Sequence

import bm25s
import numpy as np

from benchmarks.text_queries import TextQuestions
from towers.embed import VectorCache
from towers.history import Histories
from towers.text import TextEncoder, embed_texts
from training.measuring.metrics import bootstrap, matches, ndcg, recall


def bm25_scores(texts: Sequence[str], sentences: Sequence[str]) -> np.ndarray:
    """BM25 of each sentence against the items' texts ``(Q, N)``, English stop words left out."""
    index = bm25s.BM25()
    index.index(bm25s.tokenize(list(texts), stopwords="en", show_progress=False), show_progress=False)
    words = bm25s.tokenize(list(sentences), stopwords="en", return_ids=False, show_progress=False)
    return np.stack([index.get_scores(w) if w else np.zeros(len(texts), np.float32) for w in words])


def frozen_scores(encoder: TextEncoder, texts: Sequence[str], sentences: Sequence[str]) -> np.ndarray:
    """Cosine of the untrained encoder's vectors ``(Q, N)``, the items' mean removed from both sides."""
    items = VectorCache().embed(encoder, texts).vectors.numpy()
    asked = embed_texts(encoder, sentences)
    mean = items.mean(axis=0)
    return _unit(asked - mean) @ _unit(items - mean).T


def score_questions(scores: np.ndarray, questions: TextQuestions) -> dict[str, list[float]]:
    """Recall@20 and NDCG@20 with intervals over questions; equal scores go to the lower row."""
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :20]
    targets = Histories.of([list(answer) for answer in questions.answers])
    found = matches(rows, targets)
    values = {"recall@20": recall(found, targets.lengths, 20), "ndcg@20": ndcg(found, targets.lengths, 20)}
    return {name: [round(v, 6) for v in bootstrap(value)] for name, value in values.items()}


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
