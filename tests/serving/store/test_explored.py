"""What was shown by chance is read for off-policy estimates."""

from __future__ import annotations

import numpy as np
import pytest

from serving.store.event import Event
from serving.store.explored import DAY, explored
from serving.store.store import Store
from training.measuring.off_policy import ips


def test_a_view_is_rewarded_by_what_comes_of_it(store: Store) -> None:
    def event(n: int, item: str, kind: str, time: float, **more: float) -> Event:
        return Event(f"e{n}", "ann", item, kind, time, **more)  # type: ignore[arg-type]

    store.record(
        [
            event(1, "a", "click", 5),  # before it was shown
            event(2, "a", "view", 10, probability=0.5, value=3),
            event(3, "a", "view", 20, probability=0.25, value=1),
            event(4, "a", "click", 21),  # comes of the second view
            event(5, "b", "view", 10, probability=0.8),
            event(6, "b", "rating", 10 + 2 * DAY, value=5),  # too late
            event(7, "c", "view", 10),  # not by chance
            event(8, "d", "view", 10, probability=1.0),
            event(9, "d", "rating", 11, value=2),
            event(10, "e", "view", 10, probability=1.0),
            event(11, "e", "not-this", 11),
        ]
    )
    found = explored(store)
    assert found.people == ["ann"] * 5
    assert found.items == ["a", "a", "b", "d", "e"]
    assert found.rewards.tolist() == [0, 1, 0, 1, 0]
    assert found.logged.tolist() == [0.5, 0.25, 0.8, 1, 1]
    np.testing.assert_array_equal(found.places, [3, 1, np.nan, np.nan, np.nan])
    estimate = ips(found.rewards, found.logged, np.array([0.5, 0.5, 0.8, 0, 1]))
    assert estimate.value == pytest.approx(2 / 5)
    assert explored(store, within=3 * DAY).rewards.tolist() == [0, 1, 1, 1, 0]
