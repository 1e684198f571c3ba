"""Recommendations, and items like one."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, UploadFile
from fastapi.concurrency import run_in_threadpool
from pydantic import ValidationError

from serving.explanation import CONTENTS, READERS
from serving.recommendations import Recommendations
from serving.web.faults import not_found
from serving.web.gate import allow
from serving.web.keys import Role
from serving.web.limits import refuse_long
from serving.web.newcomers import newcomer
from serving.web.offer import Offer
from serving.web.recommending import Recommending, Wish, never_shown
from serving.web.schemas.newcomers import Said
from serving.web.schemas.questions import About, Alike, Answer, Otherwise, Part, PastPart, Question, Reason, Why
from serving.web.state import Service, State
from towers.errors import InputError

router = APIRouter(prefix="/v1", tags=["questions"], dependencies=[Depends(allow(Role.reader))])


@router.get("/about")
async def about(service: Service) -> About:
    """What there is, and what can be asked."""
    offer = service.shelf.offer
    reads = [*offer.model.item.contents, *(["sentence"] if offer.model.user.text is not None else [])]
    return About(
        version=offer.version,
        items=len(offer.catalog),
        people=0 if offer.log is None else len(offer.retriever.people.ids),
        reads=reads,
        files=list(offer.model.media),
        rating_range=offer.retriever.rating_range if offer.model.rating.fitted else None,
    )


@router.post("/recommend")
async def recommend(question: Question, service: Service) -> Answer:
    """The items that suit somebody best, none that they have met."""
    return await _recommend(question, {}, service)


@router.post("/recommend/media")
async def recommend_by_media(
    service: Service,
    question: Annotated[
        str, Form(description="JSON as for /v1/recommend.", max_length=100_000, examples=['{"user": "u42", "k": 10}'])
    ] = "{}",
    image: Annotated[UploadFile | None, File(description="A picture of what somebody would like.")] = None,
    audio: Annotated[UploadFile | None, File(description="A sound of what somebody would like.")] = None,
) -> Answer:
    """The same by a picture, a sound, or both; beside a user, a history or a text, or alone."""
    try:
        asked = Question.model_validate_json(question)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"question.{'.'.join(map(str, first['loc']))[:100]}: {first['msg']}") from None
    given = {"image": image, "audio": audio}
    media = {name: await file.read() for name, file in given.items() if file is not None}
    if "audio" in media:
        await run_in_threadpool(refuse_long, media["audio"])
    return await _recommend(asked, media, service)


@router.post("/similar")
async def similar(question: Alike, service: Service) -> Answer:
    """The items most like one."""
    _check_k(question.k, service)
    offer = service.shelf.offer
    if offer.row(question.item) < 0:
        raise not_found("item")
    return answer(await service.desk.run(lambda: _similar(question, offer, service)), offer)


@router.post("/explain")
async def explain(question: Why, service: Service) -> Reason:
    """Why an item for somebody: which of the past, which words, what of the item; and what would be otherwise."""
    offer = service.shelf.offer
    if offer.row(question.item) < 0:
        raise not_found("item")
    asked = question.model_dump(include={"user", "history", "text", "words"}, exclude_none=True)
    found = await service.desk.run(lambda: offer.retriever.explain(question.item, **asked))
    return Reason(
        version=offer.version,
        sentence=found.sentence(),
        score=found.score,
        place=found.place,
        confidence=found.confidence,
        parts=[Part(name=READERS[one.name], value=one.value, share=one.share) for one in found.parts],
        contents=[
            Part(name=CONTENTS.get(one.name, one.name), value=one.value, share=one.share) for one in found.contents
        ],
        past=[
            PastPart(item=one.item, title=one.title, value=one.value, share=one.share)
            for one in found.past[: service.limits.k]
        ],
        words=[Part(name=one.word, value=one.value, share=one.share) for one in found.words[: service.limits.k]],
        otherwise=[Otherwise(without=one.title, place=one.place) for one in found.counterfactuals],
        remainder=found.remainder,
    )


def _similar(question: Alike, offer: Offer, service: State) -> Recommendations:
    """What is like an item, but for what nobody is shown."""
    never = never_shown(service.steps, service.store.lists.blocked())
    both, barred = [one for one in (question.where, never.where) if one is not None], set(never.without)
    where, more = {"and": both} if both else None, question.k + len(barred)
    found = offer.retriever.similar(question.item, by=question.by, where=where, k=more)
    shown = tuple(one for one in found.items if str(one.item) not in barred)
    return replace(found, items=shown[: question.k])


async def _recommend(question: Question, media: dict[str, bytes], service: State) -> Answer:
    _check_k(question.k, service)
    offer = service.shelf.offer
    asked = question.model_dump(include={"user", "history", "text", "where", "k"}, exclude_none=True) | media
    if question.answers is not None:
        asked = await _with_answers(asked, question.answers, offer, service)
    many = Recommending(offer, service.steps, service.store.lists)
    return answer(await service.desk.ask(many, Wish(asked, question.diversity, question.novelty)), offer)


async def _with_answers(asked: dict[str, Any], said: list[Said], offer: Offer, service: State) -> dict[str, Any]:
    """The question of somebody new, whom their answers describe."""
    if "history" in asked:
        raise InputError("a history and answers were given, expected one of them: an answer says what they met")
    asks = service.newcomers.questionnaire(offer)
    person = await run_in_threadpool(newcomer, asks, said, asked.get("user"))
    return {name: value for name, value in asked.items() if name != "user"} | {"person": person}


def answer(found: Recommendations, offer: Offer) -> Answer:
    """What a retriever found, as it is sent."""
    told: dict[str, Any] = found.to_json()
    rows = offer.catalog.rows([item["item"] for item in told["items"]])
    for item, row, words in zip(told["items"], rows.tolist(), offer.words(rows), strict=True):
        item |= {kind: offer.has(row, kind) for kind in ("image", "audio")} | {"words": words}
    return Answer.model_validate(told | {"version": offer.version})


def _check_k(k: int, service: State) -> None:
    if k > service.limits.k:
        raise InputError(f"k is at most {service.limits.k} here, got {k}")
