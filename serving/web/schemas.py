"""What is asked and answered, as OpenAPI tells it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

LONGEST_HISTORY, LONGEST_TEXT, DEEPEST, MOST_CONDITIONS, MOST_EVENTS, MOST_ITEMS = 500, 2000, 8, 100, 100, 100
MOST_ANSWERS = 100
VERSION = "9f86d081-v12-0"  # of examples

Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
Id = Name | Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)]
K = Annotated[int, Field(strict=True, ge=1, le=10_000, description="How many; the service may allow fewer.")]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
By = Literal["text", "image", "audio"]


def example(*examples: dict[str, Any]) -> ConfigDict:
    """Has OpenAPI show what such a body or answer looks like; what is None there, it leaves out."""
    return ConfigDict(json_schema_extra={"examples": [*examples]})


class Body(BaseModel):
    """What is sent must have the fields that there are, and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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


class Said(Body):
    """What somebody new says to an item that they were asked about."""

    item: Id
    answer: Literal["like", "dislike", "unknown"]


def _each_once(answers: list[Said] | None) -> list[Said] | None:
    """The same item is answered once; text that writes a number is that number's id."""
    seen: set[str] = set()
    for one in answers or []:
        if str(one.item) in seen:
            raise ValueError("an item is answered twice")
        seen.add(str(one.item))
    return answers


Answers = Annotated[list[Said], Field(max_length=MOST_ANSWERS), AfterValidator(_each_once)]


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


class Answered(Body):
    """What somebody new has said so far, in any order."""

    model_config = example(
        {"answers": []}, {"answers": [{"item": "i17", "answer": "like"}, {"item": "i3", "answer": "unknown"}]}
    )

    answers: Answers = []


class AskedAbout(BaseModel):
    """An item that somebody new is asked about."""

    item: str | int
    title: str
    words: str = Field(description="What the item's text says.")
    image: bool = Field(description="Whether there is a picture to see.")
    audio: bool = Field(description="Whether there is a sound to hear.")


class NextQuestion(BaseModel):
    """What to ask about now: the item whose answer is expected to tell most."""

    model_config = example(
        {
            "version": VERSION,
            "about": {"item": "i17", "title": "Quiet piano", "words": "Solo piano", "image": True, "audio": False},
        }
    )

    version: str
    about: AskedAbout | None = Field(description="null: there is nothing more to ask.")


class About(BaseModel):
    """What there is, and what can be asked."""

    model_config = example(
        {
            "version": VERSION,
            "items": 5000,
            "people": 1200,
            "reads": ["text", "image", "sentence"],
            "rating_range": [1, 5],
        }
    )

    version: str
    items: int
    people: int = Field(description="In the log.")
    reads: list[str] = Field(description='Of items: text, image, audio; "sentence" where people may use words.')
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
            "parts": [{"name": "past items, in their order", "value": 0.6, "share": 1}],
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


class Told(Body):
    """One thing that somebody did."""

    id: Name = Field(description="Yours, another for each event of a person, the same when it is sent again.")
    user: Id = Field(description="A user id, or the id of an anonymous session.")
    item: Id
    kind: Literal["click", "rating", "view", "not-this", "less-like-this"]
    time: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        None, description="Seconds since 1970; default: now."
    )
    value: Annotated[float, Field(allow_inf_nan=False)] | None = Field(None, description="The rating.")
    probability: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="With which the item was shown, where that was left to chance."
    )

    @model_validator(mode="after")
    def _a_rating_has_a_value(self) -> Told:
        if self.kind == "rating" and self.value is None:
            raise ValueError("a rating needs a value")
        return self


class Feedback(Body):
    """What people did; kept whole or not at all."""

    model_config = example({"events": [{"id": "7f3a", "user": "u42", "item": "i17", "kind": "rating", "value": 4}]})

    events: list[Told] = Field(min_length=1, max_length=MOST_EVENTS)


class Kept(BaseModel):
    """How much of it was kept."""

    model_config = example({"kept": 1, "new": 1})

    kept: int
    new: int = Field(description="Those that had not been sent before.")


class Search(Body):
    """A part of a person's id."""

    model_config = example({"search": "u4", "limit": 20})

    search: Annotated[str, StringConstraints(max_length=200)] = ""
    limit: Annotated[int, Field(strict=True, ge=1, le=100)] = 20


class PersonFound(BaseModel):
    """Somebody of the log."""

    model_config = example({"user": "u42", "events": 17})

    user: str | int
    events: int


class Somebody(Body):
    """One person."""

    model_config = example({"user": "u42"})

    user: Id
    limit: Annotated[int, Field(strict=True, ge=1, le=1000)] = 100


class PastEvent(BaseModel):
    """One thing that somebody did, newest first in a list."""

    item: str | int
    title: str
    image: bool
    audio: bool
    time: float
    kind: str
    rating: float | None


class Past(BaseModel):
    """What is known of somebody."""

    model_config = example(
        {
            "user": "u42",
            "events": [
                {
                    "item": "i17",
                    "title": "Quiet piano",
                    "image": True,
                    "audio": False,
                    "time": 1772352000,
                    "kind": "rating",
                    "rating": 4,
                }
            ],
        }
    )

    user: str | int
    events: list[PastEvent]


class Given(BaseModel):
    """Everything that somebody gave, and what the audit log says of them."""

    model_config = example(
        {
            "person": "u42",
            "events": [{"id": "7f3a", "person": "u42", "item": "i17", "kind": "click", "time": 1772352000}],
            "reviews": [],
            "audit": [],
        }
    )

    person: str | int
    events: list[dict[str, Any]]
    reviews: list[dict[str, Any]]
    audit: list[dict[str, Any]]


class Erasure(BaseModel):
    """What was erased."""

    model_config = example({"events": 17, "reviews": 0, "entry": 8})

    events: int
    reviews: int
    entry: int = Field(description="Number of the entry in the audit log, which names nobody.")


class Listed(Body):
    """An item for a list, and why."""

    model_config = example({"item": "i17", "reason": "recalled"})

    item: Id
    reason: Annotated[str, StringConstraints(max_length=1000)] = ""


class Lists(BaseModel):
    """Both lists, oldest first."""

    model_config = example({"blocked": ["i17"], "pinned": []})

    blocked: list[str]
    pinned: list[str]


class Changed(BaseModel):
    """Whether something is other than before."""

    model_config = example({"changed": True})

    changed: bool


class Asked(Body):
    """An item to look at, and why."""

    model_config = example({"item": "i17", "reason": "the cover is another's"})

    item: Id
    reason: Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=r"^[^\x00]*$")]
    user: Id | None = None


class Reviewed(BaseModel):
    """Under which number it waits."""

    model_config = example({"number": 1})

    number: int


class Decided(Body):
    """What becomes of an item that waits."""

    model_config = example({"number": 1, "decision": "keep"})

    number: Annotated[int, Field(strict=True, ge=1, lt=2**31)]
    decision: Literal["keep", "block"]


class Sealed(BaseModel):
    """The newest entry of the audit log."""

    model_config = example({"number": 8, "hash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"})

    number: int
    hash: str


class Version(BaseModel):
    """Which model and index answer now."""

    model_config = example({"version": VERSION})

    version: str


class ReviewTold(BaseModel):
    """An item that waits for somebody to look at it."""

    model_config = example(
        {"number": 1, "item": "i17", "reason": "the cover is another's", "person": "u42", "time": 1772352000}
    )

    number: int
    item: str
    reason: str
    person: str | None
    time: float


class EntryTold(BaseModel):
    """One entry of the audit log."""

    model_config = example(
        {
            "number": 8,
            "time": 1772352000,
            "who": "5b1c9f02",
            "action": "export",
            "details": {},
            "person": "u42",
        }
    )

    number: int
    time: float
    who: str
    action: str
    details: dict[str, Any] | None = Field(description="null where they spoke of somebody who was erased.")
    person: str | None


class Rows(Body):
    """Items as rows of the catalog: item_id and the columns that it has, but for pictures and sounds."""

    model_config = example({"items": [{"item_id": "i900", "title": "Quiet piano", "year": 2024}]})

    items: list[dict[Name, Any]] = Field(min_length=1, max_length=MOST_ITEMS)


class Ids(Body):
    """Items by their ids."""

    model_config = example({"items": ["i17"]})

    items: list[Id] = Field(min_length=1, max_length=MOST_ITEMS)


class Fault(BaseModel):
    """Why there is no answer."""

    error: str = Field(examples=["there is no such person"])


def _count(value: Any, depth: int) -> int:
    """Values in a filter; too many where it is too deep."""
    if isinstance(value, dict | list):
        inside = value.values() if isinstance(value, dict) else value
        return MOST_CONDITIONS + 1 if not depth else 1 + sum(_count(one, depth - 1) for one in inside)
    return 1
