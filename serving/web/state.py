"""`State`: all that a running service has, in one place for its routes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from serving.rerank.contract import Step
from serving.store.store import Store
from serving.web.batching import Desk
from serving.web.limits import Limits
from serving.web.metrics import Metrics
from serving.web.newcomers import Newcomers
from serving.web.offer import Shelf
from serving.web.source import Source


@dataclass
class State:
    """What routes work with.

    Args:
        shelf: model, index and catalog.
        limits: what is refused.
        metrics: what is counted.
        desk: where questions wait.
        store: feedback, lists, reviews and the audit log.
        source: where everything lies on disk.
        steps: how every answer is re-ranked.
        newcomers: what somebody new is asked.
        closing: set while the service ends, so that nobody sends it more.
    """

    shelf: Shelf
    limits: Limits
    metrics: Metrics
    desk: Desk
    store: Store
    source: Source
    steps: tuple[Step, ...]
    newcomers: Newcomers
    closing: bool = field(default=False)


async def _state(request: Request) -> State:
    return request.app.state.twotower


Service = Annotated[State, Depends(_state)]
