"""The table of methods: the same as asking each alone, with the best rival found and what would not fit left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from indexing.hits import Hits
from towers.catalog import Catalog
from towers.errors import InputError
from towers.history import Histories
from towers.interactions import Interactions, Positive
from training.measuring.baselines import EASE
from training.measuring.comparison import Comparison, add_baselines, memory_needed, sample_people, split_log
from training.measuring.evaluate import evaluate
from training.measuring.popularity import MostPopular
from training.measuring.protocols import leave_one_out, temporal
from training.measuring.splits import Questions

ITEMS = 30


def histories(times: bool = True) -> Histories:
    """Forty people who walk through the catalog, a few days each."""
    rng = np.random.default_rng(0)
    walks = [((start + np.arange(8) * 2) % ITEMS).tolist() for start in rng.integers(ITEMS, size=40)]
    days = [(10 * n + np.arange(8) * 5).astype(float) * 86_400 for n in range(40)]
    return Histories.of(walks, times=[list(d) for d in days] if times else None)


@pytest.fixture
def catalog() -> Catalog:
    return Catalog.read(pl.DataFrame({"item_id": range(ITEMS), "title": [f"Step {n}" for n in range(ITEMS)]}))


def as_log(past: Histories, **columns: Any) -> Interactions:
    frame = {"user_id": past.people, "item_id": past.items, "timestamp": past.times, **columns}
    return Interactions.read(pl.DataFrame(frame))


def test_a_method_has_the_figures_it_has_alone() -> None:
    split = leave_one_out(histories())
    comparison = Comparison(split, "leave-one-out", ITEMS)
    ranker = EASE(regularisation=1.0).fit(split.train, ITEMS)
    comparison.add("twotower", ranker)
    comparison.add("most-popular", MostPopular().fit(split.train, ITEMS))
    counts = np.bincount(split.train.items, minlength=ITEMS)
    alone = evaluate(ranker, split.test, counts=counts, depth=100).row(method="twotower", split="leave-one-out", seed=0)
    assert comparison.rows[0] == alone
    lists = Comparison(split, "leave-one-out", ITEMS)
    lists.add_lists("theirs", ranker.rank(split.test.histories, 100).rows)
    assert lists.rows[0]["metrics"] == alone["metrics"]


def test_differences_are_against_the_best_other_method_for_each_metric() -> None:
    split = leave_one_out(histories())
    comparison = Comparison(split, "leave-one-out", ITEMS)
    targets = split.test.targets.items
    rows = np.full((3, len(targets), 100), -1)
    rows[0, :, 0] = targets  # ours: all right
    rows[1, ::2, 0] = targets[::2]  # half of them
    rows[2, :10, 0] = targets[:10]  # a quarter
    for name, ranked in zip(("twotower", "half", "quarter"), rows, strict=True):
        comparison.add_lists(name, ranked)
    comparison.add_lists("twotower-retrieval", rows[0])  # ours too, so no rival
    found = {one["metric"]: one for one in comparison.differences()}
    assert found["recall@20"]["theirs"] == "half"
    assert found["recall@20"]["difference"][0] == pytest.approx(0.5)
    low, high = found["recall@20"]["difference"][1:]
    assert low == pytest.approx(0.5 - 1.96 * np.sqrt(0.25 / 40), abs=0.03)
    assert high == pytest.approx(0.5 + 1.96 * np.sqrt(0.25 / 40), abs=0.03)
    assert Comparison(split, "leave-one-out", ITEMS).differences() == []


class Turned:
    """Retrieves what is popular, and turns each list around; counts how often it is asked."""

    def __init__(self, popular: MostPopular) -> None:
        self.popular, self.asked = popular, 0

    def retrieve(self, histories: Histories, k: int) -> Hits:
        self.asked += len(histories)
        return self.popular.rank(histories, k)

    def rerank(self, hits: Hits, histories: Histories) -> Hits:
        return hits.rescored(-hits.scores)

    def rank(self, histories: Histories, k: int) -> Hits:
        return self.rerank(self.retrieve(histories, k), histories)


def test_both_stages_of_a_ranker_are_scored_and_each_person_is_asked_once() -> None:
    split = temporal(histories())
    assert split.newcomers is not None
    popular = MostPopular().fit(split.refit, ITEMS)
    staged, alone = (Comparison(split, "temporal", ITEMS) for _ in range(2))
    ranker = Turned(popular)
    staged.add_stages("twotower", ranker)
    assert ranker.asked == len(split.test) + len(split.newcomers)
    alone.add("twotower-retrieval", popular)
    alone.add("twotower", Turned(popular))

    def by_name(comparison: Comparison) -> list[dict[str, Any]]:
        return sorted(comparison.rows, key=lambda row: (row["method"], row["split"]))

    assert by_name(staged) == by_name(alone)
    first, last = (row["metrics"]["mrr@20"] for row in staged.rows[:2])
    assert first != last
    lists = popular.rank(split.test.histories, 100).rows
    staged.add_lists("best", lists)
    assert staged.differences()[0]["difference"][0] == pytest.approx(
        staged.rows[1]["metrics"]["recall@20"][0] - staged.rows[0]["metrics"]["recall@20"][0], abs=1e-5
    )


def test_newcomers_have_a_row_of_their_own() -> None:
    split = temporal(histories())
    assert split.newcomers is not None
    comparison = Comparison(split, "temporal", ITEMS)
    comparison.add("most-popular", MostPopular().fit(split.refit, ITEMS))
    assert [row["split"] for row in comparison.rows] == ["temporal", "temporal-newcomers"]
    counts = np.bincount(split.refit.items, minlength=ITEMS)
    alone = evaluate(MostPopular().fit(split.refit, ITEMS), split.newcomers, counts=counts, depth=100)
    assert comparison.rows[1]["metrics"]["recall@20"][0] == pytest.approx(alone.metrics["recall@20"][0], abs=1e-6)


def test_a_baseline_that_would_not_fit_is_left_out_before_it_starts() -> None:
    comparison, said = Comparison(leave_one_out(histories()), "leave-one-out", ITEMS), []
    limit = memory_needed("most-popular", comparison.split.refit, ITEMS) + 1
    add_baselines(comparison, names=("most-popular", "ease"), memory=limit, tell=said.append)
    assert [row["method"] for row in comparison.rows] == ["most-popular"]
    assert said[0].startswith("ease is left out: it needs about ")  # before any other starts
    assert said[1:] == ["most-popular: 1 settings"]
    assert "left out" in comparison.notes["ease"]
    # EASE inverts a matrix of items by items
    many = memory_needed("ease", comparison.split.refit, 100_000)
    assert 2 * 8 * 1e10 < many < 5 * 8 * 1e10


def test_an_unknown_baseline_is_refused() -> None:
    comparison = Comparison(leave_one_out(histories(times=False)), "leave-one-out", ITEMS)
    with pytest.raises(InputError, match="has no baseline 'most-popular-of-late' \\(did you mean 'most-popular'"):
        add_baselines(comparison, names=("most-popular", "most-popular-of-late"))
    assert comparison.rows == []  # refused before the first one has started


def test_a_log_is_split_by_the_name_of_a_protocol(catalog: Catalog) -> None:
    past = histories()
    words = np.where(np.arange(len(past.items)) % 8 < 6, "train", "test")
    log = as_log(past, split=words)
    users, split = split_log("given", log, catalog, Positive())
    assert users.to_list() == list(range(40))
    assert split.test.targets.lengths.tolist() == [2] * 40
    assert len(split_log("leave-one-out", log, catalog, Positive())[1].test) == 40
    assert split_log("cold-items", log, catalog, Positive())[1].cold.sum() == 3  # type: ignore[union-attr]
    assert split_log("temporal", log, catalog, Positive())[1].cuts is not None
    with pytest.raises(InputError, match="has no protocol 'temporel' \\(did you mean 'temporal'"):
        split_log("temporel", log, catalog, Positive())
    other = log.table.rename_columns({"timestamp": "Time"})
    with pytest.raises(InputError, match=r"needs times, and .* has no column 'timestamp' \(did you mean 'Time'\?\)"):
        split_log("temporal", Interactions.read(other), catalog, Positive())


def test_a_sample_of_people_is_fixed_and_in_order() -> None:
    questions: Questions = leave_one_out(histories()).test
    some = sample_people(questions, 10)
    assert len(some) == 10
    assert (np.diff(some.people) > 0).all()
    np.testing.assert_array_equal(some.people, sample_people(questions, 10).people)
    assert some.people.tolist() != questions.people[:10].tolist()
    assert sample_people(questions, 40) is questions
