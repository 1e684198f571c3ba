"""An encoder that also says what it reads: its classes' names, in the space of texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from towers.artefact import read_json, write_json
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
        texts: vectors ``(K, T)`` of their names.
    """

    def __init__(self, *, encoder: Encoder, classes: Classes, texts: Float[Tensor, "k t"]) -> None:
        super().__init__()
        self.modality = encoder.modality  # type: ignore[misc]
        self.encoder = encoder
        self.exclusive = classes.exclusive
        self.register_buffer("weight", classes.weight)
        self.register_buffer("bias", classes.bias)
        self.register_buffer("texts", texts)

    weight: Tensor
    bias: Tensor
    texts: Tensor

    @classmethod
    def of(cls, encoder: Encoder, reader: Encoder, *, weights: Path | None = None) -> Self:
        """A pretrained encoder and the names of its classes as `reader` reads them.

        Raises:
            InputError: it was trained on no classes.
        """
        classes = encoder.classes(weights=weights)
        if classes is None:
            raise InputError(
                f"{encoder.modality}.names is true, but its encoder was trained on no classes: leave names out"
            )
        with torch.no_grad():
            texts = reader.encode([reader.prepare(name) for name in classes.names]).float()
        return cls(encoder=encoder, classes=classes, texts=texts).eval()

    @classmethod
    def load(cls, config: Any, *, weights: Path | None = None) -> Self:
        """Not of a source alone: see `of`."""
        raise TypeError("Named needs an encoder and a reader of texts")

    @classmethod
    def around(cls, encoder: Encoder, folder: Path) -> Self:
        """The shape that `save_shape` wrote around an encoder, its weights not loaded yet."""
        shape = read_json(folder / SHAPE_FILE)
        count = shape["classes"]
        nothing = Classes([""] * count, torch.empty(count, encoder.dimension), torch.empty(count), shape["exclusive"])
        return cls(encoder=encoder, classes=nothing, texts=torch.empty(count, shape["length"])).eval()

    def save_shape(self, folder: Path) -> None:
        """Write all but the weights into an existing `folder`."""
        self.encoder.save_shape(folder)
        shape = {"classes": len(self.bias), "exclusive": self.exclusive, "length": self.texts.shape[1]}
        write_json(folder / SHAPE_FILE, shape)

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
        """What is called so, as unit vectors in the space of texts."""
        with torch.autocast(vectors.device.type, enabled=False):
            scores = vectors @ self.weight.float().T + self.bias.float()
            likely = scores.softmax(-1) if self.exclusive else scores.sigmoid()
            share, which = likely.topk(min(LIKELIEST, likely.shape[-1]))
            return unit((share[..., None] * unit(self.texts.float())[which]).sum(-2))

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
