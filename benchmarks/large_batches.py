"""python -m benchmarks.large_batches [--save]

What a batch that is read in parts costs: whole training steps, with the optimizer's, of the text reader, all layers
tuned, on texts of 62 tokens, each against all 1,000 items. Each case runs in a process of its own, one after the other.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
import polars as pl
from accelerate.utils import set_seed
from rich.console import Console
from rich.table import Table

from benchmarks.record import Record
from towers.catalog import Catalog
from towers.history import Histories
from training.config import Recipe
from training.loop import Run
from training.untrained import new_model

ITEMS, EVENTS, RUNS = 1000, 8, 3
WORDS = ("river", "night", "music", "garden", "engine", "winter", "story", "paper", "silver", "bread")


class Case(NamedTuple):
    """A step of so many texts, read so many at a time."""

    batch: int
    part: int

    @property
    def name(self) -> str:
        """For the table."""
        return "whole" if self.part >= self.batch else f"parts of {self.part}"


class Cost(NamedTuple):
    """What a step took.

    Args:
        peak: most memory of the process, bytes.
        before: the same before the step, when the reader stood.
        seconds: median of the steps after the first.
    """

    peak: int
    before: int
    seconds: float


CASES = (Case(128, 128), Case(512, 512), Case(512, 128), Case(4096, 128))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", action="store_true", help="keep the record in benchmarks/results")
    options = parser.parse_args()
    record = Record("large-batches")
    table = Table("texts", "read", "peak, MB", "of 128's", "of the step, MB", "ms a text", "of 128's")
    costs = dict(zip(CASES, _measure(), strict=True))
    first = costs[CASES[0]]
    for case, cost in costs.items():
        each, usual = cost.seconds / case.batch, first.seconds / CASES[0].batch
        memory, slower = cost.peak / first.peak, each / usual
        step = (cost.peak - cost.before) / 1e6
        table.add_row(
            f"{case.batch:,}", case.name, f"{cost.peak / 1e6:,.0f}", f"{memory:.2f}", f"{step:,.0f}",
            f"{1000 * each:.1f}", f"{slower:.2f}",
        )  # fmt: skip
        metrics = {
            "peak_mb": round(cost.peak / 1e6, 1),
            "step_mb": round(step, 1),
            "peak_ratio": round(memory, 3),
            "ms": round(1000 * each, 3),
            "ms_ratio": round(slower, 3),
        }
        record.rows.append({"method": case.name, "split": f"batch-{case.batch}", "seed": 0, "metrics": metrics})
    Console(stderr=True).print(table)
    record.finish(save=options.save)


def _measure() -> Iterator[Cost]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        yield from pool.map(run_case, CASES)


def run_case(case: Case) -> Cost:
    """A first step, and others that are timed; those of a large batch once."""
    run = started_run(case)
    people, before, times = run.feed.order()[: case.batch], _peak(), []
    for _ in range(1 + max(1, RUNS * CASES[0].batch // case.batch)):
        started = time.perf_counter()
        run._step(people)
        times.append(time.perf_counter() - started)
    return Cost(_peak(), before, statistics.median(times[1:]))


def started_run(case: Case) -> Run:
    """A training of generated people, of each of whom one text of 62 tokens is read in a step."""
    rng = np.random.default_rng(0)
    titles = [" ".join(row) for row in np.array(WORDS)[rng.integers(len(WORDS), size=(ITEMS, 13))]]
    catalog = Catalog.read(pl.DataFrame({"item_id": [f"i{n}" for n in range(ITEMS)], "title": titles}))
    events = np.stack([rng.choice(ITEMS, EVENTS, replace=False) for _ in range(case.batch)])
    past = Histories(np.arange(case.batch + 1) * EVENTS, events.reshape(-1))
    train = {"batch_people": case.batch, "part": case.part, "anchors": 1, "anchors_per_step": 1, "sentences": 0}
    recipe = Recipe.read({"user": {"sequence": False, "text": {"tune": "all"}}, "train": train})
    counts = np.bincount(past.items, minlength=ITEMS)
    set_seed(0)
    model = new_model(catalog, counts, recipe)
    run = Run(model, catalog, past, None, counts, recipe, False)
    run.step_module.train()
    run.place.epoch, model.user.reads_text = 1, True
    return run


def _peak() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
