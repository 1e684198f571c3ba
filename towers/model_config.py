"""All that fixes the shape of a model: the settings of its towers, encoders and rating head."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from towers.encoders.configs import AudioConfig, ImageConfig, MediaConfig
from towers.interactions import Positive
from towers.item import ItemConfig
from towers.rating import RatingConfig
from towers.sequence_reader import SequenceConfig
from towers.text import TextConfig
from towers.text_reader import TextReaderConfig


class UserConfig(BaseModel):
    """The two readers of a person; `false` turns one off."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    sequence: SequenceConfig | None = SequenceConfig()
    """The reader of past items, in their order or as a set."""
    text: TextReaderConfig | None = TextReaderConfig()
    """The reader of history text and of free text."""
    interests: int = Field(default=1, ge=1)
    """How many queries the sequence reader makes of a person; each is searched, and an item counts by the best."""

    @field_validator("sequence", "text", mode="before")
    @classmethod
    def _false_is_off(cls, value: Any) -> Any:
        return None if value is False else {} if value is True else value

    @model_validator(mode="after")
    def _sets_have_no_text(self) -> UserConfig:
        if self.sequence is not None and not self.sequence.ordered and self.text is not None:
            raise ValueError(
                "sequence.ordered is false, and history text tells a past in its order: turn text off, or ordered on"
            )
        return self

    @model_validator(mode="after")
    def _a_set_is_one_interest(self) -> UserConfig:
        if self.interests > 1 and self.sequence is not None and not self.sequence.ordered:
            raise ValueError(
                f"interests is {self.interests}, but sequence.ordered is false, and a set is read as one mean: leave "
                "out interests, or turn ordered on"
            )
        return self

    @model_validator(mode="after")
    def _a_text_is_one_interest(self) -> UserConfig:
        if self.interests > 1 and self.sequence is None:
            raise ValueError(
                f"interests is {self.interests}, but only the sequence reader tells interests apart: turn on "
                "[user.sequence], or leave out interests"
            )
        return self


class ModelConfig(BaseModel):
    """All that fixes the shape of a model, and how it reads a log."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    data: Positive = Positive()
    """Which events are positives: what the towers learn from, and what speaks for a person."""
    text: TextConfig = TextConfig()
    """The pretrained text encoder from which both sides start."""
    image: ImageConfig | None = None
    """How pictures are read; `true` for the default, `false` for not at all. Left out, they are read where the catalog
    has a column `image`."""
    audio: AudioConfig | None = None
    """How sounds are read; the same with a column `audio`."""
    item: ItemConfig = ItemConfig()
    """The item tower."""
    user: UserConfig = UserConfig()
    """The user tower."""
    rating: RatingConfig = RatingConfig()
    """The rating head."""

    @field_validator("image", "audio", mode="before")
    @classmethod
    def _true_is_the_default(cls, value: Any) -> Any:
        return None if value is False else {} if value is True else value

    @property
    def media(self) -> dict[str, MediaConfig]:
        """How pictures and sounds are read, those that are."""
        both: dict[str, MediaConfig | None] = {"image": self.image, "audio": self.audio}
        return {name: config for name, config in both.items() if config is not None}
