"""python -m benchmarks.softmax [--save]

Up to which catalog is the full softmax affordable? One forward and backward pass of the loss over 2,000 positions of
64 people, full against sampled, interleaved, medians; the items' vectors are leaves, so the item tower is not timed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from benchmarks.record import Record
from towers.history import Histories
from towers.precision import autocast
from training.losses import contrastive
from training.negatives import Known, Negatives, with_targets

SIZES = (1_000, 3_000, 10_000, 20_000, 40_000)
PEOPLE, POSITIONS, DIMENSION, UNIFORM, RUNS = 64, 2_000, 64, 2_048, 3


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", action="store_true", help="keep the record in benchmarks/results")
    options = parser.parse_args()
    record = Record("softmax")
    table = Table(
        "items", "full, ms", "sampled, ms", "full / sampled", title=f"{POSITIONS} positions, medians of {RUNS}"
    )
    for size in SIZES:
        full, sampled = _medians(size)
        ratio = full / sampled
        table.add_row(f"{size:,}", f"{full:.0f}", f"{sampled:.0f}", f"{ratio:.2f}")
        for method, value in {"full": full, "sampled": sampled}.items():
            metrics = {"ms": round(value, 2), "ratio": round(ratio, 3)}
            record.rows.append({"method": method, "split": f"items-{size}", "seed": 0, "metrics": metrics})
    Console(stderr=True).print(table)
    record.finish(save=options.save)


def _medians(size: int) -> tuple[float, float]:
    full, sampled = _steps(size)
    times: dict[str, list[float]] = {"full": [], "sampled": []}
    for run in range(RUNS + 1):
        for name, step in {"full": full, "sampled": sampled}.items():
            started = time.perf_counter()
            step().backward()
            if run:  # the first one warms up
                times[name].append((time.perf_counter() - started) * 1000)
    return statistics.median(times["full"]), statistics.median(times["sampled"])


def _steps(size: int) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    generator = torch.Generator().manual_seed(0)
    rng = np.random.default_rng(0)
    popularity = rng.zipf(1.3, PEOPLE * 100) % size
    known = Known(Histories.of([list(part) for part in np.split(popularity, PEOPLE)]), size)
    counts = np.bincount(popularity, minlength=size) + 1
    negatives = Negatives(counts / counts.sum(), UNIFORM)
    queries = F.normalize(torch.randn(POSITIONS, DIMENSION, generator=generator), dim=1).requires_grad_()
    items = F.normalize(torch.randn(size, DIMENSION, generator=generator), dim=1).requires_grad_()
    targets = torch.from_numpy(popularity[:POSITIONS])
    people, owner = np.arange(PEOPLE), torch.arange(POSITIONS) % PEOPLE
    scale = torch.tensor(15.0)
    device = torch.device("cpu")

    def full() -> Tensor:
        left_out = with_targets(known.of_catalog(people)[owner], torch.arange(size), targets)
        with autocast(device):
            return contrastive(queries, items[targets], items, scale=scale, left_out=left_out).mean()

    def sampled() -> Tensor:
        sample = negatives.draw(targets, PEOPLE, generator)
        left_out = with_targets(known.of(people, sample.items)[owner], sample.items, targets)
        more = {"left_out": left_out, "log_weight": sample.log_weight}
        with autocast(device):
            return contrastive(queries, items[targets], items[sample.items], scale=scale, **more).mean()

    return full, sampled


if __name__ == "__main__":
    main()
