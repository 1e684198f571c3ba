"""The measures of a check-up by hand, and what it works out of a run against plain loops."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from indexing.build import build_index
from indexing.vectors import unit
from towers.interactions import Interactions, Positive
from training.measuring.checkup import Case, Finding, at_least, at_most, attempt, sample
from training.measuring.symptoms import alike, effective_rank, faulty_vectors, mean_cosine, overlap, people


def test_effective_rank_by_hand() -> None:
    assert effective_rank(np.tile(np.eye(4), (5, 1))) == pytest.approx(4)
    assert effective_rank(np.ones((7, 3))) == pytest.approx(1)
    # Singular values 3 and 1: shares 3/4 and 1/4, entropy ln 4 - 3/4 ln 3.
    two = np.array([[3.0, 0, 0], [0, 1, 0]])
    assert effective_rank(two) == pytest.approx(4 / 3**0.75)
    assert effective_rank(two.T) == pytest.approx(4 / 3**0.75)


def test_effective_rank_is_that_of_the_singular_values() -> None:
    vectors = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    values = np.linalg.svd(vectors, compute_uv=False)
    shares = values / values.sum()
    assert effective_rank(vectors) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-5)


def test_mean_cosine_by_hand() -> None:
    assert mean_cosine(np.array([[1.0, 0], [0, 1], [1, 0]])) == pytest.approx(1 / 3)
    assert mean_cosine(np.array([[1.0, 0], [-1, 0]])) == pytest.approx(-1)
    assert mean_cosine(np.array([[1.0, 0]])) == 0
    vectors = unit(np.random.default_rng(1).normal(size=(20, 5)) + 0.5)
    cosines = vectors @ vectors.T
    assert mean_cosine(vectors) == pytest.approx(cosines[~np.eye(20, dtype=bool)].mean(), abs=1e-6)


def test_overlap_by_hand() -> None:
    # 1 stands in two of three lists of two: one pair in three shares half a list.
    assert overlap(np.array([[0, 1], [1, 2], [3, -1]])) == pytest.approx(1 / 6)
    assert overlap(np.array([[4, 5], [5, 4]])) == 1
    assert overlap(np.array([[4, 5]])) == 0
    assert overlap(np.array([[-1, -1], [-1, -1]])) == 0


@pytest.mark.parametrize(("shared", "ok"), [(1, True), (2, True), (3, False)])
def test_two_of_twenty_in_common_are_fine_even_where_popular_lists_have_nothing_in_common(
    shared: int, ok: bool
) -> None:
    popular = np.arange(40).reshape(2, 20)
    ours = popular + 40
    ours[1, :shared] = ours[0, :shared]
    (found,) = alike(SimpleNamespace(lists=ours, popular_lists=popular, catalog=range(100), width=20))
    assert (found.figure, found.ok) == (pytest.approx(shared / 20), ok)
    assert found.about.endswith(f"0.000 for the most popular items; coverage {0.4 - shared / 100:.3f} against 0.400")


def test_faulty_vectors_are_told_apart_and_the_first_is_named() -> None:
    vectors = np.tile(np.float32([0.6, 0.8]), (6, 1))
    assert faulty_vectors("rows", vectors, "").figure == 0
    vectors[2], vectors[3], vectors[5] = 0, [np.inf, 0], [0.6, 0.9]
    found = faulty_vectors("rows", vectors, "mend")
    assert (found.figure, found.ok, found.remedy) == (3, False, "mend")
    assert found.about == "1 not finite, 1 all zeros, of 6; the first is row 2"


def test_a_limit_is_still_fine_and_what_is_no_number_is_not() -> None:
    assert at_most("a", 0.5, 0.5, "", "").ok
    assert not at_most("a", 0.51, 0.5, "", "").ok
    assert at_least("a", 0.5, 0.5, "", "").ok
    assert not at_least("a", 0.49, 0.5, "", "").ok
    assert not at_most("a", float("nan"), 1, "", "").ok
    assert not at_least("a", float("nan"), 0, "", "").ok


def test_a_finding_as_plain_values() -> None:
    assert at_most("share", 0.7, 0.05, "of 9", "mend it").to_json() == {
        "status": "warn",
        "name": "share",
        "figure": 0.7,
        "threshold": "at most 0.05",
        "about": "of 9",
        "remedy": "mend it",
    }
    assert at_least("rank", 3.0, 1.6, "", "").to_json()["status"] == "ok"


def test_an_examination_that_fails_is_a_finding() -> None:
    fine = at_most("a", 0, 1, "", "")
    assert attempt("a", lambda: [fine]) == [fine]
    found = attempt("division", lambda: [at_most("a", 1 / 0, 1, "", "")])
    assert [(one.name, one.figure, one.ok, one.about) for one in found] == [
        ("division", "failed", False, "ZeroDivisionError: division by zero")
    ]
    assert isinstance(found[0], Finding)


def test_a_sample_has_no_repeats_and_is_always_the_same() -> None:
    rows = np.arange(100, 200)
    drawn = sample(rows, 30)
    assert len(np.unique(drawn)) == 30
    assert np.isin(drawn, rows).all()
    np.testing.assert_array_equal(drawn, sample(rows, 30))
    np.testing.assert_array_equal(sample(rows, 100), rows)


@pytest.fixture(scope="module")
def case(tiny_run: Any) -> Case:
    """The small world: an index without m00 and m01, the rest backwards; a catalog without m38 and m39.

    What people did not like does not speak for them, so that nothing does for 78; of 77 the catalog knows nothing.
    """
    model = copy.deepcopy(tiny_run.model)
    model.config = model.config.model_copy(update={"data": Positive(min_rating=0.5)})
    model.trend_weight.fill_(2)
    index = build_index(model, tiny_run.catalog.select(np.arange(39, 1, -1)), progress=False)
    events = pl.read_csv(tiny_run.events)
    strange = pl.DataFrame({"user_id": [77, 78], "item_id": ["zebra", "m05"], "rating": [5, 1], "timestamp": [1, 1]})
    log = Interactions.read(pl.concat([events, strange]), rating_range=(1, 5))
    return Case(model, index, tiny_run.catalog.select(np.arange(38)), log)


def test_rows_lead_from_catalog_to_index_and_back(case: Case) -> None:
    assert case.index_rows.tolist() == [-1, -1, *range(37, 1, -1)]
    assert case.catalog_rows.tolist() == [-1, -1, *range(37, 1, -1)]
    np.testing.assert_array_equal(case.memory.vectors[:2], np.zeros((2, 16)))
    np.testing.assert_array_equal(case.memory.vectors[2], case.index.vectors[37])


def test_who_can_be_read(case: Case, tiny_run: Any) -> None:
    events = pl.read_csv(tiny_run.events).filter(pl.col("item_id") < "m38")
    liked = events.filter(pl.col("rating") > 2)
    assert case.people == 32
    assert [len(part.items) for part in (case.events, case.positives, case.readable)] == [
        events.height + 1,
        liked.height,
        liked.filter(pl.col("item_id") > "m01").height,
    ]
    assert case.asked.tolist() == list(range(30))
    assert [(one.figure, one.ok) for one in people(case)] == [(2 / 32, False), (0, True)]


def test_lists_are_the_nearest_items_that_the_catalog_has_and_nobody_has_met(case: Case) -> None:
    assert case.width == 3
    assert case.lists.shape == (30, 3)
    cosines = case.queries @ case.memory.vectors.numpy().T
    scores = cosines + case.model.standing(case.positives, 38)
    assert (np.argmax(scores, axis=1) != np.argmax(cosines, axis=1)).any()  # popularity of late tells
    for person, rows in enumerate(case.lists):
        met = case.events.take([case.asked[person]]).items
        scores[person, [0, 1, *met]] = -np.inf
        assert rows.tolist() == np.argsort(-scores[person])[:3].tolist()


def test_popular_lists_hold_what_most_people_met_and_this_one_did_not(case: Case) -> None:
    counts = np.bincount(case.events.items, minlength=38)
    for person, rows in enumerate(case.popular_lists):
        met = set(case.events.take([case.asked[person]]).items.tolist())
        assert rows.tolist() == sorted(set(range(38)) - met, key=lambda row: (-counts[row], row))[:3]
