"""Masked-language pre-training (arXiv 1810.04805): the text encoder goes on with it on the catalog's own texts.

It comes before everything else that is trained, so both sides of the model begin with what came out. Texts of all items
are read, also of those that a split holds out: what an item is, is known before anybody has met it; no event is looked
at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from towers.catalog import Catalog
from towers.errors import InputError, WeightsError
from towers.model import TwoTower
from towers.precision import at_least_single, autocast
from towers.text import TextEncoder
from training.config import PretrainConfig
from training.optimizer import Descent
from training.ranks import Ranks, process_state

HIDDEN, RANDOM = 0.8, 0.1  # of the tokens to be guessed: shares behind the mask, and replaced by any other; rest: as is


def pretrain(
    model: TwoTower, catalog: Catalog, config: PretrainConfig, *, seed: int, progress: bool = False
) -> list[float]:
    """Train the model's text encoder, all of it, to guess tokens of items' texts; in place.

    Nothing is kept on the way: a training that was killed does this again, with the same weights in the end.

    Args:
        model: untrained; its text reader is a copy of the item side, and is one again afterwards.
        catalog: its texts by the item template, equal ones once.
        config: settings; with 0 epochs nothing happens at all.
        seed: fixes order, masks, dropout and the weights of the head; other random numbers are left as they are.
        progress: show a bar on standard error.

    Returns:
        The mean loss of each epoch, in nats a token.

    Raises:
        InputError: nothing reads text, no item has one, or the encoder is no transformer.
        WeightsError: the encoder has no token for masks.
        TwoTowerError: the loss is no number any more.
    """
    if not config.epochs:
        return []
    if not model.config.item.text and model.user.text is None:
        raise InputError("pretrain.epochs is above 0, but nothing reads text: set it to 0, or turn on user.text")
    encoder, ranks, device = model.encoder, Ranks.current(), process_state().device
    if not isinstance(encoder, TextEncoder):
        raise InputError(f"pretrain.epochs is above 0, but {type(encoder).__name__} guesses no words: set it to 0")
    losses: list[float] = []
    if ranks.leads:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            losses = _train(encoder.to(device), catalog.texts(model.template), config, seed, progress)
        encoder.cpu()
    with ranks.told(), ranks.together():
        encoder.load_state_dict(ranks.agree(encoder.state_dict()))
        losses = ranks.agree(losses)
    model.follow_text_encoder()
    return losses


class MaskedHead(nn.Module):
    """Hidden states to logits over the vocabulary: BERT's head, new, with the weights of the input embeddings.

    Args:
        words: the input embeddings ``(V, C)``, shared.
        hidden: width of hidden states.
    """

    def __init__(self, words: nn.Embedding, hidden: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden, words.embedding_dim)
        self.norm = nn.LayerNorm(words.embedding_dim)
        self.bias = nn.Parameter(torch.zeros(words.num_embeddings))
        self.words = words

    def forward(self, hidden: Float[Tensor, "p h"]) -> Float[Tensor, "p v"]:
        """Logits of P places."""
        return F.linear(self.norm(F.gelu(self.dense(hidden))), self.words.weight, self.bias)


class MaskedReader(nn.Module):
    """An encoder that guesses tokens.

    Args:
        encoder: its weights are trained.

    Raises:
        WeightsError: it has no token for masks, or no embeddings of words.
    """

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        words = getattr(encoder.embeddings, "word_embeddings", None)
        if encoder.tokenizer.mask_token_id is None or not isinstance(words, nn.Embedding):
            raise WeightsError(
                f"{encoder.config.source!r} has no mask token or no word embeddings, so it cannot be pre-trained by "
                "masks: set pretrain.epochs to 0, or choose an encoder of the BERT, RoBERTa or DistilBERT family"
            )
        self.encoder = encoder
        self.head = MaskedHead(words, encoder.dimension)

    def forward(
        self,
        ids: Int[Tensor, "b t"],
        mask: Bool[Tensor, "b t"],
        targets: Int[Tensor, "b t"],
        asked: Bool[Tensor, "b t"],
    ) -> Float[Tensor, " p"]:
        """Cross-entropy at each of the P places asked, of what stood there.

        Args:
            ids: tokens, some of them hidden.
            mask: real tokens.
            targets: tokens as they were.
            asked: where they are to be guessed.
        """
        hidden = self.encoder.lower(ids, mask, len(self.encoder.layers))
        return F.cross_entropy(at_least_single(self.head(hidden[asked])), targets[asked], reduction="none")


class Masker:
    """Chooses the tokens to be guessed, and hides them.

    Args:
        share: of each text's tokens, at least one.
        hides: the token that stands where another is hidden.
        ordinary: which tokens of the vocabulary are not special; only these are chosen, and only these replace others.
        generator: every draw comes from it.
    """

    def __init__(self, share: float, hides: int, ordinary: Bool[Tensor, " v"], generator: torch.Generator) -> None:
        self.ordinary = ordinary
        self._share, self._hides, self._generator = share, hides, generator
        self._others = ordinary.nonzero()[:, 0]

    @classmethod
    def of(cls, tokenizer: Any, share: float, seed: int) -> Masker:
        """For the vocabulary of a tokenizer that has a token for masks."""
        ordinary = torch.ones(len(tokenizer), dtype=torch.bool)
        ordinary[tokenizer.all_special_ids] = False
        return cls(share, tokenizer.mask_token_id, ordinary, torch.Generator().manual_seed(seed))

    def __call__(
        self, ids: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"]
    ) -> tuple[Int[Tensor, "b t"], Bool[Tensor, "b t"]]:
        """Tokens of which some are hidden, and where those are; `mask` says which are no padding."""
        able = self.ordinary[ids] & mask
        rank = self._random(ids).masked_fill(~able, 2.0).argsort(1).argsort(1)
        asked = able & (rank < (self._share * able.sum(1, keepdim=True)).round().clamp(min=1))
        fate = self._random(ids)
        other = self._others[torch.randint(len(self._others), ids.shape, generator=self._generator)]
        replaced = torch.where(fate < HIDDEN, self._hides, torch.where(fate < HIDDEN + RANDOM, other, ids))
        return torch.where(asked, replaced, ids), asked

    def _random(self, ids: Tensor) -> Float[Tensor, "b t"]:
        return torch.rand(ids.shape, generator=self._generator)


def _train(
    encoder: TextEncoder, texts: Sequence[str], config: PretrainConfig, seed: int, progress: bool
) -> list[float]:
    """AdamW over batches of texts of like length; the mean loss of each epoch."""
    reader = MaskedReader(encoder).to(encoder.device)
    masker = Masker.of(encoder.tokenizer, config.mask, seed)
    tokens = _tokens(encoder, texts, masker.ordinary)
    encoder.requires_grad_(True)
    steps = config.epochs * -(-len(tokens) // config.texts)
    descent = Descent(reader, config, steps, name="pre-training", setting="pretrain.rate_pretrained")
    rng, losses, screen = np.random.default_rng(seed), [], Console(stderr=True)
    reader.train()
    for _ in track(range(config.epochs), "pre-training on texts", console=screen, disable=not progress):
        found = []
        for rows in _of_like_length([len(one) for one in tokens], config.texts, rng):
            ids, mask = encoder.pad([tokens[row] for row in rows])
            hidden, asked = masker(ids, mask)
            with autocast(encoder.device):
                each = reader(*(one.to(encoder.device) for one in (hidden, mask, ids, asked)))
            descent.step(each.mean())
            found.append(each.detach())
        losses.append(float(torch.cat(found).mean()))
    reader.zero_grad()
    encoder.requires_grad_(False).eval()
    return losses


def _tokens(encoder: TextEncoder, texts: Sequence[str], ordinary: Tensor) -> list[list[int]]:
    """Token ids of the distinct texts in which there is something to guess."""
    tokens = [one for one in encoder.tokenize(list(dict.fromkeys(texts))) if ordinary[one].any()]
    if not tokens:
        raise InputError("pretrain.epochs is above 0, but no item has a text to learn from: set it to 0")
    return tokens


def _of_like_length(lengths: list[int], size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """All rows, `size` of like length at a time, in random order; which are together changes with each call."""
    order = np.lexsort((rng.random(len(lengths)), np.array(lengths)))
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    for place in rng.permutation(len(batches)):
        yield batches[place]
