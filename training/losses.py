"""The contrastive loss of each example: plain functions on tensors."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F


def softmax_loss(positive: Float[Tensor, " p"], negatives: Float[Tensor, "p m"]) -> Float[Tensor, " p"]:
    """Cross-entropy of each positive against its own negatives.

    ``-log(exp(s+) / (exp(s+) + sum_j exp(s_j)))``. The positive is never one of the negatives, and only
    negatives carry a sampling correction (arXiv 2507.09331).

    Args:
        positive: logits of P positives.
        negatives: logits of M negatives for each; -inf takes one out.
    """
    rest = torch.logsumexp(negatives, dim=1)
    return F.softplus(rest - positive)


def full_softmax(
    queries: Float[Tensor, "p d"],
    items: Float[Tensor, "n d"],
    targets: Int[Tensor, " p"],
    *,
    scale: Float[Tensor, ""],
    known: Bool[Tensor, "p n"],
) -> Float[Tensor, " p"]:
    """Every item of the catalog is a negative, except the target and what the person is known to like.

    Args:
        queries: unit vectors.
        items: unit vectors of the whole catalog.
        targets: the positive item of each query.
        scale: inverse temperature, multiplies the cosine.
        known: items that are not negatives for this query; the target counts as one in any case.
    """
    logits = scale * (queries @ items.T).float()
    positive = logits.gather(1, targets[:, None])
    negatives = logits.masked_fill(known, -torch.inf).scatter(1, targets[:, None], -torch.inf)
    return softmax_loss(positive[:, 0], negatives)


def sampled_softmax(
    queries: Float[Tensor, "p d"],
    items: Float[Tensor, "n d"],
    targets: Int[Tensor, " p"],
    *,
    scale: Float[Tensor, ""],
    candidates: Int[Tensor, " m"],
    log_weight: Float[Tensor, " m"],
    known: Bool[Tensor, "p m"],
) -> Float[Tensor, " p"]:
    """A sample of the catalog stands for all of it.

    The correction is added to the logit after the temperature, so that
    ``sum_j w_j exp(s_j)`` over the sample estimates ``sum_i exp(s_i)`` over the catalog without bias.

    Args:
        queries, items, targets, scale: as in `full_softmax`.
        candidates: M sampled catalog rows, all different.
        log_weight: log of (times drawn / times expected) of each candidate.
        known: candidates that are not negatives for this query; one that is the query's own target
            (an accidental hit) is left out in any case.
    """
    positive = scale * (queries * items[targets]).sum(-1).float()
    logits = scale * (queries @ items[candidates].T).float() + log_weight
    hit = known | (candidates == targets[:, None])
    return softmax_loss(positive, logits.masked_fill(hit, -torch.inf))
