"""What people do, and what is known of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints, model_validator

from serving.web.schemas.body import Body, Id, Name, example

MOST_EVENTS = 100


class Told(Body):
    """One thing that somebody did."""

    id: Name = Field(description="Yours, another for each event of a person, the same when it is sent again.")
    user: Id = Field(description="A user id, or the id of an anonymous session.")
    item: Id
    kind: Literal["click", "rating", "view", "not-this", "less-like-this"]
    time: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        None, description="Seconds since 1970; default: now."
    )
    value: Annotated[float, Field(allow_inf_nan=False)] | None = Field(
        None, description="The rating; of a view the rank at which the item was shown."
    )
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
