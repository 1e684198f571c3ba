"""Hard negatives: for each person the nearest items that they have not met, found with the project's own index."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from towers.history import Histories
from training.ranker import IndexRanker


class HardNegatives:
    """Lists of items, one for each person, which `mine` fills anew from time to time.

    In the loss each of them counts once and nothing drawn stands for it, so that it changes how well the sum over the
    catalog is known, not what it is: the terms that matter most are taken as they are, the rest is estimated.

    Args:
        people: number of people P of the training histories.
        each: items H of each person.
    """

    def __init__(self, people: int, each: int) -> None:
        self.lists: Int[Tensor, "p h"] = torch.full((people, each), -1)

    def of(self, people: np.ndarray) -> Int[Tensor, "b h"]:
        """The lists of int64 ``(B,)`` people; -1 where there are fewer."""
        return self.lists[torch.from_numpy(people)]

    def mine(self, ranker: IndexRanker, past: Histories, unmet: Bool[Tensor, " n"]) -> None:
        """Fill the lists.

        Args:
            ranker: asks the index of the model as it is now.
            past: training histories of P people; who has none keeps an empty list.
            unmet: ``(N,)`` items that nobody has met, which are nobody's negatives and not looked among.
        """
        people = np.flatnonzero(past.lengths)
        found = ranker.among(~unmet.cpu().numpy()).retrieve(past.take(people), self.lists.shape[1])
        self.lists[torch.from_numpy(people)] = torch.tensor(found.rows)
