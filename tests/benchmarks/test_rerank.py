"""What the benchmark of re-ranking measures, chooses by and draws."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.rerank import ALLOWED, Asked, Seen, frontier, measured, price, strongest, sweep
from indexing.hits import Hits
from serving.rerank.contract import Candidates, Known
from serving.rerank.diversity import Mmr
from serving.rerank.items import Items
from serving.rerank.scores import Rating
from towers.history import Histories
from towers.ids import IdList
from training.measuring.splits import Questions

GENRES = np.eye(20)[np.arange(20) // 2].astype(np.float32)  # pairs of films share a genre


@pytest.fixture
def asked() -> Asked:
    """Two people and twenty films, best first; what they liked stands at places 1 and 12, and at place 3."""
    table = pa.table({"genres": [[f"g{n // 2}"] for n in range(20)]})
    items = Items(IdList(list(range(20))), GENRES, table, np.arange(20, 0, -1))
    targets = Histories.of([[0, 11], [2]], ratings=[[0.0, 1.0], [0.5]])
    pasts = Histories.of([[], []])
    hits = Hits(np.tile(np.arange(20), (2, 1)), np.tile(np.linspace(1, 0, 20), (2, 1)).astype(np.float32))
    known = Known(items, pasts, 10, lambda scores, ratings: scores)
    return Asked(Questions(np.arange(2), pasts, targets), Candidates.of(hits, np.zeros((2, 20), np.float32)), known)


SEEN = Seen(np.arange(20, 0, -1), GENRES, GENRES, GENRES)


def test_metrics_by_hand(asked: Asked) -> None:
    found = measured(asked, (Rating(),), SEEN)
    assert found["rows"].tolist() == [list(range(10))] * 2
    ideal = 5 + 1 / np.log2(3)  # five stars first, then one
    np.testing.assert_allclose(found["ndcg@10"], [1 / ideal, 0.5])
    np.testing.assert_allclose(found["recall@10"], [0.5, 1])
    np.testing.assert_allclose(found["diversity@10"], [1 - 5 / 45] * 2)  # five of 45 pairs share a genre
    assert (found["tail@10"] == 0).all()  # the first ten films take 155 of 210 events


def test_mmr_makes_the_list_of_all_genres_and_the_sweep_sees_it(asked: Asked) -> None:
    found = measured(asked, (Rating(), Mmr(0.9, by="genres")), SEEN)
    assert found["rows"].tolist() == [list(range(0, 20, 2))] * 2
    curve = sweep(lambda weight: Mmr(weight, by="genres"), asked, SEEN)
    assert curve[0] == {"weight": 0.02, "ndcg@10": 0.0, "diversity@10": 0.0}
    assert curve[-1]["diversity@10"] == pytest.approx(45 / 40 - 1)
    assert len(price(Mmr(0.5), asked)) == 2


def test_the_strongest_step_that_costs_no_more_than_is_allowed() -> None:
    curve = [
        {"weight": 0.1, "ndcg@10": 0.01},
        {"weight": 0.2, "ndcg@10": -ALLOWED},
        {"weight": 0.3, "ndcg@10": -ALLOWED - 0.001},
    ]
    assert strongest(curve) == 0.2
    assert strongest(curve[2:]) == 0.02


def test_the_picture_has_lines_of_validation_and_points_of_the_test() -> None:
    curve = [{"weight": 0.1, "ndcg@10": -0.01, "diversity@10": 0.2}]
    changes = [
        {"ours": "mmr", "metric": "ndcg@10", "relative": [-0.02, -0.03, 0.0]},
        {"ours": "mmr", "metric": "diversity@10", "relative": [0.3, 0.25, 0.4]},
    ]
    line, point = frontier({"mmr": curve}, changes).data
    assert (list(line.x), list(line.y)) == ([-1], [20])
    assert (list(point.x), list(point.y)) == ([-2], [30])
    assert point.error_y.array[0] == pytest.approx(10)
    assert point.error_y.arrayminus[0] == pytest.approx(5)
