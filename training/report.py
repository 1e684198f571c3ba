"""What happened in a training, and what validation chose in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from towers.model import TwoTower


@dataclass
class Report:
    """What happened in a run.

    Args:
        epochs: one entry for each validation: epoch, losses, metrics, seconds so far.
        best_epochs: epoch whose weights were kept, of each phase.
        seconds: of the training by which validation chose; a refit's come on top.
        mining_seconds: how many of them went into finding hard negatives.
        fusion: how much the text reader counts beside the sequence reader, and what was tried.
        trend: how much popularity of late counts, how fast it passes, and what was tried; None without times.
        pretraining: the mean loss of each epoch of pre-training the text encoder on the catalog's texts.
        alignment: the last loss of aligning kinds of content, where encoders were tuned before the towers.
        new_weights: how much each kind of content counts for items without a vector of their own, and what was tried;
            None where validation cannot tell.
        level: how high items stand that nobody has met, and what was tried; None where validation cannot tell.
        words: how much a sentence's words count beside its query, and what was tried; None where it is the default.
        rating_error: error of the rating head on a held-out tenth of the ratings, None without ratings.
        reranking: the weight of the rating head in re-ranking, and what was tried.
    """

    epochs: list[dict[str, Any]] = field(default_factory=list)
    best_epochs: list[int] = field(default_factory=list)
    seconds: float = 0.0
    mining_seconds: float = 0.0
    pretraining: list[float] = field(default_factory=list)
    alignment: float | None = None
    fusion: dict[str, Any] | None = None
    trend: dict[str, Any] | None = None
    new_weights: dict[str, Any] | None = None
    level: dict[str, Any] | None = None
    words: dict[str, Any] | None = None
    rating_error: float | None = None
    reranking: dict[str, Any] | None = None

    @property
    def best_epoch(self) -> int:
        """Epoch of the weights that were kept at the end."""
        return self.best_epochs[-1]

    def settle(self, model: TwoTower) -> None:
        """Let a model count things as was chosen: gates, and all weights but that of re-ranking."""
        if self.fusion is not None:
            model.user.fusion.set_gate("sequence", 1.0)
            model.user.fusion.set_gate("text", self.fusion["gate"])
        if self.trend is not None:
            model.trend_weight.fill_(self.trend["weight"])
            model.trend_half_life.fill_(self.trend["half_life_days"])
        if self.new_weights is not None:
            model.item.new_weights.copy_(torch.tensor(list(self.new_weights["weights"].values())))
        if self.level is not None:
            model.level.fill_(self.level["level"])
            model.trend_weight.fill_(self.level["weight"])
        if self.words is not None and model.user.text is not None:
            model.user.text.words.fill_(self.words["weight"])
