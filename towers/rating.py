"""Rating head: how much a person would like an item, from what they said of others."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn


class RatingConfig(BaseModel):
    """The head that re-ranks what retrieval found."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    objective: Literal["rating", "click"] = "rating"
    """`rating`: a value in [0, 1] by squared error; `click`: a probability by cross-entropy."""
    dimension: int = Field(default=32, ge=1)
    """Length of taste vectors."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Dropout on item features."""
    range: tuple[float, float] | None = None
    """Smallest and largest rating, which became 0 and 1; default: as the log was read."""


class RatingHead(nn.Module):
    """Item level + person level + taste, each from the person's rated past; no vector for a person.

    ``r(u, i) = b_i + b_u + <p_u, q_i>`` with ``b_u = sum_h e_h / (n + beta)``, ``e_h = r_h - b_h`` what the person
    rated item h above its level, and ``p_u = sum_h (e_h - b_u) f_h / sqrt(n + gamma)``: the asymmetric factor model
    of Koren (KDD 2008, section 4) with item factors read from item vectors, so that new items and
    people get a prediction too. Without any rating it is the item's own level.

    Args:
        config: sizes.
        item_dimension: length D of item vectors.
        ids: number of items with a level and factors of their own.

    The buffer `weight` says how much a prediction counts in re-ranking, in logits for one unit of rating;
    it is chosen on validation data.
    """

    weight: Tensor

    def __init__(self, *, config: RatingConfig, item_dimension: int, ids: int) -> None:
        super().__init__()
        self.config = config
        width = config.dimension
        self.mean = nn.Parameter(torch.tensor(0.0))
        self.level = nn.Embedding(ids + 1, 1, padding_idx=ids)
        self.level_of = nn.Linear(item_dimension, 1)
        self.said = nn.Embedding(ids + 1, width, padding_idx=ids)
        self.asked = nn.Embedding(ids + 1, width, padding_idx=ids)
        self.said_of = nn.Linear(item_dimension, width)
        self.asked_of = nn.Linear(item_dimension, width)
        self.log_beta = nn.Parameter(torch.tensor(2.0))
        self.log_gamma = nn.Parameter(torch.tensor(2.0))
        self.dropout = nn.Dropout(config.dropout)
        self.register_buffer("weight", torch.zeros(()))
        nn.init.zeros_(self.level.weight)
        nn.init.zeros_(self.level_of.weight)
        for table in (self.said, self.asked):
            nn.init.normal_(table.weight, std=0.02)
            with torch.no_grad():
                table.weight[ids] = 0

    @property
    def fitted(self) -> bool:
        """Whether it has learned from ratings: the mean starts at exactly 0, and is set to theirs first of all."""
        return bool(self.mean != 0)

    def levels(self, vectors: Float[Tensor, "n d"], id_rows: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Mean value of each item ``(N,)`` before anybody is asked."""
        rows = self._rows(id_rows)
        return self.mean + self.level(rows)[..., 0] + self.level_of(vectors)[..., 0]

    def forward(
        self,
        vectors: Float[Tensor, "n d"],
        id_rows: Int[Tensor, " n"],
        items: Int[Tensor, "b t"],
        ratings: Float[Tensor, "b t"],
        mask: Bool[Tensor, "b t"],
        asked: Int[Tensor, "b k"],
    ) -> Float[Tensor, "b k"]:
        """Predictions, not clipped; logits where the objective is a click.

        Args:
            vectors: item vectors by catalog row.
            id_rows: row of each item's own level and factors, -1 for none.
            items: past items by catalog row.
            ratings: in [0, 1]; NaN (no rating) counts as not there.
            mask: which of them are real.
            asked: K candidate items by catalog row.
        """
        rated = mask & ~ratings.isnan()
        level = self.levels(vectors, id_rows)
        surprise = torch.where(rated, ratings - level[items], 0.0)
        count = rated.sum(1, keepdim=True)
        person = surprise.sum(1, keepdim=True) / (count + self.log_beta.exp())
        rows = self._rows(id_rows)
        said = self.dropout(self.said(rows) + self.said_of(vectors))
        wanted = self.dropout(self.asked(rows) + self.asked_of(vectors))
        left = torch.where(rated, surprise - person, 0.0)
        taste = torch.einsum("bt,btw->bw", left, said[items]) / (count + self.log_gamma.exp()).sqrt()
        return level[asked] + person + torch.einsum("bw,bkw->bk", taste, wanted[asked])

    def to_unit(self, predictions: Tensor) -> Tensor:
        """Predictions in [0, 1]: clipped ratings, or click probabilities."""
        return predictions.sigmoid() if self.config.objective == "click" else predictions.clamp(0, 1)

    def _rows(self, id_rows: Tensor) -> Tensor:
        return torch.where(id_rows < 0, self.level.num_embeddings - 1, id_rows)
