"""Logs: one JSON object a line on standard error, without anything a person is or said."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

NAME = "twotower.web"
LIBRARIES = ("uvicorn", "asyncio")  # of which a running service writes the warnings
FACTS = "facts"


class JsonLines(logging.Formatter):
    """A record as one line of JSON: time, level, event, and the facts given with `log`.

    Of an exception only its type and where it was raised are told: its text may hold what a person sent.
    """

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage().partition("\n")[0],  # what libraries put on further lines may be anything
            **getattr(record, FACTS, {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            told |= _raised(record.exc_info[1])
        return json.dumps(told, ensure_ascii=False)


def logger() -> logging.Logger:
    """The service's own logger, which writes to standard error."""
    own = as_json(NAME)
    own.setLevel(logging.INFO)
    return own


def as_json(name: str) -> logging.Logger:
    """A logger, such as a library's, that writes JSON lines to standard error."""
    found = logging.getLogger(name)
    if not found.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonLines())
        found.addHandler(handler)
        found.propagate = False
    return found


def log(event: str, *, level: int = logging.INFO, error: BaseException | None = None, **facts: Any) -> None:
    """Write a line; `facts` must hold no id of a person, no text and no item that somebody asked for."""
    logger().log(level, event, extra={FACTS: facts}, exc_info=error)


def _raised(error: BaseException) -> dict[str, str]:
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    at = f"{last.tb_frame.f_code.co_filename}:{last.tb_lineno}" if last is not None else ""
    return {"error": type(error).__name__, "at": at}
