"""The benchmark of several objectives: its recipes, and who is compared with whom."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.multi_objective import ALONE, METHODS, Job, Outcome, _differences
from training.config import Recipe
from training.measuring.evaluate import Result


def test_every_method_is_a_recipe() -> None:
    recipes = {name: Recipe.read({"train": train}).train for name, train in METHODS.items()}
    assert [name for name, train in recipes.items() if not train.contrastive_weight] == ["rating"]
    assert [name for name, train in recipes.items() if train.weighting == "uncertainty"] == ["joint, uncertainty"]
    assert set(ALONE) < set(METHODS)


def outcome(found: list[float], errors: list[float]) -> Outcome:
    ranking = {"recall@20": np.array(found), "ndcg@20": np.array(found) / 2}
    result = Result({}, np.arange(len(found)), ranking, 0, 0.0)
    return Outcome(result, [0.0, 0.0, 0.0], np.array(errors), {})


def test_each_is_held_against_either_objective_alone_on_the_same_people() -> None:
    outcomes = {
        Job("contrastive", 0): outcome([1.0, 0.0, 1.0, 0.0], [1.0, 4.0, 1.0, 0.0]),
        Job("rating", 0): outcome([0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0]),
        Job("joint, uncertainty", 0): outcome([1.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 1.0]),
        Job("joint, uncertainty", 1): outcome([1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]),
    }
    found = {(one["theirs"], one["metric"]): one["difference"][0] for one in _differences(outcomes)}
    assert found == {
        ("contrastive", "recall@20"): 0.25,
        ("contrastive", "ndcg@20"): 0.125,
        ("contrastive", "squared error"): pytest.approx(-0.75),
        ("rating", "recall@20"): 0.75,
        ("rating", "ndcg@20"): 0.375,
        ("rating", "squared error"): 0.25,
    }
