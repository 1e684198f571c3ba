"""What the baselines have in common: learn from histories, score the catalog, leave out what the history holds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict
from typing import Any, Self

import numpy as np

from indexing.hits import Hits
from towers.errors import InputError
from towers.history import Histories


class Baseline(ABC):
    """A ranker that scores every item of the catalog; subclasses are dataclasses of their settings.

    A history that tells it nothing, such as an empty one, gets the most popular items: by number of training events,
    equal numbers by row. What tells a baseline nothing is said there; by default it is a history none of whose items
    has a training event.
    """

    popularity: np.ndarray  # int64 (N,) training events of each item, set by fit

    def fit(self, train: Histories, n_items: int) -> Self:
        """Learn from the training histories of a catalog of `n_items` rows.

        Raises:
            InputError: an item row at or beyond `n_items`.
        """
        _refuse_beyond(train, n_items)
        self.popularity = np.bincount(train.items, minlength=n_items)
        self._learn(train)
        return self

    def rank(self, histories: Histories, k: int) -> Hits:
        """The k best items that are not in the history, for each of B histories.

        Raises:
            InputError: nothing has been learnt yet, or a history holds an item row beyond the catalog.
        """
        if not hasattr(self, "popularity"):
            raise InputError(f"{type(self).__name__} has learnt nothing yet: call fit first")
        _refuse_beyond(histories, len(self.popularity))
        scores = np.asarray(self._score(histories), np.float32)
        scores[~self._reads(histories)] = self.popularity
        scores[histories.people, histories.items] = -np.inf
        return Hits.top(scores, k)

    @property
    def settings(self) -> dict[str, Any]:
        """What was chosen, for the record."""
        return asdict(self)  # type: ignore[call-overload]

    @abstractmethod
    def _learn(self, train: Histories) -> None:
        """Fit to the histories of U people; `popularity` is set already."""

    @abstractmethod
    def _score(self, histories: Histories) -> np.ndarray:
        """Scores ``(B, N)``, a new array."""

    def _reads(self, histories: Histories) -> np.ndarray:
        """bool ``(B,)``: which histories tell it something."""
        known = histories.keep(self.popularity[histories.items] > 0)
        return known.lengths > 0


def _refuse_beyond(histories: Histories, n_items: int) -> None:
    if histories.items.max(initial=-1) >= n_items:
        raise InputError(f"a history holds item row {histories.items.max()}, the catalog has {n_items} items")
