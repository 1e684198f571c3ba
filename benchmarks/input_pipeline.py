"""python -m benchmarks.input_pipeline --data-dir DIR [--save]

What share of a training step goes into its data on a log of a million rows, MovieLens-1M in time order: drawing people,
windows of their pasts, negatives, what each person knows and, where both readers train, the texts of pasts. Beside it
what a step adds to the memory, and how long it takes until the first one, with the whole log and with a tenth of it.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.ml_1m import BASE, read
from benchmarks.record import Record
from towers.catalog import Catalog
from towers.history import Histories
from training.config import Recipe
from training.feed import Feed
from training.frozen import FrozenStates
from training.loop import Run
from training.negatives import Known, Negatives
from training.untrained import new_model

CASES = ("full", "sampled", "both readers")
WARM_UP, STEPS = 3, 20
DATA: dict[str, tuple[type, str]] = {  # what belongs to the data side of a step
    "windows, texts": (Feed, "batch"),
    "negatives": (Negatives, "draw"),
    "known": (Known, "of"),
    "known, catalog": (Known, "of_catalog"),
}
FROZEN = FrozenStates, "_lower"  # takes place within `Feed.batch`, and is no data: what frozen layers make of texts


class Case(NamedTuple):
    """A softmax, or both readers with the full one, and a share of the people."""

    name: str
    share: float
    data_dir: Path


class Cost(NamedTuple):
    """What steps took.

    Args:
        rows: events of the log.
        seconds: of a step, the mean.
        data: seconds of its data side, by part.
        building: seconds until the first step, the reading of files apart.
        step_mb: what the steps added to the peak of memory.
    """

    rows: int
    seconds: float
    data: dict[str, float]
    building: float
    step_mb: float


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="folder with ml-1m/ and movies/")
    parser.add_argument("--save", action="store_true", help="keep the record in benchmarks/results")
    options = parser.parse_args()
    record = Record("input-pipeline")
    if options.data_dir is None or not (options.data_dir / "ml-1m").is_dir():
        Console(stderr=True).print("input-pipeline needs --data-dir DIR with the folder ml-1m/ and is skipped")
        return record.finish(save=False)
    parts = [f"{name}, ms" for name in DATA]
    table = Table("case", "events", "step, ms", *parts, "data, share", "a step's MB", "first step after, s")
    for name in CASES:
        for share in (1.0, 0.1):
            cost = _measure(Case(name, share, options.data_dir))
            data = sum(cost.data.values()) / cost.seconds
            parts = [f"{1000 * cost.data[part]:.1f}" for part in DATA]
            figures = f"{data:.1%}", f"{cost.step_mb:.0f}", f"{cost.building:.1f}"
            table.add_row(name, f"{cost.rows:,}", f"{1000 * cost.seconds:.0f}", *parts, *figures)
            metrics = {"ms": 1000 * cost.seconds, "data_share": data, "step_mb": cost.step_mb, "build_s": cost.building}
            metrics = {metric: round(value, 4) for metric, value in metrics.items()}
            record.rows.append({"method": name, "split": f"{cost.rows} events", "seed": 0, "metrics": metrics})
    Console(stderr=True, width=140).print(table)
    record.finish(save=options.save)


def _measure(case: Case) -> Cost:
    """In a process of its own, whose peak of memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(run_case, case).result()


def run_case(case: Case) -> Cost:
    """A few steps of a training with timed data."""
    catalog, log = read(case.data_dir)
    _, past = log.known(catalog).histories(catalog)
    past = past.take(np.arange(0, len(past), round(1 / case.share)))
    spent, frozen = {name: _timed(*where) for name, where in DATA.items()}, _timed(*FROZEN)
    _run(catalog, past, case.name)  # so that vectors of the catalog are in the cache, whatever ran before
    started = time.perf_counter()
    run = _run(catalog, past, case.name)
    building = time.perf_counter() - started
    wanted = (WARM_UP + STEPS) * run.config.batch_people
    people = np.concatenate([run.feed.order() for _ in range(-(-wanted // len(run.feed.people)))])
    batches = np.split(people[:wanted], WARM_UP + STEPS)
    before, started, first, read_before = _peak(), 0.0, {}, 0.0
    for number, batch in enumerate(batches):
        if number == WARM_UP:
            started, first = time.perf_counter(), {name: passed() for name, passed in spent.items()}
            read_before = frozen()
        run._step(batch)
    seconds = (time.perf_counter() - started) / STEPS
    data = {name: (passed() - first[name]) / STEPS for name, passed in spent.items()}
    data["windows, texts"] -= (frozen() - read_before) / STEPS
    return Cost(len(past.items), seconds, data, building, (_peak() - before) / 1e6)


def _run(catalog: Catalog, past: Histories, name: str) -> Run:
    values: dict[str, Any] = {**BASE, "item": {"dimension": 128}, "image": False, "audio": False}
    values["train"] = {**values["train"], "softmax": "sampled" if name == "sampled" else "full"}
    if name == "both readers":
        values["user"] = {**values["user"], "text": True}
    recipe = Recipe.read(values)
    counts = np.bincount(past.items, minlength=len(catalog))
    model = new_model(catalog, counts, recipe)
    run = Run(model, catalog, past, None, counts, recipe, False)
    run.place.begin_epoch(recipe.train.epochs, run.feed.order())  # in which all readers train
    run.step_module.train()
    return run


def _timed(owner: type, name: str) -> Callable[[], float]:
    """Seconds spent in a method from now on, as a function that tells."""
    method, spent = getattr(owner, name), [0.0]

    def timed(*arguments: Any, **more: Any) -> Any:
        started = time.perf_counter()
        try:
            return method(*arguments, **more)
        finally:
            spent[0] += time.perf_counter() - started

    setattr(owner, name, timed)
    return lambda: spent[0]


def _peak() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
