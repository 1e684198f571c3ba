"""What people say to recommendations, and who they are."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Depends

from serving.store.event import LATEST, REFUSALS, Event
from serving.web.gate import Caller, allow
from serving.web.keys import Role
from serving.web.schemas.feedback import Erasure, Feedback, Given, Kept, Past, PastEvent, PersonFound, Search, Somebody
from serving.web.state import Service
from towers.errors import InputError

AHEAD = 86_400  # seconds that a clock may be fast

router = APIRouter(prefix="/v1", tags=["people"])
Who = Annotated[Caller, Depends(allow(Role.admin))]


@router.post("/feedback", dependencies=[Depends(allow(Role.writer))])
def feedback(told: Feedback, service: Service) -> Kept:
    """Keep what somebody did. When this is answered it is on disk; sent again with the same ids, it is kept once."""
    offer, now = service.shelf.offer, time.time()
    for one in told.events:
        if offer.row(one.item) < 0:
            raise InputError(f"there is no item {str(one.item)[:50]!r}, so nothing of this was kept")
        if one.time is not None and one.time > min(now + AHEAD, LATEST):
            raise InputError("an event lies in the future, so nothing of this was kept")
        low, high = offer.retriever.stars
        if one.kind == "rating" and one.value is not None and not low <= one.value <= high:
            raise InputError(f"ratings here are {low:g} to {high:g}, got {one.value:g}; nothing of this was kept")
    events = [
        Event(
            one.id,
            one.user,
            one.item,
            one.kind,
            now if one.time is None else one.time,
            one.value,
            one.probability,
        )
        for one in told.events
    ]
    new = service.store.record(events)
    for event in events:
        service.metrics.events.labels(event.kind).inc()
    return Kept(kept=len(events), new=new)


@router.post("/people/search", dependencies=[Depends(allow(Role.admin))])
def search(asked: Search, service: Service) -> list[PersonFound]:
    """People of the log whose id has these letters."""
    offer = service.shelf.offer
    if offer.log is None:
        return []
    people = offer.retriever.people
    wanted, found = asked.search.casefold(), []
    for row, user in enumerate(people.ids.array.to_pylist()):
        if wanted in str(user).casefold():
            found.append(PersonFound(user=user, events=int(people.positives.lengths[row])))
            if len(found) == asked.limit:
                break
    return found


@router.post("/people/history", dependencies=[Depends(allow(Role.admin))])
def history(asked: Somebody, service: Service) -> Past:
    """What speaks for somebody, and what they refused, the newest first."""
    offer = service.shelf.offer
    person = offer.retriever.people.person(asked.user)
    low, high = offer.retriever.stars
    events: list[tuple[float, int, str, float | None]] = []
    for place, row in enumerate(person.history.items.tolist()):
        rating, times = float(person.history.ratings[place]), person.history.times
        stars = None if rating != rating else low + rating * (high - low)
        kind = "click" if stars is None else "rating"
        events.append((0.0 if times is None else float(times[place]), row, kind, stars))
    for one in service.store.history(asked.user):
        if one.kind in REFUSALS and (at := offer.row(one.item)) >= 0:
            events.append((one.time, at, one.kind, None))
    events.sort(key=lambda event: event[0])
    newest = [
        PastEvent(
            item=offer.catalog.ids[row],
            title=offer.catalog.titles[row],
            image=offer.has(row, "image"),
            audio=offer.has(row, "audio"),
            time=when,
            kind=kind,
            rating=stars,
        )
        for when, row, kind, stars in events[::-1][: asked.limit]
        if row < len(offer.catalog)
    ]
    return Past(user=asked.user, events=newest)


@router.post("/people/export")
def export(asked: Somebody, service: Service, who: Who) -> Given:
    """Everything that somebody gave to this service."""
    found = service.store.export(asked.user)
    service.store.audit.note(who.id, "export", person=asked.user)
    return Given.model_validate(found)


@router.post("/people/erase")
def erase(asked: Somebody, service: Service, who: Who) -> Erasure:
    """Erase everything that somebody gave to this service. What the log's file has of them is not touched.

    What was read of people and kept in memory goes, too, of all of them.
    """
    gone = service.store.erase(asked.user, by=who.id)
    service.shelf.offer.retriever.forget()
    return Erasure(events=gone.events, reviews=gone.reviews, entry=gone.entry)
