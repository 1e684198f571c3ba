"""Somebody new over HTTP: questions and lists are the questionnaire's, and nobody waits while it is made."""

from __future__ import annotations

import gc
import json
import threading
import time
import weakref
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")

from indexing.index import ItemIndex
from serving.questionnaire import Questionnaire
from serving.retriever import Retriever
from serving.store.event import Event
from serving.web import newcomers
from serving.web.offer import Offer, Shelf
from serving.web.schemas.newcomers import MOST_ANSWERS

JSON = {"Content-Type": "application/json"}
WORDS = {True: "like", False: "dislike", None: "unknown"}


@pytest.fixture(scope="module")
def asks(shop: Retriever) -> Questionnaire:
    return Questionnaire(shop)


def said(answers: dict[Any, bool | None]) -> list[dict[str, Any]]:
    return [{"item": item, "answer": WORDS[one]} for item, one in answers.items()]


def ask(service: Any, path: str, **body: Any) -> Any:
    """The answer, once the questions are prepared."""
    for _ in range(600):
        answer = service.post(f"/v1/{path}", json=body)
        if answer.status_code != 503:
            return answer
        time.sleep(0.05)
    raise AssertionError("the questions were never prepared")


def test_the_questions_are_the_questionnaires(client: Any, asks: Questionnaire, offer: Offer) -> None:
    service, answers = client(), {}
    for says in (True, None, False, True):
        told = ask(service, "questionnaire", answers=said(answers)).json()
        row = offer.row(asks.next(answers))
        assert told == {
            "version": "first",
            "about": {
                "item": asks.next(answers),
                "title": offer.catalog.titles[row],
                "words": offer.words(np.array([row]))[0],
                "image": True,
                "audio": True,
            },
        }
        answers[told["about"]["item"]] = says
    assert ask(service, "questionnaire").json()["about"]["item"] == asks.next()
    everything = said(dict.fromkeys(asks.askable))
    assert ask(service, "questionnaire", answers=everything).json() == {"version": "first", "about": None}


@pytest.mark.parametrize("answers", [{}, {"m01": False}, {"m02": True, "m04": True, "m01": False, "m03": None}])
def test_the_list_is_the_questionnaires(client: Any, asks: Questionnaire, answers: dict[Any, bool | None]) -> None:
    told, own = ask(client(), "recommend", answers=said(answers), k=7).json(), asks.recommend(answers, k=7)
    assert [one["item"] for one in told["items"]] == [one.item for one in own]
    assert [one["score"] for one in told["items"]] == pytest.approx([one.score for one in own], rel=1e-5)
    assert told["query"] == own.query


def test_answers_go_with_a_text_and_a_filter(client: Any, asks: Questionnaire, shop: Retriever) -> None:
    more: dict[str, Any] = {"text": "a quiet piano", "where": {"topic": "music"}, "k": 6}
    told = ask(client(), "recommend", answers=said({"m05": True}), **more).json()
    own = shop.recommend(person=asks.person({"m05": True}), **more)
    assert [one["item"] for one in told["items"]] == [one.item for one in own]
    assert told["query"] == 'someone new with 1 answer, "a quiet piano"'


def test_answers_go_with_a_session(client: Any, offer: Offer, store: Any) -> None:
    service, answers = client(), {"m02": True, "m04": True, "m01": False}
    body: dict[str, Any] = {"answers": said(answers), "user": "visitor", "k": 40}
    alone = ask(service, "recommend", answers=said(answers), k=40).json()["items"]
    assert ask(service, "recommend", **body).json()["items"] == alone  # a session that has not begun
    store.record([Event(str(n), "visitor", item, "click", 1e9 + n) for n, item in enumerate(["m06", "m04"])])
    told = ask(service, "recommend", **body).json()
    person = Questionnaire(offer.retriever).person(answers, since=offer.retriever.people.person("visitor"))
    assert offer.catalog.ids.take(person.history.items) == ["m02", "m06", "m04"]
    assert [one["item"] for one in told["items"]] == [
        one.item for one in offer.retriever.recommend(person=person, k=40)
    ]
    assert {one["item"] for one in alone} - {one["item"] for one in told["items"]} == {"m06"}
    assert told["query"] == "someone new with 3 answers, user visitor, known by 2 items"
    refused = ask(service, "recommend", answers=[], user=7)
    assert (refused.status_code, "the log knows this user" in refused.json()["error"]) == (422, True)


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        (said({"m99": True}), "an item that the catalog lacks: 'm99'"),
        (said({"m01": True}) + said({"m01": None}), "an item is answered twice"),
        (said({7: True}) + said({"7": True}), "an item is answered twice"),
        (said({7: True}) + said({"m01": True}), "all strings or all integers"),
        (said(dict.fromkeys(range(MOST_ANSWERS + 1))), f"at most {MOST_ANSWERS} items"),
        ([{"item": "m01", "answer": "perhaps"}], "body.answers.0.answer"),
        ([{"item": "m01"}], "body.answers.0.answer"),
        ([{"item": "m01", "answer": "like", "more": 1}], "body.answers.0.more"),
        ("m01", "body.answers"),
    ],
)
def test_answers_that_are_none_are_told(client: Any, answers: Any, told: str) -> None:
    service = client()
    for path in ("questionnaire", "recommend"):
        answer = ask(service, path, answers=answers)
        assert answer.status_code == 422
        assert told in answer.json()["error"]


def test_a_history_says_what_answers_say(client: Any) -> None:
    answer = client().post("/v1/recommend", json={"answers": [], "history": ["m01"]})
    assert (answer.status_code, "a history and answers were given" in answer.json()["error"]) == (422, True)


def test_as_many_answers_as_may_be_given_leave_somebody_to_be_like(client: Any, asks: Questionnaire) -> None:
    """A hundred small numbers multiplied are 0; likeness stays a share of 1."""
    unlikely = {item: bool(n % 2) for n, item in enumerate(asks.catalog.ids.to_list())}
    weights = asks._weights(unlikely)
    assert weights.sum() == pytest.approx(1)
    assert ask(client(), "recommend", answers=said(unlikely)).json()["items"] == []  # all are known


def test_others_are_answered_while_it_is_made_and_it_is_made_once(
    client: Any, asks: Questionnaire, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, made = threading.Event(), []

    def slowly(retriever: Retriever) -> Questionnaire:
        made.append(retriever)
        assert go.wait(60)
        return Questionnaire(retriever)

    monkeypatch.setattr(newcomers, "Questionnaire", slowly)
    service = client()
    try:
        for path in ("questionnaire", "recommend", "questionnaire"):
            answer = service.post(f"/v1/{path}", json={"answers": []})
            assert answer.status_code == 503
            assert answer.headers["Retry-After"] == newcomers.AGAIN
            assert answer.json() == {"error": "the questions for somebody new are being prepared"}
        assert service.post("/v1/recommend", json={"user": 7}).status_code == 200
        assert service.get("/readyz").status_code == 200
    finally:
        go.set()
    assert ask(service, "questionnaire").json()["about"]["item"] == asks.next()
    assert len(made) == 1


def test_a_swap_makes_another_one_at_a_time(
    client: Any, tiny_run: Any, offer: Offer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is made for a shop that is gone holds up the next, so that swaps cannot pile them up."""
    go, made = threading.Event(), []

    def slowly(retriever: Retriever) -> Questionnaire:
        made.append(weakref.ref(retriever))
        assert go.wait(60)
        return Questionnaire(retriever)

    monkeypatch.setattr(newcomers, "Questionnaire", slowly)
    shelf = Shelf(Offer(Retriever(tiny_run.model, tiny_run.index, tiny_run.catalog, tiny_run.log), *_rest(offer)))
    service = client(shelf)
    try:
        for _ in range(2):
            assert service.post("/v1/questionnaire", json={}).status_code == 503
            shelf.exchange(lambda _: offer)
        assert len(made) == 1
    finally:
        go.set()
    assert ask(service, "questionnaire").status_code == 200
    gc.collect()
    assert [one() for one in made] == [None, offer.retriever]


def _rest(offer: Offer) -> tuple[Any, ...]:
    return offer.model, offer.catalog, offer.log, "old"


def test_what_is_gone_or_blocked_is_not_asked_about(client: Any, source: Any, store: Any, asks: Questionnaire) -> None:
    service, first = client(), asks.next()
    second = asks.next(without=[str(first)])
    assert second not in (None, first)
    store.lists.block(first, by="kim")
    assert ask(service, "questionnaire").json()["about"]["item"] == second
    version = service.post("/v1/items/remove", json={"items": [second]}).json()["version"]
    told = ask(service, "questionnaire").json()
    left = Questionnaire(source.load().retriever)
    assert second in left.catalog.ids.to_list()  # people have met it
    assert second not in left.askable
    assert told["version"] == version
    assert told["about"]["item"] == left.next(without=[first]) not in (first, second)
    assert ask(service, "recommend", answers=said({second: True})).status_code == 200


def test_what_the_services_steps_never_show_is_not_asked_about(client: Any, source: Any, asks: Questionnaire) -> None:
    first = asks.next()
    source.settings["steps"] = [{"name": "only", "where": {"topic": "music"}}, {"name": "block", "items": [first]}]
    service, answers = client(), {}
    while (about := ask(service, "questionnaire", answers=said(answers)).json()["about"]) is not None:
        answers[about["item"]] = None
    assert set(answers) == {item for item in asks.askable if int(item[1:]) % 2 == 0} - {first}


def test_without_a_log_or_anybody_in_it_that_is_said(client: Any, tiny_run: Any, store: Any) -> None:
    nobody = Retriever(tiny_run.model, tiny_run.index, tiny_run.catalog, store=store)
    service = client(Shelf(Offer(nobody, tiny_run.model, tiny_run.catalog, None, "no log")))
    answer = ask(service, "questionnaire")
    assert (answer.status_code, answer.json()["error"][:23]) == (422, "this service has no log")
    some = tiny_run.index.ids.array.slice(0, 3)
    few = ItemIndex.from_arrays(some, tiny_run.index.vectors[:3], space=tiny_run.model.space)
    log = tiny_run.log.keep(~np.isin(tiny_run.log.table["item_id"].to_numpy(), some.to_pylist()))
    empty = Retriever(tiny_run.model, few, tiny_run.catalog, log)
    service = client(Shelf(Offer(empty, tiny_run.model, tiny_run.catalog, log, "nobody")))
    for _ in range(3):
        answer = ask(service, "questionnaire")
        assert (answer.status_code, answer.json()["error"][:17]) == (422, "nobody in the log")
    assert "Traceback" not in json.dumps(answer.json())
