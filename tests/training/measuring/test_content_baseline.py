"""Neighbours by content, in a plane."""

from __future__ import annotations

import numpy as np
import pytest

from towers.errors import InputError
from towers.history import Histories
from training.measuring.content_baseline import ContentKNN
from training.measuring.splits import Questions, Split

TRAIN = Histories.of([[4, 1], [4]])


def compass(shift: tuple[float, float] = (0, 0)) -> np.ndarray:
    """North, east, south, west, and north-east twice as long; their mean is taken off, so a shift changes nothing."""
    points = np.array([[0, 1], [1, 0], [0, -1], [-1, 0], [2, 2]], np.float64)
    return points - points.mean(axis=0) + np.array(shift)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.mark.parametrize("shift", [(0, 0), (50, -20)])
def test_cosine_to_the_mean_of_the_last_items(shift: tuple[float, float]) -> None:
    ranker = ContentKNN(vectors=compass(shift), last=2).fit(TRAIN, 5)
    hits = ranker.rank(Histories.of([[2, 3, 0], [1]]), 5)
    units = unit(compass())
    for row, (query, left) in enumerate([(units[3] + units[0], [1, 4]), (units[1], [0, 2, 3, 4])]):
        cosines = units[left] @ unit(query)
        order = np.argsort(-cosines)
        assert hits.rows[row, : len(left)].tolist() == np.array(left)[order].tolist()
        np.testing.assert_allclose(hits.scores[row, : len(left)], cosines[order], rtol=1e-4, atol=1e-5)
        assert (hits.rows[row, len(left) :] == -1).all()


def test_only_the_newest_count_and_each_with_the_same_length() -> None:
    vectors = np.array([[9, 0], [0, 0.1], [-9, -0.1], [5, 0.05], [0.1, 5], [-5.1, -5.05]])
    assert np.abs(vectors.mean(axis=0)).max() < 1e-9
    ranker = ContentKNN(vectors=vectors, last=1).fit(Histories.of([[0]]), 6)
    assert ranker.rank(Histories.of([[0, 1]]), 1).rows.tolist() == [[4]]
    both = ContentKNN(vectors=vectors, last=2).fit(Histories.of([[0]]), 6).rank(Histories.of([[0, 1]]), 2)
    np.testing.assert_allclose(both.scores[0], unit(vectors)[[4, 3]] @ unit(np.array([1.0, 1.0])), atol=1e-6)


def test_an_item_without_any_event_is_found_by_its_content() -> None:
    train = Histories.of([[0, 2], [2]])
    hits = ContentKNN(vectors=compass()).fit(train, 5).rank(Histories.of([[0]]), 1)
    assert hits.rows.tolist() == [[3]]
    assert train.items.max() < 3


@pytest.mark.parametrize("nothing", [[0, 0], [np.nan, 1], [np.inf, 0]])
def test_items_without_content_never_come_and_say_nothing(nothing: list[float]) -> None:
    vectors = np.concatenate([compass(), [nothing]])
    ranker = ContentKNN(vectors=vectors, last=1).fit(Histories.of([[4, 5, 5]]), 6)
    hits = ranker.rank(Histories.of([[0], [0, 5]]), 6)
    assert (hits.rows != 5).all()
    assert (hits.rows[:, 4:] == -1).all()
    assert hits.rows[0].tolist() == hits.rows[1].tolist(), "the newest item with content counts"
    popular = ranker.rank(Histories.of([[], [5]]), 3)
    assert popular.rows.tolist() == [[5, 4, 0], [4, 0, 1]], "nothing to go by: the most popular items"


def test_opposites_cancel_without_harm() -> None:
    vectors = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    hits = ContentKNN(vectors=vectors).fit(Histories.of([[0]]), 4).rank(Histories.of([[0, 1]]), 2)
    assert hits.rows.tolist() == [[2, 3]]
    assert hits.scores.tolist() == [[0, 0]]


def test_a_batch_is_as_good_as_one_at_a_time() -> None:
    rng = np.random.default_rng(1)
    ranker = ContentKNN(vectors=rng.normal(size=(30, 8)), last=3).fit(Histories.of([[0]]), 30)
    histories = Histories.of([[], [3], [4, 5, 6, 7, 8], [], [9, 10]])
    whole = ranker.rank(histories, 7)
    for row in range(5):
        single = ranker.rank(histories.take([row]), 7)
        assert whole.rows[row].tolist() == single.rows[0].tolist()
        np.testing.assert_allclose(whole.scores[row], single.scores[0], rtol=1e-5)
    assert ranker.rank(Histories.of([]), 3).rows.shape == (0, 3)


def test_what_cannot_be_used_is_refused() -> None:
    with pytest.raises(InputError, match=r"must be \(N, d\), got the shape \(4,\)"):
        ContentKNN(vectors=np.ones(4))
    with pytest.raises(InputError, match="got last=0"):
        ContentKNN(vectors=compass(), last=0)
    with pytest.raises(InputError, match="content vectors of 5 items, the catalog has 6"):
        ContentKNN(vectors=compass()).fit(TRAIN, 6)
    with pytest.raises(InputError, match="none of 5 items has a content vector"):
        ContentKNN(vectors=np.zeros((5, 2))).fit(TRAIN, 5)


def test_how_many_items_count_is_chosen_on_validation_data() -> None:
    from training.measuring.baselines import baseline_grids, tune

    # People move east for long and then turn: what comes next lies where they turned to.
    angles = np.linspace(0, 2 * np.pi, 41)[:40]
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    past = Histories.of([[*range(8), n] for n in range(15, 35)])
    questions = Questions(np.arange(20), past, Histories.of([[n + 1] for n in range(15, 35)]))
    split = Split(log=past, train=past, refit=past, validation=questions, test=questions)
    best = tune(baseline_grids(content=vectors)["content-knn"], split, 40)
    assert best.settings == {"last": 1}
    assert [sorted(one) for one in best.tried] == [["last", "ndcg@20"]] * 6
