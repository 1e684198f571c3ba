"""What each word that BERT reads adds to a score: integrated gradients over its word vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from towers.text_reader import TextReader

STEPS = 8  # points of Gauss and Legendre on the way from masked words to the words
MARKERS = ("Ġ", "▁")  # how some tokenizers write that a word begins


def token_values(reader: TextReader, tokens: Sequence[int], direction: Tensor) -> tuple[np.ndarray, float]:
    """What each token adds to the reader's vector along a direction, against its mask; and what masks alone say.

    Integrated gradients (Sundararajan, Taly and Yan, ICML 2017) from a text whose every token is masked; what they add
    up to is the inner product of `direction` and the reader's vector, less that of the masked text, which is told
    beside them, but for the error of so few steps.

    Args:
        reader: in evaluation mode.
        tokens: T of them, without special tokens.
        direction: float32 ``(D,)``.

    Returns:
        float64 ``(T,)``, and the inner product of the masked text.
    """
    encoder, device = reader.encoder, direction.device
    ids, mask = (part.to(device) for part in encoder.pad([tokens]))
    masked = ids.clone()
    masked[:, 1:-1] = _mask_of(encoder.tokenizer)
    places, weights = np.polynomial.legendre.leggauss(STEPS)
    at = torch.tensor([0, *(places + 1) / 2], dtype=torch.float32, device=device)[:, None, None]
    shares = torch.tensor([0, *weights / 2], dtype=torch.float32, device=device)
    with torch.no_grad():
        start, end = encoder.embeddings(input_ids=masked), encoder.embeddings(input_ids=ids)
    with torch.inference_mode(False), torch.enable_grad():
        path = (start + at * (end - start)).clone().requires_grad_(True)
        said = reader.read_hidden(path, mask.expand(len(path), -1), 0) @ direction.clone()
        (slopes,) = torch.autograd.grad(said @ shares, path)
    values = ((end - start)[0].double() * slopes.double().sum(0)).sum(-1)
    return values.cpu().numpy()[1:-1], float(said.detach()[0])


def words_of(tokenizer: Any, tokens: Sequence[int], groups: Sequence[int]) -> list[tuple[str, list[int]]]:
    """Words and the places of their tokens; no word spans two of `groups`, one for each token."""
    written = tokenizer.convert_ids_to_tokens(list(tokens))
    marked = any(one.startswith(MARKERS) for one in written)
    found: list[list[int]] = []
    for place, token in enumerate(written):
        inside = token.startswith("##") or (marked and not token.startswith(MARKERS))
        if inside and found and groups[found[-1][-1]] == groups[place]:
            found[-1].append(place)
        else:
            found.append([place])
    return [(tokenizer.decode([tokens[place] for place in places]).strip(), places) for places in found]


def _mask_of(tokenizer: Any) -> int:
    """The token that stands for any word."""
    for token in (tokenizer.mask_token_id, tokenizer.unk_token_id, tokenizer.pad_token_id):
        if token is not None:
            return token
    return 0
