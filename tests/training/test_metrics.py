"""Metrics against cases worked out by hand, and against trec_eval."""

import ir_measures
import numpy as np
import pytest

from towers.errors import InputError
from towers.history import Histories
from training.metrics import (
    bootstrap,
    coverage,
    gini,
    mae,
    matches,
    ndcg,
    paired_difference,
    popularity_groups,
    recall,
    reciprocal_rank,
    rmse,
)

ROWS = np.array(
    [
        [4, 2, 0, 1],  # finds 2 at rank 2 and 1 at rank 4, of three
        [4, 3, -1, -1],  # a short list that finds nothing
        [-1, -1, -1, -1],  # an empty list
        [0, 1, 2, 3],  # nobody relevant
        [3, 0, 1, 2],  # finds its only one first
    ]
)
TARGETS = Histories.of([[1, 2, 5], [0], [4], [], [3]])
RELEVANT = TARGETS.lengths


def test_matches_marks_found_items_and_never_padding() -> None:
    expected = np.zeros((5, 4), bool)
    expected[0, [1, 3]] = expected[4, 0] = True
    assert (matches(ROWS, TARGETS) == expected).all()


def test_padding_does_not_match_the_last_item_of_the_person_before() -> None:
    assert not matches(np.array([[0], [-1]]), Histories.of([[3], [1]])).any()


def test_recall_by_hand() -> None:
    found = matches(ROWS, TARGETS)
    np.testing.assert_allclose(recall(found, RELEVANT, 2), [1 / 3, 0, 0, np.nan, 1])
    np.testing.assert_allclose(recall(found, RELEVANT, 4), [2 / 3, 0, 0, np.nan, 1])


def test_ndcg_by_hand_with_the_ideal_cut_at_k() -> None:
    found, gain = matches(ROWS, TARGETS), 1 / np.log2(np.arange(2, 6))
    np.testing.assert_allclose(ndcg(found, RELEVANT, 2), [gain[1] / gain[:2].sum(), 0, 0, np.nan, 1])
    np.testing.assert_allclose(ndcg(found, RELEVANT, 4), [(gain[1] + gain[3]) / gain[:3].sum(), 0, 0, np.nan, 1])


def test_reciprocal_rank_by_hand() -> None:
    found = matches(ROWS, TARGETS)
    np.testing.assert_allclose(reciprocal_rank(found, RELEVANT, 4), [1 / 2, 0, 0, np.nan, 1])
    np.testing.assert_allclose(reciprocal_rank(found, RELEVANT, 1), [0, 0, 0, np.nan, 1])


@pytest.mark.parametrize("k", [0, 5])
def test_a_metric_deeper_than_the_lists_is_refused(k: int) -> None:
    with pytest.raises(InputError, match=f"at {k} needs"):
        recall(matches(ROWS, TARGETS), RELEVANT, k)


def test_as_trec_eval_computes_them() -> None:
    rng = np.random.default_rng(7)
    people, depth, n_items = 60, 20, 40
    rows = np.stack([rng.permutation(n_items)[:depth] for _ in range(people)])
    for person, length in enumerate(rng.integers(1, depth + 1, people)):
        rows[person, length:] = -1
    relevant = [rng.permutation(n_items)[: rng.integers(1, 30)].tolist() for _ in range(people)]
    found, counts = matches(rows, Histories.of(relevant)), np.array([len(items) for items in relevant])

    answers = {str(p): {str(i): 1 for i in items} for p, items in enumerate(relevant)}
    lists = {str(p): {str(i): -float(n) for n, i in enumerate(row) if i >= 0} for p, row in enumerate(rows)}
    pairs = [(recall, ir_measures.R), (ndcg, ir_measures.nDCG), (reciprocal_rank, ir_measures.RR)]
    for k in (1, 5, 20):
        for ours, theirs in pairs:
            expected = {int(one.query_id): one.value for one in ir_measures.iter_calc([theirs @ k], answers, lists)}
            np.testing.assert_allclose(ours(found, counts, k), [expected[p] for p in range(people)], rtol=0, atol=1e-9)


def test_coverage_counts_items_shown_to_anybody() -> None:
    assert coverage(ROWS, 10, 1) == 3 / 10  # 4, 0, 3
    assert coverage(ROWS, 10, 4) == 5 / 10


def test_gini_by_hand() -> None:
    always_one = np.array([[2], [2], [2], [2]])
    assert gini(always_one, 3, 1) == pytest.approx(2 / 3)  # 1 - 1/N, its largest value
    assert gini(np.array([[0, 1], [2, 0]]), 3, 2) == pytest.approx(1 / 6)  # shown 2, 1, 1 times
    assert gini(np.array([[0, 1], [2, 3]]), 4, 2) == 0
    assert gini(np.array([[-1]]), 3, 1) == 0


@pytest.mark.parametrize(
    ("counts", "groups"),
    [
        ([10, 0, 50, 20, 20], [2, 2, 0, 1, 1]),  # 50 | 20 20 | 10 0
        ([20, 60, 20], [1, 0, 2]),  # exactly 80 % before the last
        ([1] * 10, [0, 0, 1, 1, 1, 1, 1, 1, 2, 2]),  # ties: lower row first
        ([0, 0], [2, 2]),
    ],
)
def test_popularity_groups(counts: list[int], groups: list[int]) -> None:
    assert popularity_groups(np.array(counts)).tolist() == groups


def test_bootstrap_is_as_wide_as_theory_says() -> None:
    values = np.r_[np.ones(300), np.zeros(700), np.nan]
    value, low, high = bootstrap(values, seed=1)
    half = 1.96 * np.sqrt(0.3 * 0.7 / 1000)
    assert value == pytest.approx(0.3)
    assert low == pytest.approx(0.3 - half, abs=0.003)
    assert high == pytest.approx(0.3 + half, abs=0.003)
    assert bootstrap(values, seed=1) == (value, low, high)
    assert bootstrap(values, seed=2) != (value, low, high)


def test_bootstrap_agrees_with_plain_resampling() -> None:
    rng = np.random.default_rng(0)
    values = rng.exponential(size=200)
    means = values[rng.integers(200, size=(20_000, 200))].mean(axis=1)
    _, low, high = bootstrap(values, n=20_000)
    np.testing.assert_allclose([low, high], np.percentile(means, [2.5, 97.5]), rtol=0.01)


def test_bootstrap_refuses_a_mean_of_nobody() -> None:
    with pytest.raises(InputError, match="none among 2"):
        bootstrap(np.array([np.nan, np.nan]))


def test_paired_difference_looks_at_people_not_at_means() -> None:
    theirs = np.random.default_rng(0).random(50)
    np.testing.assert_allclose(paired_difference(theirs + 0.1, theirs), [0.1, 0.1, 0.1])
    unknown = np.r_[np.nan, theirs[1:]]
    assert paired_difference(unknown, theirs).value == 0
    with pytest.raises(InputError, match="50 and 49"):
        paired_difference(theirs, theirs[1:])


def test_rating_errors_by_hand_with_people_resampled_whole() -> None:
    predicted, actual, people = np.array([0.1, 0.7, 1.0]), np.array([0.0, 1.0, 0.5]), np.array([8, 8, 3])
    # Two people: a quarter of the resamples hold only the first, a quarter only the second.
    np.testing.assert_allclose(rmse(predicted, actual, people), np.sqrt([0.35 / 3, 0.05, 0.25]))
    np.testing.assert_allclose(mae(predicted, actual, people), [0.3, 0.2, 0.5])
