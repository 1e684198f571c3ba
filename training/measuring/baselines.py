"""What every new model has to beat: classic rankers, and the choice of their settings.

Each treats an event as 0/1 (who had what), learns from training histories, and ranks any history. Same seed, same
result.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np

from towers.errors import InputError, MissingExtraError
from towers.history import Histories
from training.measuring.baseline import Baseline
from training.measuring.content_baseline import ContentKNN
from training.measuring.evaluate import ranked_rows
from training.measuring.metrics import matches, ndcg
from training.measuring.popularity import MostPopular, MostPopularOfLate
from training.measuring.splits import Split

try:
    import scipy.linalg
    import scipy.sparse as sp
except ImportError as error:
    raise MissingExtraError("the baselines need scipy: pip install 'twotower[evaluate]'") from error


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

    def _learn(self, train: Histories) -> None:
        matrix = interaction_matrix(train, len(self.popularity))
        both = (matrix.T @ matrix).tocsr()
        both.sort_indices()
        row = np.repeat(np.arange(both.shape[0]), np.diff(both.indptr))
        norms = np.sqrt(np.bincount(matrix.indices, minlength=both.shape[0]))
        similarity = both.data / (norms[row] * norms[both.indices] + self.shrink)
        similarity[row == both.indices] = 0
        near = similarity > 0
        for start, end in pairwise(both.indptr):
            near[start:end] &= _largest(similarity[start:end], self.neighbours)
        # Columns are the items to score, so the neighbours stand in rows.
        self._similarity = sp.csr_matrix((similarity[near], (both.indices[near], row[near])), both.shape)

    def _score(self, histories: Histories) -> np.ndarray:
        scores = interaction_matrix(histories, len(self.popularity)) @ self._similarity
        scores.data = scores.data.astype(np.float32)  # half the memory, once dense
        return scores.toarray()


@dataclass(kw_only=True)
class EASE(Baseline):
    """Linear item-to-item model in closed form (Steck, WWW 2019); memory grows with the catalog squared.

    ``P = (X'X + regularisation I)^-1``, ``B[i, j] = -P[i, j] / P[j, j]``, ``B[i, i] = 0``, scores ``X B``.

    Args:
        regularisation: of the ridge, above 0.
    """

    regularisation: float = 250.0

    def _learn(self, train: Histories) -> None:
        matrix = interaction_matrix(train, len(self.popularity))
        gram = (matrix.T @ matrix).toarray().astype(np.float64)
        gram[np.diag_indices_from(gram)] += self.regularisation
        inverse = scipy.linalg.inv(gram, overwrite_a=True)
        weights = inverse / -np.diag(inverse)
        np.fill_diagonal(weights, 0)
        self._weights = np.ascontiguousarray(weights)  # LAPACK's order would be copied at each product

    def _score(self, histories: Histories) -> np.ndarray:
        return interaction_matrix(histories, len(self.popularity)) @ self._weights


@dataclass(kw_only=True)
class ALS(Baseline):
    """Weighted matrix factorisation for implicit feedback (Hu, Koren and Volinsky, ICDM 2008), by `implicit`.

    A history gets its vector by one exact least-squares step from the item vectors, also that of a training person, so
    people without any training event are ranked like all others.

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

    def _learn(self, train: Histories) -> None:
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
            self._model.fit(interaction_matrix(train, len(self.popularity)), show_progress=False)

    def _score(self, histories: Histories) -> np.ndarray:
        past = interaction_matrix(histories, len(self.popularity))
        people = self._model.recalculate_user(np.arange(len(histories)), past)
        return people @ self._model.item_factors.T


@dataclass(kw_only=True)
class BPR(Baseline):
    """Matrix factorisation by Bayesian personalised ranking (Rendle et al., UAI 2009), by `implicit`.

    It has vectors for the people of the training data only, and no exact way to make one for a new
    history. So ask ``bpr.for_people(people).rank(histories, k)``, where the histories are those of the
    training rows `people`; they decide only what is excluded. People without any training event, a row of -1
    included, get the most popular items, whatever their history holds.

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

    def _learn(self, train: Histories) -> None:
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
            self._model.fit(interaction_matrix(train, len(self.popularity)), show_progress=False)
        self._trained = np.append(train.lengths > 0, False)  # and nobody in the row of -1

    def _score(self, histories: Histories) -> np.ndarray:
        return self._model.user_factors[self._asked(histories)] @ self._model.item_factors.T

    def _reads(self, histories: Histories) -> np.ndarray:
        return self._trained[self._asked(histories)] & (histories.lengths > 0)

    def _asked(self, histories: Histories) -> np.ndarray:
        """int64 ``(B,)`` training rows of the people whose histories these are."""
        if self._people is None or len(self._people) != len(histories):
            raise InputError("BPR ranks only people it was trained on: call for_people(people).rank(histories, k)")
        return self._people


@dataclass(frozen=True)
class Tuned:
    """The best of some candidates.

    Args:
        ranker: it, fitted to all that may be trained on before the test (``split.refit``).
        settings: its settings.
        tried: settings of every candidate with the validation NDCG@20 it reached, in order.
    """

    ranker: Baseline
    settings: dict[str, Any]
    tried: list[dict[str, Any]]


def tune(candidates: Sequence[Baseline], split: Split, n_items: int) -> Tuned:
    """Fit every candidate to ``split.train``, keep the settings with the highest validation NDCG@20, refit them.

    The candidates themselves stay as they are. With equal values the earlier one wins. The winner is fitted anew to
    ``split.refit``, unless that is the very object ``split.train``, as in leave-one-out.

    Raises:
        InputError: no candidate.
    """
    if not candidates:
        raise InputError("tuning needs at least one candidate, got none")
    questions = split.validation
    tried: list[dict[str, Any]] = []
    best, highest = None, -np.inf
    for candidate in candidates:
        fitted = copy.copy(candidate).fit(split.train, n_items)
        rows = ranked_rows(fitted, questions, 20)
        value = round(float(np.nanmean(ndcg(matches(rows, questions.targets), questions.targets.lengths, 20))), 6)
        tried.append({**fitted.settings, "ndcg@20": value})
        if value > highest:
            best, highest = fitted, value
    assert best is not None
    if split.refit is not split.train:
        best = best.fit(split.refit, n_items)
    return Tuned(best, best.settings, tried)


def baseline_grids(
    seed: int = 0, *, times: bool = False, content: np.ndarray | None = None
) -> dict[str, list[Baseline]]:
    """The settings that are tried, under each method's name.

    Args:
        seed: of those that draw.
        times: whether events have times, so that `MostPopularOfLate` can be asked.
        content: float ``(N, d)`` content of each item for `ContentKNN`, which is left out without.
    """
    grids: dict[str, list[Baseline]] = {"most-popular": [MostPopular()]}
    if times:
        grids["most-popular-of-late"] = [MostPopularOfLate(window=days) for days in (1, 3, 7, 14, 30, 60, 120)]
    if content is not None:
        grids["content-knn"] = [ContentKNN(vectors=content, last=n) for n in (1, 3, 5, 10, 20, 50)]
    return grids | {
        "item-knn": [ItemKNN(neighbours=n, shrink=s) for n in (5, 10, 20, 50, 100, 200, 400, 800) for s in (0, 10)],
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
    """0/1 matrix float32 ``(U, n_items)``: which items, all below `n_items`, each history holds."""
    ones = np.ones(len(histories.items), np.float32)
    matrix = sp.csr_matrix((ones, histories.items, histories.offsets), (len(histories), n_items), copy=True)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """bool ``(n,)`` that holds at the `count` largest values; of equal ones the first count."""
    if len(values) <= count:
        return np.ones(len(values), bool)
    least = np.partition(values, -count)[-count]
    chosen = values > least
    chosen[np.flatnonzero(values == least)[: count - chosen.sum()]] = True
    return chosen


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
