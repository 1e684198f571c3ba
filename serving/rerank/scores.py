"""Steps that change how well each item suits, one by one: the rating head, and novelty."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from serving.rerank.contract import Candidates, Known, Stage, Step, relevance
from towers.errors import InputError


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Rating(Step):
    """Sorts by retrieval score and predicted rating, weighed as validation chose when the model was trained."""

    name: ClassVar[str] = "rating"
    stage: ClassVar[Stage] = Stage.SCORE

    def __call__(self, candidates: Candidates, known: Known) -> Candidates:
        """Scores become logits."""
        if candidates.ratings is None:
            raise InputError("re-ranking by rating needs predicted ratings of the candidates, got none")
        return candidates.rescored(known.rerank_scores(candidates.scores, candidates.ratings))


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Novelty(Step):
    """Sorts by ``(1 - weight) * relevance + weight * novelty``.

    Relevance is the score so far, novelty ``-log2`` of the item's share in all events, both from 0 to 1 over the
    candidates of a person.

    Args:
        weight: 0 leaves the list as it is, 1 begins with what is known least.
    """

    name: ClassVar[str] = "novelty"
    stage: ClassVar[Stage] = Stage.SCORE

    weight: Annotated[float, Field(ge=0, le=1)]

    def __call__(self, candidates: Candidates, known: Known) -> Candidates:
        """Scores become these sums."""
        bits = np.where(candidates.rows < 0, -np.inf, known.items.bits[candidates.rows])
        return candidates.rescored((1 - self.weight) * relevance(candidates.scores) + self.weight * relevance(bits))
