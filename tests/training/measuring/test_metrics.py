"""Metrics against cases worked out by hand, and against trec_eval."""

import ir_measures
import numpy as np
import pytest

from indexing.hits import Hits
from towers.errors import InputError
from towers.history import Histories
from training.measuring.metrics import (
    MANY,
    bootstrap,
    graded_ndcg,
    group_masks,
    mae,
    matches,
    ndcg,
    paired_difference,
    positions,
    recall,
    reciprocal_rank,
    relative_difference,
    rmse,
    subtopic_recall,
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


def test_positions_say_which_target_was_found() -> None:
    expected = np.full((5, 4), -1)
    expected[0, 1], expected[0, 3], expected[4, 0] = 1, 0, 5
    assert (positions(ROWS, TARGETS) == expected).all()
    unsorted = Histories.of([[5, 2, 1], [0], [4], [], [3]])
    expected[0, 3] = 2
    assert (positions(ROWS, unsorted) == expected).all()


def test_nothing_to_look_for_and_nobody_to_look_for_it() -> None:
    assert (positions(ROWS, Histories.of([[]] * 5)) == -1).all()
    assert positions(ROWS[:0], Histories.of([])).shape == (0, 4)
    with pytest.raises(InputError, match=r"5 ranked lists .* 2 people"):
        matches(ROWS, Histories.of([[1], [2]]))


def test_subtopic_recall_by_hand() -> None:
    topics = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1]], bool)
    targets = Histories.of([[1, 5], [0], [4], [], [2]])
    # All three topics are liked, and rank 1 has the second, rank 3 the first; then nothing that is liked is shown, the
    # list is empty, nothing is liked, what is liked has no topic.
    np.testing.assert_allclose(subtopic_recall(ROWS, targets, topics, 2), [1 / 3, 0, 0, np.nan, np.nan])
    np.testing.assert_allclose(subtopic_recall(ROWS, targets, topics, 4), [2 / 3, 0, 0, np.nan, np.nan])
    assert subtopic_recall(np.array([[3, 4, 0]]), Histories.of([[5]]), topics, 2)[0] == 1  # by other items
    with pytest.raises(InputError, match="a metric at 5 needs lists"):
        subtopic_recall(ROWS, targets, topics, 5)


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


def test_graded_ndcg_by_hand_with_the_ideal_cut_at_k() -> None:
    gain, stars = 1 / np.log2(np.arange(2, 6)), np.array([4, 1, 5, 2, 3, 0.5])  # of items 1 2 5 | 0 | 4 | 3
    assert TARGETS.items.tolist() == [1, 2, 5, 0, 4, 3]
    at_two = [1 * gain[1] / (5 * gain[0] + 4 * gain[1]), 0, 0, np.nan, 1]
    at_four = [(1 * gain[1] + 4 * gain[3]) / (5 * gain[0] + 4 * gain[1] + 1 * gain[2]), 0, 0, np.nan, 1]
    np.testing.assert_allclose(graded_ndcg(ROWS, TARGETS, stars, 2), at_two)
    np.testing.assert_allclose(graded_ndcg(ROWS, TARGETS, stars, 4), at_four)


def test_graded_ndcg_of_equal_gains_is_ndcg_and_of_none_is_unknown() -> None:
    found = matches(ROWS, TARGETS)
    np.testing.assert_allclose(graded_ndcg(ROWS, TARGETS, np.full(6, 3.5), 4), ndcg(found, RELEVANT, 4))
    worthless = np.array([0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(graded_ndcg(ROWS, TARGETS, worthless, 4), [np.nan, 0, 0, np.nan, 1])
    assert np.isnan(graded_ndcg(ROWS, Histories.of([[]] * 5), np.array([]), 4)).all()


@pytest.mark.parametrize(
    ("gains", "message"),
    [
        ([1.0] * 5, "5 gains for 6 targets"),
        ([1, 1, 1, 1, 1, -1], "negative"),
        ([1, 1, 1, 1, 1, np.nan], "not finite"),
        ([1, 1, 1, 1, 1, np.inf], "not finite"),
    ],
)
def test_gains_that_are_none_are_refused(gains: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        graded_ndcg(ROWS, TARGETS, np.array(gains), 2)


@pytest.mark.parametrize("seed", range(3))
def test_as_trec_eval_computes_them(seed: int) -> None:
    """Of 300 people some are shown nothing, some look for nothing, most lists are short, scores and gains are tied."""
    rng = np.random.default_rng(seed)
    people, depth, n_items = 300, 20, 40
    scores = rng.integers(0, 5, (people, n_items)).astype(np.float32)
    scores[np.argsort(rng.random((people, n_items))) >= rng.integers(0, 30, (people, 1))] = -np.inf
    rows = Hits.top(scores, depth).rows
    relevant = [rng.permutation(n_items)[: rng.integers(0, 30)].tolist() for _ in range(people)]
    targets = Histories.of(relevant)
    stars = rng.integers(1, 6, len(targets.items))
    assert not (rows >= 0).any(axis=1).all()
    assert not targets.lengths.all()

    found, k_values = matches(rows, targets), (1, 5, 20)
    ours = {
        (measure, k): compute(found, targets.lengths, k)
        for measure, compute in {ir_measures.R: recall, ir_measures.nDCG: ndcg, ir_measures.RR: reciprocal_rank}.items()
        for k in k_values
    }
    _agree(ours, rows, targets, np.ones_like(stars))
    _agree({(ir_measures.nDCG, k): graded_ndcg(rows, targets, stars, k) for k in k_values}, rows, targets, stars)


def _agree(ours: dict, rows: np.ndarray, targets: Histories, gains: np.ndarray) -> None:
    """Metrics are those of trec_eval where something is relevant, and NaN elsewhere."""
    answers: dict[str, dict[str, int]] = {}
    for person, item, gain in zip(targets.people, targets.items, gains, strict=True):
        answers.setdefault(str(person), {})[str(item)] = int(gain)
    lists = {str(p): {str(i): -float(n) for n, i in enumerate(row) if i >= 0} for p, row in enumerate(rows)}
    asked = targets.lengths > 0
    for (measure, k), values in ours.items():
        theirs = {int(one.query_id): one.value for one in ir_measures.iter_calc([measure @ k], answers, lists)}
        expected = [theirs[person] if asked[person] else np.nan for person in range(len(targets))]
        np.testing.assert_allclose(values, expected, rtol=0, atol=1e-9, err_msg=f"{measure}@{k}")


def test_groups_of_a_catalog_and_cold_within_its_tail() -> None:
    masks = group_masks(np.array([10, 0, 50, 20, 20]))
    rows = {name: np.flatnonzero(mask).tolist() for name, mask in masks.items()}
    assert rows == {"head": [2], "torso": [3, 4], "tail": [0, 1], "cold": [1]}


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


def test_intervals_of_small_data_are_drawn_as_in_the_records() -> None:
    values = np.sort(np.random.default_rng(5).random(5_000))
    rng = np.random.default_rng(3)
    people = len(values)
    means = [rng.multinomial(people, np.full(people, 1 / people)) @ values / people for _ in range(50)]
    expected = np.percentile(means, [2.5, 97.5])
    np.testing.assert_allclose(bootstrap(values, seed=3, n=50)[1:], expected, rtol=1e-12)


def test_bootstrap_of_many_distinct_values_is_as_wide_as_theory_says() -> None:
    rng = np.random.default_rng(0)
    values, weights = np.r_[rng.exponential(size=2 * MANY), np.nan], np.r_[rng.integers(1, 4, 2 * MANY), 1]
    value, low, high = bootstrap(values, weights=weights, seed=1)
    mean = np.average(values[:-1], weights=weights[:-1])
    half = 1.96 * np.std(weights[:-1] * (values[:-1] - mean)) / weights[:-1].mean() / np.sqrt(2 * MANY)
    assert value == pytest.approx(mean)
    np.testing.assert_allclose([low - mean, high - mean], [-half, half], rtol=0.08)


def test_bootstrap_refuses_a_mean_of_nobody() -> None:
    with pytest.raises(InputError, match="none among 2"):
        bootstrap(np.array([np.nan, np.nan]))


def test_relative_difference_is_that_of_the_means_over_the_same_people() -> None:
    theirs = np.linspace(1, 2, 200)
    np.testing.assert_allclose(relative_difference(1.3 * theirs, theirs), [0.3, 0.3, 0.3])
    value, low, high = relative_difference(np.append(theirs + 0.3, np.nan), np.append(theirs, 9.0))
    assert value == pytest.approx(0.2)  # 1.8 of 1.5; each person's own share would be 0.208 in the mean
    assert 0.19 < low < 0.2 < high < 0.21
    with pytest.raises(InputError, match="mean of 0"):
        relative_difference(theirs, 0 * theirs)


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
