"""The page, and the two files that it needs."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

from serving.web.faults import not_found

router = APIRouter(include_in_schema=False)

FOLDER = Path(__file__).parents[1] / "page"
FILES = {"page.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8"}


@router.get("/")
async def page() -> FileResponse:
    """The page itself."""
    return FileResponse(FOLDER / "index.html", media_type="text/html; charset=utf-8")


@router.get("/page/{name}")
async def file(name: str) -> FileResponse:
    """Its style or its script; there are no others."""
    if name not in FILES:
        raise not_found("file")
    return FileResponse(FOLDER / name, media_type=FILES[name])
