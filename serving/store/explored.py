"""What was shown by chance, and what came of it: the log that `training.measuring.off_policy` estimates from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from serving.store.event import Event
from serving.store.store import Store

CAME_OF_IT = ("click", "rating")
DAY = 86_400.0


class Explored(NamedTuple):
    """n times that an item was shown with a known probability.

    Args:
        people, items: ids, as text.
        rewards: float64 ``(n,)`` 1 where they chose it, else 0.
        logged: float64 ``(n,)`` the probability with which it was shown.
        places: float64 ``(n,)`` the place where it stood, from 1 on, as the view's `value` says; NaN where it does
            not. The probability is that of this item at this place, so a ranking is judged by whether it would have
            had the item there.
    """

    people: list[str]
    items: list[str]
    rewards: np.ndarray
    logged: np.ndarray
    places: np.ndarray


def explored(store: Store, *, within: float = DAY) -> Explored:
    """Views that have a probability, each with whether its person clicked on or rated the item soon after.

    Args:
        store: where they are.
        within: seconds after a view in which what they do counts as coming of it; of several views, the newest.
    """
    shown: dict[tuple[str, str], list[Event]] = {}
    chosen: dict[tuple[str, str], list[float]] = {}
    cursor = 0
    while True:
        events, cursor = store.since(cursor)
        if not events:
            break
        for one in events:
            key = str(one.person), str(one.item)
            if one.kind == "view" and one.probability is not None:
                shown.setdefault(key, []).append(one)
            elif one.kind in CAME_OF_IT:
                chosen.setdefault(key, []).append(one.time)
    views, rewards = [], []
    for key, times in shown.items():
        times.sort(key=lambda one: one.time)
        ends = [*(one.time for one in times[1:]), np.inf]
        for view, end in zip(times, ends, strict=True):
            until = min(end, view.time + within)
            views.append(view)
            rewards.append(float(any(view.time <= time < until for time in chosen.get(key, ()))))
    logged = np.array([one.probability for one in views], np.float64)
    places = np.array([np.nan if one.value is None else one.value for one in views], np.float64)
    people, items = [str(one.person) for one in views], [str(one.item) for one in views]
    return Explored(people, items, np.array(rewards), logged, places)
