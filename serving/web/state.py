"""`State`: all that a running service has, in one place for its routes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from serving.web.batching import Desk
from serving.web.limits import Limits
from serving.web.metrics import Metrics
from serving.web.offer import Shelf


@dataclass
class State:
    """What routes work with.

    Args:
        shelf: model, index and catalog.
        limits: what is refused.
        metrics: what is counted.
        desk: where questions wait.
        closing: set while the service ends, so that nobody sends it more.
    """

    shelf: Shelf
    limits: Limits
    metrics: Metrics
    desk: Desk
    closing: bool = field(default=False)


def _state(request: Request) -> State:
    return request.app.state.twotower


Service = Annotated[State, Depends(_state)]
