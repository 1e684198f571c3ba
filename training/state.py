"""The state of a run: all that the next step depends on and a new process could not build again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from towers.errors import ArtefactError
from training.checkpoint import Snapshot
from training.mining import HardNegatives
from training.negatives import Memory
from training.sharding import placed, whole

WEIGHTS, BEST, MOMENTS, MEMORIES = "weights/", "best/", "optimizer/", "memory/"
ORDER, GENERATOR, HARD = "order", "random negatives", "hard negatives"


@dataclass
class Place:
    """Where a run stands.

    Args:
        epoch: the current one, 0 before the first.
        order: int64 ``(P,)`` people in the order of this epoch.
        done: steps of this epoch that are done.
        sums, steps: of this epoch's losses, and in how many steps there was such a loss, by name.
        norms: of the gradients of its first step, one for each loss, where a validation follows.
        best: the weights that validated best in this phase, None before the first validation.
        best_epoch: when that was.
        best_value: what they reached.
        waited: validations since then.
        skipped: steps that an early stop of the first phase left out.
    """

    epoch: int = 0
    order: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    done: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    norms: dict[str, float] = field(default_factory=dict)
    best: dict[str, Tensor] | None = None
    best_epoch: int = 0
    best_value: float = -1.0
    waited: int = 0
    skipped: int = 0

    def begin_phase(self, last: int) -> None:
        """Nothing is the best yet; without any validation the `last` epoch is."""
        self.best, self.best_epoch, self.best_value, self.waited = None, last, -1.0, 0

    def begin_epoch(self, epoch: int, order: np.ndarray) -> None:
        """Nobody has trained in it yet."""
        self.epoch, self.order, self.done, self.sums, self.steps, self.norms = epoch, order, 0, {}, {}, {}

    def validated(self, value: float) -> bool:
        """Whether the current weights are the best of the phase."""
        better = value > self.best_value
        if better:
            self.best_epoch, self.best_value = self.epoch, value
        self.waited = 0 if better else self.waited + 1
        return better

    @property
    def losses(self) -> dict[str, float]:
        """Of this epoch, by name: means over the steps in which there was such a loss."""
        return {name: total / self.steps[name] for name, total in self.sums.items()}

    def stepped(self, losses: dict[str, float]) -> None:
        """One step of the epoch is done."""
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.steps[name] = self.steps.get(name, 0) + 1
        self.done += 1


@dataclass
class State:
    """The parts of a run that change while it trains.

    Args:
        model, optimizer, schedule: as they are trained, the model with what its losses have of weights.
        rng, generator: of order, windows, anchors and sentences; of sampled negatives. What else is random in a step
            depends on its number alone.
        place: where the run stands.
        memories: of sampled negatives, by name.
        hard: each person's own negatives.
    """

    model: nn.Module
    optimizer: Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    rng: np.random.Generator
    generator: torch.Generator
    place: Place
    memories: dict[str, Memory] = field(default_factory=dict)
    hard: HardNegatives | None = None

    def weights(self, reads_text: bool) -> dict[str, nn.Parameter]:
        """The weights that the optimizer changes, by name; the text reader's only where it reads."""
        groups = [group for group in self.optimizer.param_groups if reads_text or not group["reads_text"]]
        chosen = {id(parameter) for group in groups for parameter in group["params"]}
        return {name: parameter for name, parameter in self.model.named_parameters() if id(parameter) in chosen}

    def capture(self, reads_text: bool, *, keep: bool = True, **more: Any) -> Snapshot:
        """Everything, as it is after a step, and `more` JSON values.

        Before the text reader reads, its weights are what a new process builds, too, and are left out. Where weights
        are split all processes must call, and those that do not `keep` the tensors get none.
        """
        weights = self.weights(reads_text)
        tensors: dict[str, Tensor] = {WEIGHTS + name: weight for name, weight in weights.items()}
        for name, weight in weights.items():
            tensors |= {f"{MOMENTS}{key}/{name}": value for key, value in self.optimizer.state[weight].items()}
        tensors |= {BEST + name: value for name, value in (self.place.best or {}).items()}
        tensors |= {ORDER: torch.from_numpy(self.place.order), GENERATOR: self.generator.get_state()}
        for name, memory in self.memories.items():
            tensors |= {f"{MEMORIES}{name}items": memory.items, f"{MEMORIES}{name}vectors": memory.vectors}
        if self.hard is not None:
            tensors[HARD] = self.hard.lists
        place = {name: value for name, value in vars(self.place).items() if name not in ("best", "order")}
        values = {
            "place": place,
            "steps": self.schedule.last_epoch,
            "rates": [group["lr"] for group in self.optimizer.param_groups],
            "random": self.rng.bit_generator.state,
            **more,
        }
        return Snapshot(values, whole(tensors, keep))

    def restore(self, snapshot: Snapshot, reads_text: bool) -> None:
        """Be as `capture` found it, on a run that was built in the same way.

        Raises:
            ArtefactError: the weights of the snapshot have other names, shapes or types.
        """
        tensors, values = snapshot.tensors, snapshot.values
        weights = self.weights(reads_text)
        _refuse_unfit(_part(tensors, WEIGHTS), weights)
        with torch.no_grad():
            for name, value in _part(tensors, WEIGHTS).items():
                weights[name].copy_(placed(value, weights[name]))
        for place, value in _part(tensors, MOMENTS).items():
            key, name = place.split("/", 1)
            like = value if key == "step" else weights[name]  # AdamW counts steps on the CPU
            self.optimizer.state[weights[name]][key] = placed(value, like)
        best = {name: placed(value, weights[name]) for name, value in _part(tensors, BEST).items()}
        vars(self.place).update(values["place"], order=tensors[ORDER].numpy().copy(), best=best or None)
        self.schedule.last_epoch = values["steps"]
        for group, rate in zip(self.optimizer.param_groups, values["rates"], strict=True):
            group["lr"] = rate
        self.rng.bit_generator.state = values["random"]
        self.generator.set_state(tensors[GENERATOR])
        for name, memory in self.memories.items():
            memory.items, memory.vectors = (tensors[f"{MEMORIES}{name}{part}"] for part in ("items", "vectors"))
        if self.hard is not None:
            self.hard.lists = tensors[HARD]


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _refuse_unfit(found: dict[str, Tensor], expected: dict[str, nn.Parameter]) -> None:
    for name in (*expected, *found):
        there, here = _facts(found.get(name)), _facts(expected.get(name))
        if there != here:
            raise ArtefactError(
                f"the checkpoint does not fit this model: {name} is {there} there and {here} here; "
                "go on with the version that wrote it, name another out, or delete its folder"
            )


def _facts(value: Tensor | None) -> str:
    return "absent" if value is None else f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
