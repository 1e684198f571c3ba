import numpy as np
import pytest

from indexing.hits import Hits
from towers.errors import InputError

INF = np.float32(np.inf)


def hits(rows, scores):
    return Hits(np.array(rows, np.int64), np.array(scores, np.float32))


def test_top_gives_the_best_first_and_ties_to_the_lower_row():
    top = Hits.top(np.array([[0.1, 0.9, 0.5, 0.9], [3, 2, 2, 2]], np.float32), 3)
    np.testing.assert_array_equal(top.rows, [[1, 3, 2], [0, 1, 2]])
    np.testing.assert_array_equal(top.scores, np.array([[0.9, 0.9, 0.5], [3, 2, 2]], np.float32))
    assert (len(top), top.k) == (2, 3)


def test_top_never_returns_minus_infinity_and_pads_beyond_the_rows():
    top = Hits.top(np.array([[-INF, 0.2, -INF], [-INF, -INF, -INF]], np.float32), 5)
    np.testing.assert_array_equal(top.rows, [[1, -1, -1, -1, -1], [-1] * 5])
    np.testing.assert_array_equal(top.scores, np.array([[0.2] + [-INF] * 4, [-INF] * 5], np.float32))


def test_top_takes_other_floats_no_rows_and_no_columns():
    assert Hits.top(np.array([[1.0, 2.0]]), 1).scores.dtype == np.float32
    np.testing.assert_array_equal(Hits.top(np.empty((2, 0), np.float32), 1).rows, [[-1], [-1]])
    assert Hits.top(np.empty((0, 4), np.float32), 3).rows.shape == (0, 3)


def test_arrays_cannot_be_changed():
    one = hits([[1]], [[0.5]])
    with pytest.raises(ValueError, match="read-only"):
        one.rows[0, 0] = 2
    with pytest.raises(ValueError, match="read-only"):
        one.scores[0, 0] = 2


@pytest.mark.parametrize(
    ("rows", "scores", "reason"),
    [
        ([1, 2], [0.5, 0.4], "must both be"),
        ([[1, 2]], [[0.5]], "must both be"),
        ([[1, 2]], [[0.4, 0.5]], "must fall"),
        ([[1, 2]], [[0.5, np.nan]], "not be NaN"),
        ([[1, -1]], [[0.5, 0.4]], "same places"),
        ([[1, 2]], [[0.5, -INF]], "same places"),
    ],
)
def test_what_is_not_a_ranking_is_refused(rows, scores, reason):
    with pytest.raises(InputError, match=reason):
        hits(rows, scores)


def test_other_types_are_refused():
    with pytest.raises(InputError, match="got int32 and float32"):
        Hits(np.zeros((1, 1), np.int32), np.zeros((1, 1), np.float32))
    with pytest.raises(InputError, match="got int64 and float64"):
        Hits(np.zeros((1, 1), np.int64), np.zeros((1, 1)))
