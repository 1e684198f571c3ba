"""What went wrong, as an answer: a status, one sentence, and where it helps when to come again."""

from __future__ import annotations

import errno
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from serving.people import UnknownPersonError
from serving.web.limits import BusyError
from towers.errors import ArtefactError, InputError, MediaError, StoreError

AGAIN = 1  # seconds after which a busy service is asked again
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
SHOWN = 5  # faults of one request that are told


def told(status: int, sentence: str, *, again: float | None = None) -> JSONResponse:
    """An answer that says what is wrong.

    Args:
        status: of HTTP.
        sentence: for a person.
        again: seconds after which another try may help.
    """
    headers = {} if again is None else {"Retry-After": str(max(1, round(again + 0.5)))}
    return JSONResponse({"error": sentence}, status, headers)


def not_found(what: str) -> HTTPException:
    """Something that is not there; the sentence tells of nothing else that is."""
    return HTTPException(404, f"there is no such {what}")


def install(app: FastAPI) -> None:
    """Have every error of the application become such an answer."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(StarletteHTTPException, _http)
    app.add_exception_handler(InputError, lambda _, error: told(422, str(error)))
    app.add_exception_handler(MediaError, lambda _, error: told(422, f"the file {error}"))
    app.add_exception_handler(BusyError, lambda _, error: told(503, f"too busy: {error}", again=AGAIN))
    app.add_exception_handler(UnknownPersonError, lambda *_: told(404, "there is no such person"))
    app.add_exception_handler(ArtefactError, _artefact)
    app.add_exception_handler(StoreError, _store)
    app.add_exception_handler(OSError, _system)
    app.add_exception_handler(Exception, lambda *_: told(500, "something went wrong here; the log says more"))


def _http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StarletteHTTPException)
    answer = told(error.status_code, str(error.detail))
    answer.headers.update(error.headers or {})
    return answer


def _invalid(_: Request, error: Exception) -> JSONResponse:
    """Where and what; never what was sent, which may be anything."""
    assert isinstance(error, RequestValidationError)
    faults = [f"{_place(one['loc'])}: {one['msg']}" for one in error.errors()[:SHOWN]]
    return told(422, "; ".join(faults).encode("utf-8", "replace").decode())


def _place(where: tuple[Any, ...]) -> str:
    return ".".join(str(part)[:50] for part in where)


def _store(_: Request, error: Exception) -> JSONResponse:
    """Why, but not where the store lies."""
    if str(error).startswith("the audit log"):  # it was tampered with, which no waiting helps
        return told(409, str(error))
    why = str(error).rpartition(": ")[2]
    still = ", questions are still answered" if "cannot be written" in str(error) else ""
    return told(503, f"the store cannot be used now{still}: {why}", again=5)


def _artefact(_: Request, error: Exception) -> JSONResponse:
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.errno in NO_ROOM:
        return told(503, f"the disk is full: {error}", again=60)
    return told(409, str(error))


def _system(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OSError)
    if error.errno in NO_ROOM:
        return told(503, "the disk is full, so nothing can be written; questions are still answered", again=60)
    raise error
