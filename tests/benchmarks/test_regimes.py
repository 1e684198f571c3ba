"""The benchmark of regimes: what an epoch is said to have cost, and the table, with a tiny world."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import pytest

from benchmarks import regimes
from benchmarks.regimes import Cost, Outcome, summary
from training.config import Recipe
from training.measuring.comparison import split_log
from training.measuring.evaluate import Result
from training.measuring.metrics import Interval


@pytest.mark.parametrize(("tune", "layers"), [(0, []), (1, [1]), ("all", [0, 1])])
def test_an_epoch_is_watched(tiny_run: Any, tune: Any, layers: list[int]) -> None:
    recipe = Recipe.read(tiny_run.recipe)
    reader = recipe.user.text.model_copy(update={"tune": tune})
    user = recipe.user.model_copy(update={"text": reader, "sequence": None})
    recipe = recipe.model_copy(update={"user": user})
    _, split = split_log("leave-one-out", tiny_run.log.known(tiny_run.catalog), tiny_run.catalog, recipe.data)
    model, costs = regimes.trained(tiny_run.catalog, split.train, recipe)
    assert len(costs) == 2
    assert model.user.text is not None
    parts = [model.user.text.encoder.layers[n] for n in layers]
    parts += [model.user.text.encoder.embeddings] if tune == "all" else []
    of_bert = sum(weight.numel() for part in parts for weight in part.parameters())
    assert {cost.trained_of_bert for cost in costs} == {of_bert}
    others = ("encoder.", "rating.", "user.text.encoder.")
    rest = sum(weight.numel() for name, weight in model.named_parameters() if not name.startswith(others))
    assert {cost.trained - cost.trained_of_bert for cost in costs} == {rest}
    assert min(cost.peak for cost in costs) > 50_000_000


def test_the_first_epoch_stands_alone() -> None:
    costs = [Cost(9.0, 10_000_000, 2_000_000, 500_000), *(Cost(s, 20_000_000, 2_000_000, 500_000) for s in (4, 1, 2))]
    assert summary(costs) == {
        "trained_m": 2.0, "trained_of_bert_m": 0.5, "peak_mb": 20, "first_epoch_s": 9.0, "epoch_s": 2.0,
    }  # fmt: skip


def test_the_table_and_what_differs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    hits = {"frozen": [0.0, 0.0, 1.0, 1.0], "all": [1.0, 0.0, 1.0, 1.0]}
    found = {}
    for name, values in hits.items():
        metrics = {metric: Interval(float(np.mean(values)), 0.0, 1.0) for metric in regimes.COMPARED}
        per_person = {metric: np.array(values) for metric in regimes.COMPARED}
        result = Result(metrics, np.arange(4), per_person, 0, 0.0)
        found[name] = Outcome(result, [Cost(2.0, 10**9, 10, 5)] * 2, {})
    monkeypatch.setattr(regimes, "side_by_side", lambda work, jobs, at_once: [found[name] for name in jobs])
    monkeypatch.setattr(sys, "argv", ["regimes", "--only", "all"])
    regimes.main()
    out, err = capsys.readouterr()
    rows = json.loads(out.splitlines()[-1])["rows"]
    assert [(row["method"], row["metrics"]["recall@20"][0]) for row in rows] == [("frozen", 0.5), ("all", 0.75)]
    assert "all        − frozen  recall@20  +0.2500" in err
