"""The benchmark of training speed: every way of ours trains the same loss, ratios are the right way round."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import training_speed
from benchmarks.training_speed import GOALS, SHIPPED, USUAL, USUAL16, WAYS, Data, missed, ranked, rows
from towers.history import Histories
from towers.text import TextConfig, TextEncoder, embed_texts
from training.measuring.evaluate import Result
from training.measuring.metrics import Interval
from training.measuring.splits import Questions

TEXTS = ["quiet piano", "fast engine race", "night rain", "violin in the evening", "loved motors"]


class NoTurns:
    def begin(self) -> None:
        pass

    def end(self) -> None:
        pass


@pytest.fixture
def data() -> Data:
    questions = Questions(np.array([0, 2]), Histories.of([[0], [3]]), Histories.of([[1], [4]]))
    films = np.array([1, 2, 3, 4, 0, 2])
    return Data([f"{TEXTS[n % 5]}; {TEXTS[(n + 1) % 5]}" for n in range(6)], films, TEXTS, questions, TEXTS[:2], films)


def test_ways_that_compute_the_same_end_the_same(tiny_bert: Path, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two layers, of which one is trained: kept or not, the states behind the other are the same but for rounding."""
    load = TextEncoder.load
    monkeypatch.setattr(TextEncoder, "load", lambda config: load(TextConfig(source=str(tiny_bert))))
    for name, value in {"PAIRS": 6, "BATCH": 4, "EPOCHS": 2, "UPPER": 1}.items():
        monkeypatch.setattr(training_speed, name, value)
    before = embed_texts(load(TextConfig(source=str(tiny_bert))), TEXTS)
    found = {}
    for name, way in WAYS.items():
        if not way.theirs:
            torch.manual_seed(0)
            tune: Any = way.tune if way.tune == "all" else 1
            found[name] = training_speed.ours(way._replace(tune=tune), data, NoTurns())  # type: ignore[arg-type]
    new, kept, shipped = (found[name] for name in ("ours, bfloat16, upper layers", "ours, … states kept", SHIPPED))
    for vectors, same in zip(new, kept, strict=True):
        np.testing.assert_allclose(vectors, same, atol=0.02)
    assert np.abs(new[1] - before).max() > 0.001
    np.testing.assert_array_equal(shipped[1], before)
    assert np.abs(shipped[0] - before[:2]).max() > 0.001


def test_what_was_seen_is_not_ranked(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first has seen film 0 and is asked for 1, the other has seen 3 and is asked for 4, which stands second."""
    monkeypatch.setattr(training_speed, "DEPTH", 20)
    people = np.zeros((2, 21))
    people[0, :3] = [9, 2, 1]
    people[1, 2:5] = [1, 9, 0.5]
    found = ranked(people, np.eye(21), data._replace(counts=np.arange(21)))
    assert found.per_person["ndcg@20"].tolist() == [1.0, pytest.approx(1 / np.log2(3))]
    assert found.per_person["recall@20"].tolist() == [1.0, 1.0]


def result(value: float) -> Result:
    return Result({name: Interval(value, 0.0, 1.0) for name in training_speed.COMPARED}, np.arange(1), {}, 0, 0.0)


def test_rows_by_hand() -> None:
    seconds = {USUAL: [12.0, 8.0, 10.0], "ours, float32": [11.0, 6.0, 3.0], SHIPPED: [6.0, 2.0, 2.0]}
    made = rows(seconds, {name: result(0.5) for name in seconds})
    theirs, same, shipped = (row["metrics"] for row in made)
    assert (theirs["epoch_s"], "ratio" in theirs, "ratio_usual" in theirs) == (9.0, False, False)
    assert (same["ratio"], same["whole_ratio"], same["first_epoch_s"]) == (2.0, 1.5, 11.0)
    assert (shipped["ratio_usual"], shipped["whole_ratio_usual"], "ratio" in shipped) == (4.5, 3.0, False)
    assert shipped["pairs_a_second"] == 256.0
    assert missed(made) == []


@pytest.mark.parametrize(
    ("name", "metrics", "said"),
    [
        ("ours, float32", {"ratio": 0.99, "ratio_usual": 0.99}, 1),
        ("ours, bfloat16", {"ratio": 1.01, "ratio_usual": 0.5}, 0),
        (SHIPPED, {"ratio": 9.0, "whole_ratio_usual": 2.9}, 1),
        (USUAL16, {}, 0),
    ],
)
def test_what_is_missed_is_said(name: str, metrics: dict[str, float], said: int) -> None:
    assert len(missed([{"method": name, "metrics": metrics}])) == said


def test_each_of_ours_stands_beside_one_of_theirs() -> None:
    for way in WAYS.values():
        other = WAYS.get(way.beside)
        assert way.theirs or (other is not None and other.theirs and other[1:3] == way[1:3])
    assert set(GOALS) <= set(WAYS)


@pytest.mark.skipif(importlib.util.find_spec("sentence_transformers") is not None, reason="it is there")
def test_without_the_other_library_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["training_speed"])
    with pytest.raises(SystemExit, match="pip install sentence-transformers datasets"):
        training_speed.main()
