"""Text encoder: a BERT-family backbone, its tokenizer and a pooling rule."""

from __future__ import annotations

import copy
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

from towers.encoders.contract import Encoder
from towers.errors import InputError, WeightsError
from towers.tuning import Tune, top_blocks
from towers.weights import resolve

UNKNOWN_SHARE = 0.1  # above this share of unknown tokens the vocabulary does not fit the language


class TextConfig(BaseModel):
    """Which pretrained text encoder, and how it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    source: str = "minilm"
    """A hub id, a folder with `config.json`, tokenizer and weights, or a name that `weights` knows."""
    pooling: Literal["mean", "cls"] = "mean"
    """How token vectors become one: their mean, or the first token's."""
    prefix: str = ""
    """Put before every text, for encoders trained with an instruction (such as `"query: "`)."""
    max_tokens: int = Field(default=128, ge=8)
    """Longer texts are cut here, special tokens included."""
    tune: Tune = 0
    """How much of it is trained, before the towers are (`[align]`): 0, a number of upper layers, "lora" or "all"."""


class TextEncoder(Encoder):
    """Texts to vectors ``(B, D)``.

    The backbone is used layer by layer, so that a copy for fine-tuning can share its lower layers
    with the original and their outputs can be cached.

    Args:
        config: how it is read.
        backbone: a `transformers` encoder with `embeddings` and a list of layers.
        tokenizer: the fast tokenizer that belongs to it.

    Raises:
        InputError: `config.max_tokens` is more than it can read.
        WeightsError: the backbone is built in another way.
    """

    modality = "text"

    def __init__(self, *, config: TextConfig, backbone: Any, tokenizer: Any) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.backbone_config = backbone.config
        self.embeddings: nn.Module = backbone.embeddings
        self.layers = nn.ModuleList(_layers_of(backbone))
        if config.max_tokens > self.longest:
            raise InputError(
                f"text.max_tokens is {config.max_tokens}, but {config.source!r} reads {self.longest} tokens at most"
            )

    @classmethod
    def load(cls, config: TextConfig, *, weights: Path | None = None) -> TextEncoder:
        """Load a pretrained encoder.

        Args:
            config: names the source.
            weights: folder to look in before anything is downloaded.

        Raises:
            InputError: `config.max_tokens` is more than it can read.
            WeightsError: the source cannot be found or read, or is no BERT-family encoder.
        """
        source = resolve(config.source, folder=weights)
        transformers_logging.disable_progress_bar()
        try:
            tokenizer = AutoTokenizer.from_pretrained(source)
            backbone = AutoModel.from_pretrained(source, dtype=torch.float32, attn_implementation="sdpa")
        except (OSError, ValueError) as error:
            raise WeightsError(f"no text encoder could be loaded from {source!r}: {error}") from error
        encoder = cls(config=config, backbone=backbone, tokenizer=tokenizer).eval()
        encoder._check(backbone)
        return encoder

    @classmethod
    def empty(cls, config: TextConfig, folder: Path) -> TextEncoder:
        """The architecture and tokenizer that `save_shape` wrote, weights not loaded yet."""
        backbone = AutoModel.from_config(AutoConfig.from_pretrained(folder), attn_implementation="sdpa")
        return cls(config=config, backbone=backbone, tokenizer=AutoTokenizer.from_pretrained(folder)).eval()

    def save_shape(self, folder: Path) -> None:
        """Write architecture and tokenizer (not the weights) into `folder`."""
        self.backbone_config.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    @property
    def dimension(self) -> int:
        """Length D of a vector."""
        return int(self.backbone_config.hidden_size)

    @property
    def longest(self) -> int:
        """Most tokens it can read, special tokens included."""
        positions = getattr(self.embeddings, "position_embeddings", None)
        if positions is None:
            return sys.maxsize
        first = 0 if positions.padding_idx is None else positions.padding_idx + 1  # RoBERTa counts from there
        return positions.num_embeddings - first

    @property
    def reading(self) -> str:
        """Tokenizer and configuration."""
        return self.config.model_dump_json(exclude={"source", "tune"}) + _facts_of(self.tokenizer)

    @property
    def blocks(self) -> list[nn.Module]:
        """Its layers."""
        return list(self.layers)

    def prepare(self, content: str) -> list[int]:
        """Token ids of one text."""
        room = self.config.max_tokens - 2
        text = self.config.prefix + content
        return self.tokenizer(text, add_special_tokens=False, truncation=True, max_length=room, verbose=False)[
            "input_ids"
        ]

    def encode(self, prepared: Sequence[Sequence[int]]) -> Float[Tensor, "b d"]:
        """Vectors of token ids."""
        ids, mask = self.pad(prepared)
        return self(ids.to(self.device), mask.to(self.device))

    def examine(self, contents: Sequence[str]) -> None:
        """Warn where more than a tenth of the tokens are unknown to the vocabulary."""
        self.tokenize(contents)

    def tunable_copy(self, tune: Tune) -> TextEncoder:
        """A second encoder of the same origin for fine-tuning.

        Args:
            tune: how many upper layers are copied and may be trained; the layers below, and the embeddings, are shared
                with this encoder and stay frozen. "lora" copies all layers, to which `towers.tuning` adds what is
                trained; "all" copies everything.

        Raises:
            InputError: more layers than there are.
        """
        own = list(self.layers) if isinstance(tune, str) else top_blocks(list(self.layers), tune)
        shared = self.layers[: len(self.layers) - len(own)]
        other = copy.copy(self)
        other._modules = dict(self._modules)
        if tune == "all":
            other.embeddings = copy.deepcopy(self.embeddings)
        other.layers = nn.ModuleList([*shared, *map(copy.deepcopy, own)])
        other.requires_grad_(tune == "all")
        if isinstance(tune, int):
            other.layers[len(shared) :].requires_grad_(True)
        return other

    @property
    def frozen_layers(self) -> int:
        """How many of the lowest layers cannot change, so that their output may be cached; -1: not even embeddings."""
        if any(p.requires_grad for p in self.embeddings.parameters()):
            return -1
        trainable = [any(p.requires_grad for p in layer.parameters()) for layer in self.layers]
        return trainable.index(True) if True in trainable else len(trainable)

    def train(self, mode: bool = True) -> TextEncoder:
        """Training mode where weights are trained; frozen layers never drop anything out."""
        self.training = mode
        for part in (self.embeddings, *self.layers):
            part.train(mode and any(p.requires_grad for p in part.parameters()))
        return self

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, prefix included, special tokens not, cut to fit.

        Warns:
            UserWarning: more than a tenth of the tokens are unknown to the vocabulary.
        """
        return self.tokenize_plain([self.config.prefix + text for text in texts])

    def tokenize_plain(self, texts: Sequence[str]) -> list[list[int]]:
        """The same without the prefix, for pieces of a text."""
        if not texts:
            return []
        room = self.config.max_tokens - 2
        texts = list(texts)
        ids = self.tokenizer(texts, add_special_tokens=False, truncation=True, max_length=room, verbose=False)[
            "input_ids"
        ]
        self._warn_if_unknown(ids)
        return ids

    def with_specials(self, tokens: Sequence[int]) -> list[int]:
        """Add the tokens that mark beginning and end."""
        start = self.tokenizer.cls_token_id if self.tokenizer.cls_token_id is not None else self.tokenizer.bos_token_id
        end = self.tokenizer.sep_token_id if self.tokenizer.sep_token_id is not None else self.tokenizer.eos_token_id
        return [start, *tokens, end]

    def pad(self, tokens: Sequence[Sequence[int]]) -> tuple[Int[Tensor, "b t"], Bool[Tensor, "b t"]]:
        """Right-padded token ids and the mask of real ones, special tokens added."""
        rows = [torch.tensor(self.with_specials(row)) for row in tokens]
        lengths = torch.tensor([len(row) for row in rows])
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.tokenizer.pad_token_id or 0)
        return ids, torch.arange(ids.shape[1]) < lengths[:, None]

    def lower(self, ids: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"], upto: int) -> Float[Tensor, "b t d"]:
        """Hidden states after the first `upto` layers."""
        hidden = self.embeddings(input_ids=ids)
        return self._run(hidden, mask, self.layers[:upto])

    def upper(self, hidden: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"], start: int) -> Float[Tensor, "b d"]:
        """Pooled vectors from hidden states after `start` layers."""
        hidden = self._run(hidden, mask, self.layers[start:])
        if self.config.pooling == "cls":
            return hidden[:, 0]
        weight = mask[..., None].to(hidden.dtype)
        return (hidden * weight).sum(1) / weight.sum(1)

    def forward(self, ids: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b d"]:
        """Pooled vectors of padded token ids."""
        return self.upper(self.lower(ids, mask, 0), mask, 0)

    def _run(self, hidden: Tensor, mask: Tensor, layers: nn.ModuleList) -> Tensor:
        attention = None if bool(mask.all()) else mask[:, None, None, :].expand(-1, 1, mask.shape[1], -1)
        for layer in layers:
            hidden = layer(hidden, attention)
        return hidden

    def _check(self, backbone: nn.Module) -> None:
        """Refuse a backbone whose layers need more than hidden states, such as relative positions."""
        ids, mask = self.pad([[self.tokenizer.unk_token_id] * 2, [self.tokenizer.unk_token_id]])
        try:
            with torch.inference_mode():
                ours = self._run(self.embeddings(input_ids=ids), mask, self.layers)
                theirs = backbone(input_ids=ids, attention_mask=mask.long()).last_hidden_state
            same = torch.allclose(ours[mask], theirs[mask], atol=1e-4)
        except (TypeError, RuntimeError):
            same = False
        if not same:
            raise WeightsError(
                f"{self.config.source!r} is a {type(backbone).__name__}, whose layers cannot be run one by one: "
                "choose an encoder of the BERT, RoBERTa or DistilBERT family"
            )

    def _warn_if_unknown(self, ids: list[list[int]]) -> None:
        unknown = self.tokenizer.unk_token_id
        total = sum(map(len, ids))
        count = sum(row.count(unknown) for row in ids)
        if total and count > UNKNOWN_SHARE * total:
            warnings.warn(
                f"{count:,} of {total:,} tokens are unknown to the vocabulary of {self.config.source!r}: "
                "the text is probably in a language it was not made for; choose another encoder",
                UserWarning,
                stacklevel=3,
            )


def embed_texts(encoder: TextEncoder, texts: Sequence[str], *, batch_size: int = 64) -> np.ndarray:
    """Vectors float32 ``(N, D)`` of texts, sorted by length inside so that little is padded."""
    tokens = encoder.tokenize(texts)
    order = sorted(range(len(tokens)), key=lambda n: len(tokens[n]))
    vectors = np.empty((len(tokens), encoder.dimension), np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            vectors[rows] = encoder.encode([tokens[n] for n in rows]).float().cpu().numpy()
    return vectors


def _facts_of(tokenizer: Any) -> str:
    """A tokenizer as JSON, without what its last call left behind."""
    facts = json.loads(tokenizer.backend_tokenizer.to_str())
    return json.dumps({**facts, "truncation": None, "padding": None}, sort_keys=True)


def _layers_of(backbone: Any) -> nn.ModuleList:
    for path in ("encoder.layer", "transformer.layer", "layers"):
        try:
            return backbone.get_submodule(path)
        except AttributeError:
            continue
    raise WeightsError(f"{type(backbone).__name__} is not a BERT-family encoder: no list of layers was found in it")
