"""Which weights learn how fast: parameter groups and the learning rate over time."""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import Tensor, nn

from towers.errors import TwoTowerError
from training.config import OptimizerConfig

PRETRAINED = re.compile(r"(^|\.)(encoder|media)\.")  # where encoders stand in a model
TEXT_READER = re.compile(r"(^|\.)user\.text\.")
FITTED = re.compile(r"(^|model\.)rating\.")  # the rating head, which has a training of its own


def rate_at(step: int, total: int, warmup: float) -> float:
    """Share of the highest learning rate: a line up over ``warmup * total`` steps, a cosine down to a twentieth."""
    warm = max(1, int(total * warmup))
    if step < warm:
        return max(0, step + 1) / warm
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, total - warm))))


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Groups by: part of the text reader or not, pretrained or new, decayed (matrices) or not (biases, norms)."""
    groups: dict[tuple[bool, bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not FITTED.search(name):
            pretrained = bool(PRETRAINED.search(name)) and "lora_" not in name
            key = (bool(TEXT_READER.search(name)), pretrained, parameter.ndim >= 2)
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": config.rate_pretrained if pretrained else config.rate,
            "weight_decay": config.weight_decay if decayed else 0.0,
            "reads_text": reads_text,
        }
        for (reads_text, pretrained, decayed), parameters in groups.items()
    ]


class Descent:
    """AdamW over so many steps, for what is trained before the towers.

    Args:
        module: what is trained.
        config: rates, decay, clipping.
        total: number of steps.
        name: of the training, and `setting` of the rate to lower where it fails.
    """

    def __init__(self, module: nn.Module, config: OptimizerConfig, total: int, *, name: str, setting: str) -> None:
        self._module, self._clip, self._name, self._setting = module, config.clip, name, setting
        self._optimizer = torch.optim.AdamW(parameter_groups(module, config), betas=(0.9, 0.98))
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer, lambda step: rate_at(step, total, config.warmup)
        )

    def step(self, loss: Tensor) -> None:
        """One step down the gradient of a loss.

        Raises:
            TwoTowerError: loss or gradient is no number; the weights are as they were.
        """
        self._refuse_no_number("loss", loss)
        self._optimizer.zero_grad()
        loss.backward()
        self._refuse_no_number("gradient", nn.utils.clip_grad_norm_(self._module.parameters(), self._clip))
        self._optimizer.step()
        self._schedule.step()

    def _refuse_no_number(self, part: str, value: Tensor) -> None:
        if not torch.isfinite(value):
            step = self._schedule.last_epoch
            raise TwoTowerError(
                f"the {part} of {self._name} became {value.item()} at step {step}: lower {self._setting}"
            )
