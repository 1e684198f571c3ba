"""Rating baselines on tables with a known answer."""

import numpy as np
import pytest

from towers.errors import InputError
from towers.history import Histories
from training.measuring.rating_baselines import BiasModel, GlobalMean


def table(people: np.ndarray, items: np.ndarray, noise: float = 0) -> np.ndarray:
    rng = np.random.default_rng(0)
    return 0.5 + people[:, None] + items[None] + noise * rng.standard_normal((len(people), len(items)))


def full(ratings: np.ndarray) -> Histories:
    return Histories.of([list(range(ratings.shape[1]))] * len(ratings), ratings=ratings.tolist())


def test_global_mean_looks_at_rated_events_only() -> None:
    train = Histories.of([[0, 1], [2]], ratings=[[0.2, np.nan], [0.8]])
    predicted = GlobalMean().fit(train, 3).predict(np.array([0, 1]), np.array([2, 2]))
    np.testing.assert_allclose(predicted, [0.5, 0.5], rtol=1e-6)


def test_an_additive_table_is_completed_exactly() -> None:
    ratings = table(np.array([-0.2, 0.0, 0.2]), np.array([-0.1, 0.0, 0.05, 0.1]))
    held_out = np.eye(3, 4, dtype=bool)
    train = full(np.where(held_out, np.nan, ratings))
    predicted = BiasModel(grid=(1e-9,)).fit(train, 4).predict(*np.nonzero(held_out))
    np.testing.assert_allclose(predicted, ratings[held_out], atol=1e-6)


def test_one_rating_shrinks_as_the_formula_says() -> None:
    # Residuals are +-0.3; two columns with a 1 each, so b_u = b_i = residual / (2 + regularisation).
    train = Histories.of([[0], [1]], ratings=[[0.2], [0.8]])
    model = BiasModel(grid=(4.0,)).fit(train, 3)
    np.testing.assert_allclose(model.person_bias, [-0.05, 0.05], rtol=1e-6)
    np.testing.assert_allclose(model.item_bias, [-0.05, 0.05, 0], rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(model.predict(np.array([0]), np.array([2])), [0.45], rtol=1e-6)


def test_predictions_stay_in_range() -> None:
    # Item 1 is worth 0.5 more than item 0, to which the last person gave a 1 already.
    train = Histories.of([[0, 1], [0, 1], [0]], ratings=[[0, 0.5], [0.5, 1], [1]])
    model = BiasModel(grid=(1e-9,)).fit(train, 2)
    assert model.mean + model.person_bias[2] + model.item_bias[1] == pytest.approx(1.5, abs=1e-6)
    assert model.predict(np.array([2]), np.array([1])).tolist() == [1]


def test_noise_calls_for_more_regularisation() -> None:
    rng = np.random.default_rng(1)
    clean = full(table(rng.normal(0, 0.1, 40), rng.normal(0, 0.1, 40)))
    noise = full(0.5 + 0.1 * rng.standard_normal((40, 40)))
    grid = (0.01, 1000.0)
    assert BiasModel(grid=grid).fit(clean, 40).regularisation == 0.01
    assert BiasModel(grid=grid).fit(noise, 40).regularisation == 1000.0


@pytest.mark.parametrize("model", [GlobalMean(), BiasModel(grid=(1.0,))])
def test_no_ratings_is_refused(model: GlobalMean | BiasModel) -> None:
    with pytest.raises(InputError, match="events with a rating"):
        model.fit(Histories.of([[0, 1]]), 2)
