"""What the demo of the generated shop finds out, for the terminal and for the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from training.config import Recipe
from training.report import Report
from twotower.studio.exam import KNOWN, METRIC, NEW, TRUTH, K
from twotower.studio.shelf import Answer, Shelf
from twotower.studio.shop import Shop


@dataclass(frozen=True, kw_only=True)
class Findings:
    """All that is told of a run.

    Args:
        shop: what was made.
        recipe: what was trained.
        training: what happened in training.
        shelf: what a person may pick.
        pick: three places of the shelf.
        answers: what is recommended for them.
        rows: one for each method and set of questions, as in a benchmark's JSON.
        listeners: how many were asked about.
        seconds: of the whole run.
    """

    shop: Shop
    recipe: Recipe
    training: Report
    shelf: Shelf
    pick: tuple[int, ...]
    answers: list[Answer]
    rows: list[dict[str, Any]]
    listeners: int
    seconds: float

    def methods(self) -> dict[str, dict[str, list[float]]]:
        """Recall@20 with its interval, by method and set of questions."""
        found: dict[str, dict[str, list[float]]] = {}
        for row in self.rows:
            found.setdefault(row["method"], {})[row["split"]] = row["metrics"][METRIC]
        return found

    def explained(self) -> str:
        """How to read the figures."""
        return (
            f"Recall@{K} with 95 % intervals over {self.listeners:,} listeners, all {len(self.shop.catalog):,} tracks "
            f"ranked. {KNOWN.capitalize()}: the last choice of each. {NEW.capitalize()}: what they choose of the "
            f"tracks that nobody had chosen. “{TRUTH}” ranks by what listeners really like, which no method can know: "
            "the ceiling. “only”: the same model, shown nothing else of any track, neither of those on offer nor of "
            "those in a listener’s past."
        )
