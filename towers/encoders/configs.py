"""Which encoder reads a kind of content, and from which column. Needs none of the encoders' libraries."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from towers.projection import Normalise
from towers.tuning import Tune

VECTORS = "vectors"  # a source that is no encoder: the column holds vectors


class MediaConfig(BaseModel):
    """How pictures or sounds become content vectors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    source: str
    """An encoder (`towers/encoders/contract.py` lists them), or `"vectors"` where the column holds vectors."""
    column: str
    """Column of the catalog with paths (from the catalog's folder), bytes, or vectors."""
    normalise: Normalise = "centre"
    """What is done to the vectors before they are projected: their mean is removed, they are whitened, or neither; from
    the names of classes the mean is always removed."""
    names: bool = False
    """Whether the names of what the encoder was trained to tell, as far as it tells them here, are read like a text
    beside its vector: of use where few items have both a text and a picture or a sound to learn from."""
    tune: Tune = 0
    """How much of the encoder is trained, before the towers are (`[align]`): 0, a number of upper blocks, "lora" or
    "all"."""
    length: int | None = Field(default=None, ge=1)
    """Length of the vectors in the column; default: that of the first. Encoders know their own."""

    @field_validator("source")
    @classmethod
    def _names_something(cls, value: str) -> str:
        if not value.strip():
            raise ValueError(
                f"got {value!r}, expected the name of an encoder, or {VECTORS!r}: leave it out for the default"
            )
        return value

    @model_validator(mode="after")
    def _vectors_have_no_encoder(self) -> Self:
        if self.source == VECTORS and self.tune:
            raise ValueError("vectors have no encoder to be tuned: leave tune out, or name an encoder as source")
        if self.source == VECTORS and self.names:
            raise ValueError("vectors have no encoder that names them: leave names out, or name an encoder as source")
        return self


class ImageConfig(MediaConfig):
    """Pictures."""

    source: str = "efficientnet-lite0"
    """An OpenCLIP model, `"ARCHITECTURE/TAG"`, `"hf-hub:ORGANISATION/NAME"` or a local checkpoint or folder; an
    ImageNet trunk that needs no hub, `"efficientnet-lite0"`; or `"vectors"`."""
    column: str = "image"
    """Column of the catalog with paths (from the catalog's folder), bytes, or vectors."""


class AudioConfig(MediaConfig):
    """Sounds."""

    source: str = "yamnet"
    """`"yamnet"` for sounds of all kinds, `"musicnn"` for music; `"clap:ORGANISATION/NAME"` or `"clap:FOLDER"`, a CLAP
    model, which puts sounds and texts into one space; `"pipelines:NAME"`, a speech model of `torchaudio.pipelines` such
    as `"pipelines:WAV2VEC2_BASE"`; or `"vectors"`."""
    column: str = "audio"
    """Column of the catalog with paths (from the catalog's folder), bytes, or vectors."""
