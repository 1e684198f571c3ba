"""What a new policy would have earned, estimated from a log that says how probable each thing shown was.

A log of n events: something was shown, with the probability `logged`, and earned a reward, such as 1 for a click. The
target policy would have shown the same thing with the probability `target`. Where the log could have shown all that the
target policy might, ``weights = target / logged`` make its events stand for the target policy's.

Every interval is the normal one, ``value ± 1.96 standard errors``: closed, without a seed, and good while the effective
sample size is some hundreds. With few heavy weights it is too narrow, as the heaviest events are not in the log yet.
Events count as independent.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from towers.errors import InputError

Z = 1.96  # of the normal distribution within ± Z lies 95 %


class Estimate(NamedTuple):
    """An estimated mean reward per event.

    Args:
        value: the estimate, in the unit of the rewards.
        low, high: bounds of its 95 % interval.
        effective: effective sample size ``(sum of weights)^2 / sum of squared weights`` (Kish 1965), from 1 to n: how
            many events of the target policy's own log would say as much about equal rewards.
    """

    value: float
    low: float
    high: float
    effective: float


def ips(rewards: np.ndarray, logged: np.ndarray, target: np.ndarray) -> Estimate:
    """Inverse propensity scoring, ``mean of weight * reward`` (Horvitz and Thompson, JASA 1952).

    Unbiased. Its variance is mostly the largest of the three; it grows with a constant that is added to the rewards.

    Args:
        rewards: float ``(n,)`` what each event earned.
        logged: float ``(n,)`` in (0, 1], the probability with which the log's policy showed what it showed.
        target: float ``(n,)`` in [0, 1], the probability with which the target policy would have shown the same.

    Raises:
        InputError: fewer than two events, lengths that differ, values out of range, or a target policy that would
            have shown nothing of the log.
    """
    rewards, weights = _checked(rewards, logged, target)
    return _estimate(weights * rewards, weights)


def snips(rewards: np.ndarray, logged: np.ndarray, target: np.ndarray) -> Estimate:
    """Self-normalised IPS, ``sum of weight * reward / sum of weights`` (Swaminathan and Joachims, NeurIPS 2015).

    Biased, by less and less with more events; of lower variance where weights vary. Weights count up to a common
    factor, a constant added to the rewards is added to the value, and the value lies among the rewards. The standard
    error is that of the ratio, by the delta method. Arguments and errors as in `ips`.
    """
    rewards, weights = _checked(rewards, logged, target)
    value = weights @ rewards / weights.sum()
    return _estimate(value + weights * (rewards - value) / weights.mean(), weights)


def doubly_robust(
    rewards: np.ndarray, logged: np.ndarray, target: np.ndarray, predicted: np.ndarray, expected: np.ndarray
) -> Estimate:
    """Doubly robust, ``mean of expected + weight * (reward - predicted)`` (Dudík, Langford and Li, ICML 2011).

    Unbiased where either the probabilities or the reward model is right, provided that the model was not fitted on
    these very events; the better the model, the lower the variance.

    Args:
        rewards, logged, target: as in `ips`.
        predicted: float ``(n,)`` the model's reward for what was shown.
        expected: float ``(n,)`` the model's mean reward for what the target policy would show at this event,
            ``sum over all that can be shown of target probability * predicted reward``.

    Raises:
        InputError: as in `ips`.
    """
    rewards, weights = _checked(rewards, logged, target, predicted=predicted, expected=expected)
    surprise = rewards - np.asarray(predicted, np.float64)
    return _estimate(np.asarray(expected, np.float64) + weights * surprise, weights)


def _estimate(terms: np.ndarray, weights: np.ndarray) -> Estimate:
    """The mean of independent `terms` with its interval."""
    value, half = float(terms.mean()), Z * float(terms.std(ddof=1)) / len(terms) ** 0.5
    return Estimate(value, value - half, value + half, float(weights.sum() ** 2 / (weights @ weights)))


def _checked(
    rewards: np.ndarray, logged: np.ndarray, target: np.ndarray, **model: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rewards and weights, both float64 ``(n,)``."""
    columns = {"rewards": rewards, "logged": logged, "target": target, **model}
    columns = {name: np.asarray(values, np.float64) for name, values in columns.items()}
    shape = columns["rewards"].shape
    for name, values in columns.items():
        if values.ndim != 1 or values.shape != shape:
            raise InputError(f"every event needs one value of each, got rewards {shape} and {name} {values.shape}")
        if not np.isfinite(values).all():
            event = int(np.argmin(np.isfinite(values)))
            raise InputError(f"{name} of event {event} is {values[event]}; leave out events that are not known in full")
    if len(rewards) < 2:
        raise InputError(f"an estimate with an interval needs at least 2 logged events, got {len(rewards)}")
    _check_probabilities("logged", columns["logged"], columns["logged"] > 0, "above 0 and at most 1")
    _check_probabilities("target", columns["target"], columns["target"] >= 0, "from 0 to 1")
    if not columns["target"].any():
        raise InputError("the target policy would have shown nothing of what was logged, so the log says nothing of it")
    return columns["rewards"], columns["target"] / columns["logged"]


def _check_probabilities(name: str, values: np.ndarray, above: np.ndarray, expected: str) -> None:
    wrong = ~above | (values > 1)
    if wrong.any():
        event = int(np.argmax(wrong))
        raise InputError(f"{name} of event {event} is {values[event]:g}; a probability here is {expected}")
