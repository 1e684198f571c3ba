"""What all that is sent and answered has in common."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
Id = Name | Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)]
VERSION = "9f86d081-v12-0"  # of examples


def example(*examples: dict[str, Any]) -> ConfigDict:
    """Has OpenAPI show what such a body or answer looks like; what is None there, it leaves out."""
    return ConfigDict(json_schema_extra={"examples": [*examples]})


class Body(BaseModel):
    """What is sent must have the fields that there are, and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Version(BaseModel):
    """Which model and index answer now."""

    model_config = example({"version": VERSION})

    version: str


class Fault(BaseModel):
    """Why there is no answer."""

    error: str = Field(examples=["there is no such person"])
