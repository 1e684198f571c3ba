"""The model with all that it is taught: one forward pass is one training step."""

from __future__ import annotations

from collections.abc import Collection

import torch
from jaxtyping import Float
from torch import Tensor, nn

from towers.model import TwoTower
from training.anchors import AnchorTexts
from training.config import TrainConfig
from training.items import Items
from training.mining import HardNegatives
from training.negatives import Known, Negatives
from training.ranks import Ranks
from training.sampling import Windows
from training.step import Ground, Sentences, SentenceVectors, Step
from training.tasks import ALIKE, SQUARED, tasks
from training.weighting import FixedWeights, UncertaintyWeights


class Objective(nn.Module):
    """The model with its losses, so that one forward pass is one training step.

    Args:
        model: both towers.
        items: the training catalog.
        known: what each person is known to like.
        negatives: sampler, or None for the full softmax.
        anchor_negatives: the same for the text reader, whose targets are those of anchors; default: `negatives`.
        hard: negatives of each person's own, or None.
        config: weights of the losses.
        ranks: which part of a step this process reads; default: all of it.
    """

    def __init__(
        self,
        *,
        model: TwoTower,
        items: Items,
        known: Known,
        negatives: Negatives | None,
        anchor_negatives: Negatives | None = None,
        hard: HardNegatives | None = None,
        config: TrainConfig,
        ranks: Ranks | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        ranks = ranks or Ranks()
        self._ground = Ground(items, known, negatives, anchor_negatives or negatives, hard, config, ranks)
        self._tasks = tasks(config, model.config.item.dimension)
        self.heads = nn.ModuleDict({name: task for name, task in self._tasks.items() if isinstance(task, nn.Module)})
        self.weighting = (
            FixedWeights(config.weights) if config.weighting == "fixed" else UncertaintyWeights(self._tasks, SQUARED)
        )
        for own in (self.heads, self.weighting):
            own.to(model.log_scale.dtype)

    def forward(
        self,
        windows: Windows,
        anchors: AnchorTexts | None,
        sentences: Sentences | SentenceVectors | None,
        generator: torch.Generator,
    ) -> dict[str, Float[Tensor, ""]]:
        """Losses by name; ``"loss"`` is all of them. Of several processes, the mean of theirs is the step's.

        Args:
            windows: pasts of B people.
            anchors: events after which the text reader reads, None where it does not train.
            sentences: sentence → item pairs, or None.
            generator: of the sampled negatives, on the CPU.
        """
        step = Step(self.model, self._ground, windows, anchors, sentences, generator)
        losses = self._losses(step, [name for name in self._tasks if name in ALIKE])
        if self._ground.ranks.count > 1:
            self._ground.ranks.part()
        losses |= self._losses(step, [name for name in self._tasks if name not in ALIKE])
        step.remember()
        nothing = 0 * step.vectors.values.sum()  # windows of long pasts may hold no anchor at all
        return {"loss": self.weighting(losses, nothing), **losses}

    def _losses(self, step: Step, names: Collection[str]) -> dict[str, Tensor]:
        found = {name: self._tasks[name](self.model, step) for name in names}
        return {name: loss for name, loss in found.items() if loss is not None}
