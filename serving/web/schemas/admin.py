"""What people in charge say and see."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints

from serving.web.schemas.body import Body, Id, example


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
