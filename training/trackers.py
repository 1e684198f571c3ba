"""Where curves go: TensorBoard, Weights & Biases, MLflow."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from accelerate.tracking import GeneralTracker, MLflowTracker, TensorBoardTracker, WandBTracker

from towers.errors import MissingExtraError

Tracker = Literal["tensorboard", "wandb", "mlflow"]
PROJECT = "twotower"


def trackers(names: Sequence[Tracker], out: Path) -> list[GeneralTracker]:
    """The trackers of a training that writes to `out`; they begin when accelerate starts them.

    TensorBoard's curves go into a folder beside `out`; the others follow their own environment variables
    (``WANDB_MODE``, ``MLFLOW_TRACKING_URI`` and so on), under a project named `PROJECT` and a run named as `out` is.

    Raises:
        MissingExtraError: the library of a tracker is not installed.
    """
    refuse_missing(names)
    makers: dict[str, Any] = {
        "tensorboard": lambda: TensorBoardTracker("tensorboard", out.parent),
        "wandb": lambda: WandBTracker(PROJECT, dir=str(out.parent), name=out.name),
        "mlflow": lambda: PlainNames(PROJECT, run_name=out.name),
    }
    return [makers[name]() for name in names]


def refuse_missing(names: Sequence[Tracker]) -> None:
    """Refuse trackers without a library.

    Raises:
        MissingExtraError: the library of a tracker is not installed.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(f"the tracker {name} needs its library: pip install {name}")


class PlainNames(MLflowTracker):
    """MLflow, which takes no @ in the name of a metric."""

    def log(self, values: dict[str, float], step: int | None) -> None:
        """``ndcg@20`` as ``ndcg at 20``."""
        super().log({name.replace("@", " at "): value for name, value in values.items()}, step)


def flat(values: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Nested values under dotted names, for trackers: numbers and words as they are, all else in words."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= flat(value, f"{before}{name}.")
        else:
            found[before + name] = value if isinstance(value, bool | int | float | str) else str(value)
    return found
