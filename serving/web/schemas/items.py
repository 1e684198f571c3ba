"""Items that come, change and go."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from serving.web.schemas.body import Body, Id, Name, example

MOST_ITEMS = 100


class Rows(Body):
    """Items as rows of the catalog: item_id and the columns that it has, but for pictures and sounds."""

    model_config = example({"items": [{"item_id": "i900", "title": "Quiet piano", "year": 2024}]})

    items: list[dict[Name, Any]] = Field(min_length=1, max_length=MOST_ITEMS)


class Ids(Body):
    """Items by their ids."""

    model_config = example({"items": ["i17"]})

    items: list[Id] = Field(min_length=1, max_length=MOST_ITEMS)


class Item(BaseModel):
    """An item and all that its row says, but for pictures, sounds and vectors."""

    model_config = example(
        {"item": "i17", "title": "Quiet piano", "image": True, "audio": False, "attributes": {"year": 2024}}
    )

    item: str | int
    title: str
    image: bool
    audio: bool
    attributes: dict[str, Any] = Field(default_factory=dict)
