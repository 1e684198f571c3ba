"""Whether the service lives, whether it can answer, and what it has counted."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from serving.web.faults import told
from serving.web.gate import allow
from serving.web.keys import Role
from serving.web.state import Service

router = APIRouter(tags=["health"])


@router.get("/healthz", response_class=PlainTextResponse)
async def alive() -> str:
    """The process answers."""
    return "ok"


@router.get("/readyz", response_class=PlainTextResponse)
async def ready(service: Service) -> Response:
    """It takes questions: not while it ends, while more wait than can be answered in time, or without its store."""
    if service.closing:
        return told(503, "the service is ending", again=1)
    if why := service.desk.full:
        return told(503, why, again=1)
    await run_in_threadpool(service.store.lists.blocked)  # what every question begins with
    return PlainTextResponse("ready")


@router.get("/metrics", dependencies=[Depends(allow(Role.reader))], response_class=PlainTextResponse)
async def metrics(service: Service) -> Response:
    """What Prometheus reads."""
    service.metrics.waiting.set(service.desk.waiting)
    service.metrics.items.set(len(service.shelf.offer.catalog))
    return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)
