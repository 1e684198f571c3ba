"""Splits by hand."""

import numpy as np
import pytest

from towers.errors import InputError
from towers.history import Histories
from training.protocols import Questions, leave_one_out, random_tenth


def lists(histories: Histories) -> list[list[int]]:
    return [part.tolist() for part in np.split(histories.items, histories.offsets[1:-1])]


def test_leave_one_out() -> None:
    split = leave_one_out(Histories.of([[1, 2, 3, 4], [5, 6], [], [7, 8, 9]]))
    assert lists(split.train) == [[1, 2], [5, 6], [], [7]]
    for questions, pasts, targets in [
        (split.validation, [[1, 2], [7]], [[3], [8]]),
        (split.test, [[1, 2, 3], [7, 8]], [[4], [9]]),
    ]:
        assert questions.people.tolist() == [0, 3]
        assert lists(questions.histories) == pasts
        assert lists(questions.targets) == targets
    assert (split.too_short, split.ties, split.repeats) == (2, 0, 0)


def test_times_and_ratings_stay_with_their_events() -> None:
    split = leave_one_out(Histories.of([[1, 2, 3]], times=[[10, 20, 30]], ratings=[[0.1, 0.2, 0.3]]))
    assert split.test.histories.times is not None
    assert split.test.histories.times.tolist() == [10, 20]
    np.testing.assert_allclose(split.test.targets.ratings, [0.3])
    np.testing.assert_allclose(split.validation.targets.ratings, [0.2])


def test_ties_are_counted_once_a_person_and_the_order_of_the_log_decides() -> None:
    times = [[1, 2, 2, 3], [1, 1, 2, 3], [1, 2, 3, 3], [1, 1, 1, 1]]
    split = leave_one_out(Histories.of([[0, 1, 2, 3]] * 4, times=times))
    assert split.ties == 3
    assert split.test.targets.items.tolist() == [3, 3, 3, 3]


def test_a_target_seen_before_is_no_question() -> None:
    split = leave_one_out(Histories.of([[1, 2, 1], [1, 1, 2], [1, 2, 3]]))
    assert split.test.people.tolist() == [1, 2]
    assert split.validation.people.tolist() == [0, 2]
    assert split.repeats == 2


def test_leave_one_out_of_people_with_two_events_is_refused() -> None:
    with pytest.raises(InputError, match="at least 3 events"):
        leave_one_out(Histories.of([[1, 2], [3]]))


def test_questions_can_be_taken_apart() -> None:
    test = leave_one_out(Histories.of([[1, 2, 3], [4, 5, 6]])).test
    turned = test.take(np.array([1, 0]))
    assert turned.people.tolist() == [1, 0]
    assert lists(turned.histories) == [[4, 5], [1, 2]]
    assert turned.targets.items.tolist() == [6, 3]


def test_questions_refuse_what_does_not_fit() -> None:
    one = Histories.of([[1]])
    with pytest.raises(InputError, match="got 2, 1 and 1"):
        Questions(np.array([0, 1]), one, one)
    with pytest.raises(InputError, match="names an item twice"):
        Questions(np.array([0]), one, Histories.of([[2, 2]]))


def test_random_tenth_holds_out_rated_events_only() -> None:
    rng = np.random.default_rng(3)
    ratings = rng.random((10, 6))
    ratings[:, ::2] = np.nan
    items = np.arange(60).reshape(10, 6)
    split = random_tenth(Histories.of(items.tolist(), ratings=ratings.tolist()), seed=0)
    assert len(split.items) == 3
    np.testing.assert_allclose(split.ratings, ratings.ravel()[split.items], rtol=1e-6)
    assert split.people.tolist() == (split.items // 6).tolist()
    assert sorted([*split.train.items, *split.items]) == list(range(60))
    again = random_tenth(Histories.of(items.tolist(), ratings=ratings.tolist()), seed=1)
    assert again.items.tolist() != split.items.tolist()


def test_random_tenth_without_ratings_is_refused() -> None:
    with pytest.raises(InputError, match="at least 2 of them, got 0"):
        random_tenth(Histories.of([[1, 2]]), seed=0)
