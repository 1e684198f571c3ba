"""python -m benchmarks.ann_overhead [--items 30000 100000] [--dimension 128] [--save]

What `ItemIndex.search` takes beyond the bare FAISS call on the same index, for what it gives beyond: checked queries,
exact scores, equals in order, never too few. Both are called in turn, in one thread, with the processor time of that
thread, so that other work on the machine does not count as ours.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.record import Record
from indexing.approximate import library
from indexing.index import ItemIndex
from indexing.tune import grid
from indexing.vectors import unit

K, BATCH = 10, 1_000
RATIO, MICROSECONDS = 1.03, 30  # what it may take: in a batch, and a query alone
CLOUDS, SPREAD = 200, 0.7

Search = Callable[[np.ndarray, int], Any]


def clouds(count: int, dimension: int, seed: int) -> np.ndarray:
    """Unit vectors float32 ``(count, dimension)`` in clouds, as catalogs have genres."""
    centres = np.random.default_rng(0).normal(size=(CLOUDS, dimension))
    generator = np.random.default_rng(seed)
    middle = centres[generator.integers(CLOUDS, size=count)]
    return unit(middle + SPREAD * generator.normal(size=(count, dimension)))


def overhead(index: ItemIndex, queries: np.ndarray, rounds: int, repeat: int) -> dict[str, float]:
    """Figures of one kind.

    Args:
        index: the index.
        queries: float32 ``(B, D)``, a batch.
        rounds: how often the batch is searched for in each way.
        repeat: how many single queries are searched for in each way.
    """
    bare, ours = index.faiss.search, index.search
    batch = _in_turn(bare, ours, [queries] * rounds)
    alone = _in_turn(bare, ours, [queries[n % len(queries)][None] for n in range(repeat)])
    return {
        "overhead": round(float(np.median(batch[:, 1] / batch[:, 0])), 4),
        "bare µs a query": round(float(np.median(batch[:, 0])) / len(queries), 2),
        "bare µs alone": round(float(np.median(alone[:, 0])), 1),
        "overhead µs alone": round(float(np.median(alone[:, 1]) - np.median(alone[:, 0])), 1),
    }


def _in_turn(bare: Search, ours: Search, asked: list[np.ndarray]) -> np.ndarray:
    """Microseconds ``(N, 2)`` of both; who goes first finds a cold cache, so they take turns at that."""
    times = np.empty((len(asked), 2))
    for n, queries in enumerate(asked):
        for way, search in ((0, bare), (1, ours))[:: 1 if n % 2 else -1]:
            times[n, way] = _spent(search, queries)
    return times


def _spent(search: Search, queries: np.ndarray) -> float:
    """Microseconds of this thread."""
    started = time.thread_time_ns()
    search(queries, K)
    return (time.thread_time_ns() - started) / 1e3


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[30_000, 100_000])
    parser.add_argument("--dimension", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--repeat", type=int, default=1_000)
    parser.add_argument("--save", action="store_true", help="keep the record in benchmarks/results")
    options = parser.parse_args()
    library().omp_set_num_threads(1)
    record = Record("ann-overhead")
    queries = clouds(BATCH, options.dimension, 2)
    table = Table("items", "kind", "batch of 1,000", "bare µs", "beyond bare, one query", "bare µs")
    for count in options.items:
        vectors = clouds(count, options.dimension, 1)
        for kind in grid(count, options.dimension):
            index = ItemIndex.from_arrays(range(count), vectors, kind=kind)
            metrics = overhead(index, queries, options.rounds, options.repeat)
            record.rows.append({"method": kind, "split": f"clouds-{count}", "seed": 0, "metrics": metrics})
            ratio, bare, alone, extra = metrics.values()
            table.add_row(f"{count:,}", kind, f"× {ratio:.3f}", f"{bare:.1f}", f"{extra:+.1f} µs", f"{alone:.1f}")
    Console(stderr=True).print(table)
    record.notes = {
        "may take": {"overhead": RATIO, "overhead µs alone": MICROSECONDS},
        "protocol": "vectors in clouds, k 10; processor time of the one thread that searches, medians of pairs in turn",
        "dimension": options.dimension,
    }
    record.finish(save=options.save)


if __name__ == "__main__":
    main()
