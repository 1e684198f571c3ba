"""python -m benchmarks.readers [--seconds 300] [--save]

Eight processes search an index while a ninth replaces all its items and publishes, again and again: no search may fail
or mix two versions, and how much slower do the slowest searches get? Every item's attribute says of which round it is,
so that all hits of a search must say the same. Readers look for a new version twice a second, in a thread of their own.
The same eight readers without a writer come first.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from multiprocessing import get_context
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.living import World
from benchmarks.record import Record, protocol
from indexing.index import ItemIndex
from indexing.writer import IndexWriter

os.environ["OMP_NUM_THREADS"] = "1"

READERS, ITEMS, K, REST = 8, 2000, 10, 0.02  # seconds between two searches of a reader
LATE = 120  # seconds more than they search, after which a reader that says nothing has failed
NAMES = [f"i{n}" for n in range(ITEMS)]


class Reader:
    """One that searches, and looks for new versions beside it."""

    def __init__(self, folder: Path) -> None:
        self.index = ItemIndex.load(folder)
        self.errors: list[str] = []
        self.versions = {self.index.version}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def search(self, query: np.ndarray) -> int:
        """How many rounds the hits are of: one, if all is well."""
        index = self.index
        hits = index.search(query, K)
        assert index.attributes is not None
        return len(set(index.attributes["round"].take(hits.rows[0]).to_pylist()))

    def close(self) -> None:
        """No more looking."""
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(0.5):
            try:
                self.index = self.index.refresh()
                self.versions.add(self.index.version)
            except Exception as error:
                self.errors.append(f"refresh: {error}")


def read(folder: Path, seconds: float, seed: int, results: Queue[Any]) -> None:
    """Search for so long, and tell what happened."""
    world, reader = World(seed), Reader(folder)
    taken, mixed, until = [], 0, time.monotonic() + seconds
    while time.monotonic() < until:
        query, began = world.draw(1), time.perf_counter()
        try:
            mixed += reader.search(query) != 1
        except Exception as error:
            reader.errors.append(f"search: {error}")
        taken.append(time.perf_counter() - began)
        time.sleep(REST)
    reader.close()
    results.put((taken, mixed, reader.errors, len(reader.versions)))


def write(folder: Path, seconds: float) -> None:
    """Replace everything and publish, for so long."""
    world, until, round_ = World(99), time.monotonic() + seconds, 0
    with IndexWriter(folder) as writer:
        while time.monotonic() < until:
            round_ += 1
            writer.upsert(NAMES, world.draw(ITEMS), {"round": [round_] * ITEMS})
            writer.publish()
            time.sleep(0.5)


def run(folder: Path, seconds: float, *, writing: bool) -> dict[str, Any]:
    """What eight readers meet."""
    context = get_context("spawn")
    results: Queue[Any] = context.Queue()
    readers = [context.Process(target=read, args=(folder, seconds, seed, results)) for seed in range(READERS)]
    writers = [context.Process(target=write, args=(folder, seconds))] if writing else []
    for process in (*readers, *writers):
        process.start()
    told = [results.get(timeout=seconds + LATE) for _ in readers]
    for process in (*readers, *writers):
        process.join()
    taken = np.concatenate([one[0] for one in told])
    errors = [error for one in told for error in one[2]] + ["the writer failed"] * any(p.exitcode for p in writers)
    for error in errors[:3]:
        Console(stderr=True).print(error)
    return {
        "searches": len(taken),
        "errors": len(errors),
        "mixed": sum(one[1] for one in told),
        "versions": max(one[3] for one in told),
        "p50_ms": round(1000 * float(np.quantile(taken, 0.5)), 3),
        "p99_ms": round(1000 * float(np.quantile(taken, 0.99)), 3),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300, help="with the writer, and as long without")
    parser.add_argument("--kind", default="HNSW32", help="FAISS factory string")
    parser.add_argument("--save", action="store_true", help="keep the record in benchmarks/results")
    options = parser.parse_args()
    record = Record("readers")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "index"
        vectors = World(0).draw(ITEMS)
        ItemIndex.from_arrays(NAMES, vectors, {"round": [0] * ITEMS}, kind=options.kind).save(folder)
        alone = run(folder, options.seconds, writing=False)
        beside = run(folder, options.seconds, writing=True)
    beside["p99_ratio"] = round(beside["p99_ms"] / alone["p99_ms"], 3)
    for name, metrics in (("readers alone", alone), ("readers and a writer", beside)):
        Console(stderr=True).print(f"{name}: {metrics}")
        record.rows.append({"method": name, "split": options.kind, "seed": 0, "metrics": metrics})
    record.notes = {"protocol": protocol(__doc__)}
    record.finish(save=options.save)


if __name__ == "__main__":
    main()
