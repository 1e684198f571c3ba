"""Numbers that are chosen on validation data once the towers are trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from indexing.bonus import with_bonus
from indexing.exact import exact_search
from indexing.excluded import Excluded
from indexing.hits import Hits
from indexing.interests import merged, similarities
from towers.catalog import Catalog
from towers.history import Histories
from towers.model import TwoTower
from towers.user import Memory
from towers.words import Words
from training.held_out import Asked
from training.measuring.metrics import graded_ndcg, matches, ndcg
from training.measuring.splits import Questions

GATES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 1.0)
WEIGHTS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
WORD_WEIGHTS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
STARS = 5  # most stars
DEPTH = 100  # candidates that are re-ranked while the weight is chosen


def choose_gate(model: TwoTower, memory: Memory, validation: Questions) -> tuple[np.ndarray, dict[str, Any] | None]:
    """How much the text reader counts beside the sequence reader, by NDCG@20; it is set in the model.

    Training cannot tell: on the events that both were trained on, either looks better than it is.

    Returns:
        The queries of the validation histories ``(M, D)``, or ``(M, K, D)`` for K interests; the gate and NDCG@20 for
        each one tried, None where there is one reader only.
    """
    if model.user.sequence is None or model.user.text is None:
        return model.user.encode_together(validation.histories, memory), None
    sequence, text = model.user.read_together(validation.histories, memory)
    model.user.fusion.set_gate("sequence", 1.0)

    @torch.inference_mode()
    def fused(gate: float) -> np.ndarray:
        model.user.fusion.set_gate("text", gate)
        return model.user.fuse(sequence, text).cpu().numpy()

    reached = {gate: mean_ndcg(search(fused(gate), memory, validation, 20), validation) for gate in GATES}
    best = _best(reached)
    return fused(best), {"gate": best, "ndcg@20": _as_json(reached)}


def choose_weight(
    model: TwoTower, memory: Memory, validation: Questions, queries: np.ndarray, past: Histories
) -> dict[str, Any]:
    """How much a predicted rating counts in re-ranking, by NDCG@20; it is set in the model.

    What people rated higher is worth more: gains are stars, 1 to 5 of them for ratings from 0 to 1, or all alike where
    there are no ratings. Of a single target any gain makes the same NDCG.

    Args:
        model, memory, validation: what re-ranks, items, questions with known answers.
        queries: float32 ``(M, D)`` or ``(M, K, D)`` of the validation histories.
        past: all training events.

    Returns:
        The weight and NDCG@20 for each one tried.
    """
    hits = search(queries, memory, validation, DEPTH, model.standing(past, len(memory.vectors)))
    ratings = model.rate(validation.histories, memory, hits.rows)
    gains = 1 + (STARS - 1) * np.nan_to_num(validation.targets.ratings.astype(np.float64), nan=0.5)
    reached = {}
    for weight in WEIGHTS:
        model.rating.weight.fill_(weight)
        reranked = hits.rescored(model.rerank_scores(hits.scores, ratings))
        reached[weight] = float(np.nanmean(graded_ndcg(reranked.rows, validation.targets, gains, 20)))
    best = _best(reached)
    model.rating.weight.fill_(best)
    return {"weight": best, "ndcg@20": _as_json(reached)}


def choose_words(model: TwoTower, catalog: Catalog, asked: Asked) -> dict[str, Any] | None:
    """How much a sentence's words count beside its query, by NDCG@20; it is set in the model.

    Args:
        model: with a text reader.
        catalog: items whose texts lack the sentences.
        asked: those sentences.

    Returns:
        The weight and NDCG@20 for each one tried; None where there is no sentence, and the weight stays as it is.
    """
    if not asked.sentences:
        return None
    assert model.user.text is not None
    vectors = model.embed_items(catalog)
    memory, words = model.memory(catalog, vectors), Words(catalog.texts(model.template))
    reached = dict.fromkeys(WORD_WEIGHTS, 0.0)
    for row, sentence in zip(asked.rows, asked.sentences, strict=True):
        cosines = similarities(model.encode(Histories.of([[]]), memory, [sentence]), vectors)
        shares, answer = words.shares(sentence), Histories.of([[int(row)]])
        for weight in WORD_WEIGHTS:
            rows = Hits.top(cosines + weight * shares, 20).rows
            reached[weight] += float(ndcg(matches(rows, answer), answer.lengths, 20)[0]) / len(asked.rows)
    best = _best(reached)
    model.user.text.words.fill_(best)
    return {"weight": best, "ndcg@20": _as_json(reached), "sentences": len(asked.rows)}


def search(queries: np.ndarray, memory: Memory, questions: Questions, k: int, bonus: np.ndarray | None = None) -> Hits:
    """The k best items of each question's queries by exact search, those of its history left out."""
    vectors, histories = memory.vectors.cpu().numpy(), questions.histories
    seen = Excluded.of(Excluded(histories.people, histories.items), len(histories), len(vectors))

    def nearest(queries: np.ndarray, seen: Excluded) -> Hits:
        hits = exact_search(queries, vectors, k, exclude=seen)
        return hits if bonus is None else with_bonus(hits, queries, vectors, bonus, seen)

    return merged(nearest, queries, vectors, seen, bonus)


def mean_ndcg(hits: Hits, questions: Questions) -> float:
    """NDCG@20, the mean over questions."""
    return float(np.nanmean(ndcg(matches(hits.rows, questions.targets), questions.targets.lengths, 20)))


def _best(reached: dict[float, float]) -> float:
    """The first of the best, which is the smallest."""
    return max(reached, key=lambda value: reached[value])


def _as_json(reached: dict[float, float]) -> dict[str, float]:
    return {str(value): round(score, 6) for value, score in reached.items()}
