"""`run`: listen, answer, and end in peace."""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

import uvicorn

from serving.store.store import Store
from serving.web.app import create_app
from serving.web.keys import Keys
from serving.web.limits import Limits
from serving.web.logs import LIBRARIES, as_json, log
from serving.web.metrics import Metrics
from serving.web.offer import Shelf, warm
from serving.web.source import Source
from serving.web.swap import swapped
from towers.errors import InputError

PENDING = 2048  # connections that wait for the event loop
IDLE = 5  # seconds after which a connection without a request is closed


def run(
    source: Source,
    store: Store,
    *,
    keys: Keys | None,
    limits: Limits,
    host: str,
    port: int,
    ready: Callable[[str], None],
) -> None:
    """Serve until SIGINT or SIGTERM; SIGHUP reads model, index, catalog and log again, as a swap does.

    Args:
        source: where everything lies.
        store: what people do.
        keys: who may ask; None: whoever reaches the address.
        limits: what is refused.
        host, port: where to listen; port 0: any that is free.
        ready: is told where the service answers.

    Raises:
        InputError: somebody listens there already, or the address is not this machine's.
        TwoTowerError: something cannot be read.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # there is nothing to renew yet, and by default it would end us
    listening = listen(host, port)
    for library in LIBRARIES:
        as_json(library)
    offer = source.load()
    warm(offer)
    shelf = Shelf(offer)
    metrics = Metrics()
    app = create_app(shelf, source, store, keys=keys, limits=limits, metrics=metrics)
    renewal = shelf, source, store, metrics
    signal.signal(signal.SIGHUP, lambda *_: threading.Thread(target=renew, args=renewal).start())
    settings: dict[str, Any] = {"log_config": None, "access_log": False, "server_header": False, "date_header": True}
    config = uvicorn.Config(
        app,
        lifespan="on",
        backlog=PENDING,
        timeout_keep_alive=IDLE,
        timeout_graceful_shutdown=round(limits.seconds + 1),
        proxy_headers=False,
        **settings,
    )
    listening.listen(PENDING)  # who hears that it is ready finds it so
    at = f"[{host}]" if ":" in host else host
    ready(f"{len(offer.catalog):,} items at http://{at}:{listening.getsockname()[1]}; Ctrl-C ends it")
    uvicorn.Server(config).run([listening])


def listen(host: str, port: int) -> socket.socket:
    """A socket, opened before minutes of loading rather than after them."""
    kind = socket.AF_INET6 if ":" in host else socket.AF_INET
    own = socket.socket(kind, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named, or asyncio leaves Nagle's 40 ms on
    own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        own.bind((host, port))
    except (OSError, OverflowError) as error:
        own.close()
        raise InputError(f"cannot listen at {host}, port {port}: {error}; another port is given with --port") from error
    own.set_inheritable(True)
    return own


def renew(shelf: Shelf, source: Source, store: Store, metrics: Metrics) -> None:
    """Swap for somebody on this machine who sent SIGHUP, and who reads the log alone."""
    try:
        swapped(shelf, source, store, metrics, by="SIGHUP")
    except Exception as error:  # whatever it is, questions go on being answered
        log("failed", level=logging.ERROR, error=error)
