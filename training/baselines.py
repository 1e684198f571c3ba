"""What every new model has to beat: five classic rankers, and the choice of their settings.

Each treats an event as 0/1 (who had what), learns from training histories, and ranks any history;
a history without events gets the most popular items. Same seed, same result.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, Self

import numpy as np

from indexing.hits import Hits
from towers.errors import InputError, MissingExtraError
from towers.history import Histories
from training.evaluate import ranked_rows
from training.metrics import matches, ndcg
from training.protocols import Split

try:
    import scipy.linalg
    import scipy.sparse as sp
except ImportError as error:
    raise MissingExtraError("the baselines need scipy: pip install 'twotower[evaluate]'") from error


class Baseline(ABC):
    """A ranker that scores every item of the catalog; subclasses are dataclasses of their settings."""

    popularity: np.ndarray  # int64 (N,), set by fit

    def fit(self, train: Histories, n_items: int) -> Self:
        """Learn from the training histories of a catalog of `n_items` rows."""
        self._learn(interaction_matrix(train, n_items))
        self.popularity = np.bincount(train.items, minlength=n_items)
        return self

    def rank(self, histories: Histories, k: int) -> Hits:
        """The k best items that are not in the history, for each of B histories."""
        if not hasattr(self, "popularity"):
            raise InputError(f"{type(self).__name__} has learnt nothing yet: call fit first")
        past = interaction_matrix(histories, len(self.popularity))
        scores = np.asarray(self._score(past), np.float32)
        scores[histories.lengths == 0] = self.popularity
        scores[past.nonzero()] = -np.inf
        return Hits.top(scores, k)

    @property
    def settings(self) -> dict[str, Any]:
        """What was chosen, for the record."""
        return asdict(self)  # type: ignore[call-overload]

    @abstractmethod
    def _learn(self, train: sp.csr_matrix) -> None:
        """Fit to a 0/1 matrix ``(U, N)``."""

    @abstractmethod
    def _score(self, past: sp.csr_matrix) -> np.ndarray:
        """Scores ``(B, N)``, a new array, for 0/1 histories ``(B, N)``."""


@dataclass(kw_only=True)
class MostPopular(Baseline):
    """The same list for everybody: items by number of training interactions."""

    def _learn(self, train: sp.csr_matrix) -> None:
        pass

    def _score(self, past: sp.csr_matrix) -> np.ndarray:
        return np.tile(self.popularity, (past.shape[0], 1)).astype(np.float32)


@dataclass(kw_only=True)
class ItemKNN(Baseline):
    """An item scores by how similar its nearest neighbours in the history are to it (Sarwar et al., WWW 2001).

    ``similarity(i, j) = |i and j| / (sqrt(|i| |j|) + shrink)`` over people who had them.

    Args:
        neighbours: how many each item keeps.
        shrink: pulls down similarities that rest on few people, at least 0.
    """

    neighbours: int = 20
    shrink: float = 0.0

    def _learn(self, train: sp.csr_matrix) -> None:
        both = (train.T @ train).tocoo()
        norms = np.sqrt(np.bincount(train.indices, minlength=train.shape[1]))
        similarity = both.data / (norms[both.row] * norms[both.col] + self.shrink)
        similarity[both.row == both.col] = 0
        order = np.lexsort((both.col, -similarity, both.row))
        row, column, value = both.row[order], both.col[order], similarity[order]
        place = np.arange(len(row)) - np.searchsorted(row, row)
        near = (place < self.neighbours) & (value > 0)
        # Columns are the items to score, so the neighbours stand in rows.
        self._similarity = sp.csr_matrix((value[near], (column[near], row[near])), both.shape)

    def _score(self, past: sp.csr_matrix) -> np.ndarray:
        return (past @ self._similarity).toarray()


@dataclass(kw_only=True)
class EASE(Baseline):
    """Linear item-to-item model in closed form (Steck, WWW 2019); memory grows with the catalog squared.

    ``P = (X'X + regularisation I)^-1``, ``B[i, j] = -P[i, j] / P[j, j]``, ``B[i, i] = 0``, scores ``X B``.

    Args:
        regularisation: of the ridge, above 0.
    """

    regularisation: float = 250.0

    def _learn(self, train: sp.csr_matrix) -> None:
        gram = (train.T @ train).toarray().astype(np.float64)
        gram[np.diag_indices_from(gram)] += self.regularisation
        inverse = scipy.linalg.inv(gram, overwrite_a=True)
        self._weights = inverse / -np.diag(inverse)
        np.fill_diagonal(self._weights, 0)

    def _score(self, past: sp.csr_matrix) -> np.ndarray:
        return past @ self._weights


@dataclass(kw_only=True)
class ALS(Baseline):
    """Weighted matrix factorisation for implicit feedback (Hu, Koren and Volinsky, ICDM 2008), by `implicit`.

    A history gets its person's vector by one exact least-squares step, so new people can be ranked.

    Args:
        factors: length of the vectors.
        regularisation: of the vectors.
        alpha: confidence in an interaction, against 1 for its absence.
        iterations: sweeps over people and items.
        seed: of the initial vectors.
    """

    factors: int = 64
    regularisation: float = 10.0
    alpha: float = 1.0
    iterations: int = 15
    seed: int = 0

    def _learn(self, train: sp.csr_matrix) -> None:
        with _quiet_implicit():
            from implicit.cpu.als import AlternatingLeastSquares

            self._model = AlternatingLeastSquares(
                factors=self.factors,
                regularization=self.regularisation,
                alpha=self.alpha,
                iterations=self.iterations,
                num_threads=1,
                random_state=self.seed,
            )
            self._model.fit(train, show_progress=False)

    def _score(self, past: sp.csr_matrix) -> np.ndarray:
        people = self._model.recalculate_user(np.arange(past.shape[0]), past)
        return people @ self._model.item_factors.T


@dataclass(kw_only=True)
class BPR(Baseline):
    """Matrix factorisation by Bayesian personalised ranking (Rendle et al., UAI 2009), by `implicit`.

    It has vectors for the people of the training data only, and no exact way to make one for a new
    history. So ask ``bpr.for_people(people).rank(histories, k)``, where the histories are those of the
    training rows `people`; they decide only what is excluded.

    Args:
        factors: length of the vectors.
        learning_rate: of the stochastic gradient steps.
        regularisation: of the vectors.
        iterations: sweeps over the interactions.
        seed: of the initial vectors and the sampling.
    """

    factors: int = 64
    learning_rate: float = 0.005
    regularisation: float = 0.01
    iterations: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        self._people: np.ndarray | None = None

    def for_people(self, people: np.ndarray) -> BPR:
        """This model, ready to rank one batch: the histories of the training rows int64 ``(B,)`` `people`."""
        ranker = copy.copy(self)
        ranker._people = np.asarray(people, np.int64)
        return ranker

    def _learn(self, train: sp.csr_matrix) -> None:
        with _quiet_implicit():
            from implicit.cpu.bpr import BayesianPersonalizedRanking

            self._model = BayesianPersonalizedRanking(
                factors=self.factors,
                learning_rate=self.learning_rate,
                regularization=self.regularisation,
                iterations=self.iterations,
                num_threads=1,
                random_state=self.seed,
            )
            self._model.fit(train, show_progress=False)

    def _score(self, past: sp.csr_matrix) -> np.ndarray:
        if self._people is None or len(self._people) != past.shape[0]:
            raise InputError("BPR ranks only people it was trained on: call for_people(people).rank(histories, k)")
        return self._model.user_factors[self._people] @ self._model.item_factors.T


@dataclass(frozen=True)
class Tuned:
    """The best of some candidates.

    Args:
        ranker: it, fitted to the training part.
        settings: its settings.
        tried: settings of every candidate with the validation NDCG@20 it reached, in order.
    """

    ranker: Baseline
    settings: dict[str, Any]
    tried: list[dict[str, Any]]


def tune(candidates: Sequence[Baseline], split: Split, n_items: int) -> Tuned:
    """Fit every candidate to ``split.train`` and keep the one with the highest validation NDCG@20.

    With equal values the earlier candidate wins.
    """
    questions = split.validation
    tried = []
    for candidate in candidates:
        rows = ranked_rows(candidate.fit(split.train, n_items), questions, 20)
        value = np.nanmean(ndcg(matches(rows, questions.targets), questions.targets.lengths, 20))
        tried.append({**candidate.settings, "ndcg@20": round(float(value), 6)})
    best = candidates[int(np.argmax([one["ndcg@20"] for one in tried]))]
    return Tuned(best, best.settings, tried)


def baseline_grids(seed: int = 0) -> dict[str, list[Baseline]]:
    """The settings that are tried, under each method's name."""
    return {
        "most-popular": [MostPopular()],
        "item-knn": [ItemKNN(neighbours=n, shrink=s) for n in (10, 20, 50, 100, 200) for s in (0, 10)],
        "ease": [EASE(regularisation=r) for r in (50, 100, 200, 400, 800)],
        "als": [
            ALS(factors=f, regularisation=r, alpha=a, seed=seed)
            for f, r, a in product((32, 64, 128), (1, 10, 30), (1, 2, 5, 10))
        ],
        "bpr": [
            BPR(factors=f, learning_rate=rate, regularisation=r, iterations=i, seed=seed)
            for f, rate, r, i in product((16, 64), (0.005, 0.02), (0.001, 0.01), (50, 200))
        ],
    }


def interaction_matrix(histories: Histories, n_items: int) -> sp.csr_matrix:
    """0/1 matrix float32 ``(U, n_items)``: which items each history holds.

    Raises:
        InputError: an item row at or beyond `n_items`.
    """
    if histories.items.max(initial=-1) >= n_items:
        raise InputError(f"a history holds item row {histories.items.max()}, the catalog has {n_items} items")
    ones = np.ones(len(histories.items), np.float32)
    matrix = sp.csr_matrix((ones, histories.items, histories.offsets), (len(histories), n_items), copy=True)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


@contextmanager
def _quiet_implicit() -> Iterator[None]:
    """`implicit` if it is there, with one BLAS thread: more make it slower, and it warns of them."""
    try:
        import implicit  # noqa: F401
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise MissingExtraError("ALS and BPR need implicit: pip install 'twotower[evaluate]'") from error
    with threadpool_limits(1, "blas"):
        yield
