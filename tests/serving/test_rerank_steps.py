"""Each step of re-ranking against its definition, by hand and by trying everything."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from math import ceil, floor
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from serving.rerank.calibration import Calibration, calibrated, divergence
from serving.rerank.contract import Candidates, Known, Step, relevance, rerank
from serving.rerank.diversity import SHARED, Dpp, MaxSum, Mmr, dpp, max_sum, mmr
from serving.rerank.items import Items
from serving.rerank.rules import Block, Floor, Only, Pin, Quota, raised
from serving.rerank.scores import Novelty, Rating
from towers.errors import InputError
from towers.history import Histories
from towers.ids import IdList

FILMS = {
    "genres": [["War"], ["War", "Drama"], ["War"], ["Comedy"], None, ["Drama"]],
    "tags": ["old, slow", "slow", None, "old ,new", "new", ""],
    "year": [1950, 1960, 1970, None, 1990, 2000],
}


def known(
    *, vectors: np.ndarray | None = None, counts: Sequence[int] | None = None, pasts: Any = ((),), k: int = 3
) -> Known:
    """Six films a to f, of one person who met nothing, unless something else is said."""
    items = Items(
        IdList(list("abcdef")),
        np.zeros((6, 2), np.float32) if vectors is None else vectors,
        pa.table(FILMS),
        None if counts is None else np.array(counts),
    )
    return Known(items, Histories.of(pasts), k, lambda scores, ratings: 2 * scores + ratings)


def candidates(scores: Sequence[float], rows: Sequence[int] | None = None) -> Candidates:
    """Films a, b, c … of one person, with these scores, in this order."""
    order = np.arange(len(scores)) if rows is None else np.array(rows)
    return Candidates(order[None].astype(np.int64), np.array([scores], np.float32))


def names(step: Step, scores: Sequence[float], about: Known, rows: Sequence[int] | None = None) -> str:
    """The films in the order that a step gives them."""
    found = step(candidates(scores, rows), about).rows[0]
    return "".join("abcdef"[row] for row in found if row >= 0)


def unit(rng: np.random.Generator, count: int, dimension: int = 3) -> np.ndarray:
    vectors = rng.standard_normal((count, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_relevance_is_on_the_scale_of_each_list() -> None:
    scores = np.array([[8.0, 4, 2, -np.inf], [3, 3, 3, 3], [-np.inf] * 4], np.float32)
    np.testing.assert_allclose(relevance(scores), [[1, 1 / 3, 0, 0], [0] * 4, [0] * 4])


def test_rating_sorts_by_scores_and_ratings_and_equal_ones_keep_their_order() -> None:
    given = candidates([0.9, 0.8, 0.8, 0.1])
    rated = Candidates(given.rows, given.scores, np.array([[0.0, 0.5, 0.5, 0.1]], np.float32))
    found = Rating()(rated, known())
    assert found.rows.tolist() == [[1, 2, 0, 3]]
    np.testing.assert_allclose(found.scores, [[2.1, 2.1, 1.8, 0.3]], rtol=1e-6)
    np.testing.assert_allclose(found.ratings, [[0.5, 0.5, 0.0, 0.1]])
    with pytest.raises(InputError, match="needs predicted ratings"):
        Rating()(given, known())


def test_novelty_by_hand() -> None:
    counts = [7, 3, 1, 0, 0, 0]  # with one added to each: 8, 4, 2, 1, 1, 1 of 17; novelty of a to d is 0, 1/3, 2/3, 1
    about, scores = known(counts=counts), [1.0, 0.9, 0.5, 0.0]
    assert names(Novelty(0.0), scores, about) == "abcd"
    assert names(Novelty(1.0), scores, about) == "dcba"
    found = Novelty(0.4)(candidates(scores), about)  # 0.6, 0.54 + 0.4 / 3, 0.3 + 0.8 / 3, 0.4
    assert found.rows.tolist() == [[1, 0, 2, 3]]
    np.testing.assert_allclose(found.scores, [[0.54 + 0.4 / 3, 0.6, 0.3 + 0.8 / 3, 0.4]], rtol=1e-6)
    with pytest.raises(InputError, match="without a log"):
        Novelty(0.5)(candidates(scores), known())


def test_mmr_by_hand() -> None:
    vectors = np.array([[1, 0], [0.8, 0.6], [0, 1]] + [[0, 0]] * 3, np.float32)
    # After a: b counts 0.5 * 0.9 - 0.5 * 0.8, c 0.5 * 0 - 0.5 * 0.
    assert names(Mmr(0.5), [1.0, 0.9, 0.0], known(vectors=vectors)) == "abc"
    assert names(Mmr(0.6), [1.0, 0.9, 0.0], known(vectors=vectors)) == "acb"
    assert names(Mmr(0.6), [1.0, 0.9, 0.0], known(vectors=vectors, k=1)) == "abc"  # only what is shown is chosen


@pytest.mark.parametrize("seed", range(20))
def test_mmr_is_its_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    gains, vectors, weight = np.sort(rng.random(9))[::-1], unit(rng, 9), rng.random()
    similar = vectors @ vectors.T
    taken: list[int] = []
    while len(taken) < 5:
        value = {i: (1 - weight) * gains[i] - weight * max(similar[i, taken], default=0) for i in range(9)}
        taken.append(max((i for i in value if i not in taken), key=value.__getitem__))
    found = mmr((1 - weight) * gains, weight * similar, 5)
    assert found.tolist() == taken + [i for i in range(9) if i not in taken]


@pytest.mark.parametrize("seed", range(20))
def test_dpp_takes_what_raises_the_determinant_most(seed: int) -> None:
    rng = np.random.default_rng(seed)
    gains, vectors, weight = rng.random(9), unit(rng, 9), rng.random()
    kernel = SHARED * (vectors @ vectors.T).astype(np.float64)
    np.fill_diagonal(kernel, 1)
    taken: list[int] = []
    while len(taken) < 6:
        value = {
            i: (1 - weight) * gains[[*taken, i]].sum()
            + weight * np.linalg.slogdet(kernel[np.ix_([*taken, i], [*taken, i])]).logabsdet
            for i in range(9)
            if i not in taken
        }
        taken.append(max(value, key=value.__getitem__))
    assert dpp((1 - weight) * gains, kernel, weight, 6)[:6].tolist() == taken


@pytest.mark.parametrize("seed", range(20))
def test_max_sum_takes_what_raises_the_sum_most_and_keeps_the_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    gains, vectors, weight, k = rng.random(9), unit(rng, 9), rng.random(), 5
    distances = 1 - vectors @ vectors.T

    def worth(chosen: Sequence[int]) -> float:
        pairs = sum(distances[a, b] for a, b in itertools.combinations(chosen, 2))
        return (1 - weight) * gains[list(chosen)].sum() + weight * pairs / (k - 1)

    taken: list[int] = []
    while len(taken) < k:
        taken.append(max((i for i in range(9) if i not in taken), key=lambda i: worth([*taken, i])))
    found = max_sum((1 - weight) * gains, weight / (k - 1) * distances, k)
    assert found.tolist() == sorted(taken) + [i for i in range(9) if i not in taken]
    best = max(worth(chosen) for chosen in itertools.combinations(range(9), k))
    assert worth(found[:k].tolist()) >= best / 2  # what is proven of the greedy choice; mostly it is near the best


def test_max_sum_by_hand() -> None:
    about = known(k=2)  # a and c share their genre, d has another one
    assert names(MaxSum(0.3, by="genres"), [1.0, 0.9, 0.0], about, [0, 2, 3]) == "acd"
    assert names(MaxSum(0.6, by="genres"), [1.0, 0.9, 0.0], about, [0, 2, 3]) == "adc"
    assert names(MaxSum(0.6, by="genres"), [1.0, 0.9], known(k=1), [0, 2]) == "ac"


def test_dpp_shows_films_of_the_same_genres_where_nothing_else_is_left() -> None:
    assert names(Dpp(0.5, by="genres"), [1.0, 0.9, 0.8], known(), [0, 2, 3]) == "adc"
    assert names(Dpp(1.0, by="genres"), [1.0, 0.9], known(), [0, 2]) == "ac"


def test_values_of_a_column_are_compared_as_sets() -> None:
    items = known().items
    half = np.sqrt(0.5)
    expected = [[1, half, 1, 0, 0], [half, 1, half, 0, 0], [1, half, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0]]
    np.testing.assert_allclose(items.similarities(np.arange(5), "genres"), expected, rtol=1e-6)
    tags = items.similarities(np.array([3, 0, 5, 1, 2]), "tags")  # old and new; old and slow; none; slow; none
    expected = [[1, 0.5, 0, 0, 0], [0.5, 1, 0, half, 0], [0, 0, 1, 0, 0], [0, half, 0, 1, 0], [0, 0, 0, 0, 0]]
    np.testing.assert_allclose(tags[np.ix_([0, 1, 3], [0, 1, 3])], np.array(expected)[np.ix_([0, 1, 3], [0, 1, 3])])
    np.testing.assert_array_equal(items.similarities(np.array([0, 3, 5]), "year"), np.diag([1, 0, 1]))
    with pytest.raises(InputError, match=r"no column 'genre' .did you mean 'genres'"):
        items.similarities(np.arange(2), "genre")


def test_calibration_by_hand() -> None:
    counts = [20, 20, 20, 1, 1, 1]  # of 63 the first 12.6 are the head, a; b and c are torso; d, e, f the tail
    about = known(counts=counts, pasts=[[0, 3]], k=2)
    assert about.items.groups.tolist() == [0, 1, 1, 2, 2, 2]
    scores = [1.0, 0.9, 0.8, 0.2, 0.1, 0.0]
    assert names(Calibration(0.0), scores, about) == "abcdef"
    assert names(Calibration(0.5), scores, about) == "adbcef"  # half head, half tail, as in the past
    assert names(Calibration(0.5), scores, known(counts=counts)) == "abcdef"  # no past


def test_divergence_by_hand() -> None:
    wanted, had = np.array([0.5, 0.5, 0.0]), np.array([1.0, 0.0, 0.0])
    expected = 0.5 * np.log(0.5 / (0.99 + 0.005)) + 0.5 * np.log(0.5 / 0.005)
    assert divergence(wanted, had) == pytest.approx(expected)
    assert divergence(wanted, wanted) == pytest.approx(0)


@pytest.mark.parametrize("seed", range(20))
def test_calibration_is_its_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    gains, groups, weight = rng.random(8), rng.integers(0, 3, 8), rng.random()
    mix = rng.dirichlet(np.ones(3))
    taken: list[int] = []
    while len(taken) < 5:
        value = {}
        for i in set(range(8)) - set(taken):
            had = np.bincount(groups[[*taken, i]], minlength=3) / (len(taken) + 1)
            value[i] = gains[[*taken, i]].sum() - weight * divergence(mix, had)
        taken.append(max(sorted(value), key=value.__getitem__))
    assert calibrated(gains, groups, mix, weight, 5)[:5].tolist() == taken


def test_block_and_only() -> None:
    scores = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5]
    assert names(Block(items=("b", "nothing"), where={"genres": "Comedy"}), scores, known()) == "acef"
    assert names(Block(where={"year": {"<": 1980}}), scores, known()) == "def"  # of d the year is not known
    assert names(Only(where={"year": {"<": 1980}}), scores, known()) == "abc"
    assert Block(items=("b",), where={"year": 1950}).wishes().where == {"not": {"year": 1950}}
    assert Only({"year": 1950}).wishes().where == {"year": 1950}


def test_pinned_films_stand_where_they_are_pinned() -> None:
    scores = [1.0, 0.9, 0.8, 0.7]
    assert names(Pin({1: "c"}), scores, known()) == "cabd"
    assert names(Pin({3: "a", 1: "d"}), scores, known()) == "dbac"
    assert names(Pin({1: "f", 2: "d"}), scores, known()) == "adbc"  # f is no candidate
    assert names(Pin({9: "a"}), scores, known()) == "bcda"


def test_a_quota_leaves_the_later_ones_out() -> None:
    assert names(Quota({"genres": "War"}, 1), [1.0, 0.9, 0.8, 0.7], known()) == "ad"
    assert names(Quota({"genres": "War"}, 0), [1.0, 0.9, 0.8, 0.7], known()) == "d"


def test_a_floor_brings_the_group_forward() -> None:
    scores = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5]
    assert names(Floor({"genres": "Comedy"}, 0.3), scores, known()) == "abdcef"  # 0.9 of three is one, at the end
    assert names(Floor({"genres": "Comedy"}, 1.0), scores, known()) == "dabcef"  # there is only one
    assert names(Floor({"genres": "War"}, 1.0), scores, known(), [3, 0, 4, 1]) == "abde"
    assert names(Floor({"genres": "War"}, 0.0), scores, known()) == "abcdef"


@pytest.mark.parametrize("seed", range(30))
def test_a_floor_gives_the_first_of_all_orders_that_keep_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    inside, share, k = rng.random(7) < 0.5, float(rng.choice([0.1, 0.2, 0.3, 0.5, 0.6, 0.75])), 5

    def keeps(order: tuple[int, ...]) -> bool:
        held = np.cumsum(inside[list(order)])
        enough = all(held[n - 1] >= floor(share * n + 1e-9) for n in range(1, k + 1))
        return enough and held[-1] >= ceil(share * k - 1e-9)

    kept = [order for order in itertools.permutations(range(7), k) if keeps(order)]
    if kept:
        assert tuple(raised(inside, share, k)[:k]) == min(kept)
    else:
        assert inside[raised(inside, share, k)[:k]].sum() == min(inside.sum(), k)


def test_steps_have_their_turn_and_places_are_told() -> None:
    given = candidates([1.0, 0.9, 0.8, 0.7])
    rated = Candidates(given.rows, given.scores, np.array([[0.0, 0.0, 0.5, 0.0]], np.float32))
    done = rerank([Pin({2: "d"}), Rating(), Block(items=("a",))], rated, known())
    assert done.steps == ("block", "rating", "pin")
    assert [rows.tolist() for rows in done.orders] == [
        [[0, 1, 2, 3]],
        [[1, 2, 3, -1]],
        [[2, 1, 3, -1]],
        [[2, 3, 1, -1]],
    ]
    assert done.places(3) == (4, 3, 3, 2)
    assert done.candidates.scores[0].tolist() == pytest.approx([2.1, 1.4, 1.8, -np.inf])


def test_several_people_have_what_each_would_have_alone() -> None:
    rng = np.random.default_rng(0)
    vectors, pasts = unit(rng, 6), [[0, 3], [], [5]]
    rows = np.array([[0, 1, 2, 3, 4, 5], [5, 2, 1, -1, -1, -1], [-1] * 6])
    scores = np.where(rows < 0, -np.inf, 1 - np.arange(6) / 6).astype(np.float32)
    about = known(vectors=vectors, counts=[9, 5, 3, 2, 1, 0], pasts=pasts, k=4)
    for step in (
        Novelty(0.5),
        Mmr(0.5),
        Dpp(0.5),
        Mmr(0.5, by="tags"),
        MaxSum(0.5),
        Calibration(0.5),
        Floor({"genres": "Drama"}, 0.5),
        Quota({"genres": "War"}, 1),
        Pin({1: "b"}),
    ):
        together = step(Candidates(rows, scores), about)
        for person in range(3):
            alone = known(vectors=vectors, counts=[9, 5, 3, 2, 1, 0], pasts=pasts[person : person + 1], k=4)
            one = step(Candidates(rows[person : person + 1], scores[person : person + 1]), alone)
            assert together.rows[person].tolist() == one.rows[0].tolist(), step
        assert ((together.rows < 0) == np.isneginf(together.scores)).all()


def test_an_item_is_pinned_to_one_place() -> None:
    with pytest.raises(ValidationError, match="pinned to two places"):
        Pin({1: "a", 2: "a"})


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Mmr(1.5),
        lambda: Novelty(-0.1),
        lambda: Floor({"a": 1}, 2),
        lambda: Pin({0: "a"}),
        lambda: Quota({"a": 1}, -1),
    ],
)
def test_a_setting_out_of_range_is_refused(wrong: Any) -> None:
    with pytest.raises(ValidationError, match=r"greater|less"):
        wrong()
