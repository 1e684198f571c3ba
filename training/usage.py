"""How people use items, as vectors: the log's own directions, for encoders to be tuned by."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from towers.history import Histories

FACTORS, FEWEST, ROUNDS = 64, 3, 4


def usage(past: Histories, items: int) -> Float[Tensor, "n f"]:
    """Item factors of a truncated singular value decomposition of the matrix of items and people.

    Each person's column and each item's row is divided by the root of its number of events, so that neither the busy
    nor the popular decide alone.

    Args:
        past: events.
        items: size N of the catalog.

    Returns:
        float32 ``(N, F)``, at most 64 factors; zero for an item with fewer than three events.
    """
    pairs = np.unique(np.stack([past.items, past.people]), axis=1)
    of_items, of_people = np.bincount(pairs[0], minlength=items), np.bincount(pairs[1])
    values = 1 / np.sqrt(of_items[pairs[0]] * of_people[pairs[1]])
    matrix = torch.sparse_coo_tensor(
        torch.from_numpy(pairs), torch.from_numpy(values), (items, len(of_people)), check_invariants=True
    )
    factors = min(FACTORS, *matrix.shape)
    left, strength, _ = torch.svd_lowrank(matrix, q=factors, niter=ROUNDS)
    known = torch.from_numpy(of_items >= FEWEST)
    return (left * strength * known[:, None]).float()
