"""`Metrics`: what the service counts, in the form that Prometheus reads."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters of one service; no label holds an id of a person or an item.

    Attributes:
        requests: answered requests, by route and status.
        seconds: how long they took, by route.
        batch: questions that were computed together.
        refused: requests that got no answer, by reason: queue, time, rate, body.
        waiting: questions in the queue.
        swaps: how often model and index were exchanged, by outcome.
        events: feedback that was taken, by kind; what is sent again counts again.
        items: items that can be recommended.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=True)
        of: dict[str, Any] = {"registry": self._registry, "namespace": "twotower"}
        self.requests = Counter("requests", "Requests answered.", ["route", "status"], **of)
        self.seconds = Histogram("request_seconds", "Seconds to an answer.", ["route"], buckets=SECONDS, **of)
        self.batch = Histogram("batch_questions", "Questions computed together.", buckets=SIZES, **of)
        self.refused = Counter("refused", "Requests refused, by reason.", ["reason"], **of)
        self.waiting = Gauge("waiting", "Questions that wait.", **of)
        self.swaps = Counter("swaps", "Exchanges of model and index, by outcome.", ["outcome"], **of)
        self.events = Counter("events", "Feedback taken, by kind, what was sent again included.", ["kind"], **of)
        self.items = Gauge("items", "Items that can be recommended.", **of)

    def text(self) -> bytes:
        """All of it, for a scraper."""
        return generate_latest(self._registry)
