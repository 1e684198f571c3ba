"""What somebody new is asked, and says."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from serving.web.schemas.body import VERSION, Body, Id, example

MOST_ANSWERS = 100


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


class Answered(Body):
    """What somebody new has said so far, in any order."""

    model_config = example(
        {"answers": []}, {"answers": [{"item": "i17", "answer": "like"}, {"item": "i3", "answer": "unknown"}]}
    )

    answers: Answers = Field([])


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
