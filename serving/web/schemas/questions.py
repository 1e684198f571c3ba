"""Questions and their answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints, field_validator

from serving.web.schemas.body import VERSION, Body, Id, example
from serving.web.schemas.newcomers import Answers

LONGEST_HISTORY, LONGEST_TEXT, DEEPEST, MOST_CONDITIONS = 500, 2000, 8, 100

K = Annotated[int, Field(strict=True, ge=1, le=10_000, description="How many; the service may allow fewer.")]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
By = Literal["text", "image", "audio"]


class Filtered(Body):
    """A question that may be about some of the items only."""

    where: dict[str, Any] | None = Field(
        None,
        description="What must hold of the items' attributes.",
        examples=[{"genre": "Comedy", "year": {">=": 1990}}],
    )
    k: K = 10

    @field_validator("where")
    @classmethod
    def _is_small(cls, where: dict[str, Any] | None) -> dict[str, Any] | None:
        """A filter is read by functions that call themselves, so it may not be as deep as JSON can be."""
        if where is not None and _count(where, DEEPEST) > MOST_CONDITIONS:
            raise ValueError(f"a filter has at most {MOST_CONDITIONS} values, {DEEPEST} deep")
        return where


class Question(Filtered):
    """Who asks, or what for: a user, a history, answers, a text, or a text beside one of these."""

    model_config = example(
        {"user": "u42", "k": 10},
        {"history": ["i17", "i3"], "diversity": 0.5},
        {"text": "quiet piano for a rainy evening", "k": 5},
        {"answers": [{"item": "i17", "answer": "like"}], "k": 10},
    )

    user: Id | None = Field(None, description="Somebody in the log, or of whom there is feedback.")
    history: list[Id] | None = Field(
        None, max_length=LONGEST_HISTORY, description="Items that somebody met, oldest first."
    )
    answers: Answers | None = Field(
        None, description="What somebody new said to /v1/questionnaire; alone, or with the id of their session as user."
    )
    text: Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_TEXT)] | None = Field(
        None, description="What somebody would like, in words."
    )
    diversity: Share = Field(0.0, description="0: the best items; 1: items that differ as much as they can.")
    novelty: Share = Field(0.0, description="0: as popular as they come; 1: items that few have met.")


class Alike(Filtered):
    """An item, and what of it counts."""

    model_config = example({"item": "i17", "k": 5})

    item: Id
    by: By | None = Field(None, description="Only this kind of content; default: all that the item is.")


class Found(BaseModel):
    """One item of an answer."""

    rank: int
    item: str | int
    title: str
    score: float = Field(description="What the list is sorted by.")
    retrieval: float = Field(description="Cosine of query and item, and what popularity and words add.")
    rating: float | None = Field(description="Predicted rating, where the model has learned any.")
    interest: int | None = Field(None, description="Which of several interests it is nearest to.")
    places: list[int] = Field([], description="Where it stood after retrieval, and after each step of re-ranking.")
    probability: float | None = Field(None, description="With which it stands there, where a step drew lots.")
    words: str = Field("", description="What the item's text says.")
    image: bool = Field(description="Whether there is a picture to see.")
    audio: bool = Field(description="Whether there is a sound to hear.")


class Answer(BaseModel):
    """Items in their order, best first."""

    model_config = example(
        {
            "query": "user u42, known by 17 items",
            "version": VERSION,
            "reranked": True,
            "steps": ["rating"],
            "unknown": [],
            "items": [
                {
                    "rank": 1,
                    "item": "i17",
                    "title": "Quiet piano",
                    "score": 14.21,
                    "retrieval": 0.61,
                    "rating": 4.3,
                    "places": [3, 1],
                    "words": "Solo piano for a rainy evening",
                    "image": True,
                    "audio": False,
                }
            ],
        }
    )

    query: str = Field(description="Who or what was asked for, in words.")
    version: str = Field(description="Which model and index answered; the same for the whole answer.")
    reranked: bool = Field(description="Whether predicted ratings had a say.")
    steps: list[str] = Field([], description="What re-ranked it, in this order.")
    unknown: list[str | int] = Field(description="Items of the history that were set aside.")
    items: list[Found]


class About(BaseModel):
    """What there is, and what can be asked."""

    model_config = example(
        {
            "version": VERSION,
            "items": 5000,
            "people": 1200,
            "reads": ["text", "image", "sentence"],
            "files": ["image"],
            "rating_range": [1, 5],
        }
    )

    version: str
    items: int
    people: int = Field(description="In the log.")
    reads: list[str] = Field(description='Of items: text, image, audio; "sentence" where people may use words.')
    files: list[str] = Field(description="What /v1/recommend/media takes: image, audio.")
    rating_range: tuple[float, float] | None = Field(description="Least and highest rating, where there are any.")


class Why(Body):
    """An item, and who asks as for recommendations."""

    model_config = example({"item": "i17", "user": "u42"})

    item: Id
    user: Id | None = None
    history: list[Id] | None = Field(None, max_length=LONGEST_HISTORY)
    text: Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_TEXT)] | None = None
    words: bool = Field(False, description="Whether to tell what each word adds; takes several times as long.")


class Part(BaseModel):
    """Something that speaks for an item, or against it."""

    name: str
    value: float = Field(description="What it adds to the score.")
    share: float = Field(description="Of all of its kind, in [-1, 1].")


class PastPart(BaseModel):
    """What an item of the past adds."""

    item: str | int | None
    title: str
    value: float
    share: float


class Otherwise(BaseModel):
    """What would be without one item of the past."""

    without: str
    place: int | None = Field(description="Of the explained item; null: far down.")


class Reason(BaseModel):
    """Why an item; parts add up to the score."""

    model_config = example(
        {
            "version": VERSION,
            "sentence": "Quiet piano: mostly because of Evening rain; near by what is written about it (100%).",
            "score": 0.61,
            "place": 1,
            "confidence": 0.8,
            "parts": [{"name": "past items", "value": 0.6, "share": 1}],
            "contents": [{"name": "what is written about it", "value": 0.6, "share": 1}],
            "past": [{"item": "i3", "title": "Evening rain", "value": 0.6, "share": 1}],
            "words": [],
            "otherwise": [{"without": "Evening rain", "place": 9}],
            "remainder": 0.01,
        }
    )

    version: str
    sentence: str
    score: float
    place: int | None
    confidence: float
    parts: list[Part]
    contents: list[Part]
    past: list[PastPart]
    words: list[Part]
    otherwise: list[Otherwise]
    remainder: float


def _count(value: Any, depth: int) -> int:
    """Values in a filter; too many where it is too deep."""
    if isinstance(value, dict | list):
        inside = value.values() if isinstance(value, dict) else value
        return MOST_CONDITIONS + 1 if not depth else 1 + sum(_count(one, depth - 1) for one in inside)
    return 1
