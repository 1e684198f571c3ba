"""What a rating model has to beat: the mean, and the mean with what is usual for the person and the item."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from towers.errors import InputError, MissingExtraError
from towers.history import Histories
from training.measuring.protocols import random_tenth

try:
    import scipy.sparse as sp
    from scipy.sparse.linalg import lsqr
except ImportError as error:
    raise MissingExtraError("the rating baselines need scipy: pip install 'twotower[evaluate]'") from error


class GlobalMean:
    """Every rating is the mean of the training ratings."""

    def fit(self, train: Histories, n_items: int) -> Self:
        """Learn from the rated events of the training histories.

        Raises:
            InputError: there are none.
        """
        self.mean = float(_rated(train).ratings.mean(dtype=np.float64))
        return self

    def predict(self, people: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Ratings float64 ``(T,)`` in [0, 1] that training rows `people` would give to `items`, both int64 ``(T,)``."""
        return np.full(len(people), self.mean)


@dataclass(kw_only=True)
class BiasModel:
    """``rating(u, i) = mean + b_u + b_i``, biases by ridge regression (Koren, Computer 2009, "biases").

    ``min sum (r - mean - b_u - b_i)^2 + regularisation (sum b_u^2 + sum b_i^2)``. The regularisation is
    the one of `grid` with the lowest error on a tenth of the training ratings.

    Args:
        grid: values to choose from, each at least 0.
        seed: of the draw of that tenth.
    """

    grid: tuple[float, ...] = (0.5, 1, 2, 4, 8, 16)
    seed: int = 0

    def fit(self, train: Histories, n_items: int) -> Self:
        """Learn from the rated events of the training histories; unseen people and items get a bias of 0.

        Raises:
            InputError: no ratings, or too few to choose by.
        """
        self.regularisation = self.grid[0]
        if len(self.grid) > 1:
            split = random_tenth(train, self.seed)
            errors = []
            for value in self.grid:
                self._solve(split.train, n_items, value)
                errors.append(np.mean((self.predict(split.people, split.items) - split.ratings) ** 2))
            self.regularisation = self.grid[int(np.argmin(errors))]
        self._solve(train, n_items, self.regularisation)
        return self

    def predict(self, people: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Ratings as in `GlobalMean.predict`."""
        return np.clip(self.mean + self.person_bias[people] + self.item_bias[items], 0, 1)

    def _solve(self, train: Histories, n_items: int, regularisation: float) -> None:
        rated = _rated(train)
        count, n_people = len(rated.items), len(train)
        # One row a rating, with a 1 in the column of its person and a 1 in that of its item.
        columns = np.stack([rated.people, n_people + rated.items], axis=1).ravel()
        design = sp.csr_matrix(
            (np.ones(2 * count), columns, np.arange(0, 2 * count + 1, 2)), (count, n_people + n_items)
        )
        ratings = rated.ratings.astype(np.float64)
        self.mean = float(ratings.mean())
        biases = lsqr(design, ratings - self.mean, damp=np.sqrt(regularisation), atol=1e-10, btol=1e-10)[0]
        self.person_bias, self.item_bias = biases[:n_people], biases[n_people:]


def _rated(histories: Histories) -> Histories:
    rated = histories.keep(~np.isnan(histories.ratings))
    if not len(rated.items):
        raise InputError("a rating model needs events with a rating, got none")
    return rated
