"""`swapped`: model, index, catalog and log exchanged for what lies on disk, counted, logged and in the audit log."""

from __future__ import annotations

import logging

from serving.store.store import Store
from serving.web.logs import log
from serving.web.metrics import Metrics
from serving.web.offer import Shelf
from serving.web.source import Source


def swapped(shelf: Shelf, source: Source, store: Store, metrics: Metrics, *, by: str) -> str:
    """Put what lies on disk in the current offer's place; its version.

    Args:
        shelf: where the offer stands.
        source: where the new one is read from.
        store: whose audit log tells of it.
        metrics: where it is counted.
        by: who wants it.

    Raises:
        TwoTowerError: it cannot be read or does not fit together; the old one stays.
        BusyError: others wait for their turn already.
    """
    before = shelf.offer.version
    try:
        after = shelf.exchange(lambda _: source.load()).version
    except Exception as error:
        metrics.swaps.labels("refused").inc()
        log("swap refused", level=logging.WARNING, error=error, version=before)
        raise
    metrics.swaps.labels("done").inc()
    log("swapped", before=before, after=after)
    store.audit.note(by, "swap", before=before, after=after)
    return after
