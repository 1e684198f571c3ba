"""From re-ranked candidates to the items of an answer, with predicted ratings on the scale of the log."""

from __future__ import annotations

import numpy as np

from indexing.hits import Hits
from serving.finding import Finder
from serving.recommendations import Recommendation
from serving.rerank.contract import Candidates, Reranked
from towers.catalog import Catalog
from towers.errors import InputError
from towers.interactions import Interactions
from towers.model import TwoTower

Range = tuple[float, float]


class Lister:
    """Tells what was found.

    Args:
        model: whose ratings are told.
        catalog: of the items.
        finder: of the vectors that interests are held against.
        rating_range: what predicted ratings of 0 and 1 are told as.
    """

    def __init__(self, model: TwoTower, catalog: Catalog, finder: Finder, rating_range: Range) -> None:
        self._model, self._catalog, self._finder, self._range = model, catalog, finder, rating_range

    def items(self, found: Hits, done: Reranked, k: int, query: np.ndarray | None = None) -> tuple[Recommendation, ...]:
        """The first k items of one person's list, with what was found out about them on the way.

        Args:
            found: what retrieval gave.
            done: the same, re-ranked.
            k: at least 1.
            query: of the person: float32 ``(D,)``, or of each interest ``(K, D)``; None where none was asked with.
        """
        final = done.candidates
        rows = final.rows[0, :k][final.rows[0, :k] >= 0].tolist()
        nearest = self._nearest(np.array(rows, np.int64), query)
        cosines = dict(zip(found.rows[0].tolist(), found.scores[0].tolist(), strict=True))
        rated = dict(zip(rows, self._ratings(final), strict=False))
        chances = {} if final.probabilities is None else dict(zip(rows, final.probabilities[0].tolist(), strict=False))
        return tuple(
            Recommendation(
                self._catalog.ids[row],
                self._catalog.titles[row],
                score,
                cosines[row],
                rated.get(row),
                nearest.get(row),
                done.places(row),
                chances.get(row),
            )
            for row, score in zip(rows, final.scores[0].tolist(), strict=False)
        )

    def _ratings(self, final: Candidates) -> list[float]:
        """Predicted ratings of one person's list on the scale of the log; none where the model has not learned any."""
        if final.ratings is None or not self._model.rating.fitted:
            return []
        low, high = self._range
        return (low + final.ratings[0] * (high - low)).tolist()

    def _nearest(self, rows: np.ndarray, query: np.ndarray | None) -> dict[int, int]:
        """Which of several interests ``(K, D)`` each of these items is nearest to, from 1 on."""
        if query is None or query.ndim == 1:
            return {}
        return dict(zip(rows.tolist(), (1 + self._finder.nearest(rows, query)).tolist(), strict=True))


def stars(model: TwoTower, log: Interactions | None) -> Range | None:
    """The ratings that stand for 0 and 1 in what people say; None where they give none."""
    return (log.rating_range if log is not None else None) or model.config.rating.range


def rating_range(model: TwoTower, log: Interactions | None) -> Range:
    """What predictions of 0 and 1 stand for.

    Raises:
        InputError: the log's ratings were mapped from another range than those that the model learned from.
    """
    config = model.config.rating
    given = log.rating_range if log is not None else None
    if given is not None and config.range is not None and tuple(given) != config.range:
        raise InputError(
            f"ratings of {given[0]:g} to {given[1]:g} were mapped to 0 to 1, the model learned from "
            f"{config.range[0]:g} to {config.range[1]:g}: read the log with rating_range={config.range}"
        )
    return (0.0, 1.0) if config.objective == "click" else config.range or given or (0.0, 1.0)
