"""A bar on standard error: how many are done, how many a second, time left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Advance(Protocol):
    """Tell the bar that so many more are done; those done before it began say nothing of its speed."""

    def __call__(self, count: int, *, before: bool = False) -> None: ...


@contextmanager
def bar(words: str, total: int, *, shown: bool) -> Iterator[Advance]:
    """Yield what is told how many more are done.

    Args:
        words: what is done, such as ``"embedding texts"``.
        total: how many there are.
        shown: False for no bar.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    speed = TextColumn("{task.fields[speed]}")
    columns = TextColumn(words), BarColumn(), MofNCompleteColumn(), speed, TimeRemainingColumn()
    started, done = time.perf_counter(), 0
    with Progress(*columns, console=Console(stderr=True), disable=not shown or not total) as progress:
        task = progress.add_task("", total=total, speed="")

        def advance(count: int, *, before: bool = False) -> None:
            nonlocal done
            if before:
                progress.reset(task, completed=count)
                return
            done += count
            progress.update(task, advance=count, speed=f"{done / (time.perf_counter() - started):,.0f} a second")

        yield advance
