"""python -m benchmarks.fuzz [--requests 12000] [--save]

What no client should send, sent to a service with keys: requests that schemathesis draws from the OpenAPI document,
right and wrong ones, by a key of each role; and others made by hand: huge, deep, slow, of the wrong types, with tricks
in paths and headers, about other people. No answer may be a 5xx but 503, the process must live, and nothing that a key
does not allow may be seen: the log's people have a mark in their ids, which no answer to a reader or a writer may hold
unless they sent it, and no route answers a key below its role with 200.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import polars as pl
from rich.console import Console

from benchmarks.record import Record, protocol
from benchmarks.serve_load import FREE, row
from benchmarks.served import Service, make_world, serving
from serving.web.keys import Keys, Role

ITEMS, PEOPLE = 500, 100
MARK = "kept-secret-"
LIMITS = {**FREE, "seconds": 5.0, "body": 200_000}
ADMIN = ("/v1/admin/", "/v1/people/")
WRITE = ("/v1/feedback", "/v1/reviews", "/v1/items/")


class Tally:
    """What came of all requests."""

    def __init__(self) -> None:
        self.requests, self.leaks = 0, 0
        self.statuses: Counter[int] = Counter()
        self.found: list[str] = []

    def take(self, what: str, role: Role | None, path: str, method: str, status: int, sent: str, answer: str) -> None:
        """Count an answer, and look at it.

        Args:
            what: of whatever was sent, for people.
            role: of the key; None: none was sent.
            path, method: asked for.
            status: 0 where there was none.
            sent, answer: as text.
        """
        self.requests += 1
        self.statuses[status] += 1
        if status >= 500 and status != 503:
            self.found.append(f"{status} to {what}: {method} {path}")
        seen = MARK in answer and MARK not in sent and role is not Role.admin
        if seen or (200 <= status < 300 and not _allowed(role, path, method)):
            self.leaks += 1
            self.found.append(f"leak to {role}: {method} {path}: {answer[:80]}")


def _allowed(role: Role | None, path: str, method: str) -> bool:
    if not path.startswith("/v1/") and path != "/metrics":
        return True
    if role is None:
        return False
    if path.startswith(ADMIN):
        return role is Role.admin
    writes = path.startswith(WRITE) or (path == "/v1/items" and method.upper() == "PUT")
    return role.allows(Role.writer if writes else Role.reader)


def drawn(service: Service, keys: dict[Role, str], requests: int, tally: Tally) -> None:
    """Requests that schemathesis draws, as many of each operation and role."""
    import schemathesis

    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{service.port}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    modes = list(schemathesis.GenerationMode)
    each = max(1, requests // (len(operations) * len(Role) * len(modes)))
    for operation in operations:
        for role, key in keys.items():
            for mode in modes:
                _draw(operation, mode, each, partial(_send, f"http://127.0.0.1:{service.port}", role, key, tally))


def _draw(operation: Any, mode: Any, most: int, send: Callable[[Any], None]) -> None:
    """Send so many requests of one operation, all right or all wrong, the same ones each time."""
    from hypothesis import HealthCheck, Phase, given, seed, settings
    from hypothesis.errors import Unsatisfiable

    @seed(0)
    @settings(
        max_examples=most,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        send(case)

    with suppress(Unsatisfiable):  # where nothing is expected, nothing is wrong
        ask()


def _send(at: str, role: Role, key: str, tally: Tally, case: Any) -> None:
    try:
        answer = case.call(base_url=at, headers={"Authorization": f"Bearer {key}"}, timeout=30)
    except (OSError, ValueError, TypeError):  # what cannot be put on the wire is not sent, nor counted
        return
    path, text = urlsplit(answer.request.url).path, (answer.content or b"").decode("utf-8", "replace")
    sent = repr((answer.request.url, case.body, case.query, case.headers))
    tally.take("a drawn request", role, path, case.method, answer.status_code, sent, text)


def by_hand(service: Service, keys: dict[Role, str], someone: str, item: str, tally: Tally) -> None:
    """What no document describes."""
    reader, writer = keys[Role.reader], keys[Role.writer]
    right = {"user": someone, "k": 5}
    deep = b'{"text": "a", "where": ' + b'{"not": ' * 30_000 + b"{}" + b"}" * 30_001
    bodies = [
        b"", b"null", b"[]", b"{", b"\xff\xfe", b"0", b'"a"', b"1e999", b"NaN", b"{}" * 1000, deep, b"[" * 90_000,
        b"x" * 300_000, b'{"user": ' + b"9" * 10_000 + b"}", b'{"text": "\\ud800"}', b'{"user": "\\u0000"}',
        b'{"user": 1e308}', b'{"user": -9223372036854775809}', b'{"user": {"$ne": 1}}', b'{"user": ["a"]}',
        b'{"history": [1, "a"]}', b'{"history": [null]}', b'{"where": {"title": {"in": 7}}, "text": "a"}',
        b'{"k": true, "user": 1}', b'{"k": 1e3, "user": 1}', b'{"novelty": NaN, "user": 1}', b'{"user": 1, "k": null}',
        b'{"answers": [{"item": 1, "answer": "like"}, {"item": "a", "answer": "like"}]}', b'{"answers": {}}',
        b'{"answers": [{"item": "i000001", "answer": "like"}], "user": "\\ud800"}', b'{"answers": [null]}',
        b'{"__proto__": {"role": "admin"}}', b'{"text": "' + b"%s%n" * 400 + b'"}', b'{"text": "\' OR 1=1 --"}',
    ]  # fmt: skip
    paths = [
        "/page/../app.py", "/page/%2e%2e%2fapp.py", "/page/....//keys.py", "/../../etc/passwd", "//etc/passwd", "/%00",
        "/page/%00", "/v1/media?item=../../etc/passwd&kind=image", "/v1/media?item=%00&kind=audio", "/v1/item?item=",
        "/v1/media?item=/etc/passwd&kind=text", "/v1/admin/%2e%2e/recommend", "/v1/../v1/admin/lists", "/V1/admin",
        "/v1/admin/lists/", "/v1/admin//lists", "/v1/admin/lists;a=b", "/v1/admin/lists%20", "/v1/admin/audit?since=-1",
        "/v1/admin/audit?since=" + "9" * 400, "/" + "a" * 60_000, "/v1/items?limit=1e9", "/v1/items?search=%ff%00",
    ]  # fmt: skip
    tricks = [
        {"Host": "evil.example"}, {"X-Forwarded-For": "127.0.0.1"}, {"X-Original-URL": "/v1/admin/lists"},
        {"X-HTTP-Method-Override": "DELETE"}, {"Origin": "http://evil.example"}, {"Content-Type": "text/plain"},
        {"Content-Type": "application/xml"}, {"Content-Type": "multipart/form-data"}, {"Content-Encoding": "gzip"},
        {"Content-Type": "multipart/form-data; boundary="}, {"Content-Type": "application/json; charset=utf-7"},
        {"Cookie": "role=admin"}, {"Range": "bytes=0-1,5-9,-1"}, {"Expect": "100-continue"}, {"X" * 5000: "y" * 5000},
        {"Content-Length": "-1"}, {"Content-Length": "99999999999999999999"}, {"Content-Length": "7"},
        {"Transfer-Encoding": "chunked"}, {"Transfer-Encoding": "chunked, identity"}, {"Role": "admin"},
    ]  # fmt: skip
    credentials = [
        "", "Bearer", "Bearer ", "Basic YTpi", f"bearer {reader}", f"Bearer {reader[:-1]}", f"Bearer {reader}x",
        f"Bearer {reader} {writer}", "Bearer tt__", f"Bearer tt_{reader.split('_')[1]}_x", "Bearer " + "x" * 9000,
        f"Bearer {reader.replace('tt_', 'tt__', 1)}", "Bearer \xff\xfe", "Bearer null",
    ]  # fmt: skip
    closed = [
        ("POST", "/v1/people/history", {"user": someone}), ("POST", "/v1/people/export", {"user": someone}),
        ("POST", "/v1/people/erase", {"user": someone}), ("POST", "/v1/people/search", {}),
        ("POST", "/v1/admin/swap", {}), ("GET", "/v1/admin/audit", None), ("GET", "/v1/admin/lists", None),
    ]  # fmt: skip
    port = service.port
    asked = ("/v1/recommend", "/v1/questionnaire", "/v1/similar", "/v1/explain")
    for path in (*asked, "/v1/feedback", "/v1/people/history", "/v1/items"):
        for body in bodies:
            method = "PUT" if path == "/v1/items" else "POST"
            raw(port, method, path, body, {"Authorization": f"Bearer {writer}"}, Role.writer, tally)
    for path in paths:
        for method in ("GET", "POST", "DELETE", "OPTIONS", "TRACE"):
            raw(port, method, path, b"", {"Authorization": f"Bearer {reader}"}, Role.reader, tally)
            raw(port, method, path, b"", {}, None, tally)
    for trick in tricks:
        for method, path, body in [("POST", "/v1/recommend", right), *closed]:
            sent = b"" if body is None else json.dumps(body).encode()
            raw(port, method, path, sent, {"Authorization": f"Bearer {reader}", **trick}, Role.reader, tally)
    for credential in credentials:
        role = Role.reader if credential == f"bearer {reader}" else None
        for method, path, body in closed:
            raw(port, method, path, json.dumps(body or {}).encode(), {"Authorization": credential}, role, tally)
    for role in (Role.reader, Role.writer):
        for method, path, body in closed:
            raw(
                port,
                method,
                path,
                json.dumps(body or {}).encode(),
                {"Authorization": f"Bearer {keys[role]}"},
                role,
                tally,
            )
    files(port, keys, item, tally)
    slow(port, reader, tally)


def files(port: int, keys: dict[Role, str], item: str, tally: Tally) -> None:
    """Files that are none, and a bomb."""
    contents = [
        b"",
        b"x",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff" + bytes(1000),
        b"RIFF\xff\xff\xff\xffWAVE",
        b"fLaC" + bytes(50),
    ]
    names = ["a.png", "../../a", "a\0b", "x" * 3000, '"; filename="b', ""]
    for content in contents:
        for name in names:
            for path, part in (
                ("/v1/recommend/media", "image"),
                ("/v1/items/media", "audio"),
                ("/v1/items/media", "image"),
            ):
                form = (
                    f'--b\r\nContent-Disposition: form-data; name="item"\r\n\r\n{item}\r\n'
                    f'--b\r\nContent-Disposition: form-data; name="{part}"; filename="{name}"\r\n\r\n'
                )
                body = form.encode() + content + b"\r\n--b--\r\n"
                headers = {
                    "Authorization": f"Bearer {keys[Role.writer]}",
                    "Content-Type": "multipart/form-data; boundary=b",
                }
                raw(port, "POST", path, body, headers, Role.writer, tally)


def raw(
    port: int, method: str, path: str, body: bytes, headers: dict[str, str], role: Role | None, tally: Tally
) -> None:
    """One request, byte by byte as given."""
    usual = {"Host": "localhost", "Content-Type": "application/json", "Connection": "close"}
    lines = {**usual, "Content-Length": str(len(body)), **headers}
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n"
    answer = b""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=8) as connection:
            connection.sendall(head.encode("latin-1") + body)
            while part := connection.recv(65536):
                answer += part
    except OSError:
        pass  # ended by the service, which may be its answer
    status = int(answer[9:12]) if answer[9:12].isdigit() else 0
    text = answer.decode("utf-8", "replace")
    tally.take("a hand-made request", role, path.partition("?")[0], method, status, head + repr(body[:2000]), text)


def slow(port: int, key: str, tally: Tally) -> None:
    """Bodies that come byte by byte, on more connections than questions may wait, while others are answered."""
    opened = []
    for _ in range(100):
        connection = socket.create_connection(("127.0.0.1", port), timeout=15)
        head = f"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        connection.sendall(f"{head}Content-Length: 1000\r\n\r\n{{".encode())
        opened.append(connection)
    body = json.dumps({"history": ["i000001"]}).encode()
    for _ in range(20):
        raw(port, "POST", "/v1/recommend", body, {"Authorization": f"Bearer {key}"}, Role.reader, tally)
    time.sleep(LIMITS["seconds"] + 1)
    for connection in opened:
        answer = connection.recv(65536)
        status = int(answer[9:12]) if answer[9:12].isdigit() else 0
        tally.take("a slow body", Role.reader, "/v1/recommend", "POST", status, "", answer.decode("utf-8", "replace"))
        connection.close()


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=12_000, help="that schemathesis draws, about")
    parser.add_argument("--save", action="store_true", help="keep the record in benchmarks/results")
    options = parser.parse_args()
    record, screen = Record("fuzz"), Console(stderr=True)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "world"
        make_world(folder, items=ITEMS, people=PEOPLE)
        events = pl.read_parquet(folder / "events.parquet")
        marked = events.with_columns(user_id=MARK + pl.col("user_id").cast(pl.String))
        marked.write_parquet(folder / "events.parquet")
        ring = Keys(folder / "keys.json")
        keys = {role: ring.add(role, role) for role in Role}
        with serving(folder, limits=LIMITS, keys=folder / "keys.json") as service:
            for name, run in (("hand-made", "by hand"), ("schemathesis", "drawn")):
                tally, began = Tally(), time.perf_counter()
                if run == "drawn":
                    drawn(service, keys, options.requests, tally)
                else:
                    someone = random.Random(0).choice(marked["user_id"].to_list())
                    by_hand(service, keys, someone, "i000001", tally)
                crashed = service.process.poll() is not None
                metrics = {
                    "requests": tally.requests,
                    "errors_5xx": sum(n for status, n in tally.statuses.items() if status >= 500 and status != 503),
                    "leaks": tally.leaks,
                    "crashes": int(crashed),
                }
                record.rows.append(row(name, run, metrics))
                record.notes[name] = {"statuses": dict(sorted(tally.statuses.items())), "found": tally.found[:20]}
                screen.print(metrics, record.notes[name], f"{time.perf_counter() - began:.0f} s")
        failed = [line for line in (folder / "service.log").read_text("utf-8").splitlines() if '"failed"' in line]
    record.notes |= {"protocol": protocol(__doc__), "failed": failed[:20]}
    for line in failed[:10]:
        screen.print(line)
    record.finish(save=options.save)


if __name__ == "__main__":
    main()
