"""Text reader: a fine-tuned BERT that reads a person's history, or any sentence, into a query."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from towers.encoders.contract import Encoder
from towers.errors import InputError
from towers.fusion import unit
from towers.history_text import HistoryTextConfig
from towers.precision import at_least_single
from towers.projection import ContentProjection
from towers.text import TextEncoder
from towers.tuning import Tune, add_low_rank


class TextReaderConfig(BaseModel):
    """The reader of history text and of free text."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    tune: Tune = 2
    """What is fine-tuned: 0 (nothing), a number of upper layers, "lora" (low-rank additions to all layers) or "all"."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Dropout between BERT's vector and the query."""
    history: HistoryTextConfig = HistoryTextConfig()
    """How a history becomes text."""


class TextReader(nn.Module):
    """Token ids to queries.

    Args:
        config: depth of tuning and size of the projection.
        encoder: the item side's encoder; its lower layers are shared, its top ones copied.
        hidden: width of the projection.
        dimension: length D of a query.

    The buffer `words` says how much a sentence's words count beside its query (`towers.words`), in units of cosine; it
    is chosen on validation data where items' texts have sentences to spare.

    Raises:
        InputError: a history may have more tokens, or more layers are to be tuned, than the encoder has room for, the
            encoder's prefix leaves a history no room, or it does not read layer by layer.
    """

    words: Tensor

    def __init__(self, *, config: TextReaderConfig, encoder: Encoder, hidden: int, dimension: int) -> None:
        super().__init__()
        encoder = _layered(encoder)
        if config.history.budget > encoder.longest:
            raise InputError(
                f"user.text.history.budget is {config.history.budget}, but the text encoder reads "
                f"{encoder.longest} tokens at most"
            )
        prefix = len(encoder.tokenize_plain([encoder.config.prefix])[0])
        if prefix > config.history.budget - 3:  # two special tokens, and one of the history at least
            raise InputError(
                f"text.prefix takes {prefix} tokens, which leaves no room for a history: user.text.history.budget is "
                f"{config.history.budget}"
            )
        self.config = config
        self.encoder = encoder.tunable_copy(config.tune)
        self.project = ContentProjection(
            content=encoder.dimension, hidden=hidden, dimension=dimension, dropout=config.dropout
        )
        self.register_buffer("words", torch.tensor(1.0))  # all of a sentence found weighs like the nearest vector

    def follow(self, encoder: Encoder) -> None:
        """Share with, and copy from, an encoder that has changed."""
        self.encoder = _layered(encoder).tunable_copy(self.config.tune)

    def let_train(self) -> Callable[[], None]:
        """Put low-rank matrices into its encoder where it is tuned by them; the result merges them in at the end."""
        if self.config.tune != "lora":
            return lambda: None
        return add_low_rank(self.encoder, self.encoder.blocks)

    def start_from(self, item_side: ContentProjection) -> None:
        """Begin where the item side is: a text is then near the items whose text is like it."""
        self.project.load_state_dict(item_side.state_dict())

    def forward(self, ids: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b d"]:
        """Queries of unit norm."""
        return self.read_hidden(self.encoder.lower(ids, mask, 0), mask, 0)

    def read_hidden(
        self, hidden: Float[Tensor, "b t c"], mask: Bool[Tensor, "b t"], start: int
    ) -> Float[Tensor, "b d"]:
        """Queries from hidden states after the first `start` layers."""
        return unit(at_least_single(self.project(self.encoder.upper(hidden, mask, start))))


def _layered(encoder: Encoder) -> TextEncoder:
    if isinstance(encoder, TextEncoder):
        return encoder
    raise InputError(
        f"[user.text] fine-tunes the items' text encoder, and {type(encoder).__name__} has no layers of a transformer "
        "for it: set user.text = false, or choose a text.source of the BERT family"
    )
