"""People in charge: lists, reviews, the audit log, and the exchange of model and index."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query

from serving.store.audit import Head
from serving.web.gate import Caller, allow
from serving.web.keys import Role
from serving.web.schemas.admin import Asked, Changed, Decided, EntryTold, Listed, Lists, Reviewed, ReviewTold, Sealed
from serving.web.schemas.body import Version
from serving.web.state import Service
from serving.web.swap import swapped
from towers.errors import InputError

router = APIRouter(prefix="/v1/admin", tags=["admin"], dependencies=[Depends(allow(Role.admin))])
asking = APIRouter(prefix="/v1", tags=["admin"], dependencies=[Depends(allow(Role.writer))])
Who = Annotated[Caller, Depends(allow(Role.admin))]


@router.get("/lists")
def lists(service: Service) -> Lists:
    """What nobody is shown, and what everybody is shown first."""
    return Lists(blocked=service.store.lists.blocked(), pinned=service.store.lists.pinned())


@router.post("/lists/{list}/{change}")
def change(
    list: Literal["block", "pin"], change: Literal["add", "remove"], asked: Listed, service: Service, who: Who
) -> Changed:
    """Put an item on a list, or take it off; from the next question on. The audit log tells who and why."""
    if change == "add" and service.shelf.offer.row(asked.item) < 0:
        raise InputError(f"there is no item {str(asked.item)[:50]!r} to {list}")
    lists = service.store.lists
    act = {
        ("block", "add"): lists.block,
        ("block", "remove"): lists.unblock,
        ("pin", "add"): lists.pin,
        ("pin", "remove"): lists.unpin,
    }[list, change]
    return Changed(changed=act(asked.item, by=who.id, reason=asked.reason))


@router.get("/reviews")
def reviews(service: Service) -> list[ReviewTold]:
    """Items that wait for somebody to look at them, oldest first."""
    return [ReviewTold.model_validate(one._asdict()) for one in service.store.reviews.waiting()]


@router.post("/reviews/decide")
def decide(asked: Decided, service: Service, who: Who) -> Changed:
    """Keep an item that waits, or block it."""
    service.store.reviews.decide(asked.number, asked.decision, by=who.id)
    return Changed(changed=True)


@asking.post("/reviews")
def ask(asked: Asked, service: Service) -> Reviewed:
    """Have somebody in charge look at an item."""
    if service.shelf.offer.row(asked.item) < 0:
        raise InputError(f"there is no item {str(asked.item)[:50]!r} to look at")
    return Reviewed(number=service.store.reviews.ask(asked.item, reason=asked.reason, person=asked.user))


@router.get("/audit")
def audit(
    service: Service,
    since: Annotated[int, Query(ge=0, lt=2**62)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[EntryTold]:
    """Entries of the audit log after one, oldest first."""
    return [EntryTold.model_validate(one._asdict()) for one in service.store.audit.entries(since, limit)]


@router.post("/audit/verify")
def verify(service: Service, known: Sealed | None = None) -> Sealed:
    """Read the whole audit log and check its chain. Keep what comes: sent later, it tells whether it was shortened."""
    head = service.store.audit.verify(None if known is None else Head(known.number, known.hash))
    return Sealed(number=head.number, hash=head.hash)


@router.post("/swap")
def swap(service: Service, who: Who) -> Version:
    """Read model, index, catalog and log again from where they lie, and answer from them; no request fails."""
    return Version(version=swapped(service.shelf, service.source, service.store, service.metrics, by=who.id))
