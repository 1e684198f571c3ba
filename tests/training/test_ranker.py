"""Our model asked for people of whom nothing is known, beside others."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from towers.history import Histories
from towers.trend import popularity_of_late
from training.ranker import IndexRanker


def test_people_without_history_get_what_is_popular_of_late(tiny_run: Any) -> None:
    """And the others what they get alone."""
    _, histories = tiny_run.log.histories(tiny_run.catalog)
    model = copy.deepcopy(tiny_run.model)
    model.trend_half_life.fill_(0.1)
    ranker = IndexRanker(model, tiny_run.index, tiny_run.catalog, log=histories)
    some = Histories.of([histories.take([3]).items.tolist(), [], histories.take([5]).items.tolist(), []])
    hits = ranker.rank(some, 6)
    late = np.argsort(-popularity_of_late(histories, 40, 0.1), kind="stable")[:6]
    for row in (1, 3):
        np.testing.assert_array_equal(hits.rows[row], late)
    for row in (0, 2):
        alone = ranker.rank(some.take([row]), 6)
        np.testing.assert_array_equal(hits.rows[row], alone.rows[0])
        np.testing.assert_array_equal(hits.scores[row], alone.scores[0])
        assert hits.rows[row].tolist() != late.tolist()
    np.testing.assert_array_equal(ranker.rank(Histories.of([[]]), 6).rows, [late])


def test_without_times_it_is_what_is_popular_ever(tiny_run: Any) -> None:
    log = Histories.of([[7, 7], [7, 2], [2, 5]])
    ranker = IndexRanker(tiny_run.model, tiny_run.index, tiny_run.catalog, log=log, depth=20)
    np.testing.assert_array_equal(ranker.retrieve(Histories.of([[]]), 3).rows, [[7, 2, 5]])


def test_among_some_items_only_they_are_found(tiny_run: Any) -> None:
    """The best of them, by somebody's past and by what is popular; the ranker itself still finds all."""
    _, histories = tiny_run.log.histories(tiny_run.catalog)
    ranker = IndexRanker(tiny_run.model, tiny_run.index, tiny_run.catalog, log=histories)
    people = Histories.of([histories.take([3]).items.tolist(), []])
    everything = ranker.rank(people, 40)
    items = np.arange(40) % 3 > 0
    found = ranker.among(items).rank(people, 6)
    for row in range(2):
        best = [item for item in everything.rows[row].tolist() if item >= 0 and items[item]][:6]
        assert len(best) == 6
        assert found.rows[row].tolist() == best
    np.testing.assert_array_equal(ranker.rank(people, 40).rows, everything.rows)
