"""Splits by hand, what holds for every log, and the figures of docs/protocols.md."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given as forall
from hypothesis import settings
from hypothesis import strategies as st

from towers.catalog import Catalog
from towers.errors import InputError
from towers.history import Histories
from towers.interactions import Interactions, Positive
from towers.movielens import movielens_100k as read_movielens
from training.measuring.leaks import refuse_leaks
from training.measuring.protocols import cold_items, given, leave_one_out, random_tenth, split_words, temporal
from training.measuring.splits import Questions, Split

PAGE = (Path(__file__).parents[3] / "docs/protocols.md").read_text("utf-8")


def lists(histories: Histories) -> list[list[int]]:
    return [part.tolist() for part in np.split(histories.items, histories.offsets[1:-1])]


def asked(questions: Questions | None) -> dict[int, tuple[list[int], list[int]]]:
    """Person to history and targets."""
    if questions is None:
        return {}
    both = zip(lists(questions.histories), lists(questions.targets), strict=True)
    return dict(zip(questions.people.tolist(), both, strict=True))


def test_leave_one_out() -> None:
    split = leave_one_out(Histories.of([[1, 2, 3, 4], [5, 6], [], [7, 8, 9]]))
    assert lists(split.train) == [[1, 2], [5, 6], [], [7]]
    for questions, pasts, targets in [
        (split.validation, [[1, 2], [7]], [[3], [8]]),
        (split.test, [[1, 2, 3], [7, 8]], [[4], [9]]),
    ]:
        assert questions.people.tolist() == [0, 3]
        assert lists(questions.histories) == pasts
        assert lists(questions.targets) == targets
    assert (split.too_short, split.ties, split.repeats) == (2, 0, 0)
    assert split.refit is split.train
    assert split.left_out["test"] == {"no event to ask for": 2, "nothing new to them": 0, "no history": 0}


def test_times_and_ratings_stay_with_their_events() -> None:
    split = leave_one_out(Histories.of([[1, 2, 3]], times=[[10, 20, 30]], ratings=[[0.1, 0.2, 0.3]]))
    assert split.test.histories.times is not None
    assert split.test.histories.times.tolist() == [10, 20]
    np.testing.assert_allclose(split.test.targets.ratings, [0.3])
    np.testing.assert_allclose(split.validation.targets.ratings, [0.2])


def test_ties_are_counted_once_a_person_and_the_order_of_the_log_decides() -> None:
    times = [[1, 2, 2, 3], [1, 1, 2, 3], [1, 2, 3, 3], [1, 1, 1, 1]]
    split = leave_one_out(Histories.of([[0, 1, 2, 3]] * 4, times=times))
    assert split.ties == 3
    assert split.test.targets.items.tolist() == [3, 3, 3, 3]


def test_a_target_seen_before_is_no_question() -> None:
    split = leave_one_out(Histories.of([[1, 2, 1], [1, 1, 2], [1, 2, 3]]))
    assert split.test.people.tolist() == [1, 2]
    assert split.validation.people.tolist() == [0, 2]
    assert split.repeats == 2
    assert split.left_out["test"]["nothing new to them"] == 1


def test_leave_one_out_of_people_with_two_events_is_refused() -> None:
    with pytest.raises(InputError, match="at least 3 events"):
        leave_one_out(Histories.of([[1, 2], [3]]))


def test_questions_can_be_taken_apart() -> None:
    test = leave_one_out(Histories.of([[1, 2, 3], [4, 5, 6]])).test
    turned = test.take(np.array([1, 0]))
    assert turned.people.tolist() == [1, 0]
    assert lists(turned.histories) == [[4, 5], [1, 2]]
    assert turned.targets.items.tolist() == [6, 3]


def test_questions_refuse_what_does_not_fit() -> None:
    one = Histories.of([[1]])
    with pytest.raises(InputError, match="got 2, 1 and 1"):
        Questions(np.array([0, 1]), one, one)
    with pytest.raises(InputError, match="names an item twice"):
        Questions(np.array([0]), one, Histories.of([[2, 2]]))
    assert len(Questions(np.array([0, 1]), Histories.of([[1], [1]]), Histories.of([[2], [2]]))) == 2


def test_random_tenth_holds_out_rated_events_only() -> None:
    rng = np.random.default_rng(3)
    ratings = rng.random((10, 6))
    ratings[:, ::2] = np.nan
    items = np.arange(60).reshape(10, 6)
    split = random_tenth(Histories.of(items.tolist(), ratings=ratings.tolist()), seed=0)
    assert len(split.items) == 3
    np.testing.assert_allclose(split.ratings, ratings.ravel()[split.items], rtol=1e-6)
    assert split.people.tolist() == (split.items // 6).tolist()
    assert sorted([*split.train.items, *split.items]) == list(range(60))
    again = random_tenth(Histories.of(items.tolist(), ratings=ratings.tolist()), seed=1)
    assert again.items.tolist() != split.items.tolist()


def test_random_tenth_without_ratings_is_refused() -> None:
    with pytest.raises(InputError, match="at least 2 of them, got 0"):
        random_tenth(Histories.of([[1, 2]]), seed=0)


def weeks() -> Histories:
    """Ten events of five people at times 1 to 10; the last two are the test, the two before them validation."""
    return Histories.of([[0, 1, 2, 3], [4, 0], [5], [1, 1], [7]], times=[[1, 2, 7, 9], [3, 8], [10], [4, 5], [6]])


def test_one_cut_in_time() -> None:
    split = temporal(weeks(), test=0.2, validation=0.2)
    assert split.cuts == (7, 9)
    assert lists(split.train) == [[0, 1], [4], [], [1, 1], [7]]
    assert lists(split.refit) == [[0, 1, 2], [4, 0], [], [1, 1], [7]]
    assert asked(split.validation) == {0: ([0, 1], [2]), 1: ([4], [0])}
    assert asked(split.test) == {0: ([0, 1, 2], [3])}
    assert asked(split.newcomers) == {2: ([], [5])}
    assert split.left_out == {
        "validation": {"no event to ask for": 3, "nothing new to them": 0, "no history": 0},
        "test": {"no event to ask for": 3, "nothing new to them": 0, "no history": 0},
    }
    assert (split.too_short, split.ties, split.repeats, split.cold, split.seed) == (0, 0, 0, None, None)


def test_a_person_new_in_the_validation_period_is_left_out_of_it_and_counted() -> None:
    split = temporal(Histories.of([[0, 1, 2, 3], [4, 5]], times=[[1, 3, 4, 6], [3, 5]]), test=0.3, validation=0.4)
    assert split.cuts == (3, 5)
    assert asked(split.validation) == {0: ([0], [1, 2])}
    assert split.left_out["validation"] == {"no event to ask for": 0, "nothing new to them": 0, "no history": 1}
    assert asked(split.test) == {0: ([0, 1, 2], [3]), 1: ([4], [5])}
    assert split.newcomers is None


def test_events_at_the_time_of_a_cut_lie_after_it() -> None:
    # By rank the test would be one event, and validation one.
    histories = Histories.of([[0, 1, 2, 3, 4], [5, 6, 7]], times=[[1, 2, 3, 3, 5], [1, 3, 5]])
    split = temporal(histories, test=0.13, validation=0.25)
    assert split.cuts == (3, 5)
    assert lists(split.train) == [[0, 1], [5]]
    assert asked(split.validation) == {0: ([0, 1], [2, 3]), 1: ([5], [6])}
    assert asked(split.test) == {0: ([0, 1, 2, 3], [4]), 1: ([5, 6], [7])}


def test_what_is_met_again_in_a_period_is_a_repeat() -> None:
    histories = Histories.of([[0, 1, 2, 0, 3, 3, 2], [4, 5, 4]], times=[[1, 2, 3, 6, 7, 8, 9], [1, 4, 10]])
    split = temporal(histories, test=0.5, validation=0.2)
    assert split.cuts == (3, 6)
    assert asked(split.test) == {0: ([0, 1, 2], [3])}
    assert split.test.targets.times is not None
    assert split.test.targets.times.tolist() == [7], "its first event in the period is the target"
    assert split.repeats == 4
    assert split.left_out["test"] == {"no event to ask for": 0, "nothing new to them": 1, "no history": 0}


def long_person(first: int, count: int) -> list[int]:
    return list(range(first, first + count))


def test_cold_items_by_hand() -> None:
    # Twelve items in four orders, the last two events the test part, the two before validation; and somebody with four.
    rows = [np.roll(np.arange(12), 3 * n).tolist() for n in range(4)] + [[0, 1, 2, 3]]
    split = cold_items(Histories.of(rows), 14, share=0.25, seed=3)
    assert split.cold is not None
    cold = set(np.flatnonzero(split.cold).tolist())
    cold_then = set(range(12)) - cold - set(split.train.items.tolist())
    assert (len(cold), len(cold_then), max(cold) < 12) == (3, 3, True)
    parts = [(row[:8], row[8:10], row[10:]) for row in rows[:4]] + [(rows[4], [], [])]
    train = [[i for i in first if i not in cold | cold_then] for first, _, _ in parts]
    refit = [[i for i in first + second if i not in cold] for first, second, _ in parts]
    chosen = [[i for i in second if i not in cold] for _, second, _ in parts]
    assert lists(split.train) == train
    assert lists(split.refit) == refit
    assert asked(split.validation) == {n: (train[n], chosen[n]) for n in range(4) if chosen[n]}
    assert asked(split.test) == {n: (refit[n], parts[n][2]) for n in range(4)}
    assert (split.too_short, split.ties, split.repeats, split.seed) == (1, 0, 0, 3)


def test_the_two_cold_shares_are_as_large_as_asked_and_share_no_item() -> None:
    rng = np.random.default_rng(0)
    histories = Histories.of([rng.permutation(50).tolist() for _ in range(200)])
    split = cold_items(histories, 60, share=0.1)
    # With so many people every item stands in somebody's early events, unless it was kept out of them.
    for part, absent in ((split.train, 10), (split.refit, 5)):
        assert 50 - len(np.unique(part.items)) == absent
    assert split.cold is not None
    assert split.cold.sum() == 5
    assert not split.cold[50:].any()
    assert not split.cold[split.train.items].any()
    assert not split.cold[split.validation.targets.items].any()
    assert split.cold[split.test.targets.items].mean() == pytest.approx(0.1, abs=0.01)


def test_the_parts_of_a_person_are_fifths_rounded_down() -> None:
    rows = [long_person(0, length) for length in (4, 5, 9, 10, 14, 15)]
    split = cold_items(Histories.of(rows), 15, share=0.07)
    assert split.cold is not None
    unmasked = {
        person: [i for i in range(length) if i >= length - part]
        for person, length, part in [(1, 5, 1), (2, 9, 1), (3, 10, 2), (4, 14, 2), (5, 15, 3)]
    }
    assert {person: targets for person, (_, targets) in asked(split.test).items()} == unmasked
    assert split.too_short == 1
    assert split.left_out["test"]["no event to ask for"] == 1


def test_the_draw_has_a_seed() -> None:
    histories = Histories.of([long_person(n, 20) for n in range(40)])
    draws = [cold_items(histories, 60, seed=seed) for seed in (1, 1, 2)]
    assert (draws[0].cold == draws[1].cold).all()
    assert (draws[0].train.items == draws[1].train.items).all()
    assert (draws[0].cold != draws[2].cold).any()
    assert [one.seed for one in draws] == [1, 1, 2]


def test_a_cold_item_that_a_person_has_met_before_is_no_news_although_the_history_hides_it() -> None:
    row = [0, 1, 2, 3, 4, 5, 6, 7, 8, 0]
    for seed in range(30):
        split = cold_items(Histories.of([row, [*range(10, 20)]]), 20, share=0.2, seed=seed)
        if split.cold is not None and split.cold[0]:
            assert asked(split.test)[0][1] == [8]
            assert split.repeats == 1
            return
    raise AssertionError("no seed made item 0 cold")


def test_ties_at_either_border_count_a_person_once() -> None:
    times = [[1, 2, 3, 4, 5], [1, 2, 3, 3, 3], [1, 2, 3, 3, 4], [1, 1, 1, 2, 3]]
    assert cold_items(Histories.of([long_person(5 * n, 5) for n in range(4)], times=times), 20, share=0.05).ties == 2


def test_a_given_split() -> None:
    histories = Histories.of([[0, 1, 2, 3], [4, 5], [6, 7], [8, 8]])
    words = ["train", "validation", "test", "test", "train", "test", "test", "test", "train", "test"]
    split = given(histories, words)
    assert lists(split.train) == [[0], [4], [], [8]]
    assert lists(split.refit) == [[0, 1], [4], [], [8]]
    assert asked(split.validation) == {0: ([0], [1])}
    assert asked(split.test) == {0: ([0, 1], [2, 3]), 1: ([4], [5])}
    assert asked(split.newcomers) == {2: ([], [6, 7])}
    assert split.repeats == 1
    assert split.left_out["test"] == {"no event to ask for": 0, "nothing new to them": 1, "no history": 0}
    assert (split.too_short, split.ties, split.cuts) == (0, 0, None)


def test_without_validation_the_last_training_event_is_it() -> None:
    histories = Histories.of([[0, 1, 2, 3], [4, 5], [6, 7, 8]], times=[[1, 2, 2, 3], [1, 2], [1, 2, 2]])
    split = given(histories, ["train", "train", "train", "test", "train", "test", "train", "train", "test"])
    assert lists(split.train) == [[0, 1], [4], [6]]
    assert lists(split.refit) == [[0, 1, 2], [4], [6, 7]]
    assert asked(split.validation) == {0: ([0, 1], [2]), 2: ([6], [7])}
    assert asked(split.test) == {0: ([0, 1, 2], [3]), 1: ([4], [5]), 2: ([6, 7], [8])}
    assert (split.too_short, split.ties) == (1, 1)


@pytest.fixture(scope="module")
def shop() -> tuple[Catalog, Interactions]:
    """A log whose events stand in another order than time, with texts, ratings and a column `split`."""
    catalog = Catalog.read(pl.DataFrame({"item_id": ["a", "b", "c", "d"], "title": ["A", "B", "C", "D"]}))
    rows = [
        ("u", "c", 3, 5, "third", "test"),
        ("v", "a", 1, 5, "one", "train"),
        ("u", "a", 1, 5, "first", "train"),
        ("u", "d", 4, 1, "disliked", "test"),
        ("v", "b", 2, 4, "two", "test"),
        ("u", "b", 2, 5, "second", "validation"),
    ]
    schema = ["user_id", "item_id", "timestamp", "rating", "text", "split"]
    return catalog, Interactions.read(pl.DataFrame(rows, schema=schema, orient="row"), rating_range=(1, 5))


def test_words_of_a_log_stand_with_their_events(shop: tuple[Catalog, Interactions]) -> None:
    catalog, log = shop
    assert split_words(log, catalog).to_pylist() == ["train", "validation", "test", "test", "train", "test"]
    liked = Positive(min_rating=0.5)
    _, histories = log.histories(catalog, positive=liked)
    split = given(histories, split_words(log, catalog, positive=liked))
    assert asked(split.test) == {0: ([0, 1], [2]), 1: ([0], [1])}
    assert asked(split.validation) == {0: ([0], [1])}
    assert split.test.histories.texts is not None
    assert split.test.histories.texts.to_pylist() == ["first", "second", "one"]


def test_a_log_without_the_column_is_refused(shop: tuple[Catalog, Interactions]) -> None:
    catalog, log = shop
    plain = Interactions.read(log.table.drop_columns("split"), rating_range=(0, 1))
    with pytest.raises(
        InputError, match=r"says train, validation or test for each event, and .* has no column 'split'"
    ):
        split_words(plain, catalog)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "valid", "valid", None], r"'valid' \(2 events\), none \(1 events\).* train, validation, test"),
        (["train", "test", "test"], "got 3 for 4 events"),
        (["train", "train", "validation", "train"], "needs events that say 'test', none of 4"),
        (["test", "test", "validation", "test"], "needs events that say 'train', none of 4"),
        (["train", "test", "train", "test"], "the validation part has nobody left to ask: of 2 people 2 have no event"),
        (
            ["train", "validation", "test", "test"],
            "the test part .* 1 have no event to ask for, 1 have no history",
        ),
    ],
)
def test_given_words_that_cannot_be_used(words: list[str | None], said: str) -> None:
    with pytest.raises(InputError, match=said):
        given(Histories.of([[0, 1], [2, 3]]), words)


PROTOCOLS: dict[str, Callable[[Histories], Split]] = {
    "leave-one-out": leave_one_out,
    "temporal": temporal,
    "cold-items": lambda histories: cold_items(histories, 30),
    "given": lambda histories: given(
        histories, ["train" if place % 4 else "test" for place in range(len(histories.items))]
    ),
}
TOO_LITTLE = {
    "nobody": [],
    "nobody did anything": [[], []],
    "one person with one event": [[3]],
    "one event each": [[3], [4], [5], [6], [7], [8], [9], [10]],
    "one item": [[3] * 10, [3] * 10],
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", TOO_LITTLE)
def test_a_log_that_leaves_nobody_to_ask_is_refused_in_one_sentence(protocol: str, name: str) -> None:
    items = TOO_LITTLE[name]
    times = [[10.0 * person + place for place in range(len(row))] for person, row in enumerate(items)]
    with pytest.raises(InputError, match=r"at least|nobody left to ask|needs events") as caught:
        PROTOCOLS[protocol](Histories.of(items, times=times))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_one_person_is_enough(protocol: str) -> None:
    split = PROTOCOLS[protocol](Histories.of([list(range(20))], times=[list(range(20))]))
    assert split.test.people.tolist() == [0]
    refuse_leaks(split, protocol=protocol)


def test_all_at_one_time() -> None:
    histories = Histories.of([list(range(10)), list(range(10))], times=[[5] * 10] * 2)
    with pytest.raises(InputError, match="at least 3 different times, got 1 in 20 events"):
        temporal(histories)
    assert leave_one_out(histories).ties == 2
    assert cold_items(histories, 10).ties == 2


@pytest.mark.parametrize(
    ("times", "shares", "said"),
    [
        (None, (0.1, 0.1), "needs times, and the log has none"),
        ([1, 2, 3, 4], (0, 0.1), "got test=0 and validation=0.1"),
        ([1, 2, 3, 4], (0.1, -0.1), "got test=0.1 and validation=-0.1"),
        ([1, 2, 3, 4], (0.5, 0.5), "together below 1"),
        ([1, 1, 2, 3], (0.25, 0.5), "the training part would have no event.*carry the time 1 s"),
        ([1, 2, 3, 3], (0.25, 0.25), "the validation part would have no event.*carry the time 3 s"),
    ],
)
def test_cuts_that_cannot_be_made(times: list[float] | None, shares: tuple[float, float], said: str) -> None:
    histories = Histories.of([[0, 1, 2, 3]], times=None if times is None else [times])
    with pytest.raises(InputError, match=said):
        temporal(histories, *shares)


@pytest.mark.parametrize(
    ("items", "n_items", "share", "said"),
    [
        ([[0, 1, 2, 3, 4]], 4, 0.1, "row 4, the catalog has 4 items"),
        ([[0, 1, 2, 3, 4]], 5, 0.0, "above 0 and below 0.5, got 0.0"),
        ([[0, 1, 2, 3, 4]], 5, 0.5, "above 0 and below 0.5, got 0.5"),
        ([[0, 1, 2, 3]], 5, 0.1, "at least 5 events, none of 1"),
        ([[0, 1, 0, 1, 0]], 5, 0.1, "at least 3 items with events, got 2"),
    ],
)
def test_cold_items_that_cannot_be_drawn(items: list[list[int]], n_items: int, share: float, said: str) -> None:
    with pytest.raises(InputError, match=said):
        cold_items(Histories.of(items), n_items, share=share)


@st.composite
def logs(draw: st.DrawFn) -> Histories:
    rows = draw(st.lists(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 15)), max_size=12), max_size=8))
    ordered = [sorted(row, key=lambda event: event[1]) for row in rows]
    items, times = ([[event[n] for event in row] for row in ordered] for n in (0, 1))
    return Histories.of(items, times=times)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=60, deadline=None)
@forall(histories=logs())
def test_for_every_log_nobody_is_lost_and_nothing_leaks(protocol: str, histories: Histories) -> None:
    try:
        split = PROTOCOLS[protocol](histories)
    except InputError:
        return
    refuse_leaks(split, protocol=protocol)
    for name, questions in {"validation": split.validation, "test": split.test}.items():
        new = 0 if split.newcomers is None or name == "validation" else len(split.newcomers)
        assert len(questions) + new + sum(split.left_out[name].values()) == len(histories)
        assert (questions.histories.lengths > 0).all()
        assert (questions.targets.lengths > 0).all()
        assert (np.diff(questions.people) > 0).all()
    assert split.newcomers is None or len(split.newcomers.histories.items) == 0


# The page.


@pytest.fixture(scope="module")
def films() -> tuple[Catalog, Histories]:
    catalog, log = read_movielens(progress=False)
    return catalog, log.known(catalog).histories(catalog)[1]


@pytest.fixture(scope="module")
def splits(films: tuple[Catalog, Histories]) -> dict[str, Split]:
    catalog, histories = films
    return {
        "leave-one-out": leave_one_out(histories),
        "temporal": temporal(histories),
        "cold items": cold_items(histories, len(catalog)),
    }


def figures(split: Split) -> dict[str, int | None]:
    """What the page's table says of a protocol; None where it has no such thing."""
    new, cold, left_out = split.newcomers, split.cold, split.left_out
    return {
        "training events, `train`": len(split.train.items),
        "training events, `refit`": len(split.refit.items),
        "people asked in validation": len(split.validation),
        "their targets": len(split.validation.targets.items),
        "people asked in the test": len(split.test),
        "their targets ": len(split.test.targets.items),
        "newcomers in the test": None if new is None else len(new),
        "their targets  ": None if new is None else len(new.targets.items),
        "cold items": None if cold is None else int(cold.sum()),
        "targets that are cold": None if cold is None else int(cold[split.test.targets.items].sum()),
        "people with too few events": split.too_short,
        "people with a tie at a border": split.ties,
        "repeats": split.repeats,
        **{f"not asked in validation: {reason}": count for reason, count in left_out["validation"].items()},
        **{f"not asked in the test: {reason}": count for reason, count in left_out["test"].items()},
    }


def test_the_table_of_the_page_is_true(splits: dict[str, Split]) -> None:
    columns = {name: figures(split) for name, split in splits.items()}
    rows = [["", *columns], ["---", *["--:"] * len(columns)]]
    for label in columns["temporal"]:
        values = [column[label] for column in columns.values()]
        rows.append([label.strip(), *("–" if value is None else f"{value:,}" for value in values)])
    table = "\n".join(f"| {' | '.join(row)} |".replace("|  |", "| |") for row in rows)
    assert PAGE.split("<!-- counts -->\n")[1].split("\n<!-- /counts -->")[0] == table


def test_the_sentences_of_the_page_are_true(films: tuple[Catalog, Histories], splits: dict[str, Split]) -> None:
    (catalog, histories), (first, second, third) = films, splits.values()
    assert second.cuts is not None
    assert second.newcomers is not None
    assert third.cold is not None
    begins, ends = (datetime.fromtimestamp(cut, UTC).date() for cut in second.cuts)
    with_events = len(np.unique(histories.items))
    cold = third.cold[third.test.targets.items]
    one_line = " ".join(PAGE.split())
    for said in (
        f"({len(histories):,} people, {len(catalog):,} films, {len(histories.items):,} events; every rating",
        f"three events or more: {len(first.test):,} of {len(histories):,}.",
        f"the order of the log decides ({first.ties:,} people)",
        f"validation begins on {begins} and the test on {ends}.",
        f"do something new in it: {len(second.test):,} of {len(histories):,}.",
        f"**newcomers**, {len(second.newcomers):,} with {len(second.newcomers.targets.items):,} targets;",
        f"for the test ({third.cold.sum():,} of {with_events:,})",
        f"{cold.sum():,} of {len(cold):,} test targets are cold",
    ):
        assert said in one_line


def test_words_of_the_cut_in_time_give_the_split_in_time(
    films: tuple[Catalog, Histories], splits: dict[str, Split]
) -> None:
    _, histories = films
    assert histories.times is not None
    assert splits["temporal"].cuts is not None
    part = np.searchsorted(splits["temporal"].cuts, histories.times, side="right")
    split = given(histories, np.array(["train", "validation", "test"])[part].tolist())
    assert figures(split) == figures(splits["temporal"])
    for ours, theirs in ((split.test, splits["temporal"].test), (split.newcomers, splits["temporal"].newcomers)):
        assert asked(ours) == asked(theirs)
