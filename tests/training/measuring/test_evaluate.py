"""Evaluation and its table, by hand with a ranker that returns what it is told."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from indexing.hits import Hits
from towers.errors import InputError
from towers.history import Histories
from training.measuring.evaluate import evaluate
from training.measuring.metrics import Interval
from training.measuring.splits import Questions
from training.measuring.table import results_table


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
COUNTS = np.array([50, 20, 20, 10, 0])  # head 0, torso 1 and 2, tail 3 and 4, cold 4
LISTS = [[4, 1, 3], [0, 2, -1], [0, 1, 3]]


def test_every_number_by_hand() -> None:
    w2, w3, w4 = (50 / 20) ** 1.5, (50 / 10) ** 1.5, 100
    five = (w3 + w4) / 2
    result = evaluate(Fixed(LISTS), QUESTIONS, counts=COUNTS, ks=(1, 2), depth=3, batch=2)
    value = {name: m if isinstance(m, float) else m.value for name, m in result.metrics.items()}
    assert value == pytest.approx(
        {
            "recall@1": (1 / 2 + 0) / 2,
            "recall@2": (1 / 2 + 1) / 2,
            "recall@3": (1 + 1) / 2,
            # torso: person 6 looks for 2; tail: person 5 looks for 3 and 4; cold: 4 of those; head: nobody
            "recall@1/torso": 0,
            "recall@2/torso": 1,
            "recall@3/torso": 1,
            "recall@1/tail": 1 / 2,
            "recall@2/tail": 1 / 2,
            "recall@3/tail": 1,
            "recall@1/cold": 1,
            "recall@2/cold": 1,
            "recall@3/cold": 1,
            "ndcg@1": 1 / 2,
            "ndcg@2": (1 / (1 + 1 / np.log2(3)) + 1 / np.log2(3)) / 2,
            "mrr@1": 1 / 2,
            "mrr@2": (1 + 1 / 2) / 2,
            # shares of interactions, one added to each item: 51 21 21 11 1 of 105
            "novelty@1": np.log2([105 / 1, 105 / 51, 105 / 51]).mean(),
            "novelty@2": np.log2([105 / 1, 105 / 21, 105 / 51, 105 / 21, 105 / 51, 105 / 21]).mean(),
            # person 5 weighs as much as 3 and 4 do on average
            "debiased-recall@1": five * w4 / (w3 + w4) / (five + w2),
            "debiased-recall@2": (five * w4 / (w3 + w4) + w2) / (five + w2),
            "debiased-ndcg@1": five / (five + w2),
            "debiased-ndcg@2": (five * w4 / (w4 + w3 / np.log2(3)) + w2 / np.log2(3)) / (five + w2),
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
    np.testing.assert_allclose(result.per_person["recall@2/tail"], [1 / 2, np.nan, np.nan])


def test_a_group_counts_only_what_was_looked_for() -> None:
    question = Questions(np.array([5]), Histories.of([[0]]), Histories.of([[3]]))
    metrics = evaluate(Fixed([[4, 3, 1]]), question, counts=COUNTS, ks=(1, 2), depth=3).metrics
    assert metrics["recall@1/tail"].value == 0  # 4 is in the tail, too
    assert metrics["recall@2/tail"].value == 1
    assert "recall@2/cold" not in metrics


def test_values_of_people_have_the_metric_as_their_mean() -> None:
    """So that `paired_difference` of any of them is the difference of the metrics."""
    result = evaluate(Fixed(LISTS), QUESTIONS, counts=COUNTS, ks=(1, 2), depth=3)
    means = {name: np.nanmean(values) for name, values in result.per_person.items() if not np.isnan(values).all()}
    intervals = {name: metric.value for name, metric in result.metrics.items() if isinstance(metric, Interval)}
    assert means == pytest.approx(intervals)
    assert {name for name in result.per_person if name not in means} == {f"recall@{k}/head" for k in (1, 2, 3)}


def test_a_debiased_interval_resamples_people_with_their_weight() -> None:
    """Two people: a quarter of the resamples hold only the first, a quarter only the second."""
    result = evaluate(Fixed(LISTS), QUESTIONS, counts=COUNTS, ks=(1,), depth=3)
    assert result.metrics["debiased-ndcg@1"][1:] == (0, 1)
    assert result.per_person["debiased-ndcg@1"][0] > 1


def test_nobody_looks_for_anything() -> None:
    nothing = Questions(QUESTIONS.people, QUESTIONS.histories, Histories.of([[], [], []]))
    result = evaluate(Fixed(LISTS), nothing, counts=COUNTS, ks=(1,), depth=3)
    assert list(result.metrics) == ["novelty@1", "coverage@1", "gini@1"]
    assert result.without_target == 3


def test_targets_outside_the_catalog_are_refused() -> None:
    with pytest.raises(InputError, match="asks for row 4 of a catalog of 4"):
        evaluate(Fixed([[3], [0], [1]]), QUESTIONS, counts=COUNTS[:4], ks=(1,), depth=1)


def test_a_row_is_json_and_keeps_what_is_added() -> None:
    result = evaluate(Fixed(LISTS), QUESTIONS, counts=COUNTS, ks=(1,), depth=3)
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
        evaluate(Fixed(lists), QUESTIONS, counts=COUNTS, ks=(1,), depth=3)


def test_no_questions_is_refused() -> None:
    nobody = QUESTIONS.take(np.array([], np.int64))
    with pytest.raises(InputError, match="no question"):
        evaluate(Fixed(LISTS), nobody, counts=COUNTS)


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
