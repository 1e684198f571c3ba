"""What the benchmark of interests asks: the last ten events, and genres."""

from __future__ import annotations

import numpy as np
import polars as pl

from benchmarks.interests import genres, last_ten
from towers.catalog import Catalog
from towers.history import Histories


def test_the_last_ten_are_asked_and_the_five_before_choose() -> None:
    split = last_ten(Histories.of([list(range(20)), list(range(30, 46))]))
    assert split.train.take([0]).items.tolist() == [0, 1, 2, 3, 4]
    assert split.train.take([1]).items.tolist() == [30]
    assert split.validation.targets.take([0]).items.tolist() == [5, 6, 7, 8, 9]
    assert split.test.targets.take([1]).items.tolist() == list(range(36, 46))
    assert split.test.histories.take([0]).items.tolist() == list(range(10))
    assert split.refit is split.train


def test_a_film_has_all_its_genres_or_none() -> None:
    films = {"item_id": [1, 2, 3], "title": ["a", "b", "c"], "genres": ["Drama, War", None, "Comedy"]}
    expected = [[False, True, True], [False, False, False], [True, False, False]]
    np.testing.assert_array_equal(genres(Catalog.read(pl.DataFrame(films))), expected)
