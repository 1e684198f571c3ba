"""Batches larger than memory: rows are worked on part by part, and each part again when its gradients are wanted."""

from __future__ import annotations

from collections.abc import Callable

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
    parts = zip(*(tensor.split(size) for tensor in rows), strict=True)
    return torch.cat([checkpoint(work, *part, use_reentrant=False) for part in parts])
