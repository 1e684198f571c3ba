"""`Gate`: what every request passes before anything reads it, and what every answer passes on its way out."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from anyio.to_thread import current_default_thread_limiter
from fastapi import HTTPException, Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.web.batching import Desk
from serving.web.faults import AGAIN, told
from serving.web.keys import Keys, Role
from serving.web.limits import Buckets, Limits
from serving.web.logs import log
from serving.web.metrics import Metrics
from towers.errors import ArtefactError

OPEN = ("/", "/healthz", "/readyz", "/openapi.json")  # answered without a key, as are the page's own files
PAGE = "/page/"
LOCAL = ("localhost", "127.0.0.1", "::1")
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Caller:
    """Who asks: a key, or somebody on this machine where there are no keys.

    Args:
        id: of the key.
        role: what it allows.
    """

    id: str
    role: Role


ANYBODY = Caller("local", Role.admin)


class Gate:
    """Looks at host, origin, key, rate and size; writes one line of log; counts; sets headers.

    Args:
        app: what lies behind.
        keys: None where there are none: then whoever reaches this machine's own address may do everything.
        limits: `body`, `rate`, `burst`, `seconds`.
        metrics: where it counts.
        desk: where questions wait; one that would not be answered in time is refused before it costs anything. So is
            any other request where too many wait for a thread.
        asked: paths of such questions.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Keys | None,
        limits: Limits,
        metrics: Metrics,
        desk: Desk,
        asked: frozenset[str],
    ) -> None:
        self._app, self._keys, self._limits, self._metrics = app, keys, limits, metrics
        self._desk, self._asked = desk, asked
        self._buckets = Buckets(limits.rate, limits.burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began, request = time.perf_counter(), uuid.uuid4().hex[:12]
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers["X-Request-Id"] = request
            await send(message)

        try:
            refused = self._refusal(scope)
            behind = self._app if refused is None else refused
            await behind(scope, self._bounded(receive), sending)
        except Exception as error:  # told in the log without its text, which may hold what somebody sent
            log("failed", level=logging.ERROR, error=error, request=request, route=_route(scope))
            if not status:
                await told(500, "something went wrong here; the log says more")(scope, receive, sending)
        seconds = time.perf_counter() - began
        caller: Caller = scope.get("state", {}).get("caller", Caller("", Role.reader))
        self._metrics.requests.labels(_route(scope), str(status)).inc()
        self._metrics.seconds.labels(_route(scope)).observe(seconds)
        facts = {"method": scope["method"], "route": _route(scope), "status": status, "key": caller.id}
        log("answered", request=request, ms=round(1000 * seconds, 1), **facts)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        """The answer to a request that goes no further; None for one that does."""
        headers = Headers(scope=scope)
        if self._keys is None and _name(headers.get("host", "")) not in LOCAL:
            return told(421, "this service has no keys, so it answers to the name of this machine alone: localhost")
        if (origin := headers.get("origin")) is not None and origin.partition("://")[2] != headers.get("host"):
            return told(403, "another site's page asks here, which is not allowed")
        if _is_open(scope["path"]):
            return None
        try:
            caller = ANYBODY if self._keys is None else self._caller(headers.get("authorization", ""))
        except ArtefactError as error:  # whose text tells where the file lies
            log("keys unreadable", level=logging.ERROR, error=error)
            return told(503, "the file of keys cannot be read, so nobody is let in until it is mended", again=5)
        if caller is None:
            answer = told(401, "a key is needed: Authorization: Bearer tt_…; twotower keys add makes one")
            answer.headers["WWW-Authenticate"] = "Bearer"
            return answer
        scope.setdefault("state", {})["caller"] = caller
        if wait := self._buckets.wait(caller.id):
            self._metrics.refused.labels("rate").inc()
            return told(429, f"more than {self._limits.rate:g} requests a second with this key", again=wait)
        if _length(headers) > self._limits.body:
            self._metrics.refused.labels("body").inc()
            return told(413, self._too_large())
        if why := self._desk.full if scope["path"] in self._asked else self._crowded():
            self._metrics.refused.labels("queue").inc()
            return told(503, f"too busy: {why}", again=AGAIN)
        return None

    def _crowded(self) -> str:
        """Why a request that waits at no desk, but for the store or the disk, is refused; empty where it is not."""
        waiting = current_default_thread_limiter().statistics().tasks_waiting
        return f"{waiting} requests wait for a thread already" if waiting >= self._limits.queue else ""

    def _caller(self, given: str) -> Caller | None:
        assert self._keys is not None
        scheme, _, key = given.partition(" ")
        found = self._keys.find(key.strip()) if scheme.lower() == "bearer" else None
        return None if found is None else Caller(found.id, found.role)

    def _bounded(self, receive: Receive) -> Receive:
        """The body, as far as it is not too large and does not come too slowly."""
        size = 0
        ends = time.monotonic() + self._limits.seconds
        whole = False

        async def receiving() -> Message:
            nonlocal size, whole
            if whole:  # all that may still come is that the caller leaves
                return await receive()
            try:
                async with asyncio.timeout(max(0.001, ends - time.monotonic())):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, f"the request took longer than {self._limits.seconds:g} seconds") from None
            size += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if size > self._limits.body:
                self._metrics.refused.labels("body").inc()
                raise HTTPException(413, self._too_large())
            return message

        return receiving

    def _too_large(self) -> str:
        return f"the body is larger than {self._limits.body:,} bytes"


def allow(role: Role) -> Callable[[Request], Awaitable[Caller]]:
    """A dependency that lets a caller pass whose key has at least this role."""

    async def passing(request: Request) -> Caller:
        caller: Caller = request.state.caller
        if not caller.role.allows(role):
            raise HTTPException(403, f"this needs a key with the role {role}, and this one is a {caller.role}'s")
        return caller

    return passing


def _is_open(path: str) -> bool:
    return path in OPEN or path.startswith(PAGE)


def _route(scope: Scope) -> str:
    """The route's pattern, which tells nothing of anybody; "" where there was none."""
    return getattr(scope.get("route"), "path", "")


def _name(host: str) -> str:
    """``[::1]:8000`` is ``::1``; "" where it is no host and port."""
    found = re.fullmatch(r"(?:\[([0-9a-f:]+)\]|([a-z0-9.-]+))(?::\d+)?", host.lower())
    return "" if found is None else found[1] or found[2]


def _length(headers: Headers) -> int:
    given = headers.get("content-length", "0")
    return int(given) if given.isdecimal() and len(given) < 20 else 0
