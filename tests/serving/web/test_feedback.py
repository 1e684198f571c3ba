"""Feedback changes the next answer, is kept once, and can be exported and erased; people in charge have their say."""

from __future__ import annotations

import time
from typing import Any

import pytest

from serving.store.explored import explored
from serving.web.keys import Keys, Role
from serving.web.limits import Limits


def items(service: Any, **question: Any) -> list[str]:
    answer = service.post("/v1/recommend", json=question)
    assert answer.status_code == 200, answer.text
    return [one["item"] for one in answer.json()["items"]]


def event(number: int, item: str, kind: str = "click", user: Any = 7, **more: Any) -> dict[str, Any]:
    return {"id": f"e{number}", "user": user, "item": item, "kind": kind, **more}


def test_the_next_answer_follows_at_once(client: Any) -> None:
    service = client()
    first = items(service, user=7)
    assert service.post("/v1/feedback", json={"events": [event(1, first[0])]}).json() == {"kept": 1, "new": 1}
    second = items(service, user=7)
    assert first[0] not in second
    service.post(
        "/v1/feedback", json={"events": [event(2, second[0], "not-this"), event(3, second[1], "less-like-this")]}
    )
    third = items(service, user=7)
    assert not {*first[:1], *second[:2]} & set(third)
    past = service.post("/v1/people/history", json={"user": 7}).json()["events"]
    assert [(one["item"], one["kind"]) for one in past[:3]] == [
        (second[1], "less-like-this"),
        (second[0], "not-this"),
        (first[0], "click"),
    ]


def test_a_rating_is_told_on_the_scale_of_the_log(client: Any) -> None:
    service = client()
    best = items(service, user=7)[0]
    service.post("/v1/feedback", json={"events": [event(1, best, "rating", value=4.0, time=time.time())]})
    (newest, *_) = service.post("/v1/people/history", json={"user": "7"}).json()["events"]
    assert (newest["item"], newest["kind"], newest["rating"]) == (best, "rating", pytest.approx(4.0))


def test_somebody_new_is_known_from_their_first_click(client: Any) -> None:
    service = client()
    assert service.post("/v1/recommend", json={"user": "visitor-1"}).status_code == 404
    assert service.post("/v1/people/history", json={"user": "visitor-1"}).status_code == 404
    service.post("/v1/feedback", json={"events": [event(1, "m03", user="visitor-1")]})
    assert len(items(service, user="visitor-1")) == 10


def test_what_is_sent_again_is_kept_once(client: Any, store: Any) -> None:
    service = client()
    body = {"events": [event(1, "m03"), event(2, "m05")]}
    answers = [service.post("/v1/feedback", json=body).json() for _ in range(3)]
    assert [one["new"] for one in answers] == [2, 0, 0]
    assert store.count() == 2


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (event(1, "none"), "there is no item 'none'"),
        (event(1, "m03", "rating"), "a rating needs a value"),
        (event(1, "m03", "rating", value=9), "ratings here are 1 to 5"),
        (event(1, "m03", "bought"), "body.events.1.kind"),
        (event(1, "m03", time=1e12), "lies in the future"),
        (event(1, "m03", user="a\0b"), "body.events.1.user"),
        (event(1, "m03") | {"id": ""}, "body.events.1.id"),
    ],
)
def test_an_event_that_cannot_be_kept_keeps_the_others_away_too(client: Any, store: Any, wrong: Any, said: str) -> None:
    answer = client().post("/v1/feedback", json={"events": [event(0, "m05"), wrong]})
    assert answer.status_code == 422
    assert said in answer.json()["error"]
    assert store.count() == 0


def test_a_store_that_cannot_be_written_says_so_and_questions_go_on(client: Any, store: Any) -> None:
    from sqlalchemy import text

    service = client()
    with store._database.engine.connect() as connection:
        connection.execution_options(plain=True).execute(text("PRAGMA max_page_count = 1"))
    before = items(service, user=7)
    with pytest.MonkeyPatch.context() as patch:

        def full(*_: Any) -> int:
            from towers.errors import StoreError

            raise StoreError("the store cannot be written now: database or disk is full")

        patch.setattr(type(store), "record", full)
        answer = service.post("/v1/feedback", json={"events": [event(1, before[0])]})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "6")
    assert "disk is full" in answer.json()["error"]
    assert items(service, user=7) == before


def test_without_its_store_it_is_not_ready(client: Any, store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from sqlalchemy.exc import OperationalError

    service = client()
    assert service.get("/readyz").status_code == 200

    def gone(*_: Any) -> None:
        raise OperationalError("", {}, Exception("connection refused"))

    with monkeypatch.context() as patch:
        patch.setattr(store._database.engine, "connect", gone)
        for path, body in (("/readyz", None), ("/v1/feedback", {"events": [event(1, "m03")]})):
            answer = service.request("POST" if body else "GET", path, json=body)
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "6")
            assert answer.json()["error"] == "the store cannot be used now: connection refused"
    assert service.get("/readyz").status_code == 200


def test_everything_of_a_person_is_exported_and_erased(client: Any, store: Any, offer: Any) -> None:
    service = client()
    before = items(service, user=7)
    service.post("/v1/feedback", json={"events": [event(1, before[0]), event(2, "m03", user="other")]})
    assert [one["item"] for one in service.post("/v1/people/export", json={"user": 7}).json()["events"]] == [before[0]]
    assert items(service, user=7) != before
    assert service.post("/v1/explain", json={"user": 7, "item": items(service, user=7)[0]}).status_code == 200
    kept = offer.retriever._read, offer.retriever._explainer._left_out
    assert all(map(len, kept))
    assert service.post("/v1/people/erase", json={"user": 7}).json()["events"] == 1
    assert not any(map(len, kept))
    assert items(service, user=7) == before
    assert store.count() == 1
    store.audit.verify()


def test_lists_hold_for_everybody_from_the_next_question_on(client: Any, store: Any) -> None:
    service = client()
    first = items(service, user=7)
    blocked, pinned = first[0], items(service, user=8)[-1]
    for list, item in (("block", blocked), ("pin", pinned)):
        answer = service.post(f"/v1/admin/lists/{list}/add", json={"item": item, "reason": "a test"})
        assert answer.json() == {"changed": True}
    for user in (7, 8):
        shown = items(service, user=user)
        assert blocked not in shown
        assert pinned not in shown or shown[0] == pinned
    assert items(service, user=8)[0] == pinned
    assert service.get("/v1/admin/lists").json() == {"blocked": [blocked], "pinned": [pinned]}
    service.post("/v1/admin/lists/block/remove", json={"item": blocked})
    assert blocked in items(service, user=7, k=40)
    assert [one["action"] for one in service.get("/v1/admin/audit").json()] == ["block", "pin", "unblock"]
    head = service.post("/v1/admin/audit/verify").json()
    assert head["number"] == 3
    service.post("/v1/admin/lists/pin/remove", json={"item": pinned})
    assert service.post("/v1/admin/audit/verify", json=head).json()["number"] == 4
    other = service.post("/v1/admin/audit/verify", json=head | {"hash": "0" * 64})
    assert other.status_code == 409
    assert "entry 3 is missing or another one" in other.json()["error"]


def test_what_was_pinned_behind_something_blocked_or_gone_comes_first(client: Any, store: Any) -> None:
    service = client()
    blocked, gone, next_one, last = items(service, user=7, k=20)[-4:]
    for item in (blocked, gone, next_one, last):
        store.lists.pin(item, by="kim")
    assert items(service, user=7)[:4] == [blocked, gone, next_one, last]
    store.lists.block(blocked, by="kim")
    service.post("/v1/items/remove", json={"items": [gone]})
    assert items(service, user=7)[:2] == [next_one, last]


def test_no_lots_are_drawn_for_what_is_pinned(client: Any, source: Any, store: Any) -> None:
    source.settings["steps"] = [{"name": "epsilon-greedy", "epsilon": 1.0}, {"name": "thompson", "noise": 9.0}]
    service = client()
    pinned = items(service, user=7)[:2]
    for item in pinned:
        store.lists.pin(item, by="kim")
    lists = [service.post("/v1/recommend", json={"user": 7, "k": 6}).json()["items"] for _ in range(8)]
    assert all([one["item"] for one in shown[:2]] == pinned for shown in lists)
    assert all(one["probability"] == 1 for shown in lists for one in shown[:2])
    assert len({one["item"] for shown in lists for one in shown[2:]}) > 4


def test_an_item_is_reviewed(client: Any) -> None:
    service = client()
    number = service.post("/v1/reviews", json={"item": "m03", "reason": "the wrong cover"}).json()["number"]
    assert [one["item"] for one in service.get("/v1/admin/reviews").json()] == ["m03"]
    service.post("/v1/admin/reviews/decide", json={"number": number, "decision": "block"})
    assert service.get("/v1/admin/lists").json()["blocked"] == ["m03"]
    assert service.post("/v1/admin/reviews/decide", json={"number": number, "decision": "keep"}).status_code == 422


def test_sliders_change_the_list_and_say_so(client: Any) -> None:
    service = client()
    plain = service.post("/v1/recommend", json={"user": 7}).json()
    varied = service.post("/v1/recommend", json={"user": 7, "diversity": 0.9, "novelty": 0.5}).json()
    assert plain["steps"] == ["rating"]
    assert set(varied["steps"]) == {"rating", "mmr", "novelty"}
    assert [one["item"] for one in plain["items"]] != [one["item"] for one in varied["items"]]


def test_the_slider_takes_the_place_of_whatever_the_service_does_for_diversity(client: Any, source: Any) -> None:
    source.settings["steps"] = [{"name": name, "weight": 0.4} for name in ("max-sum", "dpp", "mmr", "calibration")]
    service = client()
    assert service.post("/v1/recommend", json={"user": 7}).json()["steps"] == ["max-sum", "dpp", "mmr", "calibration"]
    told = service.post("/v1/recommend", json={"user": 7, "diversity": 0.7}).json()
    assert told["steps"] == ["calibration", "mmr"]


def test_a_reason_adds_up(client: Any) -> None:
    service = client()
    best = items(service, user=7)[0]
    told = service.post("/v1/explain", json={"user": 7, "item": best}).json()
    assert told["place"] == 1
    assert sum(part["value"] for part in told["parts"]) == pytest.approx(told["score"], abs=1e-4)
    assert told["past"][0]["title"] in told["sentence"]
    assert service.post("/v1/explain", json={"user": 7, "item": "none"}).status_code == 404


def test_what_lots_have_shown_comes_back_with_its_probability(client: Any, source: Any, store: Any) -> None:
    source.settings["steps"] = [{"name": "epsilon-greedy", "epsilon": 0.5, "seed": 1}]
    service = client()
    shown = service.post("/v1/recommend", json={"user": 7, "k": 5}).json()["items"]
    views = [event(n, one["item"], "view", probability=one["probability"]) for n, one in enumerate(shown)]
    service.post("/v1/feedback", json={"events": [*views, event(9, shown[2]["item"])]})
    log = explored(store)
    assert dict(zip(log.items, log.logged, strict=True)) == {one["item"]: one["probability"] for one in shown}
    assert {item for item, reward in zip(log.items, log.rewards, strict=True) if reward} == {shown[2]["item"]}
    assert (log.logged < 1).all()


READ = [
    ("POST", "/v1/recommend", {"history": ["m01"]}),
    ("POST", "/v1/similar", {"item": "m01"}),
    ("GET", "/v1/items", None),
    ("GET", "/v1/about", None),
]
WRITE = [
    ("POST", "/v1/feedback", {"events": [event(1, "m01")]}),
    ("POST", "/v1/reviews", {"item": "m01", "reason": "x"}),
    ("POST", "/v1/items/remove", {"items": ["m39"]}),
    ("PUT", "/v1/items", {"items": [{"item_id": "m38", "title": "quiet rain"}]}),
]
RULE = [
    ("POST", "/v1/people/search", {}),
    ("POST", "/v1/people/history", {"user": 7}),
    ("POST", "/v1/people/export", {"user": 7}),
    ("POST", "/v1/people/erase", {"user": 7}),
    ("POST", "/v1/admin/lists/block/add", {"item": "m01"}),
    ("GET", "/v1/admin/lists", None),
    ("GET", "/v1/admin/audit", None),
    ("GET", "/v1/admin/reviews", None),
    ("POST", "/v1/admin/swap", None),
]


@pytest.mark.parametrize("role", list(Role))
def test_a_key_does_what_its_role_allows_and_no_more(client: Any, tmp_path: Any, role: Role) -> None:
    keys = Keys(tmp_path / "keys.json")
    headers = {"Authorization": f"Bearer {keys.add(role, role)}"}
    service = client(keys=keys, limits=Limits(seconds=60))
    for needed, requests in ((Role.reader, READ), (Role.writer, WRITE), (Role.admin, RULE)):
        for method, path, body in requests:
            answer = service.request(method, path, json=body, headers=headers)
            assert answer.status_code == (200 if role.allows(needed) else 403), (path, answer.text)


def test_every_route_asks_for_a_role(client: Any, tmp_path: Any) -> None:
    """A route that somebody adds later without one would be open to every key."""
    keys = Keys(tmp_path / "keys.json")
    headers = {"Authorization": f"Bearer {keys.add('reader', Role.reader)}"}
    service = client(keys=keys)
    allowed = {path for _, path, _ in READ} | {
        f"/v1/{name}" for name in ("recommend/media", "explain", "questionnaire", "item", "media")
    }
    for path, methods in service.get("/openapi.json").json()["paths"].items():
        for method in methods:
            if path.startswith("/v1/") and (path not in allowed or method == "put"):
                address = path.replace("{list}", "pin").replace("{change}", "add")
                assert service.request(method, address, headers=headers).status_code == 403, path
