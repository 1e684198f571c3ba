"""An encoder that also says what it reads: its classes' names, in the space of texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from towers.artefact import read_json, write_json
from towers.embed import VectorCache
from towers.encoders.contract import Classes, Encoder
from towers.errors import InputError
from towers.fusion import unit
from towers.precision import at_least_single

LIKELIEST = 10
SHAPE_FILE = "named.json"


class Named(Encoder):
    """Vectors ``(B, C + T)``: the encoder's own, and the mean of the texts of the likeliest classes' names, weighted by
    how likely they are (Norouzi et al., "Zero-shot learning by convex combination of semantic embeddings", ICLR 2014);
    each of unit norm.

    Args:
        encoder: what reads.
        classes: what it was trained to tell: K of them.
        length: T of the vectors of texts; `read_by` says which.
    """

    def __init__(self, *, encoder: Encoder, classes: Classes, length: int) -> None:
        super().__init__()
        self.modality = encoder.modality  # type: ignore[misc]
        self.encoder = encoder
        self.names, self.exclusive = list(classes.names), classes.exclusive
        self.register_buffer("weight", classes.weight)
        self.register_buffer("bias", classes.bias)
        self.register_buffer("texts", torch.empty(len(self.names), length))

    weight: Tensor
    bias: Tensor
    texts: Tensor

    @classmethod
    def of(cls, encoder: Encoder, reader: Encoder, *, weights: Path | None = None) -> Self:
        """A pretrained encoder and the names of its classes as `reader` reads them.

        Raises:
            InputError: it tells no classes.
        """
        classes = encoder.classes(weights=weights)
        if classes is None:
            raise InputError(f"{encoder.modality}.names is true, but its encoder tells no classes: leave names out")
        named = cls(encoder=encoder, classes=classes, length=reader.dimension).eval()
        named.read_by(reader)
        return named

    @classmethod
    def load(cls, config: Any, *, weights: Path | None = None) -> Self:
        """Not of a source alone: see `of`."""
        raise TypeError("Named needs an encoder and a reader of texts")

    @classmethod
    def around(cls, encoder: Encoder, folder: Path) -> Self:
        """The shape that `save_shape` wrote around an encoder, its weights not loaded yet."""
        shape = read_json(folder / SHAPE_FILE)
        names, exclusive = shape["names"], shape["exclusive"]
        classes = Classes(names, torch.empty(len(names), encoder.dimension), torch.empty(len(names)), exclusive)
        return cls(encoder=encoder, classes=classes, length=shape["length"]).eval()

    def save_shape(self, folder: Path) -> None:
        """Write all but the weights into an existing `folder`."""
        self.encoder.save_shape(folder)
        shape = {"names": self.names, "exclusive": self.exclusive, "length": self.texts.shape[1]}
        write_json(folder / SHAPE_FILE, shape)

    def read_by(self, reader: Encoder) -> None:
        """Let a reader of texts read the names: the item side's, again when that has been trained."""
        self.texts.copy_(VectorCache().embed(reader, self.names).vectors)

    @property
    def dimension(self) -> int:
        """Length C + T of a vector."""
        return self.encoder.dimension + self.texts.shape[1]

    def prepare(self, content: Any) -> Any:
        """What the encoder reads; raises MediaError."""
        return self.encoder.prepare(content)

    def encode(self, prepared: Sequence[Any]) -> Float[Tensor, "b d"]:
        """The vectors of B prepared contents."""
        vectors = at_least_single(self.encoder.encode(prepared))
        return torch.cat([unit(vectors), self.said(vectors)], dim=-1)

    def said(self, vectors: Float[Tensor, "b c"]) -> Float[Tensor, "b t"]:
        """What vectors of the encoder are called, as unit vectors in the space of texts."""
        with torch.autocast(vectors.device.type, enabled=False):
            scores = vectors @ self.weight.float().T + self.bias.float()
            likely = scores.log_softmax(-1) if self.exclusive else F.logsigmoid(scores)
            likely, which = likely.topk(min(LIKELIEST, len(self.names)))
            return unit((likely.softmax(-1)[..., None] * unit(self.texts.float())[which]).sum(-2))

    @property
    def blocks(self) -> list[nn.Module]:
        """Those of the encoder; names stay as they are."""
        return self.encoder.blocks

    @property
    def reading(self) -> str:
        """All beside the weights that fixes a vector."""
        return f"{self.encoder.reading}; {LIKELIEST} likeliest classes, {'one' if self.exclusive else 'many'} at once"

    def examine(self, contents: Sequence[Any]) -> None:
        """As the encoder does."""
        self.encoder.examine(contents)
