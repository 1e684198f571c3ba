"""Questions to somebody new: the next is the one that tells most, and answers move what is found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from serving.questionnaire import NOT_KNOWN, OTHERS, Questionnaire
from serving.retriever import Retriever
from towers.errors import InputError


@pytest.fixture(scope="module")
def shop(tiny_run: Any) -> Retriever:
    return Retriever(tiny_run.model, tiny_run.index, tiny_run.catalog, tiny_run.log)


@pytest.fixture(scope="module")
def asks(shop: Retriever) -> Questionnaire:
    return Questionnaire(shop, items=15)


def test_the_next_question_is_the_one_after_which_people_lie_closest(asks: Questionnaire) -> None:
    """By plain loops over items, answers and people."""
    answers = {asks.askable[3]: True, asks.askable[5]: None}
    weights = asks._weights(answers)
    expected = {}
    for item in asks.askable:
        likely, left = asks._answers_to(int(asks.catalog.rows([item])[0])), 0.0
        for answer in range(3):
            joint = weights * likely[:, answer]
            posterior = joint / joint.sum()
            mean = sum(w * v for w, v in zip(posterior, asks._vectors, strict=True))
            spread = sum(w * ((v - mean) ** 2).sum() for w, v in zip(posterior, asks._vectors, strict=True))
            left += joint.sum() * spread
        if item not in answers:
            expected[item] = left
    assert asks.next(answers) == min(expected, key=lambda item: expected[item])


def test_an_answer_says_who_the_new_person_is_like(tiny_run: Any, asks: Questionnaire) -> None:
    item = asks.askable[0]
    log = tiny_run.log.table.to_pylist()
    said = {row["user_id"]: row["rating"] for row in log if row["item_id"] == item}
    users = sorted({row["user_id"] for row in log})
    order = [users.index(user) for user in tiny_run.log.histories(tiny_run.catalog)[0].to_list()]
    by_user = dict(zip(np.array(users)[order].tolist(), asks._weights({item: True}), strict=True))
    likes = [weight for user, weight in by_user.items() if said.get(user, 0) >= 0.75]
    others = [weight for user, weight in by_user.items() if said.get(user, 0) < 0.75]
    share = (len(likes) + 1) / (30 + 3)
    assert np.ptp(likes) == pytest.approx(0)
    assert likes[0] / others[0] == pytest.approx((1 - OTHERS + OTHERS * share) / (OTHERS * share))
    assert sum(by_user.values()) == pytest.approx(1)
    unknown = asks._weights({item: None})
    assert unknown.max() / unknown.min() < (likes[0] / others[0]) ** (2 * NOT_KNOWN)


def test_every_item_is_asked_about_once_and_then_there_are_no_more_questions(asks: Questionnaire) -> None:
    answers: dict[Any, bool | None] = {}
    while (item := asks.next(answers)) is not None:
        assert item not in answers
        answers[item] = None if len(answers) % 3 else len(answers) % 2 == 0
    assert set(answers) == set(asks.askable)
    assert len(answers) == 15


def test_without_answers_what_most_like_comes_first_and_answers_become_history(tiny_run: Any, shop: Retriever) -> None:
    asks = Questionnaire(shop)
    nobody = asks.person()
    liked = np.zeros(40)
    for row in tiny_run.log.table.to_pylist():
        liked[tiny_run.catalog.rows([row["item_id"]])[0]] += row["rating"] >= 0.75
    assert np.corrcoef(np.exp(nobody.leaning.bonus), liked)[0, 1] > 0.999
    found = asks.recommend(k=40)
    assert len(found) == 40
    assert found.query == "someone new with 0 answers"
    answers = {"m02": True, "m04": True, "m01": False, "m03": None}
    person = asks.person(answers)
    assert tiny_run.catalog.ids.take(person.history.items) == ["m02", "m04"]
    shown = [one.item for one in asks.recommend(answers, k=40)]
    assert set(range(40)) - {int(item[1:]) for item in shown} == {1, 2, 4}  # not known: may be shown
    music, before = (
        np.mean([int(item[1:]) % 2 == 0 for item in some[:10]]) for some in (shown, [o.item for o in found])
    )
    assert music > before


def test_what_cannot_be_asked_is_refused(tiny_run: Any, asks: Questionnaire) -> None:
    with pytest.raises(InputError, match="an item that the catalog lacks: 'm99'"):
        asks.next({"m99": True})
    with pytest.raises(InputError, match="no log was given"):
        Questionnaire(Retriever(tiny_run.model, tiny_run.index, tiny_run.catalog))


def test_what_was_done_since_comes_after_the_answers_and_decides(shop: Retriever, asks: Questionnaire) -> None:
    since = shop.people.person(7)
    met = asks.catalog.ids.take(since.seen)
    new = next(item for item in asks.catalog.ids.to_list() if item not in met)
    person = asks.person({new: True, met[0]: True}, since=since)
    assert asks.catalog.ids.take(person.history.items) == [new, *asks.catalog.ids.take(since.history.items)]
    assert person.history.times.tolist() == [since.history.times[0], *since.history.times]
    assert set(asks.catalog.ids.take(person.seen)) == {new, *met}
    assert person.name == f"someone new with 2 answers, {since.name}"
    assert (person.leaning.bonus == asks.person({new: True, met[0]: True}).leaning.bonus).all()


def test_new_people_are_answered_beside_others(shop: Retriever, asks: Questionnaire) -> None:
    questions = [{"person": asks.person({"m02": True})}, {"history": ["m04"]}, {"person": asks.person()}, {"user": 7}]
    for told, question in zip(shop.recommend_many(questions), questions, strict=True):
        own = shop.recommend(**question)
        assert [one.item for one in told] == [one.item for one in own]
        assert [one.score for one in told] == pytest.approx([one.score for one in own], rel=1e-5)
    (refused,) = shop.recommend_many([{"person": asks.person(), "text": " "}])
    assert "text must be words" in str(refused)
