"""What the benches of the service count."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")

from benchmarks.fuzz import MARK, Tally
from benchmarks.serve_faults import point
from benchmarks.served import milliseconds
from serving.web.keys import Role


@pytest.mark.parametrize(
    ("role", "path", "method", "status", "answer", "leaks"),
    [
        (Role.reader, "/v1/recommend", "POST", 200, "{}", 0),
        (Role.reader, "/v1/items", "GET", 200, "[]", 0),
        (Role.reader, "/v1/items", "PUT", 200, "{}", 1),
        (Role.reader, "/v1/feedback", "POST", 403, "{}", 0),
        (Role.reader, "/v1/feedback", "POST", 200, "{}", 1),
        (Role.writer, "/v1/feedback", "POST", 200, "{}", 0),
        (Role.writer, "/v1/admin/audit", "GET", 200, "[]", 1),
        (Role.admin, "/v1/people/history", "POST", 200, MARK, 0),
        (Role.writer, "/v1/recommend", "POST", 404, f"there is {MARK}1", 1),
        (None, "/v1/about", "GET", 200, "{}", 1),
        (None, "/healthz", "GET", 200, "ok", 0),
    ],
)
def test_a_leak_is_seen(role: Role | None, path: str, method: str, status: int, answer: str, leaks: int) -> None:
    tally = Tally()
    tally.take("a test", role, path, method, status, "", answer)
    assert (tally.requests, tally.leaks) == (1, leaks)


def test_what_somebody_sent_themselves_is_no_leak_and_a_503_no_fault() -> None:
    tally = Tally()
    tally.take("a test", Role.reader, "/v1/recommend", "POST", 503, MARK, MARK)
    tally.take("a test", Role.reader, "/v1/recommend", "POST", 500, "", "")
    assert (tally.leaks, tally.found) == (0, ["500 to a test: POST /v1/recommend"])


def test_links_change_over(tmp_path: Path) -> None:
    for name in ("model-a", "model-b", "index-a", "index-b"):
        (tmp_path / name).mkdir()
    for name in "aba":
        point(tmp_path, name)
        assert [(tmp_path / what).resolve().name for what in ("model", "index")] == [f"model-{name}", f"index-{name}"]


def test_times_are_told_in_milliseconds() -> None:
    assert milliseconds([0.001 * n for n in range(101)]) == {"p50_ms": 50.0, "p95_ms": 95.0, "p99_ms": 99.0}
    assert milliseconds([]) == {}
