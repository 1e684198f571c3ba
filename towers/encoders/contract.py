"""What every encoder of content offers, and which there are."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from towers.errors import InputError, MissingExtraError

Modality = Literal["text", "image", "audio"]


class Classes(NamedTuple):
    """What an encoder was trained to tell, and how it tells it from its vectors.

    Args:
        names: of K classes.
        weight: ``(K, D)``, and
        bias: ``(K,)``, of the layer that followed.
        exclusive: whether a content is of one class; else it may be of many.
    """

    names: Sequence[str]
    weight: Float[Tensor, "k d"]
    bias: Float[Tensor, " k"]
    exclusive: bool


class Encoder(nn.Module, ABC):
    """Content to vectors ``(B, D)``: what decodes is apart from what computes, so that the two can overlap.

    An encoder comes out of `load` in evaluation mode and leaves precision to the caller (autocast, or weights and
    prepared tensors in bfloat16) and the device to `to`.
    """

    modality: ClassVar[Modality]
    _fingerprint: tuple[Any, str] | None = None  # the last one, after what it is of

    @classmethod
    @abstractmethod
    def load(cls, config: Any, *, weights: Path | None = None) -> Encoder:
        """A pretrained encoder.

        Args:
            config: its `source` names it.
            weights: folder to look in before anything is downloaded.

        Raises:
            WeightsError: the source cannot be found or read.
        """

    @classmethod
    def empty(cls, config: Any, folder: Path) -> Encoder:
        """The architecture that `save_shape` wrote, its weights not loaded yet; the only one, unless it says so."""
        return cls().eval()

    def save_shape(self, folder: Path) -> None:
        """Write all but the weights into an existing `folder`, as JSON; nothing, where there is but one shape."""

    @property
    @abstractmethod
    def dimension(self) -> int:
        """Length D of a vector."""

    @abstractmethod
    def prepare(self, content: Any) -> Any:
        """What `encode` reads of one text (`str`), picture or sound (a path or bytes); on the CPU, from any thread.

        Raises:
            MediaError: a picture or a sound cannot be read; a text always can.
        """

    @abstractmethod
    def encode(self, prepared: Sequence[Any]) -> Float[Tensor, "b d"]:
        """The vectors of B prepared contents; one by one or together, they are the same."""

    @property
    @abstractmethod
    def blocks(self) -> list[nn.Module]:
        """What can be fine-tuned, from the input upward."""

    @property
    @abstractmethod
    def reading(self) -> str:
        """All beside the weights that fixes a vector, such as tokenizer or preprocessing, as text."""

    def classes(self, *, weights: Path | None = None) -> Classes | None:
        """What it was trained to tell; None, unless it says so.

        Args:
            weights: folder to look in before anything is downloaded.
        """
        return None

    def examine(self, contents: Sequence[Any]) -> None:
        """Warn of what many contents have in common and this encoder was not made for; nothing, unless it says so."""

    def train(self, mode: bool = True) -> Self:
        """Training mode in blocks that are trained; what is frozen drops nothing out, statistics never change."""
        super().train(False)
        for block in self.blocks:
            block.train(mode and any(weight.requires_grad for weight in block.parameters()))
        for part in self.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.eval()
        return self

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that fixes a content's vector: `reading` and the weights.

        It is computed once for the same weights. Whether they are the same is seen from the weights themselves, by a
        sum that is as quick as reading them, since there are writes that torch does not count (through `.data` or
        numpy).
        """
        reading, state = self.reading, dict(sorted(self.state_dict().items()))
        facts = reading, tuple((name, *_trace(value)) for name, value in state.items())
        if self._fingerprint is None or self._fingerprint[0] != facts:
            digest = hashlib.sha256(reading.encode())
            for name, value in state.items():
                digest.update(name.encode())
                digest.update(_flat(value).cpu().view(torch.uint8).numpy().data)
            self._fingerprint = facts, digest.hexdigest()
        return self._fingerprint[1]


def _flat(value: Tensor) -> Tensor:
    return value.detach().contiguous().reshape(-1)


def _trace(value: Tensor) -> tuple[int, int, int]:
    """What tells changed weights: how often torch wrote into them, their length in bytes, the sum of their bits."""
    bits = _flat(value).view(torch.uint8)
    whole = len(bits) % 8 == 0 and bits.storage_offset() % 8 == 0
    words = bits.view(torch.int64) if whole else bits
    return 0 if value.is_inference() else value._version, len(bits), int(words.sum())


# Modality, the name in `source` (before a colon or whole), and the class. To add an encoder, write one file that
# derives from `Encoder` and name it here; "*" takes every source that no line before it has named.
REGISTRY: list[tuple[Modality, str, str]] = [
    ("audio", "yamnet", "towers.encoders.yamnet:YamNet"),
    ("audio", "musicnn", "towers.encoders.musicnn:MusicNN"),
    ("audio", "clap", "towers.encoders.clap:Clap"),
    ("audio", "pipelines", "towers.encoders.pipelines:SpeechModel"),
    ("image", "*", "towers.encoders.openclip:OpenClip"),
    ("text", "*", "towers.text:TextEncoder"),
]


def encoder_class(modality: str, source: str) -> type[Encoder]:
    """The class that reads a `source`, such as ``yamnet`` or ``ViT-B-32/openai``.

    Raises:
        InputError: no encoder of this modality has the name.
        MissingExtraError: a library that it needs is not installed.
    """
    name = source.partition(":")[0]
    for kind, known, where in REGISTRY:
        if kind == modality and known in (name, "*"):
            return _import(where, "texts" if modality == "text" else "pictures and sounds")
    names = ", ".join(known for kind, known, _ in REGISTRY if kind == modality)
    raise InputError(f"there is no {modality} encoder {source!r}; known are {names}")


def _import(where: str, what: str) -> Any:
    module, _, name = where.partition(":")
    try:
        return getattr(import_module(module), name)
    except ImportError as error:
        if error.name == module:
            raise
        wanted = error.name if what == "texts" else "'twotower[media]'"
        raise MissingExtraError(f"{what} need {error.name}: pip install {wanted}") from error
