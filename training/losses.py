"""The contrastive loss of each example: plain functions on tensors."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from towers.precision import at_least_single
from training.log_sum_exp import log_sum_exp


def softmax_loss(positive: Float[Tensor, " p"], negatives: Float[Tensor, " p"]) -> Float[Tensor, " p"]:
    """Cross-entropy of each positive against its own negatives.

    ``-log(exp(s+) / (exp(s+) + sum_j exp(s_j)))``. The positive is never one of the negatives.

    Args:
        positive: logits of P positives.
        negatives: ``log sum_j exp(s_j)`` over the negatives of each; -inf without any.
    """
    return F.softplus(negatives - positive)


def contrastive(
    queries: Float[Tensor, "p ..."],
    positives: Float[Tensor, "p d"],
    shared: Float[Tensor, "m d"],
    *,
    scale: Float[Tensor, ""],
    left_out: Bool[Tensor, "p m"],
    log_weight: Float[Tensor, " m"] | None = None,
    positive_log_weight: Float[Tensor, " p"] | None = None,
    own: Float[Tensor, "p h d"] | None = None,
    own_left_out: Bool[Tensor, "p h"] | None = None,
) -> Float[Tensor, " p"]:
    """Each positive against negatives that all queries share and, where there are any, negatives of its own.

    With the whole catalog as shared negatives this is the full softmax. With a sample, ``sum_j w_j exp(s_j)`` stands
    for the sum of ``exp(s_i)`` over the catalog; the weights are added to the logits as logarithms, after the
    temperature (`training.negatives`).

    With K > 1 interests an item's logit is ``log sum_k exp(s_k)`` over them, which lies at most log K above the best of
    them, by which it is searched for: the best alone would leave an interest that never is the best without gradients.
    Corrections and what is left out apply to it as to any other.

    Args:
        queries: unit vectors of P queries ``(P, D)``, or of the K interests of each ``(P, K, D)``.
        positives: unit vector of each query's item.
        shared: unit vectors of M items.
        scale: inverse temperature, multiplies the cosine.
        left_out: shared items that are no negatives of a query: its own item, what its person is known to like, and
            what stands among its own negatives.
        log_weight: logarithm of the weight of each shared item; default: 0.
        positive_log_weight: the same of the positives. The standard form of logQ corrects them as if they had been
            sampled, too; without it this is the refined form, whose gradient, ``1 - P(positive)`` times that of
            the positive against the negatives alone, is the full softmax's in expectation (arXiv 2507.09331).
        own: unit vectors of H items for each query; each counts once.
        own_left_out: those among them that are no negatives.
    """
    several = queries.ndim == 3
    sharp = scale * queries
    positive = at_least_single((sharp * (positives[:, None] if several else positives)).sum(-1))
    negatives = log_sum_exp(sharp.flatten(0, -2), shared, left_out, log_weight)
    if several:
        positive, negatives = positive.logsumexp(1), negatives.view_as(positive).logsumexp(1)
    if positive_log_weight is not None:
        positive = positive + positive_log_weight.to(positive.dtype)
    if own is not None:
        assert own_left_out is not None
        more = at_least_single((own @ sharp.mT).logsumexp(2) if several else (own @ sharp[:, :, None])[:, :, 0])
        more = more.masked_fill(own_left_out, -torch.inf)
        negatives = torch.cat([negatives[:, None], more], 1).logsumexp(1)
    return softmax_loss(positive, negatives)
