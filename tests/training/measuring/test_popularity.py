"""Popular items, of all times and of late, counted by hand."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from towers.errors import InputError
from towers.history import Histories
from training.measuring.popularity import MostPopular, MostPopularOfLate

DAY = 86_400


def events() -> Histories:
    """Item 3 three times long ago, 2 once then and twice a week before the end, 1 twice at the end, 0 once there."""
    return Histories.of(
        [[3, 2, 1, 0], [3, 2, 1], [3, 2]],
        times=[[0, 93 * DAY, 99.5 * DAY, 100 * DAY], [DAY, 93.5 * DAY, 99.2 * DAY], [2 * DAY, 3 * DAY]],
    )


def test_most_popular_ranks_by_count() -> None:
    hits = MostPopular().fit(Histories.of([[2, 0], [2, 3], [2, 3]]), 5).rank(Histories.of([[3]]), 5)
    assert hits.rows.tolist() == [[2, 0, 1, 4, -1]]
    assert hits.scores[0, :4].tolist() == [3, 1, 0, 0]


@pytest.mark.parametrize(
    ("window", "order"),
    [
        (0.1, [0, 2, 3, 1, 4]),  # only the very last event; then all times, equal ones by row
        (1, [1, 0, 2, 3, 4]),
        (7, [1, 2, 0, 3, 4]),  # the event exactly seven days back is outside, so 2 counts once
        (7.01, [2, 1, 0, 3, 4]),
        (98.5, [2, 1, 3, 0, 4]),  # 3 counts once, as does 0, and has more of all times
        (1000, [2, 3, 1, 0, 4]),
    ],
)
def test_a_window_counts_back_from_the_last_training_event(window: float, order: list[int]) -> None:
    ranker = MostPopularOfLate(window=window).fit(events(), 5)
    hits = ranker.rank(Histories.of([[], [2], [4]]), 5)
    assert hits.rows[0].tolist() == order, "an empty history gets the same list"
    assert hits.rows[1].tolist() == [*(item for item in order if item != 2), -1]
    assert hits.rows[2].tolist() == [*order[:4], -1], "so does one that holds nothing anybody had"
    assert hits.scores[0].tolist() == [4, 3, 2, 1, 0]


def test_the_end_moves_with_the_training_data() -> None:
    later = Histories.of([[0, 4]], times=[[0, 200 * DAY]])
    assert MostPopularOfLate(window=1).fit(later, 5).rank(Histories.of([[]]), 2).rows.tolist() == [[4, 0]]


def test_a_long_window_is_most_popular() -> None:
    rng = np.random.default_rng(0)
    log = Histories(np.array([0, 500]), rng.integers(0, 40, 500), np.sort(rng.random(500)) * 100 * DAY)
    nobody = Histories.of([[]])
    whole = MostPopularOfLate(window=101).fit(log, 50).rank(nobody, 50)
    assert (whole.rows == MostPopular().fit(log, 50).rank(nobody, 50).rows).all()


def test_what_cannot_be_counted_is_refused() -> None:
    for train in (Histories.of([[0, 1]]), Histories.of([[], []], times=[[], []])):
        with pytest.raises(InputError, match="needs training events with times; use MostPopular"):
            MostPopularOfLate().fit(train, 2)
    for window in (0, -1, float("nan")):
        with pytest.raises(InputError, match=f"above 0 days, got {window}"):
            MostPopularOfLate(window=window)
    with pytest.raises(InputError, match="call fit first"):
        MostPopularOfLate().rank(Histories.of([[]]), 1)
    with pytest.raises(InputError, match="row 5, the catalog has 5"):
        MostPopular().fit(events(), 5).rank(Histories.of([[5]]), 1)
    with pytest.raises(InputError, match="row 3, the catalog has 3"):
        MostPopular().fit(events(), 3)


def test_the_record_says_what_was_chosen() -> None:
    assert (MostPopular().settings, MostPopularOfLate(window=3).settings) == ({}, {"window": 3})


def test_neither_popularity_nor_content_needs_the_extra_or_torch() -> None:
    code = "import sys; from training.measuring import content_baseline, leaks, popularity, protocols; "
    code += "print(sorted({'torch', 'scipy', 'implicit'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
