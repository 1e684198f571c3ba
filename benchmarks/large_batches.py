"""python -m benchmarks.large_batches [--save]

What a batch that is read in parts costs: one training step of the text reader, all layers tuned, on texts of 64 tokens,
each against the whole batch's items. Each case runs in a process of its own, one after the other.
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

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from benchmarks.record import Record
from towers.precision import autocast
from towers.text import TextConfig, TextEncoder
from towers.text_reader import TextReader, TextReaderConfig
from training.losses import contrastive
from training.parts import in_parts

TOKENS, DIMENSION, RUNS = 64, 64, 3


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
    torch.manual_seed(0)
    encoder = TextEncoder.load(TextConfig())
    reader = TextReader(config=TextReaderConfig(tune="all"), encoder=encoder, hidden=256, dimension=DIMENSION)
    ids = torch.randint(100, (case.batch, TOKENS))
    items = F.normalize(torch.randn(case.batch, DIMENSION), dim=1)
    for weight in reader.parameters():
        weight.grad = torch.zeros_like(weight) if weight.requires_grad else None
    before, times = _peak(), []
    for _ in range(1 + max(1, RUNS * CASES[0].batch // case.batch)):
        started = time.perf_counter()
        _step(reader, ids, items, case.part)
        times.append(time.perf_counter() - started)
    return Cost(_peak(), before, statistics.median(times[1:]))


def _step(reader: TextReader, ids: Tensor, items: Tensor, part: int) -> None:
    with autocast(ids.device):
        queries = in_parts(reader, ids, torch.ones_like(ids, dtype=torch.bool), size=part)
    scale = torch.tensor(15.0)

    def losses(queries: Tensor, targets: Tensor) -> Tensor:
        own = targets[:, None] == torch.arange(len(items))
        return contrastive(queries, items[targets], items, scale=scale, left_out=own)

    in_parts(losses, queries, torch.arange(len(ids)), size=part).mean().backward()


def _peak() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
