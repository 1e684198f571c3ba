"""What a person sees while a model trains."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class TrainingProgress:
    """A bar on standard error: epoch, loss, validation metric, people a second, time left.

    Args:
        epochs: epochs at the most.
        steps: steps in an epoch.
        shown: False shows nothing.
    """

    def __init__(self, epochs: int, steps: int, shown: bool) -> None:
        self._epochs = epochs
        self._bar = Progress(
            TextColumn("training, epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(),
            TextColumn(
                "loss {task.fields[loss]:.3f}  ndcg@20 {task.fields[metric]}  {task.fields[speed]:,.0f} people/s"
            ),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not shown,
        )
        self._task = self._bar.add_task(
            "", total=epochs * steps, epoch=0, epochs=epochs, loss=float("nan"), metric="–", speed=0.0
        )
        self._shown = shown
        self._started = self._last = time.perf_counter()

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def skip(self, steps: int) -> None:
        """So many steps were done before."""
        self._bar.update(self._task, completed=steps)

    def stepped(self, epoch: int, loss: float, people: int) -> None:
        """One step is done."""
        now = time.perf_counter()
        speed = people / max(now - self._last, 1e-9)
        self._last = now
        self._bar.update(self._task, advance=1, epoch=epoch, loss=loss, speed=speed)

    def validated(self, metric: float) -> None:
        """The metric that counts has a new value."""
        self._bar.update(self._task, metric=f"{metric:.4f}")
        if self._shown and not self._bar.console.is_terminal:  # a log file shows no bar
            fields = self._bar.tasks[0].fields
            line = f"epoch {fields['epoch']}/{fields['epochs']}  loss {fields['loss']:.3f}  ndcg@20 {metric:.4f}"
            self._bar.console.print(f"{line}  {time.perf_counter() - self._started:.0f} s", highlight=False)
        self._last = time.perf_counter()
