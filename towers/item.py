"""Item tower: what an item says, and who met it, become one vector."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from towers.fusion import MaskedFusion
from towers.projection import TextProjection


class ItemConfig(BaseModel):
    """How an item becomes a vector."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    template: str | None = None
    """Columns and words that make an item's text, such as `"{title}[ ({year})][. {genres}]"`; default: all columns."""
    dimension: int = Field(default=64, ge=2)
    """Length D of item and query vectors."""
    hidden: int = Field(default=256, ge=1)
    """Width of the layer between text vector and item vector."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Dropout in that layer."""
    text: bool = True
    """Whether items are read by their text."""
    ids: bool = True
    """Whether items have a vector of their own beside their content."""
    id_min_events: int = Field(default=3, ge=1)
    """Training events an item needs to get a vector of its own."""
    id_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of items whose own vector is dropped in a training step (DropoutNet, NeurIPS 2017), so that
    content alone gives a usable vector for new items."""


class ItemTower(nn.Module):
    """Frozen content vectors and id vectors to item vectors of unit norm.

    Args:
        config: sizes and dropout.
        content_dimension: length C of a content vector.
        ids: number of items that have an id vector.
    """

    def __init__(self, *, config: ItemConfig, content_dimension: int, ids: int) -> None:
        super().__init__()
        self.config = config
        self.text = TextProjection(
            text_dimension=content_dimension,
            hidden=config.hidden,
            dimension=config.dimension,
            dropout=config.dropout,
        )
        self.id = nn.Embedding(ids, config.dimension) if ids else None
        if self.id is not None:
            nn.init.normal_(self.id.weight, std=0.1)
        self.fusion = MaskedFusion({"text": 1.0, "id": 1.0})

    def forward(
        self, content: Float[Tensor, "n c"], has_text: Bool[Tensor, " n"], id_rows: Int[Tensor, " n"]
    ) -> Float[Tensor, "n d"]:
        """Item vectors.

        Args:
            content: content vectors; what stands where `has_text` is False is not looked at.
            has_text: where there is one.
            id_rows: row of each item's id vector, -1 for none.

        Returns:
            Unit vectors; the zero vector for an item with neither text nor id.
        """
        has_id = id_rows >= 0
        if self.training and self.config.id_dropout:
            has_id = has_id & ((torch.rand(has_id.shape, device=has_id.device) >= self.config.id_dropout) | ~has_text)
        parts = {"text": (self.text(content), has_text)}
        if self.id is not None:
            parts["id"] = (self.id(id_rows.clamp(min=0)), has_id)
        return self.fusion(parts)
