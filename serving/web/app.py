"""`create_app`: the service as an ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.types import ASGIApp

from serving.rerank.recipe import read_steps
from serving.store.store import Store
from serving.web import faults
from serving.web.batching import Desk
from serving.web.gate import Gate
from serving.web.keys import Keys
from serving.web.limits import Limits
from serving.web.logs import log
from serving.web.metrics import Metrics
from serving.web.newcomers import Newcomers
from serving.web.offer import Shelf
from serving.web.parameters import refuse_unknown
from serving.web.routes import admin, feedback, health, items, newcomers, page, questions
from serving.web.schemas.body import Fault
from serving.web.source import Source
from serving.web.state import State

FAULTS = {
    401: {"model": Fault, "description": "No key, or not one that is known."},
    403: {"model": Fault, "description": "The key's role does not allow it."},
    404: {"model": Fault, "description": "There is no such item, person, file or path."},
    408: {"model": Fault, "description": "The request came too slowly."},
    409: {"model": Fault, "description": "What lies on disk does not fit together, or somebody else is writing it."},
    413: {"model": Fault, "description": "The body is too large."},
    421: {"model": Fault, "description": "Without keys the service answers to the name of its own machine alone."},
    422: {"model": Fault, "description": "What was sent cannot be used; the sentence says why."},
    429: {"model": Fault, "description": "Too many requests with this key; Retry-After says when again."},
    503: {"model": Fault, "description": "Too busy, or not able to now; Retry-After says when again."},
}


def create_app(
    shelf: Shelf,
    source: Source,
    store: Store,
    *,
    keys: Keys | None = None,
    limits: Limits | None = None,
    metrics: Metrics | None = None,
) -> ASGIApp:
    """The service over a shelf of model, index and catalog.

    Args:
        shelf: what questions are answered from.
        source: where that is read from again.
        store: what people do, and lists of people in charge; closed when the service ends.
        keys: who may ask; None: whoever reaches the address, which should then be this machine's own.
        limits: what is refused.
        metrics: where it counts, for whoever counts with it.
    """
    limits, metrics = limits or Limits(), metrics or Metrics()
    steps = read_steps(source.settings.get("steps"))
    state = State(shelf, limits, metrics, Desk(limits, metrics), store, source, steps, Newcomers())

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        state.desk.open()
        log("started", version=shelf.offer.version)
        yield
        state.closing = True
        await state.desk.close()
        state.newcomers.close()
        store.close()
        log("stopped")

    app = FastAPI(title="twotower", version="1", lifespan=life, docs_url=None, redoc_url=None, responses=FAULTS)  # type: ignore[arg-type]
    app.state.twotower = state
    faults.install(app)
    bearer = Depends(HTTPBearer(auto_error=False))  # for OpenAPI alone: the gate looks at keys before anything is read
    for router in (questions.router, newcomers.router, feedback.router, items.router, admin.router, admin.asking):
        app.include_router(router, dependencies=[bearer, Depends(refuse_unknown)])
    app.include_router(health.router)
    app.include_router(page.router)
    routes = (*questions.router.routes, *newcomers.router.routes)
    asked = frozenset(one.path for one in routes if isinstance(one, APIRoute) and "POST" in (one.methods or ()))
    return Gate(app, keys=keys, limits=limits, metrics=metrics, desk=state.desk, asked=asked)
