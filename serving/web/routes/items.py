"""Items: found by title, seen and heard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from serving.web.faults import not_found
from serving.web.gate import allow
from serving.web.keys import Role
from serving.web.offer import Offer
from serving.web.state import Service

router = APIRouter(prefix="/v1", tags=["items"], dependencies=[Depends(allow(Role.reader))])

ItemId = Annotated[str, Query(min_length=1, max_length=200, description="An item's id.", examples=["i17"])]
BEGINS = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"GIF8": "image/gif",
    b"BM": "image/bmp",
    b"fLaC": "audio/flac",
    b"OggS": "audio/ogg",
    b"ID3": "audio/mpeg",
    b"\xff\xfb": "audio/mpeg",
}
INSIDE_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}


class Item(BaseModel):
    """An item and all that its row says, but for pictures, sounds and vectors."""

    item: str | int
    title: str
    image: bool
    audio: bool
    attributes: dict[str, Any] = Field(default_factory=dict)


@router.get("/items")
async def search(
    service: Service,
    search: Annotated[str, Query(max_length=200, description="A part of the title.", examples=["piano"])] = "",
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> list[Item]:
    """Items whose title has these letters, in the order of the catalog."""
    offer, wanted = service.shelf.offer, search.casefold()
    rows = (row for row, title in enumerate(offer.catalog.titles) if wanted in title.casefold())
    return [item_at(offer, row) for row, _ in zip(rows, range(limit), strict=False)]


@router.get("/item")
async def one(service: Service, item: ItemId) -> Item:
    """One item."""
    offer = service.shelf.offer
    if (row := offer.row(item)) < 0:
        raise not_found("item")
    return item_at(offer, row)


@router.get("/media", response_class=Response, responses={200: {"content": {"image/*": {}, "audio/*": {}}}})
def media(service: Service, item: ItemId, kind: Annotated[Literal["image", "audio"], Query()]) -> Response:
    """The picture or the sound of an item. Only files that the catalog names can be had, and only by an item's id."""
    offer = service.shelf.offer
    row = offer.row(item)
    found = offer.media(row, kind) if row >= 0 else None
    if found is None or isinstance(found, Path) and not found.is_file():
        raise not_found(kind)
    with_type = _type(found if isinstance(found, bytes) else found.open("rb").read(16))
    if not with_type.startswith(kind):
        raise not_found(kind)
    headers = {"Cache-Control": "private, max-age=300"}
    if isinstance(found, bytes):
        return Response(found, media_type=with_type, headers=headers)
    return FileResponse(found, media_type=with_type, headers=headers)


def item_at(offer: Offer, row: int) -> Item:
    """The item of a row."""
    return Item(
        item=offer.catalog.ids[row],
        title=offer.catalog.titles[row],
        image=offer.has(row, "image"),
        audio=offer.has(row, "audio"),
        attributes=offer.attributes(row),
    )


def _type(content: bytes) -> str:
    """What a browser is told; "" for what is none of the kinds that are shown, such as a page of HTML."""
    if content[:4] == b"RIFF":
        return INSIDE_RIFF.get(content[8:12], "")
    return next((kind for begin, kind in BEGINS.items() if content.startswith(begin)), "")
