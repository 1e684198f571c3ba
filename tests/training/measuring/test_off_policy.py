"""Estimates from simulated logs whose target policy's true value is known, and by hand."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

from towers.errors import InputError
from training.measuring.off_policy import Estimate, doubly_robust, ips, snips

MIX = np.array([0.4, 0.3, 0.2, 0.1])  # how often each context comes
LOGGING = np.array([[0.4, 0.4, 0.2], [0.2, 0.5, 0.3], [0.6, 0.2, 0.2], [0.3, 0.3, 0.4]])  # context by action
TARGET = np.array([[0.1, 0.2, 0.7], [0.7, 0.2, 0.1], [0.2, 0.6, 0.2], [0.0, 0.1, 0.9]])
CLICK = np.array([[0.1, 0.3, 0.6], [0.5, 0.2, 0.1], [0.3, 0.8, 0.2], [0.9, 0.4, 0.7]])
ROUGH = np.clip(CLICK + np.array([0.15, -0.1, 0.1]), 0, 1)  # a reward model that is somewhat wrong
TRUTH = float(MIX @ (TARGET * CLICK).sum(axis=1))


class Log(NamedTuple):
    rewards: np.ndarray
    logged: np.ndarray
    target: np.ndarray
    predicted: np.ndarray
    expected: np.ndarray


def simulate(seed: int, n: int = 600, model: np.ndarray = ROUGH) -> Log:
    rng = np.random.default_rng(seed)
    context = rng.choice(len(MIX), n, p=MIX)
    action = (rng.random((n, 1)) > LOGGING.cumsum(axis=1)[context]).sum(axis=1)
    rewards = (rng.random(n) < CLICK[context, action]).astype(float)
    seen = context, action
    return Log(rewards, LOGGING[seen], TARGET[seen], model[seen], (TARGET * model).sum(axis=1)[context])


ESTIMATORS: dict[str, Callable[[Log], Estimate]] = {
    "ips": lambda log: ips(*log[:3]),
    "snips": lambda log: snips(*log[:3]),
    "doubly-robust": lambda log: doubly_robust(*log),
}


@pytest.fixture(scope="module")
def runs() -> dict[str, np.ndarray]:
    """For each estimator the estimates ``(400, 4)`` of 400 logs."""
    logs = [simulate(seed) for seed in range(400)]
    return {name: np.array([estimator(log) for log in logs]) for name, estimator in ESTIMATORS.items()}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_interval_covers_the_truth_as_often_as_it_says(runs: dict[str, np.ndarray], name: str) -> None:
    _, low, high, _ = runs[name].T
    assert 0.92 <= ((low <= TRUTH) & (high >= TRUTH)).mean() <= 0.98


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_mean_over_many_logs_is_the_truth(runs: dict[str, np.ndarray], name: str) -> None:
    values = runs[name][:, 0]
    assert values.mean() == pytest.approx(TRUTH, abs=3 * values.std() / np.sqrt(len(values)))
    assert simulate(0).rewards.mean() < TRUTH - 0.05  # what the log itself earned is something else


def test_variances_fall_from_ips_over_snips_to_doubly_robust(runs: dict[str, np.ndarray]) -> None:
    spread = {name: values[:, 0].var() for name, values in runs.items()}
    assert spread["doubly-robust"] < 0.95 * spread["snips"]
    assert spread["snips"] < 0.7 * spread["ips"]


def test_doubly_robust_is_right_where_only_the_model_is() -> None:
    """Probabilities logged wrong on purpose: the mean of 200 estimates stays at the truth, that of IPS does not."""
    logs = [simulate(seed, model=CLICK)._replace(logged=np.full(600, 0.5)) for seed in range(200)]
    robust = np.array([doubly_robust(*log).value for log in logs])
    assert robust.mean() == pytest.approx(TRUTH, abs=3 * robust.std() / np.sqrt(200))
    assert abs(np.mean([ips(*log[:3]).value for log in logs]) - TRUTH) > 0.05


def test_doubly_robust_with_an_exact_model_is_the_models_own_mean() -> None:
    log = simulate(1, model=CLICK)
    exact = doubly_robust(log.predicted, log.logged, log.target, log.predicted, log.expected)
    half = 1.96 * log.expected.std(ddof=1) / np.sqrt(600)
    assert exact[:3] == pytest.approx((log.expected.mean(), log.expected.mean() - half, log.expected.mean() + half))


def test_doubly_robust_with_a_model_that_predicts_nothing_is_ips() -> None:
    log, nothing = simulate(2), np.zeros(600)
    assert doubly_robust(*log[:3], nothing, nothing) == pytest.approx(ips(*log[:3]))


def test_by_hand() -> None:
    rewards, logged, target = np.array([1.0, 0.0, 2.0]), np.array([0.5, 0.25, 1.0]), np.array([1.0, 0.25, 0.5])
    weights = np.array([2, 1, 0.5])
    half = 1.96 * np.sqrt(1 / 3)  # weight times reward is 2, 0 and 1, of variance 1
    assert ips(rewards, logged, target) == pytest.approx((1, 1 - half, 1 + half, 3.5**2 / 5.25))
    value = 3 / 3.5
    spread = np.sqrt((weights**2 @ (rewards - value) ** 2) / 2) / (3.5 / 3)
    expected = (value, value - 1.96 * spread / np.sqrt(3), value + 1.96 * spread / np.sqrt(3), 3.5**2 / 5.25)
    assert snips(rewards, logged, target) == pytest.approx(expected)
    predicted, model = np.array([0.5, 0.5, 1.0]), np.array([0.75, 0.25, 1.0])
    assert doubly_robust(rewards, logged, target, predicted, model).value == pytest.approx((1.75 - 0.25 + 1.5) / 3)


def test_snips_needs_weights_up_to_a_factor_and_moves_with_the_rewards() -> None:
    log = simulate(3)
    estimate = snips(*log[:3])
    assert snips(log.rewards, log.logged, log.target / 3) == pytest.approx(estimate)
    moved = snips(log.rewards + 10, log.logged, log.target)
    assert moved[:3] == pytest.approx([value + 10 for value in estimate[:3]])
    assert ips(log.rewards + 10, log.logged, log.target).value != pytest.approx(ips(*log[:3]).value + 10, abs=0.01)


def test_the_logs_own_policy_has_all_its_events() -> None:
    log = simulate(4)
    for estimate in (ips(log.rewards, log.logged, log.logged), snips(log.rewards, log.logged, log.logged)):
        assert estimate.value == pytest.approx(log.rewards.mean())
        assert estimate.effective == pytest.approx(600)


BAD: list[tuple[dict[str, list[float]], str]] = [
    ({"logged": [0.5, 0.0, 1]}, "logged of event 1 is 0; .* above 0 and at most 1"),
    ({"logged": [0.5, -0.1, 1]}, "logged of event 1 is -0.1"),
    ({"logged": [0.5, 1, 1.5]}, "logged of event 2 is 1.5"),
    ({"target": [0.5, 1, 1.5]}, "target of event 2 is 1.5; .* from 0 to 1"),
    ({"target": [-0.5, 1, 1]}, "target of event 0 is -0.5"),
    ({"target": [0, 0, 0]}, "nothing of what was logged"),
    ({"logged": [0.5, 1]}, r"rewards \(3,\) and logged \(2,\)"),
    ({"rewards": [1, np.nan, 0]}, "rewards of event 1 is nan"),
    ({"rewards": [1], "logged": [1], "target": [1]}, "at least 2 logged events, got 1"),
    ({"rewards": [], "logged": [], "target": []}, "at least 2 logged events, got 0"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
@pytest.mark.parametrize("estimator", [ips, snips])
def test_logs_that_cannot_be_used_are_refused(estimator: Callable, change: dict, message: str) -> None:
    good = {"rewards": [1, 0, 1], "logged": [0.5, 0.5, 1], "target": [1, 0, 0.5]}
    with pytest.raises(InputError, match=message):
        estimator(**{name: np.array(values, float) for name, values in {**good, **change}.items()})


@pytest.mark.parametrize("name", ["predicted", "expected"])
def test_a_model_that_does_not_fit_the_log_is_refused(name: str) -> None:
    log = simulate(5, n=3)._replace(target=np.ones(3))
    with pytest.raises(InputError, match=rf"rewards \(3,\) and {name} \(2,\)"):
        doubly_robust(**{**log._asdict(), name: np.zeros(2)})
    with pytest.raises(InputError, match=f"{name} of event 0 is inf"):
        doubly_robust(**{**log._asdict(), name: np.array([np.inf, 0, 0])})
