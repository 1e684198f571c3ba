"""The gate: hosts, origins, sizes, rates, headers, and a log that tells of nobody."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")

from anyio.to_thread import current_default_thread_limiter

from serving.web.batching import Desk
from serving.web.limits import Buckets, Limits
from serving.web.logs import JsonLines, logger
from towers.errors import InputError


def test_without_keys_only_this_machines_own_names_are_answered(client: Any) -> None:
    service = client()
    for host in ("localhost:8000", "127.0.0.1", "[::1]:8000", "localhost"):
        assert service.get("/healthz", headers={"Host": host}).status_code == 200
    for host in ("evil.example", "localhost.evil.example:8000", "", "127.0.0.1.evil.example", "[::1].evil"):
        assert service.get("/healthz", headers={"Host": host}).status_code == 421


def test_another_sites_page_may_not_ask(client: Any) -> None:
    service = client()
    own = {"Origin": "http://localhost"}
    assert service.post("/v1/recommend", json={"user": 7}, headers=own).status_code == 200
    for origin in ("http://evil.example", "null", "http://localhost:9"):
        answer = service.post("/v1/recommend", json={"user": 7}, headers={"Origin": origin})
        assert (answer.status_code, answer.json()["error"][:12]) == (403, "another site")


def test_a_body_that_is_too_large_is_refused_whether_it_says_so_or_not(client: Any) -> None:
    service = client(limits=Limits(body=2000))
    large = b'{"text": "' + b"x" * 3000 + b'"}'
    assert service.post("/v1/recommend", content=large).status_code == 413
    parts: Iterator[bytes] = iter([large[:1500], large[1500:]])  # in chunks, without a length
    answer = service.post("/v1/recommend", content=parts, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]) == (413, "the body is larger than 2,000 bytes")


def test_a_key_that_asks_too_often_is_told_when_to_come_again(client: Any) -> None:
    service = client(limits=Limits(rate=0.1, burst=2))
    codes = [service.get("/v1/items").status_code for _ in range(3)]
    assert codes == [200, 200, 429]
    assert int(service.get("/v1/items").headers["Retry-After"]) in range(9, 12)
    assert service.get("/healthz").status_code == 200


def test_a_bucket_fills_with_time() -> None:
    buckets = Buckets(rate=2, burst=3)
    assert [buckets.wait("a", 0.0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert buckets.wait("b", 0.0) == 0
    assert buckets.wait("a", 0.25) == pytest.approx(0.25)
    assert buckets.wait("a", 0.5) == 0
    assert [buckets.wait("a", 100.0) for _ in range(4)] == [0, 0, 0, 0.5]


def test_every_answer_carries_the_policy(client: Any) -> None:
    for path in ("/", "/healthz", "/v1/items", "/nothing"):
        headers = client().get(path).headers
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert len(headers["X-Request-Id"]) == 12


def test_the_log_is_json_and_tells_of_nobody(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(logger().handlers[0], "emit", lambda record: lines.append(JsonLines().format(record)))
    service = client()
    told_before = {"id": "secret", "user": "secret-person", "item": "m01", "kind": "click"}
    service.post("/v1/recommend", json={"user": "secret-person", "text": "secret words"})
    service.post("/v1/recommend", json={"text": "secret words", "where": {"topic": "secret"}})
    service.get("/v1/item", params={"item": "secret"})
    service.post("/v1/feedback", json={"events": [told_before]})
    told = [json.loads(line) for line in lines]
    answered = [one for one in told if one["event"] == "answered"]
    assert [(one["route"], one["status"]) for one in answered] == [
        ("/v1/recommend", 404),
        ("/v1/recommend", 200),
        ("/v1/item", 404),
        ("/v1/feedback", 200),
    ]
    assert answered[0].keys() == {"time", "level", "event", "request", "ms", "method", "route", "status", "key"}
    assert "secret" not in "".join(lines)


def test_what_fails_here_is_logged_without_its_text(client: Any, offer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(logger().handlers[0], "emit", lambda record: lines.append(JsonLines().format(record)))

    def fail(*_: Any) -> None:
        raise RuntimeError("secret words")

    monkeypatch.setattr(type(offer.retriever), "recommend_many", fail)
    answer = client().post("/v1/recommend", json={"user": 7})
    assert answer.status_code == 500
    assert "secret" not in answer.text + "".join(lines)
    (failed,) = [json.loads(line) for line in lines if '"failed"' in line]
    assert failed["error"] == "RuntimeError"
    assert "test_gate.py" in failed["at"]


def test_requests_are_counted_by_route(client: Any) -> None:
    service = client()
    service.post("/v1/recommend", json={"user": 7})
    service.post("/v1/recommend", json={"user": "nobody"})
    text = service.get("/metrics").text
    assert 'twotower_requests_total{route="/v1/recommend",status="200"} 1.0' in text
    assert 'twotower_requests_total{route="/v1/recommend",status="404"} 1.0' in text
    assert "twotower_items 40.0" in text
    assert "twotower_batch_questions_count 2.0" in text


def test_limits_are_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "limits.toml").write_text("k = 20\nqueue = 8\n")
    assert Limits.read(tmp_path / "limits.toml") == Limits(k=20, queue=8)
    wrong = {
        "k = 0": "k: Input should be greater than or equal to 1, got 0",
        "rat = 1": r"it has no setting 'rat' \(did you mean 'rate'\?\); it has: body, rate",
        "k =": "Invalid value",
    }
    for text, said in wrong.items():
        (tmp_path / "limits.toml").write_text(text)
        with pytest.raises(InputError, match=f"holds no limits that can be used: {said}"):
            Limits.read(tmp_path / "limits.toml")
    with pytest.raises(InputError, match=r"none\.toml"):
        Limits.read(tmp_path / "none.toml")


def test_deep_and_odd_json_is_refused_and_nothing_breaks(client: Any) -> None:
    service, headers = client(), {"Content-Type": "application/json"}
    deep = b'{"text": "a", "where": ' + b'{"not": ' * 5000 + b"{}" + b"}" * 5001
    less_deep = b'{"text": "a", "where": ' + b'{"not": ' * 20 + b'{"topic": "x"}' + b"}" * 21
    wide = json.dumps({"text": "a", "where": {"topic": ["x"] * 200}}).encode()
    odd = [deep, less_deep, wide, b"", b"[]", b"null", b"{", b"\xff", b'{"text": "\\ud800"}', b'{"text": NaN}']
    odd += [b'{"user": ' + b"9" * 5000 + b"}", b'{"text": "a", "where": {"year": {">=": NaN}}}', b'"' + b"[" * 100_000]
    for body in odd:
        answer = service.post("/v1/recommend", content=body, headers=headers)
        assert answer.status_code in (400, 422), body[:50]
        assert answer.json()["error"]


def test_the_clients_time_to_send_is_bounded(offer: Any, source: Any, store: Any) -> None:
    """A body that never ends gets 408 when its time is over."""
    import asyncio

    from serving.web.app import create_app
    from serving.web.offer import Shelf

    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.sleep(0.5)
        return {"type": "http.request", "body": b"{", "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/recommend",
        "raw_path": b"/v1/recommend",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
        "scheme": "http",
        "root_path": "",
    }
    app = create_app(Shelf(offer), source, store, limits=Limits(seconds=0.05))
    asyncio.run(app(scope, receive, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 408


def test_a_busy_desk_refuses_questions_before_they_are_read(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asking = client()
    monkeypatch.setattr(Desk, "full", "those that wait already take 3.0 seconds")
    for path in ("/v1/recommend", "/v1/recommend/media", "/v1/similar", "/v1/explain", "/v1/questionnaire"):
        refused = asking.post(path, content=b"no JSON at all")
        assert refused.status_code == 503
        assert refused.headers["Retry-After"] == "2"
        assert "too busy: those that wait already take 3.0 seconds" in refused.json()["error"]
    assert asking.get("/v1/about").status_code == 200
    assert asking.get("/readyz").status_code == 503
    assert 'twotower_refused_total{reason="queue"} 5.0' in asking.get("/metrics").text


def test_what_waits_for_a_slow_store_does_not_pile_up(client: Any, store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each write holds a thread, and of those that wait for one there are no more than may be."""
    service, go, record = client(limits=Limits(queue=3)), threading.Event(), type(store).record

    def slowly(*given: Any) -> int:
        assert go.wait(60)
        return record(*given)

    monkeypatch.setattr(type(store), "record", slowly)

    def send(n: int) -> Any:
        event = {"id": f"e{n}", "user": 7, "item": "m03", "kind": "view"}
        return service.post("/v1/feedback", json={"events": [event]})

    def waiting() -> int:
        return service.portal.call(lambda: current_default_thread_limiter().statistics().tasks_waiting)

    most = int(service.portal.call(lambda: current_default_thread_limiter().total_tokens)) + 3
    with ThreadPoolExecutor(most) as threads:
        sent = [threads.submit(send, n) for n in range(most)]
        try:
            while waiting() < 3:
                time.sleep(0.01)
            refused = send(most)
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "2")
            assert refused.json()["error"] == "too busy: 3 requests wait for a thread already"
            assert service.post("/v1/recommend", json={"user": 7}).status_code == 200
            assert service.get("/healthz").status_code == 200
        finally:
            go.set()
        assert {one.result().json()["new"] for one in sent} == {1}
    assert send(most).json() == {"kept": 1, "new": 1}
    assert store.count() == most + 1
