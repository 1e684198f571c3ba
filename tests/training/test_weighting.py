"""Several losses as one, against the formula."""

from __future__ import annotations

import math

import pytest
import torch

from training.weighting import FixedWeights, UncertaintyWeights

LOSSES = {"sequence": torch.tensor(5.0, dtype=torch.float64), "rating": torch.tensor(0.08, dtype=torch.float64)}
NOTHING = torch.tensor(0.0, dtype=torch.float64)


def test_fixed_weights_are_a_weighted_sum() -> None:
    weighted = FixedWeights({"sequence": 0.5})
    assert weighted(LOSSES, NOTHING).item() == pytest.approx(0.5 * 5.0 + 1.0 * 0.08)
    assert weighted.figures(LOSSES) == {}
    assert list(weighted.parameters()) == []


def uncertain(**log_variances: float) -> UncertaintyWeights:
    weighting = UncertaintyWeights(("sequence", "rating", "click"), {"rating"}).double()
    with torch.no_grad():
        for name, value in log_variances.items():
            weighting.log_variances[name].fill_(value)
    return weighting


def test_uncertainty_is_the_negative_log_likelihood() -> None:
    """A Gaussian's for the squared error, with ``sigma^2 = exp(s)``; a softmax at temperature ``sigma^2`` otherwise."""
    weighting = uncertain(sequence=0.7, rating=-1.2)
    sigma, of_rating = math.exp(0.7 / 2), math.exp(-1.2 / 2)
    expected = 5.0 / sigma**2 + math.log(sigma) + 0.08 / (2 * of_rating**2) + math.log(of_rating)
    assert weighting(LOSSES, NOTHING).item() == pytest.approx(expected, rel=1e-12)
    figures = weighting.figures(LOSSES)
    assert figures == {"weight/sequence": pytest.approx(sigma**-2), "weight/rating": pytest.approx(of_rating**-2 / 2)}


def test_its_gradient_is_that_of_the_formula_and_an_absent_loss_has_none() -> None:
    weighting = uncertain(sequence=0.7, rating=-1.2)
    losses = {name: value.clone().requires_grad_() for name, value in LOSSES.items()}
    weighting(losses, NOTHING).backward()
    found = {name: value.grad for name, value in weighting.log_variances.items()}
    assert found["sequence"].item() == pytest.approx(0.5 - 5.0 * math.exp(-0.7))
    assert found["rating"].item() == pytest.approx(0.5 - 0.04 * math.exp(1.2))
    assert found["click"] is None
    assert losses["rating"].grad is not None
    assert losses["rating"].grad.item() == pytest.approx(0.5 * math.exp(1.2))


def test_where_it_settles_each_loss_counts_one_over_twice_itself() -> None:
    weighting = uncertain()
    optimizer = torch.optim.LBFGS(
        weighting.parameters(), lr=0.5, max_iter=200, tolerance_grad=1e-14, tolerance_change=0
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = weighting(LOSSES, NOTHING)
        loss.backward()
        return loss

    optimizer.step(closure)
    expected = {f"weight/{name}": pytest.approx(1 / (2 * value.item()), rel=1e-5) for name, value in LOSSES.items()}
    assert weighting.figures(LOSSES) == expected
