"""Questions over HTTP give what the retriever gives, and what cannot be asked is said in a sentence."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serving.retriever import Retriever

JSON = {"Content-Type": "application/json"}


def test_a_recommendation_is_the_retrievers(client: Any, shop: Retriever) -> None:
    answer = client().post("/v1/recommend", json={"user": 7, "k": 5})
    assert answer.status_code == 200
    told, own = answer.json(), shop.recommend(user=7, k=5)
    assert [one["item"] for one in told["items"]] == [one.item for one in own]
    assert [one["score"] for one in told["items"]] == pytest.approx([one.score for one in own])
    assert told["version"] == "first"
    assert told["items"][0]["image"] is True


@pytest.mark.parametrize(
    "question", [{"history": ["m01", "m03"]}, {"text": "a quiet piano", "where": {"topic": "music"}}]
)
def test_a_session_and_a_text_are_answered(client: Any, shop: Retriever, question: dict[str, Any]) -> None:
    told = client().post("/v1/recommend", json=question).json()
    assert [one["item"] for one in told["items"]] == [one.item for one in shop.recommend(**question)]


def test_items_like_one(client: Any, shop: Retriever) -> None:
    told = client().post("/v1/similar", json={"item": "m03", "k": 4}).json()
    assert [one["item"] for one in told["items"]] == [one.item for one in shop.similar("m03", k=4)]
    assert client().post("/v1/similar", json={"item": "nothing"}).status_code == 404


@pytest.mark.parametrize(
    ("question", "status", "said"),
    [
        ({"user": "nobody-7"}, 404, "there is no such person"),
        ({}, 422, "nothing was asked for"),
        ({"user": 7, "history": ["m01"]}, 422, "expected one of them"),
        ({"user": 7, "k": 0}, 422, "body.k"),
        ({"user": 7, "k": 101}, 422, "at most 100"),
        ({"user": 7, "k": float("inf")}, 422, "body.k"),
        ({"user": 7.5}, 422, "body.user"),
        ({"user": True}, 422, "body.user"),
        ({"user": 2**63}, 422, "body.user"),
        ({"user": 7, "other": 1}, 422, "body.other"),
        ({"text": "x" * 2001}, 422, "body.text"),
        ({"history": ["m01"] * 501}, 422, "body.history"),
        ({"user": 7, "where": {"topic": {"~": 1}}}, 422, "is compared by"),
        ({"user": 7, "where": {"colour": "red"}}, 422, "colour"),
    ],
)
def test_what_cannot_be_asked_is_told(client: Any, question: dict[str, Any], status: int, said: str) -> None:
    answer = client().post("/v1/recommend", content=json.dumps(question), headers=JSON)
    assert answer.status_code == status
    assert said in answer.json()["error"]


def test_nobody_else_is_named_to_someone_unknown(client: Any) -> None:
    said = client().post("/v1/recommend", json={"user": "unknown"}).json()["error"]
    assert not any(char.isdigit() for char in said)


def test_what_is_blocked_is_not_like_anything(client: Any, store: Any) -> None:
    service = client()
    before = [one["item"] for one in service.post("/v1/similar", json={"item": "m01", "k": 5}).json()["items"]]
    store.lists.block(before[0], by="kim")
    after = [one["item"] for one in service.post("/v1/similar", json={"item": "m01", "k": 5}).json()["items"]]
    assert after[:4] == before[1:]
    assert len(after) == 5


def test_what_the_services_steps_never_show_is_not_like_anything_either(client: Any, source: Any, offer: Any) -> None:
    unsuitable = {"topic": "motors"}
    source.settings["steps"] = [{"name": "block", "where": unsuitable, "items": ["m02"]}, {"name": "rating"}]
    service, music = client(), {f"m{n:02}" for n in range(0, 40, 2)}
    for where in (None, {"title": {"<": "r"}}):
        told = service.post("/v1/similar", json={"item": "m01", "k": 30, "where": where}).json()["items"]
        titles = dict(zip(offer.catalog.ids.to_list(), offer.catalog.titles, strict=True))
        wanted = {item for item in music - {"m02"} if where is None or titles[item] < "r"}
        assert {one["item"] for one in told} == wanted
    assert service.post("/v1/similar", json={"item": "m01", "where": unsuitable}).json()["items"] == []
