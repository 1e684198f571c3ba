"""Item tower: what an item says, shows and sounds like, and who met it, become one vector."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from towers.contents import Contents
from towers.fusion import AttentionFusion, MaskedFusion, MeanFusion, unit
from towers.projection import ContentProjection, NamedProjection, Normalise


class ItemConfig(BaseModel):
    """How an item becomes a vector."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    template: str | None = None
    """Columns and words that make an item's text, such as `"{title}[ ({year})][. {genres}]"`; default: all columns."""
    dimension: int = Field(default=64, ge=2)
    """Length D of item and query vectors."""
    hidden: int = Field(default=256, ge=1)
    """Width of the layer between content vector and item vector."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Dropout in that layer."""
    text: bool = True
    """Whether items are read by their text."""
    ids: bool = True
    """Whether items have a vector of their own beside their content."""
    id_min_events: int = Field(default=3, ge=1)
    """Training events an item needs to get a vector of its own."""
    id_speed: float = Field(default=1.0, ge=1)
    """How many times faster an item's own vector turns than the optimizer moves a weight. A network moves what it makes
    by all of its weights together, such a vector only by its own; with many items of few events it comes too late."""
    id_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of items whose own vector is dropped in a training step (DropoutNet, NeurIPS 2017), so that
    content alone gives a usable vector for new items."""
    content_dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of items from which a kind of content is dropped in a training step where there is more than one kind, so
    that a missing one costs little; an item never loses all of them."""
    fusion: Literal["gated", "mean", "attention"] = "gated"
    """How the kinds of content and an item's own vector become one: by a weight for each kind, alike, or by weights
    that depend on the item."""


class ItemTower(nn.Module):
    """Frozen content vectors and id vectors to item vectors of unit norm.

    Args:
        config: sizes and dropout.
        contents: length C of the vectors of each kind of content, ``"text"`` first.
        named: kinds whose vectors end with the names of what they are, in the space of texts.
        normalise: what is done to them first; default: the mean is removed.
        ids: number of items that have an id vector.

    The buffer `new_weights` says how much each kind of content counts for items without a vector of their own, beside
    the gates, which are learned from known items; it is chosen on validation data.
    """

    new_weights: Tensor

    def __init__(
        self,
        *,
        config: ItemConfig,
        contents: Mapping[str, int],
        ids: int,
        named: Collection[str] = (),
        normalise: Mapping[str, Normalise] | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.contents = nn.ModuleDict()
        for name, size in contents.items():
            make = partial(NamedProjection, texts=self.text) if name in named else ContentProjection
            self.contents[name] = make(
                content=size,
                hidden=config.hidden,
                dimension=config.dimension,
                dropout=config.dropout,
                normalise=(normalise or {}).get(name, "centre"),
            )
        self.register_buffer("new_weights", torch.ones(len(contents)))
        self.id = nn.Embedding(ids, config.dimension) if ids else None
        if self.id is not None:
            nn.init.normal_(self.id.weight, std=0.1 / config.id_speed)
        self.fusion = _fusion(config, [*contents, "id"])

    @property
    def text(self) -> ContentProjection:
        """The projection of texts."""
        return self.project("text")

    def project(self, name: str) -> ContentProjection:
        """The projection of a kind of content."""
        return self.contents[name]  # type: ignore[return-value]

    def forward(self, contents: Contents, id_rows: Int[Tensor, " n"]) -> Float[Tensor, "n d"]:
        """Item vectors.

        Args:
            contents: of N items; a kind may be left out.
            id_rows: row of each item's id vector, -1 for none.

        Returns:
            Unit vectors; the zero vector for an item with neither content nor id.
        """
        present, has_id = dict(contents.present), id_rows >= 0
        if self.training:
            has_content = torch.stack(list(present.values())).any(0)
            present = self._drop_contents(present, has_content)
            if self.config.id_dropout:
                kept = torch.rand(has_id.shape, device=has_id.device) >= self.config.id_dropout
                has_id = has_id & (kept | ~has_content)
        return self.fusion(self._parts(contents, id_rows, present, has_id))

    def weighted(self, contents: Contents, id_rows: Int[Tensor, " n"]) -> dict[str, Float[Tensor, "n d"]]:
        """What each kind of content, and an item's own vector, add to its vector before it is scaled to unit norm."""
        return self.fusion.weighted(self._parts(contents, id_rows, contents.present, id_rows >= 0))

    def _parts(
        self, contents: Contents, id_rows: Tensor, present: Mapping[str, Tensor], has_id: Tensor
    ) -> dict[str, tuple[Tensor, Tensor]]:
        parts = {
            name: (self.project(name)(contents.vectors[name]) * self._weight(name, id_rows), mask)
            for name, mask in present.items()
        }
        if self.id is not None:
            parts["id"] = (self.id(id_rows.clamp(min=0)) * self.config.id_speed, has_id)
        return parts

    def alone(self, name: str, vectors: Float[Tensor, "n c"]) -> Float[Tensor, "n d"]:
        """Unit vectors of items of which only one kind of content is known."""
        return unit(self.project(name)(vectors))

    def _weight(self, name: str, id_rows: Int[Tensor, " n"]) -> Float[Tensor, "n 1"]:
        """How much a kind of content counts beside what is learned of it."""
        weight = self.new_weights[list(self.contents).index(name)]
        return torch.where(id_rows >= 0, torch.ones_like(weight), weight)[:, None]

    def _drop_contents(self, present: dict[str, Tensor], has_content: Tensor) -> dict[str, Tensor]:
        """Where each kind of content stays for this step; an item that would lose all keeps all."""
        if len(present) < 2 or not self.config.content_dropout:
            return present
        kept = {
            name: mask & (torch.rand(mask.shape, device=mask.device) >= self.config.content_dropout)
            for name, mask in present.items()
        }
        lost = has_content & ~torch.stack(list(kept.values())).any(0)
        return {name: kept[name] | (present[name] & lost) for name in present}


def _fusion(config: ItemConfig, parts: list[str]) -> MaskedFusion | MeanFusion | AttentionFusion:
    if config.fusion == "mean":
        return MeanFusion()
    if config.fusion == "attention":
        return AttentionFusion(parts, config.dimension)
    return MaskedFusion(dict.fromkeys(parts, 1.0))
