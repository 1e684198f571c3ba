"""The same list for everybody: what is popular, and what has been of late."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from towers.errors import InputError
from towers.history import Histories
from training.measuring.baseline import Baseline

DAY = 86_400.0  # seconds


@dataclass(kw_only=True)
class MostPopular(Baseline):
    """Items by number of training events; equal numbers by row."""

    def _learn(self, train: Histories) -> None:
        pass

    def _score(self, histories: Histories) -> np.ndarray:
        return np.tile(self.popularity, (len(histories), 1)).astype(np.float32)


@dataclass(kw_only=True)
class MostPopularOfLate(Baseline):
    """Items by number of events in the last days of the training data, equal numbers by all training events.

    Where taste moves, this is the stronger of the two (Ji et al., "A re-visit of the popularity baseline in
    recommender systems", SIGIR 2020). An item scores by how many items stand below it. An empty history gets this
    list, too.

    Args:
        window: days back from the last training event, above 0; the moment exactly that long ago is outside.

    Raises:
        InputError: a window of 0 or less; from `fit`: training events without times, or none.
    """

    window: float = 7.0

    def __post_init__(self) -> None:
        if not self.window > 0:
            raise InputError(f"the window must be above 0 days, got {self.window}")

    def _learn(self, train: Histories) -> None:
        if train.times is None or not len(train.times):
            raise InputError("popularity of late needs training events with times; use MostPopular without")
        late = train.times > train.times.max() - self.window * DAY
        recent = np.bincount(train.items[late], minlength=len(self.popularity))
        # Rows from last to first, so that of two equal items the one of the lower row stands above.
        order = np.lexsort((-np.arange(len(recent)), self.popularity, recent))
        self._place = np.empty(len(recent), np.float32)
        self._place[order] = np.arange(len(recent))

    def _score(self, histories: Histories) -> np.ndarray:
        return np.tile(self._place, (len(histories), 1))

    def _reads(self, histories: Histories) -> np.ndarray:
        return np.ones(len(histories), bool)
