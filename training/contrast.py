"""One contrast: queries, the items they should find, and all that stands beside these as negatives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from training.config import TrainConfig
from training.items import Items, ItemVectors
from training.losses import contrastive
from training.mining import HardNegatives
from training.negatives import Candidates, Known, among, with_targets
from training.parts import in_parts
from training.ranks import Ranks


@dataclass(frozen=True)
class Asked:
    """What a step's queries are asked for.

    Args:
        targets: ``(P,)`` the item that each query should find.
        people: int64 ``(B,)`` rows of the training histories.
        owner: ``(P,)`` whose query it is, as a row of `people`.
        weights: ``(P,)`` how much each counts.
        sample: what stands for the catalog among the negatives; None: all of it.
        own: which of the P queries this process has; others have the others.
    """

    targets: Int[Tensor, " p"]
    people: np.ndarray
    owner: Int[Tensor, " p"]
    weights: Float[Tensor, " p"]
    sample: Candidates | None
    own: slice

    def weighed(self, losses: Float[Tensor, " own"]) -> Float[Tensor, " own"]:
        """This process's losses, each as much as it counts."""
        return losses * self.weights[self.own].to(losses)


class Contrast:
    """Compares queries with their items and with negatives, known positives and duplicates left out.

    Args:
        items: the training catalog.
        known: what each person is known to like.
        hard: negatives of each person's own, which stand beside a sample; None for none.
        config: the correction, and how many people are compared at once.
        ranks: which process this is.
    """

    def __init__(
        self, items: Items, known: Known, hard: HardNegatives | None, config: TrainConfig, ranks: Ranks
    ) -> None:
        self._items, self._known, self._hard, self._config, self._ranks = items, known, hard, config, ranks

    def __call__(
        self, queries: Float[Tensor, "own ..."], vectors: ItemVectors, asked: Asked, scale: Float[Tensor, ""]
    ) -> Float[Tensor, ""]:
        """The mean loss of P queries, as much as each counts, as far as this process has them; see `Ranks.mean`.

        Args:
            queries: unit vectors of its own, ``(own, D)``, or ``(own, K, D)`` for K interests.
            vectors: of the items that they are compared with.
            asked: what they are asked for.
            scale: inverse temperature.
        """
        device, sample = vectors.values.device, asked.sample
        items = self._items.rows if sample is None else sample.items.to(device)
        shared = vectors.values if sample is None else self._shared(vectors, items, sample)
        known = self._known.of_catalog(asked.people) if sample is None else self._known.of(asked.people, items)
        barred = known.to(device) | self._items.unmet[items]
        log_weight, targets_log_weight = self._corrections(sample, device)
        own = None
        if self._hard is not None:
            own = self._hard.of(asked.people).to(device)
            own_vectors = vectors.of(own.clamp(min=0))
            barred = barred | among(items, own)

        def losses(queries: Tensor, row: Tensor) -> Tensor:
            targets, owner = asked.targets[row], asked.owner[row]
            more: dict[str, Tensor] = {}
            if own is not None:
                no_negative = (own[owner] < 0) | (own[owner] == targets[:, None])
                more = {"own": own_vectors[owner], "own_left_out": no_negative}
            return contrastive(
                queries,
                vectors.of(targets),
                shared,
                scale=scale,
                left_out=with_targets(barred[owner], items, targets),
                log_weight=log_weight,
                positive_log_weight=None if targets_log_weight is None else targets_log_weight[row],
                **more,
            )

        size = self._config.part * -(-len(asked.targets) // len(asked.people))  # rows of as many people as a part has
        rows = torch.arange(len(asked.targets), device=device)[asked.own]
        return self._ranks.mean(asked.weighed(in_parts(losses, queries, rows, size=size)), len(asked.targets))

    def _corrections(self, sample: Candidates | None, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
        """What is added to the logits of negatives and of positives."""
        if sample is None or self._config.correction == "none":
            return None, None
        standard = self._config.correction == "standard"
        return sample.log_weight.to(device), sample.targets_log_weight.to(device) if standard else None

    def _shared(self, vectors: ItemVectors, items: Int[Tensor, " m"], sample: Candidates) -> Float[Tensor, "m d"]:
        """Today's vectors of a sample's items and, for those that the memory alone has, the ones it kept."""
        if sample.raised is None:
            return vectors.of(items)
        fresh = sample.fresh.to(items.device)
        today = vectors.of(items[fresh])
        if self._config.correction != "none":
            today = steeper(today, sample.raised[sample.fresh].to(today))
        empty = torch.zeros(len(items), today.shape[1], dtype=today.dtype, device=items.device)
        found = empty.index_put((fresh.nonzero()[:, 0],), today)
        return found.index_put(((~fresh).nonzero()[:, 0],), sample.kept.to(found))


def steeper(vectors: Float[Tensor, "m d"], times: Float[Tensor, " m"]) -> Float[Tensor, "m d"]:
    """The same vectors, the gradient of each of which counts so many times."""
    return vectors.detach() + times[:, None] * (vectors - vectors.detach())
