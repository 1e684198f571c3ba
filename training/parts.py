"""Batches larger than memory: rows are worked on part by part, and each part again when its gradients are wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Shaped
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def in_parts(work: Callable[..., Tensor], *rows: Shaped[Tensor, "b ..."], size: int) -> Shaped[Tensor, "b ..."]:
    """``work(*rows)``, so many rows at a time.

    What is kept for the gradients is what goes in and what comes out, not what lies between; that is computed again,
    part by part. A loss may then look at all of a large batch at once, with the gradients of the whole, as in GradCache
    (arXiv 2101.06983). One part alone is computed as ever. Dropout draws the same numbers again, but other ones than
    for the whole.

    Args:
        work: a function of rows, each on its own.
        rows: tensors of B rows.
        size: most rows of a part.
    """
    if len(rows[0]) <= size or not torch.is_grad_enabled():
        return work(*rows)
    return _one_by_one(work, [tensor.split(size) for tensor in rows])


def in_as_many_parts(
    work: Callable[..., Tensor], *rows: Shaped[Tensor, "b ..."], count: int
) -> Shaped[Tensor, "b ..."]:
    """``work(*rows)`` in so many parts, for processes that must do the same work equally often.

    Where a process has fewer rows, or none, ones stand in for them, and what becomes of those is left out.

    Args:
        work: as in `in_parts`.
        rows: tensors of B rows.
        count: at least 1.
    """
    missing = max(0, count - len(rows[0]))
    filled = [torch.cat([tensor, tensor.new_ones(missing, *tensor.shape[1:])]) for tensor in rows]
    if count == 1:
        return work(*filled)[: len(rows[0])]
    return _one_by_one(work, [tensor.tensor_split(count) for tensor in filled])[: len(rows[0])]


def _one_by_one(work: Callable[..., Tensor], parts: list[Sequence[Tensor]]) -> Tensor:
    return torch.cat([checkpoint(work, *part, use_reentrant=False) for part in zip(*parts, strict=True)])
