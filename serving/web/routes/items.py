"""Items: found by title, seen and heard; they come, change and go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, File, Form, Query, Response, UploadFile
from fastapi.responses import FileResponse
from pydantic import TypeAdapter, ValidationError

from indexing.build import is_attribute
from serving.web.changes import refuse_media, refuse_no_json
from serving.web.faults import not_found
from serving.web.gate import Caller, allow
from serving.web.keys import Role
from serving.web.limits import refuse_long
from serving.web.offer import Offer
from serving.web.schemas.body import Id as SentId
from serving.web.schemas.body import Version
from serving.web.schemas.items import Ids, Item, Rows
from serving.web.state import Service, State
from towers.catalog import ITEM_ID, MEDIA
from towers.errors import InputError
from towers.ids import Id

router = APIRouter(prefix="/v1", tags=["items"])
ID: TypeAdapter[Id] = TypeAdapter(SentId)
READER = [Depends(allow(Role.reader))]
Who = Annotated[Caller, Depends(allow(Role.writer))]

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


@router.get("/items", dependencies=READER)
def search(
    service: Service,
    search: Annotated[str, Query(max_length=200, description="A part of the title.", examples=["piano"])] = "",
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> list[Item]:
    """Items whose title has these letters, in the order of the catalog."""
    offer, wanted = service.shelf.offer, search.casefold()
    rows = (row for row, title in enumerate(offer.catalog.titles) if wanted in title.casefold())
    return [item_at(offer, row) for _, row in zip(range(limit), rows, strict=False)]


@router.get("/item", dependencies=READER)
async def one(service: Service, item: ItemId) -> Item:
    """One item."""
    offer = service.shelf.offer
    if (row := offer.row(item)) < 0:
        raise not_found("item")
    return item_at(offer, row)


@router.get(
    "/media",
    dependencies=READER,
    response_class=Response,
    responses={200: {"content": {"image/*": {}, "audio/*": {}}}},
)
def media(service: Service, item: ItemId, kind: Annotated[Literal["image", "audio"], Query()]) -> Response:
    """The picture or the sound of an item. Only files that the catalog names can be had, and only by an item's id."""
    offer = service.shelf.offer
    row = offer.row(item)
    found = offer.media(row, kind) if row >= 0 else None
    if found is None or (isinstance(found, Path) and not found.is_file()):
        raise not_found(kind)
    with_type = _type(_beginning(found))
    if not with_type.startswith(kind):
        raise not_found(kind)
    headers = {"Cache-Control": "private, max-age=300"}
    if isinstance(found, bytes):
        return Response(found, media_type=with_type, headers=headers)
    return FileResponse(found, media_type=with_type, headers=headers)


@router.put("/items")
def put(asked: Rows, service: Service, who: Who) -> Version:
    """Add items, or change those that are there: a row replaces the one before, its picture and its sound remain."""
    offer = service.shelf.offer
    refuse_media(asked.items, [name for kind in MEDIA if (name := offer.column(kind)) is not None])
    items = [one.get(ITEM_ID) for one in asked.items]
    return _changed(service, who, "put", items, lambda now: service.source.put(now, _whole(now, asked.items)))


@router.post("/items/remove")
def remove(asked: Ids, service: Service, who: Who) -> Version:
    """Have items found no more. Those who met them keep them in their histories."""
    if any(service.shelf.offer.row(item) < 0 for item in asked.items):
        raise not_found("item")
    items = asked.items
    return _changed(service, who, "remove", items, lambda now: service.source.remove(now, _own(now, items)))


@router.post("/items/media")
def put_media(
    service: Service,
    who: Who,
    item: Annotated[str, Form(min_length=1, max_length=200, examples=["i17"])],
    image: Annotated[UploadFile | None, File()] = None,
    audio: Annotated[UploadFile | None, File()] = None,
) -> Version:
    """Give an item a picture, a sound, or both, in the place of those that it had."""
    given = {kind: file.file.read() for kind, file in (("image", image), ("audio", audio)) if file is not None}
    if not given:
        raise InputError("neither a picture nor a sound came with this")
    offer = service.shelf.offer
    if offer.row(item) < 0:
        raise not_found("item")
    if "audio" in given:
        refuse_long(given["audio"])
    for kind, content in given.items():
        if not _type(content[:16]).startswith(kind):
            raise InputError(f"the file given as {kind} is none of the kinds that are shown")
        if kind in offer.model.media:
            offer.model.encode_media({kind: content})  # what it cannot read is refused before anything is kept

    def with_media(now: Offer) -> Offer:
        row: dict[str, Any] = {ITEM_ID: _own(now, [item])[0]}
        for kind, content in given.items():
            if (column := now.column(kind)) is None:
                raise InputError(f"the catalog has no column for {kind}")
            as_bytes = str(now.catalog.table.schema.field(column).type) == "large_binary"
            row[column] = content if as_bytes else service.source.changes.keep(content)
        return service.source.put(now, [row])

    return _changed(service, who, "put-media", [item], with_media)


def _changed(
    service: State, who: Caller, action: str, items: Sequence[Any], change: Callable[[Offer], Offer]
) -> Version:
    """Exchange the offer for a changed one, and have the audit log tell of it."""
    version = service.shelf.exchange(change).version
    service.store.audit.note(who.id, action, items=list(items), version=version)
    return Version(version=version)


def _own(offer: Offer, items: Sequence[Id]) -> list[Id]:
    """Ids as the catalog writes them; one may have gone since the request was looked at."""
    rows = [offer.row(item) for item in items]
    if min(rows) < 0:
        raise not_found("item")
    return [offer.catalog.ids[row] for row in rows]


def _whole(offer: Offer, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows that say something of every attribute, if only that there is none; ids as the catalog writes them."""
    nothing = {field.name: None for field in offer.catalog.table.schema if is_attribute(field)}
    whole = []
    for one in rows:
        try:
            item = ID.validate_python(one.get(ITEM_ID))
        except ValidationError:  # nobody could ask for it, or remove it
            raise InputError(f"every item needs an {ITEM_ID}: 1 to 200 characters, or a whole number") from None
        refuse_no_json(one)
        at = offer.row(item)
        whole.append(nothing | one | {ITEM_ID: item if at < 0 else offer.catalog.ids[at]})
    return whole


def item_at(offer: Offer, row: int) -> Item:
    """The item of a row."""
    return Item(
        item=offer.catalog.ids[row],
        title=offer.catalog.titles[row],
        image=offer.has(row, "image"),
        audio=offer.has(row, "audio"),
        attributes=offer.attributes(row),
    )


def _beginning(found: Path | bytes) -> bytes:
    if isinstance(found, bytes):
        return found
    with found.open("rb") as file:
        return file.read(16)


def _type(content: bytes) -> str:
    """What a browser is told; "" for what is none of the kinds that are shown, such as a page of HTML."""
    if content[:4] == b"RIFF":
        return INSIDE_RIFF.get(content[8:12], "")
    return next((kind for begin, kind in BEGINS.items() if content.startswith(begin)), "")
