"""The moment: an event in the store changes the next answer, without any training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.moment import LESS, away_from
from serving.people import People
from serving.retriever import Retriever
from serving.store.event import Event
from serving.store.store import Store
from towers.errors import InputError
from towers.interactions import Interactions, Positive

USER, LATER = 7, 1e9  # seconds, long after the log


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "shop.db") as opened:
        yield opened


@pytest.fixture
def shop(tiny_run: Any, store: Store) -> Retriever:
    return Retriever(tiny_run.model, tiny_run.index, tiny_run.catalog, tiny_run.log, store=store)


def event(n: int, item: str, kind: str = "click", person: int | str = USER, **more: Any) -> Event:
    return Event(f"e{n}", person, item, kind, LATER + n, **more)


def listed(shop: Retriever, **question: Any) -> dict[Any, float]:
    """Items with their similarity, best first."""
    return {one.item: one.retrieval for one in shop.recommend(**question)}


def history(shop: Retriever, user: int | str = USER) -> list[tuple[Any, float]]:
    """The items that speak for a person, oldest first, with their ratings."""
    past = shop.people.person(user).history
    return [
        (shop._catalog.ids[row], float(rating)) for row, rating in zip(past.items, past.ratings.round(3), strict=True)
    ]


def test_an_event_changes_the_next_answer(tiny_run: Any, shop: Retriever, store: Store) -> None:
    before = listed(shop, user=USER, k=5)
    (first, *_) = before
    assert before == listed(Retriever(tiny_run.model, tiny_run.index, tiny_run.catalog, tiny_run.log), user=USER, k=5)
    past = history(shop)
    store.record([event(1, first)])
    after = listed(shop, user=USER, k=5)
    assert first not in after
    assert after != {item: score for item, score in before.items() if item != first}
    assert [item for item, _ in history(shop)] == [*(item for item, _ in past), first]
    assert len(shop.recommend(user=USER, k=40)) == 40 - 11  # ten of the log and this one are met


def test_a_session_is_asked_for_like_anybody(tiny_run: Any, shop: Retriever, store: Store) -> None:
    with pytest.raises(InputError, match="nothing is known of user 's-1'; the log has 30 people"):
        shop.recommend(user="s-1")
    store.record([event(1, "m02", person="s-1"), event(2, "m04", "rating", person="s-1", value=5)])
    found = listed(shop, user="s-1", k=5)
    assert {"m02", "m04"}.isdisjoint(found)
    assert shop.recommend(user="s-1").query == "user s-1, known by 2 items"
    alone = Retriever(tiny_run.model, tiny_run.index, tiny_run.catalog, store=store)  # no log at all
    assert listed(alone, user="s-1", k=5) == pytest.approx(found)
    with pytest.raises(InputError, match="there is no log"):
        alone.recommend(user="s-2")


def test_ratings_count_on_the_scale_of_the_log(tiny_run: Any, store: Store) -> None:
    liked = People(tiny_run.log, tiny_run.catalog, np.ones(40, bool), Positive(0.5), store, (1, 5))
    store.record(
        [
            event(1, "m01", "rating", value=4, person="new"),
            event(2, "m03", "rating", value=2, person="new"),
            event(3, "m05", "rating", value=9, person="new"),  # above the scale
            event(4, "m07", person="new"),
            event(5, "m01", "click", person="new"),  # rated 4 before
            event(6, "m09", "view", person="new"),
        ]
    )
    person = liked.person("new")
    assert [tiny_run.catalog.ids[row] for row in person.history.items] == ["m05", "m07", "m01"]
    np.testing.assert_array_equal(person.history.ratings, np.array([1, np.nan, 0.75], np.float32))
    assert person.history.times.tolist() == [LATER + 3, LATER + 4, LATER + 5]
    assert [tiny_run.catalog.ids[row] for row in person.seen] == ["m01", "m03", "m05", "m07"]
    unscaled = People(None, tiny_run.catalog, np.ones(40, bool), Positive(0.5), store)
    assert np.isnan(unscaled.person("new").history.ratings).all()  # of no known scale: as clicks


def test_what_the_log_has_too_is_there_once_and_a_change_of_mind_counts(tiny_run: Any, store: Store) -> None:
    rows = sorted(
        (row for row in tiny_run.log.table.to_pylist() if row["user_id"] == USER), key=lambda row: row["timestamp"]
    )
    people = People(tiny_run.log, tiny_run.catalog, np.ones(40, bool), Positive(0.5), store, (1, 5))
    before = people.person(USER).history
    liked = [row for row in rows if row["rating"] >= 0.5]
    store.record([Event("same", USER, liked[0]["item_id"], "rating", liked[0]["timestamp"], 5)])
    assert people.person(USER).history.items.tolist() == before.items.tolist()
    store.record([event(1, liked[1]["item_id"], "rating", value=1)])
    assert people.person(USER).history.items.tolist() == np.delete(before.items, 1).tolist()
    store.record([event(2, liked[2]["item_id"])])  # once more
    again = people.person(USER).history
    assert again.items.tolist() == [*np.delete(before.items, 1), before.items[2]]
    assert (np.diff(again.times) > 0).all()


def test_not_this_is_never_shown_again_and_no_longer_speaks_for_them(shop: Retriever, store: Store) -> None:
    (best, *_) = listed(shop, user=USER)
    met = history(shop)[0][0]
    store.record([event(1, best, "not-this"), event(2, met, "not-this"), event(3, "gone", "not-this")])
    assert best not in listed(shop, user=USER, k=40)
    assert met not in [item for item, _ in history(shop)]
    store.record([event(10 + n, "m01", person="x") for n in range(3)])
    store.record([event(100 + n, f"m{n % 40:02}") for n in range(1100)])  # more than are read
    assert best not in listed(shop, user=USER, k=40)


def test_less_like_this_pushes_down_what_is_near(tiny_run: Any, shop: Retriever, store: Store) -> None:
    store.record([event(n, item, person="s") for n, item in enumerate(("m00", "m02", "m01", "m03"))])  # of both kinds
    before = listed(shop, user="s", k=40)
    store.record([event(9, "m05", "less-like-this", person="s")])  # motors
    after = listed(shop, user="s", k=40)
    assert "m05" not in after
    vectors = tiny_run.index.vectors
    rows = tiny_run.index.ids.rows(list(after))
    nearness = vectors[rows] @ vectors[tiny_run.index.ids.rows(["m05"])[0]]
    fallen = np.array([after[item] - before[item] for item in after])
    assert np.corrcoef(nearness, fallen)[0, 1] < -0.9
    nearest = [tiny_run.index.ids[row] for row in rows[np.argsort(-nearness)[:5]]]
    assert all(list(after).index(item) > list(before).index(item) for item in nearest if item in list(before)[:25])


def test_away_from_by_hand() -> None:
    queries, less = np.array([[1, 0]], np.float32), np.array([[0, 1], [0, 1]], np.float32)
    assert away_from(queries, less[:0]) is queries
    length = np.sqrt(1 + LESS**2)
    np.testing.assert_allclose(away_from(queries, less), [[1 / length, -LESS / length]], rtol=1e-6)
    interests = np.array([[[1, 0], [0, 1]]], np.float32)
    np.testing.assert_allclose(away_from(interests, less)[0, 1], [0, 1], rtol=1e-6)


@pytest.mark.parametrize("half_life", [None, 5.0])
def test_reasons_follow_the_moment(tiny_run: Any, store: Store, half_life: float | None) -> None:
    shop = Retriever(tiny_run.model, tiny_run.index, tiny_run.catalog, tiny_run.log, store=store, half_life=half_life)
    refused = shop.recommend(user=USER, k=1)[0].item
    store.record([event(1, refused, "less-like-this")])
    best = shop.recommend(user=USER, k=1)[0]
    reason = shop.explain(best.item, user=USER, words=False)
    parts = {part.name: part.value for part in reason.parts}
    assert reason.place == 1
    vectors = tiny_run.index.vectors[tiny_run.index.ids.rows([best.item, refused])]
    assert np.sign(parts["less"]) == -np.sign(vectors[0] @ vectors[1])
    assert sum(parts.values()) == pytest.approx(best.score, abs=1e-4)
    assert sum(past.value for past in reason.past) == pytest.approx(parts["sequence"], abs=1e-4)


def test_without_times_what_is_new_comes_last(tiny_run: Any, store: Store) -> None:
    log = Interactions.read(tiny_run.log.table.drop_columns("timestamp"), rating_range=(0, 1))
    people = People(log, tiny_run.catalog, np.ones(40, bool), Positive(), store, (1, 5))
    before = people.person(USER).history.items.tolist()
    store.record([event(1, "m39", "rating", value=3)])
    past = people.person(USER).history
    assert past.times is None
    assert past.items.tolist() == [*before, tiny_run.catalog.rows(["m39"])[0]]
    assert past.ratings[-1] == 0.5


def test_with_a_half_life_old_interests_fade(tiny_run: Any, store: Store) -> None:
    """Music long ago, motors just now."""
    store.record([event(n, f"m{2 * n:02}", person="s") for n in range(6)])
    store.record([event(30 * 86_400, "m01", person=person) for person in ("s", "only the newest")])
    run = tiny_run.model, tiny_run.index, tiny_run.catalog, tiny_run.log
    shops = {days: Retriever(*run, store=store, half_life=days) for days in (None, 1000, 1, 1e-60, 1e305)}

    def reading(days: float | None, person: str) -> np.ndarray:
        past, memory = shops[days].people.person(person).history, shops[days]._memory
        sequence, _ = tiny_run.model.user.readings(past, memory)
        return sequence[0].numpy()

    newest, whole = reading(None, "only the newest"), reading(None, "s")
    np.testing.assert_allclose(reading(1, "s"), newest, atol=1e-5)  # 30 half-lives: a billionth is left
    assert np.abs(whole - newest).max() > 0.01
    np.testing.assert_allclose(reading(1000, "s"), whole, atol=1e-2)
    np.testing.assert_allclose(reading(1e-60, "s"), newest, atol=1e-5)
    np.testing.assert_allclose(reading(1e305, "s"), whole, atol=1e-5)
    assert listed(shops[1], user="s") != listed(shops[None], user="s")
    with pytest.raises(InputError, match="half_life must be a number of days above 0, got 0"):
        Retriever(*run, half_life=0)
