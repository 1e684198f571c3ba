"""Where curves go: TensorBoard, Weights & Biases, MLflow."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

from accelerate.tracking import GeneralTracker, MLflowTracker, TensorBoardTracker, WandBTracker, on_main_process

from towers.errors import ArtefactError, InputError, MissingExtraError

Tracker = Literal["tensorboard", "wandb", "mlflow"]
PROJECT = "twotower"
FOLDER = "tensorboard"


@contextmanager
def begun(names: Sequence[Tracker], out: Path | None, settings: dict[str, Any]) -> Iterator[list[GeneralTracker]]:
    """The trackers of a training that writes to `out`, ready to be told of it; they end with it, however it ends.

    TensorBoard's curves go into a folder named as `out` is, in one named `FOLDER` beside it, so that models side by
    side are runs side by side; the others follow their own environment variables (``WANDB_MODE``,
    ``MLFLOW_TRACKING_URI`` and so on), under a project named `PROJECT` and a run named as `out` is.

    Args:
        names: which.
        out: folder of the model to come; None where there is to be none, and so no curves.
        settings: the flat recipe, which each tracker keeps.

    Raises:
        MissingExtraError: the library of a tracker is not installed.
        InputError: a tracker cannot begin, such as without a key, or where its server does not answer.
        ArtefactError: curves cannot be written beside `out`.
    """
    if out is None:
        yield []
        return
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(f"the tracker {name} needs its library: pip install {name}")
    with ExitStack() as ends:
        found = []
        for name in names:
            found.append(_begun(name, out, settings))
            ends.callback(found[-1].finish)
        yield found


def _begun(name: Tracker, out: Path, settings: dict[str, Any]) -> GeneralTracker:
    try:
        tracker = _made(name, out)
        tracker.start()
        tracker.store_init_configuration(settings)
    except Exception as error:  # each library has errors of its own
        if name == "tensorboard" and isinstance(error, OSError):
            raise ArtefactError(f"cannot write curves beside {out}: {error.strerror or error}") from error
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(
            f"the tracker {name} cannot begin ({reason}): put that right, or leave it out of train.trackers"
        ) from error
    return tracker


def _made(name: Tracker, out: Path) -> GeneralTracker:
    if name == "tensorboard":
        return OneRun(out.name, out.parent / FOLDER)
    if name == "wandb":
        return WandBTracker(PROJECT, dir=str(out.parent), name=out.name)
    return PlainNames(PROJECT, run_name=out.name)


class OneRun(TensorBoardTracker):
    """TensorBoard with settings and curves in one run; accelerate would make a second one of the settings."""

    @on_main_process
    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """Write the settings into the file of the curves: of two files in a folder TensorBoard follows the newer."""
        from torch.utils.tensorboard.summary import hparams

        for summary in hparams(values, {}):
            self.writer.file_writer.add_summary(summary)
        self.writer.flush()


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
