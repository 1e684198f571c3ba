"""What the demo finds out, for the terminal and for the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.recommendations import Recommendations
from towers.catalog import Catalog
from towers.interactions import Interactions
from training.config import Recipe
from training.measuring.splits import Split
from training.report import Report
from twotower.story import Story

COLUMNS = ("recall@20", "ndcg@20", "recall@20/tail", "coverage@20", "recall@100")


@dataclass(frozen=True, kw_only=True)
class Findings:
    """All that is told of a run.

    Args:
        catalog, log, split: the data.
        recipe: what was trained.
        training: what happened in training.
        rows: one for each method, as in a benchmark's JSON.
        verdict: whether ours beats every baseline, in a sentence.
        story: one person.
        words: a sentence that was asked.
        described: what it brings.
        film: title and year of one film.
        similar: its neighbours.
        vectors: float32 ``(N, D)`` of the films, in the catalog's order.
        seconds: of the whole run.
    """

    catalog: Catalog
    log: Interactions
    split: Split
    recipe: Recipe
    training: Report
    rows: list[dict[str, Any]]
    verdict: str
    story: Story
    words: str
    described: Recommendations
    film: str
    similar: Recommendations
    vectors: np.ndarray
    seconds: float

    def best(self) -> dict[str, float]:
        """The highest figure of each column of the table of methods."""
        return {name: max(value_of(row["metrics"][name]) for row in self.rows) for name in COLUMNS}

    def chosen(self) -> str:
        """The numbers that validation data chose, in words."""
        fusion, reranking, trend = self.training.fusion, self.training.reranking, self.training.trend
        parts = []
        if fusion is not None:
            parts.append(f"The text reader counts {fusion['gate']:g} beside 1 for the sequence reader.")
        if trend is not None:
            weight = (self.training.level or trend)["weight"]  # the level has the last word
            late = f"counts {weight:g}, halved every {trend['half_life_days']:g} days"
            parts.append(f"Popularity of late {late if weight else 'counts nothing'}.")
        if (level := self.training.level) is not None:
            parts.append(f"Films that nobody has met stand {level['level']:g} higher.")
        if reranking is None:
            parts.append("There are no ratings to re-rank by.")
        elif reranking["weight"]:
            parts.append(f"Predicted ratings count with a weight of {reranking['weight']:g} in re-ranking.")
        else:
            parts.append(
                "The weight of predicted ratings in re-ranking is 0, a miss: they did not improve the order, "
                "so the re-ranked lists are those of retrieval."
            )
        return f"Chosen on validation data: {' '.join(parts)}"


def value_of(metric: list[float] | float) -> float:
    """The value of a metric in a row, with or without an interval."""
    return metric[0] if isinstance(metric, list) else metric


def recipe_words(recipe: Recipe) -> str:
    """How long is trained, beside the recipe that ships."""
    ours, shipped = recipe.train, Recipe().train
    words = f"{ours.epochs} epochs, the last {ours.text_epochs} with the text reader"
    if ours.epochs >= shipped.epochs:
        return words
    return f"{words}; shorter than the recipe that ships ({shipped.epochs} and {shipped.text_epochs})"
