"""The logarithm of a sum over many negatives, block by block: the logits of all queries never exist at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from towers.precision import at_least_single

ROWS = 128  # of a block, whose logits stay in a processor's cache
ON_A_CARD = 8192  # and of one that keeps a card busy for longer than it takes to be told


def log_sum_exp(
    queries: Float[Tensor, "r d"],
    items: Float[Tensor, "m d"],
    left_out: Bool[Tensor, "p m"],
    log_weight: Float[Tensor, " m"] | None = None,
) -> Float[Tensor, " r"]:
    """``log sum_j w_j exp(q_r · v_j)`` over what is not left out; -inf where everything is.

    Between the passes one number a query is kept; the second multiplies the matrices anew, block by block, which takes
    less time than reading logits that have left the cache. Under autocast products are of its type, sums are not.

    Args:
        queries: R queries, times the inverse temperature.
        items: M items.
        left_out: of P queries, each of which has R / P rows, one after the other.
        log_weight: logarithm of the weight of each item, which gets no gradient; default: 0.
    """
    device = queries.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        queries, items = queries.to(dtype), items.to(dtype)
    return _LogSumExp.apply(queries, items, left_out, log_weight)


class _LogSumExp(Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, items: Tensor, left_out: Tensor, log_weight: Tensor | None) -> Tensor:
        blocks = _blocks(queries, items, left_out, log_weight)
        sums = torch.cat([queries.new_empty(0, dtype=torch.float32), *(logits.logsumexp(1) for _, logits in blocks)])
        ctx.save_for_backward(queries, items, left_out, log_weight, sums)
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        queries, items, left_out, log_weight, sums = ctx.saved_tensors
        nothing = sums.isneginf()  # to be told apart, and so nothing to be learned, even if the gradient is NaN
        sums, gradient = sums.masked_fill(nothing, 0), gradient.masked_fill(nothing, 0)
        of_queries, of_items = torch.empty_like(queries), torch.zeros_like(items, dtype=sums.dtype)
        for rows, logits in _blocks(queries, items, left_out, log_weight):
            shares = logits.sub_(sums[rows, None]).exp_().mul_(gradient[rows, None]).to(queries.dtype)
            of_queries[rows] = shares @ items
            of_items += shares.T @ queries[rows]
        return of_queries, of_items.to(items.dtype), None, None


def _blocks(
    queries: Tensor, items: Tensor, left_out: Tensor, log_weight: Tensor | None
) -> Iterator[tuple[slice, Tensor]]:
    """Which rows, and their logits."""
    each = len(queries) // max(1, len(left_out))
    size = max(1, (ROWS if queries.device.type == "cpu" else ON_A_CARD) // max(1, each))
    for start in range(0, len(left_out), size):
        barred = left_out[start : start + size]
        rows = slice(start * each, (start + len(barred)) * each)
        logits = at_least_single(queries[rows] @ items.T)
        if log_weight is not None:
            logits += log_weight.to(logits.dtype)
        yield rows, logits.masked_fill_(barred if each == 1 else barred.repeat_interleave(each, 0), -torch.inf)
