"""How items stand before anybody asks, chosen on validation data: popularity of late, and what new items need."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from indexing.hits import Hits
from indexing.interests import similarities
from towers.contents import Contents
from towers.history import Histories
from towers.model import TwoTower
from towers.user import Memory
from training.choices import DEPTH, mean_ndcg, search
from training.measuring.content_baseline import ContentKNN
from training.measuring.metrics import matches, recall
from training.measuring.splits import Questions

TREND_WEIGHTS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
HALF_LIVES = (3.0, 7.0, 14.0, 30.0)  # days
LEVELS = (0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 1.0, 1.5, 2.0, 3.0)
NEW_WEIGHTS = (1.0, 0.6, 0.3, 0.1, 0.05, 2.0)
PRICE = 1 / 3  # the largest share of NDCG@20 that finding new items may cost
ENOUGH = 100  # people who went on to a new item, for validation to tell what its level should be


def choose_trend(
    model: TwoTower, memory: Memory, validation: Questions, queries: np.ndarray, past: Histories
) -> dict[str, Any] | None:
    """How much popularity of late counts and how fast it passes, by NDCG@20; both are set in the model.

    Args:
        model, memory, validation, queries: as in `choose_weight`.
        past: all training events.

    Returns:
        Weight, half-life and NDCG@20 for each pair tried; None where events have no times.
    """
    if past.times is None:
        return None
    reached = {}
    for half_life in HALF_LIVES:
        for weight in TREND_WEIGHTS:
            model.trend_half_life.fill_(half_life)
            model.trend_weight.fill_(weight)
            bonus = model.standing(past, len(memory.vectors))
            reached[weight, half_life] = mean_ndcg(search(queries, memory, validation, 20, bonus), validation)
    weight, half_life = max(reached, key=lambda pair: (reached[pair], -pair[0]))
    model.trend_weight.fill_(weight)
    model.trend_half_life.fill_(half_life)
    tried = {f"{weight:g} in {half_life:g} days": round(value, 6) for (weight, half_life), value in reached.items()}
    return {"weight": weight, "half_life_days": half_life, "ndcg@20": tried}


def choose_new_weights(
    model: TwoTower, contents: Contents, id_rows: Tensor, validation: Questions, queries: np.ndarray, past: Histories
) -> dict[str, Any] | None:
    """How much each kind of content counts for items that nobody has met; it is set in the model.

    Gates are learned from known items, for which a kind may be worth what it is not worth for new ones, such as where
    it tells single items apart. One kind after the other, from the second on, gets the weight with which new items are
    found best among themselves; the first stays as it is, since only proportions matter.

    Args:
        model: with id vectors, or nothing is chosen: all its items are read alike.
        contents, id_rows: of the N items.
        validation, queries, past: as in `choose_trend`.

    Returns:
        The weights, and recall@20 among new items for those tried; None where there is but one kind, or fewer than
        `ENOUGH` people went on to a new item.
    """
    new = np.flatnonzero(np.bincount(past.items, minlength=len(id_rows)) == 0)
    asked = validation.targets.keep(np.isin(validation.targets.items, new))
    if model.item.id is None or len(contents.vectors) < 2 or (asked.lengths > 0).sum() < ENOUGH:
        return None
    some, rows = contents.take(torch.from_numpy(new)), id_rows[torch.from_numpy(new)]
    met = validation.histories.keep(np.isin(validation.histories.items, new))

    def found() -> float:
        cosines = similarities(queries, model.item_vectors(some, rows))
        cosines[met.people, np.searchsorted(new, met.items)] = -np.inf
        places = Hits.top(cosines, 20).rows
        return float(np.nanmean(recall(matches(np.where(places < 0, -1, new[places]), asked), asked.lengths, 20)))

    names, weights, tried = list(model.item.contents), model.item.new_weights, {}
    for place, name in list(enumerate(names))[1:]:
        reached = {}
        for weight in NEW_WEIGHTS:
            weights[place] = weight
            reached[weight] = found()
            tried[f"{name} {weight:g}"] = round(reached[weight], 6)
        weights[place] = max(reached, key=lambda weight: reached[weight])
    return {"weights": dict(zip(names, weights.tolist(), strict=True)), "recall@20": tried}


def choose_level(
    model: TwoTower,
    memory: Memory,
    validation: Questions,
    queries: np.ndarray,
    past: Histories,
    *,
    content: np.ndarray,
    margin: float,
) -> dict[str, Any] | None:
    """How high items stand that nobody has met; it is set in the model, perhaps with another weight of the trend.

    No NDCG asks for new items: the old ones are the safer bet, and popularity of late lifts them further. So the choice
    is the best NDCG@20 among those under which new items are found `margin` times as often as nearest neighbours by
    content find them, or, where none does, the one that finds most; no choice may cost more than `PRICE` of the best
    NDCG@20. The price is in the answer.

    Args:
        model, memory, validation, queries, past: as in `choose_trend`.
        content: frozen content vectors float32 ``(N, C)``.
        margin: 0 or more; with 0 the level stays 0.

    Returns:
        The level, the trend's weight, recall@20 of new items by content neighbours, and recall@20 of new items and
        NDCG@20 for each pair tried; None where fewer than `ENOUGH` people went on to a new item, and the level stays 0.
    """
    unmet = np.bincount(past.items, minlength=len(content)) == 0
    asked = validation.targets.keep(unmet[validation.targets.items])
    if not margin or (asked.lengths > 0).sum() < ENOUGH or not content.any():
        return None

    def found(hits: Hits) -> float:
        return float(np.nanmean(recall(matches(hits.rows, asked), asked.lengths, 20)))

    by_content = found(ContentKNN(vectors=content).fit(past, len(content)).rank(validation.histories, 20))
    weights = TREND_WEIGHTS if past.times is not None else (0.0,)
    reached = {}
    for weight in weights:
        for level in LEVELS:
            model.trend_weight.fill_(weight)
            model.level.fill_(level)
            hits = search(queries, memory, validation, DEPTH, model.standing(past, len(content)))
            reached[level, weight] = found(hits), mean_ndcg(hits, validation)
    level, weight = _best_level(reached, margin * by_content)
    model.level.fill_(level)
    model.trend_weight.fill_(weight)
    return {
        "level": level,
        "weight": weight,
        "by_content": round(by_content, 6),
        "recall@20/cold": {_name(*pair): round(new, 6) for pair, (new, _) in reached.items()},
        "ndcg@20": {_name(*pair): round(ndcg, 6) for pair, (_, ndcg) in reached.items()},
    }


def _best_level(reached: dict[tuple[float, float], tuple[float, float]], wanted: float) -> tuple[float, float]:
    """The pair of the best NDCG among those that find new items as often as `wanted`, or else that finds most."""
    dearest = (1 - PRICE) * max(ndcg for _, ndcg in reached.values())
    affordable = {pair: found for pair, found in reached.items() if found[1] >= dearest}
    enough = {pair: ndcg for pair, (new, ndcg) in affordable.items() if new >= wanted}
    if enough:
        return max(enough, key=lambda pair: enough[pair])
    return max(affordable, key=lambda pair: affordable[pair])


def _name(level: float, weight: float) -> str:
    return f"{level:g} beside {weight:g}"
