"""python -m benchmarks.scale [--most 1000000] [--without-limit] [--save]

What an index takes as it grows: seconds to build, bytes an item, and queries a second at recall@10 of .95, for 10,000
items up to the most, two sizes a decade, on generated vectors in clouds. Of each kind the cheapest search parameters
with that recall count; all queries at once, one thread. Exponents are those of a power law, by least squares over the
logarithms of size and figure, with a 95 % interval.

Then an index is built and searched under a limit on memory (RLIMIT_DATA, which counts what a process allocates, not the
files that it maps) of a quarter of what its vectors take; the same in memory must fail under it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import t as student

from benchmarks.record import Record, plain, protocol
from indexing import approximate
from indexing.beyond_memory import automatic
from indexing.exact import exact_search
from indexing.index import ItemIndex
from indexing.library import library
from indexing.vectors import unit
from towers.errors import InputError

os.environ["OMP_NUM_THREADS"] = "1"

K, QUERIES, RECALL = 10, 500, 0.95
CLOUDS, SPREAD = 1000, 0.7
DIMENSION = 64
ROUNDS = 3  # searches of all queries, of which the fastest counts
TIMES = 4  # how many times the limit the vectors take
ROOM = 320 * 2**20  # bytes that the limit leaves beyond what interpreter and libraries take
WIDE = 768  # dimension of the vectors under the limit
AT_ONCE = 2**14


def draw(count: int, dimension: int, seed: int) -> Iterator[np.ndarray]:
    """Unit vectors in clouds, block by block; questions, of other seeds, lie a little aside."""
    centres = np.random.default_rng(0).normal(size=(CLOUDS, dimension)).astype(np.float32)
    rng = np.random.default_rng(seed)
    for start in range(0, count, AT_ONCE):
        own = centres[rng.integers(CLOUDS, size=min(AT_ONCE, count - start))]
        yield unit(own + SPREAD * rng.normal(size=own.shape).astype(np.float32))


def kinds(count: int) -> dict[str, str]:
    """What is measured, by a name that is the same at every size."""
    lists = automatic(count).split(",")[0]
    return {"Flat": "Flat", "HNSW32": "HNSW32", "IVF,Flat": f"{lists},Flat", "IVF,SQ8": f"{lists},SQ8,RFlat"}


def measure(kind: str, vectors: np.ndarray, queries: np.ndarray, kth: np.ndarray) -> dict[str, float]:
    """Figures of one kind."""
    began = time.perf_counter()
    index = ItemIndex.from_arrays(range(len(vectors)), vectors, kind=kind)
    built = time.perf_counter() - began
    best = {"recall@10": 0.0, "qps@.95": 0.0}
    for parameters in approximate.ladder(index.faiss):
        index.set_parameters(parameters)
        recall = float((index.search(queries, K).scores >= kth[:, None]).mean())
        if recall < RECALL:
            continue
        speed = 0.0
        for _ in range(ROUNDS):
            began = time.perf_counter()
            index.search(queries, K)
            speed = max(speed, len(queries) / (time.perf_counter() - began))
        if speed > best["qps@.95"]:
            best = {"recall@10": recall, "qps@.95": speed}
    size = (approximate.size(index.faiss) + vectors.nbytes) / len(vectors)
    return {"build_s": built, "bytes_per_item": size, **best}


def exponent(sizes: list[int], figures: list[float]) -> list[float]:
    """Of the power law, with its 95 % interval; the value alone where there are too few sizes for one."""
    x, y = np.log(sizes), np.log(figures)
    slope, base = np.polyfit(x, y, 1)
    if len(sizes) < 3:
        return plain([float(slope)])
    error = np.sqrt(((y - slope * x - base) ** 2).sum() / (len(x) - 2) / ((x - x.mean()) ** 2).sum())
    half = float(student.ppf(0.975, len(x) - 2) * error)
    return plain([float(slope), float(slope - half), float(slope + half)])


def limited(folder: Path, tell: Console) -> dict[str, Any]:
    """Build and search beyond a limit, in processes of their own; their figures."""
    limit = _ask("floor", folder)["bytes"] + ROOM
    count = -(-TIMES * limit // (4 * WIDE))
    path = folder / "vectors.npy"
    vectors = np.lib.format.open_memmap(path, "w+", np.float32, (count, WIDE))
    filled = 0
    for block in draw(count, WIDE, 1):
        vectors[filled : filled + len(block)] = block
        filled += len(block)
    del vectors
    tell.print(f"limit {limit / 2**20:,.0f} MiB, {count:,} vectors of {path.stat().st_size / 2**20:,.0f} MiB")
    found = _ask("beyond", folder, limit)
    in_memory = _ask("inside", folder, limit)
    hits = np.load(folder / "scores.npy")
    queries = next(draw(50, WIDE, 2))
    kth = exact_search(queries, np.load(path, mmap_mode="r"), K).scores[:, -1]
    return {
        "limit_bytes": limit,
        "vectors_bytes": count * WIDE * 4,
        "items": count,
        **found,
        "recall@10": float((hits >= kth[:, None]).mean()),
        "in_memory_failed": in_memory["failed"],
    }


def under_limit(what: str, folder: Path, limit: int) -> dict[str, Any]:
    """What a process of its own does, and says as JSON."""
    library()
    if what == "floor":
        lines = Path("/proc/self/status").read_text().splitlines()
        return {"bytes": next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData"))}
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    if what == "inside":
        try:
            ItemIndex.from_arrays(range(8), np.load(folder / "vectors.npy")[:8])
        except MemoryError:
            return {"failed": True}
        return {"failed": False}
    vectors = np.asarray(np.load(folder / "vectors.npy", mmap_mode="r"))
    (folder / "scratch").mkdir()
    began = time.perf_counter()
    index = ItemIndex.from_arrays(np.arange(len(vectors)), vectors, kind="IVF128,SQ8", scratch=folder / "scratch")
    index.save(folder / "index")
    built = time.perf_counter() - began
    index = ItemIndex.load(folder / "index", mmap=True)
    index.set_parameters("nprobe=32")
    queries = next(draw(50, WIDE, 2))
    began = time.perf_counter()
    hits = index.search(queries, K)
    speed = len(queries) / (time.perf_counter() - began)
    np.save(folder / "scores.npy", hits.scores)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"build_s": built, "qps": speed, "peak_resident_bytes": peak * 1024}


def _ask(what: str, folder: Path, limit: int = 0) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.scale", "--child", what, str(folder), str(limit)]
    # Arrow's own allocator asks for a gigabyte at once, to use it later; the limit would count all of it.
    env = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=env)
    if done.returncode:
        raise SystemExit(f"{what} ended with exit code {done.returncode}; see above")
    return json.loads(done.stdout.splitlines()[-1])


def sizes_to(most: int) -> list[int]:
    """10,000, 31,623, 100,000, … up to the most."""
    if most < 10_000:
        raise InputError(f"--most must be at least 10,000, got {most:,}")
    return [round(10 ** (power / 2)) for power in range(8, int(2 * np.log10(most) + 1e-9) + 1)]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=1_000_000, help="items of the largest index")
    parser.add_argument("--without-limit", action="store_true", help="leave out what is built under a limit")
    parser.add_argument("--save", action="store_true", help="keep the record in benchmarks/results")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        what, folder, limit = options.child
        print(json.dumps(under_limit(what, Path(folder), int(limit))))
        return
    record, tell = Record("scale"), Console(stderr=True)
    sizes = sizes_to(options.most)
    library()
    everything = np.concatenate(list(draw(sizes[-1], DIMENSION, 1)))
    queries = next(draw(QUERIES, DIMENSION, 2))
    for count in sizes:
        vectors = everything[:count]
        kth = exact_search(queries, vectors, K).scores[:, -1]
        for name, kind in kinds(count).items():
            metrics = {"items": count, **measure(kind, vectors, queries, kth)}
            record.rows.append({"method": name, "split": f"generated-{count}", "seed": 0, "metrics": metrics})
            tell.print(f"{kind} over {count:,}: {metrics}")
    record.notes = {"protocol": protocol(__doc__), "exponents": _exponents(record.rows, tell)}
    if not options.without_limit:
        with tempfile.TemporaryDirectory() as scratch:
            metrics = limited(Path(scratch), tell)
        tell.print(metrics)
        record.rows.append({"method": "IVF128,SQ8", "split": "under-limit", "seed": 0, "metrics": metrics})
    record.finish(save=options.save)


def _told(figure: list[float]) -> str:
    value, *interval = figure
    return f"{value:+.2f}" + (f" ({interval[0]:+.2f} to {interval[1]:+.2f})" if interval else "")


def _exponents(rows: list[dict[str, Any]], tell: Console) -> dict[str, dict[str, list[float]]]:
    """Of each kind and figure; that of time a query is minus that of queries a second."""
    found: dict[str, dict[str, list[float]]] = {}
    table = Table("kind", "build_s", "qps@.95", "bytes_per_item")
    for name in dict.fromkeys(row["method"] for row in rows):
        own = [row["metrics"] for row in rows if row["method"] == name and row["metrics"]["qps@.95"]]
        sizes = [one["items"] for one in own]
        if len(sizes) > 1:
            figures = ("build_s", "qps@.95", "bytes_per_item")
            found[name] = {figure: exponent(sizes, [one[figure] for one in own]) for figure in figures}
            table.add_row(name, *(_told(one) for one in found[name].values()))
    tell.print(table)
    return found


if __name__ == "__main__":
    main()
