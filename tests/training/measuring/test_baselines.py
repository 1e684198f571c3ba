"""One contract over all rankers on a checkerboard, then what is special to each."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from indexing.hits import Hits
from towers.errors import InputError, MissingExtraError
from towers.history import Histories
from training.measuring.baseline import Baseline
from training.measuring.baselines import ALS, BPR, EASE, ItemKNN, baseline_grids, interaction_matrix, tune
from training.measuring.evaluate import evaluate, ranked_rows
from training.measuring.popularity import MostPopular
from training.measuring.protocols import cold_items, leave_one_out, temporal
from training.measuring.splits import Questions, Split

SIZE = 20
RANKERS = {
    "most-popular": lambda: MostPopular(),
    "item-knn": lambda: ItemKNN(neighbours=10),
    "ease": lambda: EASE(regularisation=10),
    "als": lambda: ALS(factors=4, regularisation=0.1),
    "bpr": lambda: BPR(factors=4, learning_rate=0.1, regularisation=0.001),
}


def checkerboard() -> Histories:
    """Even people like even items, odd people odd ones; nobody has the item of their own number."""
    return Histories.of([[i for i in range(p % 2, SIZE, 2) if i != p] for p in range(SIZE)])


def ask(ranker: Baseline, people: list[int], histories: Histories, k: int) -> Hits:
    return (ranker.for_people(np.array(people)) if isinstance(ranker, BPR) else ranker).rank(histories, k)


@pytest.fixture(scope="module", params=RANKERS)
def fitted(request: pytest.FixtureRequest) -> Baseline:
    return RANKERS[request.param]().fit(checkerboard(), SIZE)


def test_the_missing_item_of_the_right_colour_comes_first(fitted: Baseline) -> None:
    top = ask(fitted, list(range(SIZE)), checkerboard(), 1).rows[:, 0]
    if isinstance(fitted, MostPopular):  # all items are equally popular: the lowest row not seen
        assert top.tolist() == [0, 0] + [1, 0] * (SIZE // 2 - 1)
    else:
        assert top.tolist() == list(range(SIZE))


def test_seen_items_never_return_and_all_others_do(fitted: Baseline) -> None:
    hits = ask(fitted, [4], checkerboard().take([4]), SIZE + 5)
    assert sorted(hits.rows[0, :11]) == [*range(1, 5, 2), 4, *range(5, SIZE, 2)]
    assert (hits.rows[0, 11:] == -1).all()
    assert np.isfinite(hits.scores[0, :11]).all()


def test_a_batch_is_as_good_as_one_at_a_time(fitted: Baseline) -> None:
    people = [7, 0, 7, 13]
    whole = ask(fitted, people, checkerboard().take(people), 5)
    for row, person in enumerate(people):
        single = ask(fitted, [person], checkerboard().take([person]), 5)
        np.testing.assert_allclose(whole.scores[row], single.scores[0], rtol=1e-5, atol=1e-6)
        assert whole.rows[row, 0] == single.rows[0, 0]


def test_an_empty_history_gets_the_most_popular(fitted: Baseline) -> None:
    train = Histories.of([[3, 1], [3], [3, 0, 1]])
    ranker = type(fitted)(**fitted.settings).fit(train, 5)
    hits = ask(ranker, [1], Histories.of([[]]), 3)
    assert hits.rows.tolist() == [[3, 1, 0]]
    assert hits.scores.tolist() == [[3, 2, 1]]


def test_a_history_of_items_that_nobody_had_gets_the_most_popular(fitted: Baseline) -> None:
    train = Histories.of([[3, 1], [3], [3, 0, 1], []])
    ranker = type(fitted)(**fitted.settings).fit(train, 6)
    # Person 3 has no training event; nor have items 4 and 5.
    hits = ask(ranker, [3, 3], Histories.of([[5, 4], []]), 3)
    assert hits.rows.tolist() == [[3, 1, 0], [3, 1, 0]]
    assert hits.scores.tolist() == [[3, 2, 1], [3, 2, 1]]
    one_known = ask(ranker, [2], Histories.of([[5, 0]]), 6)
    assert sorted(one_known.rows[0].tolist()) == [-1, -1, 1, 2, 3, 4]
    if not isinstance(ranker, MostPopular):
        assert one_known.scores[0, 0] != 3


def test_no_histories_at_all(fitted: Baseline) -> None:
    assert ask(fitted, [], Histories.of([]), 3).rows.shape == (0, 3)


def test_the_same_seed_gives_the_same_scores(fitted: Baseline) -> None:
    again = type(fitted)(**fitted.settings).fit(checkerboard(), SIZE)
    ours, theirs = (ask(r, [2, 5], checkerboard().take([2, 5]), 9) for r in (fitted, again))
    assert (ours.rows == theirs.rows).all()
    assert (ours.scores == theirs.scores).all()


def test_what_cannot_be_ranked_is_refused(fitted: Baseline) -> None:
    with pytest.raises(InputError, match="call fit first"):
        type(fitted)().rank(checkerboard(), 1)
    with pytest.raises(InputError, match="row 20, the catalog has 20"):
        fitted.rank(Histories.of([[SIZE]]), 1)


def test_item_knn_by_hand() -> None:
    # Item 0 was had by 3 people, item 1 by 2 of them, item 2 by 1 of them who had not item 1.
    train = Histories.of([[0, 1], [0, 1], [0, 2]])
    scores = ItemKNN(neighbours=2, shrink=1).fit(train, 3).rank(Histories.of([[0], [1]]), 2).scores
    np.testing.assert_allclose(scores[0], [2 / (np.sqrt(6) + 1), 1 / (np.sqrt(3) + 1)], rtol=1e-6)
    np.testing.assert_allclose(scores[1], [2 / (np.sqrt(6) + 1), 0], rtol=1e-6)
    # The nearest to 0 is 1, to 1 and to 2 it is 0: having 2 speaks for nothing.
    nearest = ItemKNN(neighbours=1).fit(train, 3).rank(Histories.of([[0], [2]]), 2).scores
    np.testing.assert_allclose(nearest, [[2 / np.sqrt(6), 1 / np.sqrt(3)], [0, 0]], rtol=1e-6)


def test_item_knn_keeps_the_first_of_equally_near_neighbours() -> None:
    # Item 3 was had with 0, 1 and 2 by one person each, more often with 4; so 4 and then 0 are its nearest.
    train = Histories.of([[3, 2], [3, 1], [3, 0], [3, 4], [3, 4]])
    ranker = ItemKNN(neighbours=2).fit(train, 5)
    near = ranker._similarity.toarray()  # what having the item of the row says for that of the column
    np.testing.assert_allclose(near[:, 3], [1 / np.sqrt(5), 0, 0, 0, 2 / np.sqrt(10)], rtol=1e-6)


@pytest.mark.parametrize("neighbours", [1, 3, 8, 100])
def test_item_knn_keeps_what_a_full_sort_puts_first(neighbours: int) -> None:
    rng = np.random.default_rng(0)
    train = Histories.of([rng.permutation(30)[: rng.integers(1, 9)].tolist() for _ in range(60)])
    x = interaction_matrix(train, 30).toarray().astype(np.float64)
    norms = np.sqrt(x.sum(0))
    similarity = np.divide(
        x.T @ x, np.outer(norms, norms) + 1, where=np.outer(norms, norms) > 0, out=np.zeros((30, 30))
    )
    np.fill_diagonal(similarity, 0)
    expected = np.zeros_like(similarity)
    for item, values in enumerate(similarity):
        near = np.argsort(-values, kind="stable")[:neighbours]
        expected[near, item] = values[near]
    found = ItemKNN(neighbours=neighbours, shrink=1).fit(train, 30)._similarity.toarray()
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_ease_is_the_ridge_regression_of_each_item_on_the_others() -> None:
    train, strength = Histories.of([[0, 1], [0, 1, 2], [0], [2]]), 0.5
    x = interaction_matrix(train, 3).toarray().astype(np.float64)
    weights = np.zeros((3, 3))
    for item in range(3):
        others = [i for i in range(3) if i != item]
        a = x[:, others]
        weights[others, item] = np.linalg.solve(a.T @ a + strength * np.eye(2), a.T @ x[:, item])
    hits = EASE(regularisation=strength).fit(train, 3).rank(Histories.of([[0], [1, 2]]), 2)
    order = np.argsort(-weights[0, 1:]) + 1
    assert hits.rows.tolist() == [order.tolist(), [0, -1]]
    np.testing.assert_allclose(hits.scores[0], weights[0, order], rtol=1e-6)
    np.testing.assert_allclose(hits.scores[1, 0], weights[1, 0] + weights[2, 0], rtol=1e-6)


def test_als_makes_a_vector_for_a_new_history() -> None:
    ranker = ALS(factors=4, regularisation=0.1).fit(checkerboard(), SIZE)
    rows = ranker.rank(Histories.of([[1, 3, 5], [0, 2]]), 5).rows % 2
    assert (rows == [[1], [0]]).all()


def test_bpr_ranks_the_people_it_is_told_of() -> None:
    ranker = BPR(factors=4, learning_rate=0.1, regularisation=0.001).fit(checkerboard(), SIZE)
    same_past = Histories.of([[0], [0]])
    assert (ranker.for_people(np.array([3, 8])).rank(same_past, 5).rows % 2 == [[1], [0]]).all()
    for wrong in (ranker, ranker.for_people(np.array([3]))):
        with pytest.raises(InputError, match="only people it was trained on"):
            wrong.rank(same_past, 5)


def test_bpr_gives_people_it_was_not_trained_on_the_most_popular() -> None:
    train = Histories.of([[1, 2], [], [2], []])
    ranker = BPR(factors=2, iterations=3).fit(train, 4)
    hits = ranker.for_people(np.array([1, 3, -1, 0])).rank(Histories.of([[0], [2], [3], [0]]), 3)
    assert hits.rows[:3].tolist() == [[2, 1, 3], [1, 0, 3], [2, 1, 0]]
    assert hits.scores[:3].tolist() == [[2, 1, 0], [1, 0, 0], [2, 1, 0]]
    own = ranker._model.user_factors[0] @ ranker._model.item_factors.T
    np.testing.assert_allclose(hits.scores[3], np.sort(own[1:])[::-1], rtol=1e-6)


def test_als_ranks_people_without_training_events_like_all_others() -> None:
    board = checkerboard()
    ranker = ALS(factors=4, regularisation=0.1).fit(Histories.of([*(row.tolist() for row in rows_of(board)), []]), SIZE)
    known = ranker.rank(board.take([4]), 5)
    assert ranker.rank(Histories.of([rows_of(board)[4].tolist()]), 5).rows.tolist() == known.rows.tolist()


def rows_of(histories: Histories) -> list[np.ndarray]:
    return np.split(histories.items, histories.offsets[1:-1])


def test_repeats_count_once_and_leave_the_histories_as_they_were() -> None:
    histories = Histories.of([[2, 0, 2], [1]])
    assert interaction_matrix(histories, 3).toarray().tolist() == [[1, 0, 1], [0, 1, 0]]
    assert histories.items.tolist() == [2, 0, 2, 1]


def test_batches_keep_people_and_histories_together() -> None:
    ranker = BPR(factors=4, learning_rate=0.1, regularisation=0.001).fit(checkerboard(), SIZE)
    order = np.random.default_rng(0).permutation(SIZE)
    questions = Questions(order, checkerboard().take(order), Histories.of(order[:, None].tolist()))
    result = evaluate(ranker, questions, counts=np.ones(SIZE, np.int64), ks=(1,), depth=5, batch=3)
    assert result.metrics["recall@1"] == (1, 1, 1)


def question(people: np.ndarray, targets: list[list[int]]) -> Questions:
    return Questions(people, checkerboard().take(people), Histories.of(targets))


def test_tune_keeps_the_best_on_validation_data() -> None:
    board, people = checkerboard(), np.arange(SIZE)
    right = question(people, [[p] for p in people])
    # The test answers are nonsense: they must not be looked at.
    wrong = question(people, [[(p + 1) % SIZE] for p in people])
    split = Split(log=board, train=board, refit=board, validation=right, test=wrong)
    candidates = [MostPopular(), ItemKNN(neighbours=10), ItemKNN(neighbours=11)]
    best = tune(candidates, split, SIZE)
    assert best.settings == {"neighbours": 10, "shrink": 0.0}
    assert [one["ndcg@20"] for one in best.tried[1:]] == [1, 1]
    assert best.tried[0]["ndcg@20"] < 1
    assert best.ranker.rank(board.take([4]), 1).rows.tolist() == [[4]]
    for candidate in candidates:
        with pytest.raises(InputError, match="call fit first"):
            candidate.rank(board, 1)


class Counted(MostPopular):
    """Remembers what it was fitted to, in all copies."""

    seen: list[Histories]

    def fit(self, train: Histories, n_items: int) -> Counted:
        self.seen.append(train)
        return super().fit(train, n_items)


def test_the_winner_is_fitted_anew_to_all_that_comes_before_the_test() -> None:
    log = checkerboard()
    train, refit = Histories.of([[0]] * SIZE), Histories.of([[0, 1]] * SIZE)
    questions = Questions(np.arange(SIZE), train, Histories.of([[2]] * SIZE))
    ranker = Counted()
    ranker.seen = []
    split = Split(log=log, train=train, refit=refit, validation=questions, test=questions)
    best = tune([ranker, MostPopular()], split, SIZE)
    assert ranker.seen == [train, refit]
    assert best.ranker.popularity.tolist() == [SIZE, SIZE] + [0] * (SIZE - 2)
    ranker.seen = []
    tuned = tune([ranker], Split(log=log, train=train, refit=train, validation=questions, test=questions), SIZE)
    assert ranker.seen == [train]
    assert tuned.ranker.popularity.tolist() == [SIZE] + [0] * (SIZE - 1)


def test_tuning_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="at least one candidate"):
        tune([], leave_one_out(checkerboard()), SIZE)


@pytest.mark.parametrize(
    "name", ["most-popular", "most-popular-of-late", "content-knn", "item-knn", "ease", "als", "bpr"]
)
def test_every_baseline_answers_every_question_of_every_protocol(name: str) -> None:
    rng = np.random.default_rng(0)
    rows = [rng.permutation(30)[: rng.integers(6, 15)].tolist() for _ in range(25)]
    starts = np.linspace(0, 100, 25)  # the last people come when the others have gone: newcomers
    log = Histories.of(
        rows, times=[(start + np.arange(len(row))).tolist() for start, row in zip(starts, rows, strict=True)]
    )
    grids = baseline_grids(times=True, content=rng.normal(size=(30, 4)))
    for split in (leave_one_out(log), temporal(log, 0.2, 0.2), cold_items(log, 30)):
        ranker = tune(grids[name][:1], split, 30).ranker
        for questions in (split.test, split.newcomers):
            if questions is None:
                continue
            rows_found = ranked_rows(ranker, questions, 30)
            assert ((rows_found >= 0).sum(axis=1) + questions.histories.lengths == 30).all()
            if questions is split.newcomers and name != "most-popular-of-late":
                popular = np.argsort(-np.bincount(split.refit.items, minlength=30), kind="stable")
                assert (rows_found == popular).all()


def test_the_grids_know_every_baseline_and_repeat_nothing() -> None:
    classic = ["most-popular", "item-knn", "ease", "als", "bpr"]
    assert list(baseline_grids()) == classic
    vectors = np.eye(4)
    grids = baseline_grids(seed=3, times=True, content=vectors)
    assert list(grids) == ["most-popular", "most-popular-of-late", "content-knn", *classic[1:]]
    for grid in grids.values():
        assert len({tuple(one.settings.items()) for one in grid}) == len(grid)
        assert {one.settings.get("seed", 3) for one in grid} == {3}
    assert all(one.vectors is vectors for one in grids["content-knn"])  # type: ignore[attr-defined]


@pytest.mark.parametrize("ranker", [ALS(), BPR()])
def test_without_implicit_the_error_names_the_extra(ranker: Baseline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "implicit", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'twotower\[evaluate\]'"):
        ranker.fit(checkerboard(), SIZE)
