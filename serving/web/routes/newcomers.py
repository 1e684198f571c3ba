"""What to ask somebody new."""

from __future__ import annotations

import numpy as np
from fastapi import APIRouter, Depends

from indexing.filters import Filter
from serving.questionnaire import Questionnaire
from serving.web.gate import allow
from serving.web.keys import Role
from serving.web.newcomers import answers_of
from serving.web.offer import Offer
from serving.web.recommending import never_shown
from serving.web.schemas.newcomers import Answered, AskedAbout, NextQuestion
from serving.web.state import Service, State

router = APIRouter(prefix="/v1", tags=["questions"], dependencies=[Depends(allow(Role.reader))])


@router.post("/questionnaire")
async def questionnaire(answered: Answered, service: Service) -> NextQuestion:
    """What to ask somebody new about, after what they said; /v1/recommend takes the same answers."""
    offer = service.shelf.offer
    asks = service.newcomers.questionnaire(offer)
    return await service.desk.run(lambda: _next(asks, answered, offer, service))


def _next(asks: Questionnaire, answered: Answered, offer: Offer, service: State) -> NextQuestion:
    """The item to ask about, which is none that nobody is shown."""
    never = never_shown(service.steps, service.store.lists.blocked())
    without = [*never.without]
    if never.where is not None:
        passing = Filter.read(never.where).passing(offer.catalog.table)
        without += [str(item) for item in asks.askable if item is not None and not passing[offer.row(item)]]
    item = asks.next(answers_of(answered.answers), without=without)
    if item is None:
        return NextQuestion(version=offer.version, about=None)
    row = offer.row(item)
    (words,) = offer.words(np.array([row]))
    return NextQuestion(
        version=offer.version,
        about=AskedAbout(
            item=item,
            title=offer.catalog.titles[row],
            words=words,
            image=offer.has(row, "image"),
            audio=offer.has(row, "audio"),
        ),
    )
