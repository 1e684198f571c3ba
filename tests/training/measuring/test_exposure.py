"""What lists show, by hand; debiased accuracy by hand, and against a world whose truth is known."""

import numpy as np
import pytest

from towers.errors import InputError
from towers.history import Histories
from training.measuring.exposure import (
    coverage,
    debiased_ndcg,
    debiased_recall,
    diversity,
    gini,
    inverse_propensities,
    novelty,
    shares,
)
from training.measuring.metrics import matches, ndcg, recall

ROWS = np.array([[4, 2, 0, 1], [4, 3, -1, -1], [-1, -1, -1, -1], [0, 1, 2, 3], [3, 0, 1, 2]])
TARGETS = Histories.of([[1, 2, 5], [0], [4], [], [3]])


def test_coverage_counts_items_shown_to_anybody() -> None:
    assert coverage(ROWS, 10, 1) == 3 / 10  # 4, 0, 3
    assert coverage(ROWS, 10, 4) == 5 / 10


def test_gini_by_hand() -> None:
    always_one = np.array([[2], [2], [2], [2]])
    assert gini(always_one, 3, 1) == pytest.approx(2 / 3)  # 1 - 1/N, its largest value
    assert gini(np.array([[0, 1], [2, 0]]), 3, 2) == pytest.approx(1 / 6)  # shown 2, 1, 1 times
    assert gini(np.array([[0, 1], [2, 3]]), 4, 2) == 0
    assert gini(np.array([[-1]]), 3, 1) == 0


def test_novelty_by_hand() -> None:
    counts = np.array([15, 7, 3, 1, 0, 0])  # with one more each 16, 8, 4, 2, 1, 1 of 32: 1 to 5 bits
    np.testing.assert_allclose(novelty(ROWS, counts, 2), [(5 + 3) / 2, (5 + 4) / 2, np.nan, (1 + 2) / 2, (4 + 1) / 2])
    np.testing.assert_allclose(novelty(ROWS, counts, 4)[:2], [(5 + 3 + 1 + 2) / 4, (5 + 4) / 2])


def test_diversity_by_hand() -> None:
    vectors = np.array([[1, 0], [0.6, 0.8], [0, 1], [-1, 0], [0, 0]])
    rows = np.array([[0, 1, 2], [0, 0, 3], [4, 0, 2], [1, 2, -1], [1, -1, -1]])
    expected = [(0.4 + 1 + 0.2) / 3, (0 + 2 + 2) / 3, 1, 0.2, np.nan]
    np.testing.assert_allclose(diversity(rows, vectors, 3), expected, atol=1e-12)
    np.testing.assert_allclose(diversity(rows, vectors, 2), [0.4, 0, 1, 0.2, np.nan], atol=1e-12)


@pytest.mark.parametrize("k", [0, 5])
def test_lists_shorter_than_k_are_refused(k: int) -> None:
    with pytest.raises(InputError, match=f"at {k} needs"):
        coverage(ROWS, 10, k)
    with pytest.raises(InputError, match=f"at {k} needs"):
        novelty(ROWS, np.ones(6), k)
    with pytest.raises(InputError, match=f"at {k} needs"):
        debiased_recall(ROWS, TARGETS, np.ones(6), k)


def test_inverse_propensities_by_hand() -> None:
    counts = np.array([100, 25, 4, 0])
    np.testing.assert_allclose(inverse_propensities(counts), [1, 8, 100, 100])  # 4 would weigh 125
    np.testing.assert_allclose(inverse_propensities(counts, power=0.5, clip=0.1), [1, 2, 5, 10])
    np.testing.assert_allclose(inverse_propensities(counts, power=0), [1, 1, 1, 1])
    np.testing.assert_allclose(inverse_propensities(np.zeros(2, int)), [100, 100])


def test_debiased_metrics_by_hand() -> None:
    weights, gain = np.array([1, 2, 8, 4, 5, 10.0]), 1 / np.log2(np.arange(2, 6))
    np.testing.assert_allclose(debiased_recall(ROWS, TARGETS, weights, 2), [8 / 20, 0, 0, np.nan, 1])
    np.testing.assert_allclose(debiased_recall(ROWS, TARGETS, weights, 4), [(8 + 2) / 20, 0, 0, np.nan, 1])
    ideal = 10 * gain[0] + 8 * gain[1]
    np.testing.assert_allclose(debiased_ndcg(ROWS, TARGETS, weights, 2), [8 * gain[1] / ideal, 0, 0, np.nan, 1])
    means = np.array([20 / 3, 1, 5, np.nan, 4])
    np.testing.assert_allclose(shares(TARGETS, weights), means / ((20 / 3 + 1 + 5 + 4) / 4))
    assert np.isnan(shares(Histories.of([[], []]), weights)).all()


def test_equal_weights_leave_the_plain_metrics() -> None:
    found, weights = matches(ROWS, TARGETS), np.full(6, 7.0)
    np.testing.assert_allclose(debiased_recall(ROWS, TARGETS, weights, 4), recall(found, TARGETS.lengths, 4))
    np.testing.assert_allclose(debiased_ndcg(ROWS, TARGETS, weights, 4), ndcg(found, TARGETS.lengths, 4))
    np.testing.assert_allclose(shares(TARGETS, weights), [1, 1, 1, np.nan, 1])


def test_debiased_recall_finds_what_the_log_hides() -> None:
    """Everybody likes one of 100 items, all equally often; it is seen in proportion to popularity to the power 1.5."""
    rng = np.random.default_rng(0)
    counts = rng.permutation(np.arange(10, 110))
    seen = 1 / inverse_propensities(counts)
    liked = rng.integers(100, size=60_000)
    liked = liked[rng.random(60_000) < seen[liked]]
    popular_first = np.argsort(-counts)[:25]  # a ranker that shows the 25 most popular: the truth is 1/4
    rows, targets = np.tile(popular_first, (len(liked), 1)), Histories(np.arange(len(liked) + 1), liked)

    assert recall(matches(rows, targets), targets.lengths, 25).mean() > 0.45
    weights = inverse_propensities(counts)
    share = shares(targets, weights)
    value = np.average(debiased_recall(rows, targets, weights, 25), weights=share)
    error = np.sqrt(0.25 * 0.75 * np.mean(share**2) / len(share))
    assert value == pytest.approx(0.25, abs=3 * error)
    assert error < 0.005
