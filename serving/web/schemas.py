"""What is asked and answered, as OpenAPI tells it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

LONGEST_HISTORY, LONGEST_TEXT, DEEPEST, MOST_CONDITIONS = 500, 2000, 8, 100

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Id = Name | Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)]
K = Annotated[int, Field(strict=True, ge=1, le=10_000, description="How many; the service may allow fewer.")]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
By = Literal["text", "image", "audio"]


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


class Question(Filtered):
    """Who asks, or what for: a user, a history, a text, or a history and a text."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"user": "u42", "k": 10},
                {"history": ["i17", "i3"], "diversity": 0.5},
                {"text": "quiet piano for a rainy evening", "k": 5},
            ]
        }
    )

    user: Id | None = Field(None, description="Somebody in the log, or of whom there is feedback.")
    history: list[Id] | None = Field(
        None, max_length=LONGEST_HISTORY, description="Items that somebody met, oldest first."
    )
    text: Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_TEXT)] | None = Field(
        None, description="What somebody would like, in words."
    )
    diversity: Share = Field(0.0, description="0: the best items; 1: items that differ as much as they can.")
    novelty: Share = Field(0.0, description="0: as popular as they come; 1: items that few have met.")


class Alike(Filtered):
    """An item, and what of it counts."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"item": "i17", "k": 5}]})

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
    image: bool = Field(description="Whether there is a picture to see.")
    audio: bool = Field(description="Whether there is a sound to hear.")


class Answer(BaseModel):
    """Items in their order, best first."""

    query: str = Field(description="Who or what was asked for, in words.")
    version: str = Field(description="Which model and index answered; the same for the whole answer.")
    reranked: bool
    unknown: list[str | int] = Field(description="Items of the history that were set aside.")
    items: list[Found]


class Fault(BaseModel):
    """Why there is no answer."""

    error: str = Field(examples=["there is no such person"])


def _count(value: Any, depth: int) -> int:
    """Values in a filter; too many where it is too deep."""
    if isinstance(value, dict | list):
        inside = value.values() if isinstance(value, dict) else value
        return MOST_CONDITIONS + 1 if not depth else 1 + sum(_count(one, depth - 1) for one in inside)
    return 1
