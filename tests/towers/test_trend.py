"""Popularity of late, by hand."""

from __future__ import annotations

import numpy as np

from towers.history import Histories
from towers.trend import DAY, popularity_of_late


def test_events_count_half_after_the_half_life() -> None:
    times = np.array([0, 20, 10, 20]) * DAY
    log = Histories(np.array([0, 2, 4]), np.array([0, 1, 0, 0]), times=times)
    expected = np.log1p(2 * np.array([1 + 0.5 + 0.25, 1, 0]))
    np.testing.assert_allclose(popularity_of_late(log, 3, 10.0), expected, rtol=1e-6)


def test_without_times_or_events_nothing_is() -> None:
    for log in (Histories.of([[0, 1]]), Histories(np.zeros(2, int), np.empty(0, int), times=np.empty(0))):
        np.testing.assert_array_equal(popularity_of_late(log, 3, 7.0), np.zeros(3, np.float32))
