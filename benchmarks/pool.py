"""Jobs side by side, each in a process of its own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

from rich.console import Console

Job = TypeVar("Job")
Outcome = TypeVar("Outcome")


def side_by_side(
    work: Callable[[Job], Outcome], jobs: Mapping[str, Job], *, at_once: int | None = None
) -> Sequence[Outcome]:
    """What `work` makes of each job, in their order; tells when each is done.

    Args:
        work: a function of a module, as it is sent to other processes.
        jobs: by a name for people, the longest first, so that the last one does not run alone.
        at_once: processes; default: as many as there are cores.
    """
    started, screen = time.perf_counter(), Console(stderr=True)
    with ProcessPoolExecutor(
        at_once or os.cpu_count() or 1, mp_context=get_context("spawn"), max_tasks_per_child=1
    ) as pool:
        waiting = {name: pool.submit(work, job) for name, job in jobs.items()}
        for name, future in waiting.items():
            future.add_done_callback(
                lambda done, name=name: screen.print(f"{time.perf_counter() - started:6.0f} s  {name}")
            )
        return [future.result() for future in waiting.values()]
