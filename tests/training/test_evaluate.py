"""Evaluation and its table, by hand with a ranker that returns what it is told."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from indexing.hits import Hits
from towers.errors import InputError
from towers.history import Histories
from training.evaluate import evaluate
from training.protocols import Questions
from training.table import results_table


class Fixed:
    """Gives the n-th question the n-th list."""

    def __init__(self, rows: list[list[int]]) -> None:
        self.rows, self.next = np.array(rows), 0

    def rank(self, histories: Histories, k: int) -> Hits:
        rows = self.rows[self.next : self.next + len(histories), :k]
        self.next += len(histories)
        scores = np.where(rows >= 0, -np.arange(rows.shape[1], dtype=np.float32), -np.inf)
        return Hits(rows, scores.astype(np.float32))


QUESTIONS = Questions(np.array([5, 6, 7]), Histories.of([[0], [1], [2]]), Histories.of([[3, 4], [2], []]))
GROUPS = np.array([0, 0, 1, 1, 2])
LISTS = [[4, 1, 3], [0, 2, -1], [0, 1, 3]]


def test_every_number_by_hand() -> None:
    result = evaluate(Fixed(LISTS), QUESTIONS, groups=GROUPS, ks=(1, 2), depth=3, batch=2)
    value = {name: m if isinstance(m, float) else m.value for name, m in result.metrics.items()}
    assert value == pytest.approx(
        {
            "recall@1": (1 / 2 + 0) / 2,
            "recall@2": (1 / 2 + 1) / 2,
            "recall@3": (1 + 1) / 2,
            # torso: person 5 looks for 3, person 6 for 2; tail: person 5 looks for 4; head: nobody
            "recall@1/torso": 0,
            "recall@2/torso": 1 / 2,
            "recall@3/torso": 1,
            "recall@1/tail": 1,
            "recall@2/tail": 1,
            "recall@3/tail": 1,
            "ndcg@1": 1 / 2,
            "ndcg@2": (1 / (1 + 1 / np.log2(3)) + 1 / np.log2(3)) / 2,
            "mrr@1": 1 / 2,
            "mrr@2": (1 + 1 / 2) / 2,
            "coverage@1": 2 / 5,
            "coverage@2": 4 / 5,
            # shown 0 0 0 1 2 times, then 0 1 1 2 2 times
            "gini@1": (2 * 1 + 4 * 2) / (5 * 3),
            "gini@2": (-2 * 1 + 2 * 2 + 4 * 2) / (5 * 6),
        }
    )
    assert result.people.tolist() == [5, 6, 7]
    assert result.without_target == 1
    np.testing.assert_allclose(result.per_person["recall@2"], [0.5, 1, np.nan])
    np.testing.assert_allclose(result.per_person["recall@2/tail"], [1, np.nan, np.nan])


def test_a_row_is_json_and_keeps_what_is_added() -> None:
    result = evaluate(Fixed(LISTS), QUESTIONS, groups=GROUPS, ks=(1,), depth=3)
    row = json.loads(json.dumps(result.row(method="ease", split="test", seed=0, settings={"a": 1}), allow_nan=False))
    assert {k: row[k] for k in ("method", "split", "seed", "settings")} == {
        "method": "ease",
        "split": "test",
        "seed": 0,
        "settings": {"a": 1},
    }
    assert row["metrics"]["recall@3"] == [1, 1, 1]
    assert row["metrics"]["coverage@1"] == 0.4


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ([[4, 0, 3], [0, 2, -1], [0, 1, 3]], "item of the history"),
        ([[4, 3, 4], [0, 2, -1], [0, 1, 3]], "twice"),
        ([[4, 3, 9], [0, 2, -1], [0, 1, 3]], "row 9 of a catalog of 5"),
        ([[4, 3], [0, 2], [0, 1]], r"shape \(3, 3\), got \(3, 2\)"),
    ],
)
def test_a_ranker_that_breaks_its_contract_is_refused(lists: list[list[int]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(Fixed(lists), QUESTIONS, groups=GROUPS, ks=(1,), depth=3)


def test_no_questions_is_refused() -> None:
    nobody = QUESTIONS.take(np.array([], np.int64))
    with pytest.raises(InputError, match="no question"):
        evaluate(Fixed(LISTS), nobody, groups=GROUPS)


def test_the_table_shows_values_intervals_and_the_best() -> None:
    rows = [
        {"method": "ease", "split": "test", "metrics": {"recall@20": [0.2, 0.1, 0.3], "gini@20": 0.5}},
        {"method": "[als]", "split": "test", "metrics": {"recall@20": [0.4, 0.3, 0.5], "gini@20": 0.9}},
        {"method": "old", "split": "test", "metrics": {"gini@20": 0.7}},
    ]
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(results_table(rows, metrics=("recall@20", "gini@20", "absent")))
    lines = console.export_text(clear=False).splitlines()
    styled = console.export_text(styles=True)
    assert "absent" not in styled
    assert [word for word in lines[3].split() if word != "│"] == ["ease", "test", "0.200", "0.100–0.300", "0.500"]
    assert [word for word in lines[4].split() if word != "│"] == ["[als]", "test", "0.400", "0.300–0.500", "0.900"]
    assert [word for word in lines[5].split() if word != "│"] == ["old", "test", "–", "0.700"]
    assert "\x1b[1m0.400" in styled
    assert "\x1b[1m0.500" in styled
    assert "\x1b[1m0.900" not in styled
