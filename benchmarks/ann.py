"""python -m benchmarks.ann --peers PYTHON --autofaiss PYTHON --lists DIR --work DIR [--only CONTENDER ...] [--save]

Approximate search beside other libraries': our `auto` index, a stated grid of FAISS indexes called bare, and hnswlib,
USearch, Voyager, ScaNN, Intel SVS and autofaiss in environments of their own. Each is a process of its own (`peers/
ann_worker.py`), all hold their index at once, and each question is put to all of them in turn.

For each, the search parameters that reach a recall@10 of .90, .95 and .99 with least work are found first; then their
times are taken: all queries in a batch in one thread and in two, and one query after another.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.ann_data import Data, debian, mixture
from benchmarks.record import ROOT, Record
from indexing.exact import exact_search
from indexing.vectors import similarity

K = 10
TARGETS = (0.90, 0.95, 0.99)
WORKER = ROOT / "benchmarks" / "peers" / "ann_worker.py"
QUERIES = 1_000
DIMENSION = 64  # of generated items
FEW = 250  # queries asked one after another, and those by which search parameters are found
STEP = 1.1  # between two values of the last search parameter
AT_ONE, AT_TWO, ONE_BY_ONE = "", "/two-threads", "/alone"
WAYS = {AT_ONE: (1, False), AT_TWO: (2, False), ONE_BY_ONE: (1, True)}  # threads, and whether one query at a time
CLOCKS = {AT_ONE: "processor", AT_TWO: "wall", ONE_BY_ONE: "processor"}
PEERS = ("hnswlib", "usearch", "voyager", "scann", "svs", "svs LVQ4x8", "autofaiss")  # LVQ on Intel alone
OURS = "twotower"


def faiss_grid(count: int, dimension: int) -> list[str]:
    """The FAISS indexes that ours has to keep up with; ``@200`` is efConstruction."""
    lists = 2 ** round(np.log2(np.sqrt(count)))
    codes = [f"PQ{dimension // 2}x4fsr", f"PQ{dimension}x4fsr", f"PQ{dimension}x4fs"]
    return [
        "HNSW16",
        "HNSW32",
        *(f"IVF{number},Flat" for number in (lists, 2 * lists)),
        *(f"IVF{number},{code},RFlat" for number in (lists, 2 * lists) for code in codes),
    ]


class Worker:
    """A process with one index."""

    def __init__(self, python: Path, library: str, kind: str) -> None:
        self.process = subprocess.Popen(
            [python, WORKER, library, kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=_environment(),
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """Its answer.

        Raises:
            RuntimeError: it failed, or is no more.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            answer = json.loads(self.process.stdout.readline() or '{"error": "the process ended"}')
        except BrokenPipeError:
            answer = {"error": "the process ended"}
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer


@dataclass
class Contender:
    """An index that takes part, and what was found of it."""

    name: str
    worker: Worker
    facts: dict[str, Any]
    settings: dict[float, list[Any]] = field(default_factory=dict)  # by target
    recalls: dict[float, float] = field(default_factory=dict)
    seconds: dict[tuple[float, str], list[float]] = field(default_factory=dict)  # a query, of each round


@dataclass(frozen=True)
class Exam:
    """Queries on disk for all workers, and what must be found."""

    data: Data
    folder: Path
    least: np.ndarray  # score of the k-th nearest

    @classmethod
    def of(cls, data: Data, work: Path) -> Exam:
        """Write vectors and queries where workers read them."""
        folder = work / data.name
        if not (folder / "queries.npy").exists():
            data.write(folder)
        np.save(folder / "few.npy", data.queries[:FEW])
        truth = exact_search(data.queries, data.vectors, K).scores[:, -1]
        return cls(data, folder, truth)

    def request(self, setting: list[Any], way: str, *, few: bool = False, rows: bool = False) -> dict[str, Any]:
        """A search in one of the `WAYS`, with few or all queries; one by one only few are asked."""
        threads, alone = WAYS[way]
        queries = str(self.folder / ("few.npy" if few or alone else "queries.npy"))
        asked = {"do": "search", "queries": queries, "k": K, "setting": setting}
        return {**asked, "threads": threads, "alone": alone, "rows": rows}

    def recall(self, rows: list[list[int]]) -> float:
        """The share of the k nearest among these, of the first queries; an equal of the k-th is as good."""
        found = np.asarray(rows)
        query = np.repeat(np.arange(len(found)), K)
        scores = similarity(self.data.queries, self.data.vectors, query, np.maximum(found.ravel(), 0))
        near = (scores.reshape(found.shape) >= self.least[: len(found), None] - 1e-6) & (found >= 0)
        return float(near.mean())


def calibrate(one: Contender, exam: Exam) -> None:
    """For each target, the least work that reaches it: the least last parameter for each choice of those before."""
    ladder = sorted({round(STEP**step) for step in range(200) if STEP**step <= one.facts["most"]})
    tried: dict[str, tuple[float, float]] = {}

    def marked(setting: list[Any]) -> tuple[float, float]:
        key = json.dumps(setting)
        if key not in tried:
            answer = one.worker.ask(**exam.request(setting, AT_ONE, few=True, rows=True))
            tried[key] = exam.recall(answer["rows"]), answer["processor"]
        return tried[key]

    for target in TARGETS:
        reached = []
        for before in one.facts["settings"]:
            low, high = 0, len(ladder)
            while low < high:
                middle = (low + high) // 2
                if marked([*before, ladder[middle]])[0] >= target:
                    high = middle
                else:
                    low = middle + 1
            if low < len(ladder):
                reached.append([*before, ladder[low]])
        if reached:
            best = min(reached, key=lambda setting: marked(setting)[1])
            one.settings[target] = best
            one.recalls[target] = exam.recall(one.worker.ask(**exam.request(best, AT_ONE, rows=True))["rows"])


def measure(contenders: Sequence[Contender], exam: Exam, rounds: int) -> None:
    """Seconds a query of each at each target in each way; in each round each is asked once, in an order of its own."""
    for number in range(rounds):
        order = np.random.default_rng(number).permutation(len(contenders))
        for way in WAYS:
            asked = FEW if WAYS[way][1] else len(exam.data.queries)
            for target in TARGETS:
                for one in (contenders[place] for place in order):
                    if target in one.settings:
                        took = one.worker.ask(**exam.request(one.settings[target], way))[CLOCKS[way]]
                        one.seconds.setdefault((target, way), []).append(took / asked)


def row(one: Contender, split: str) -> dict[str, Any]:
    """What the record says of one."""
    metrics = {
        f"qps@{_short(target)}{way}": round(1 / float(np.median(seconds)), 1)
        for (target, way), seconds in one.seconds.items()
    }
    recall = {"recall@10": round(one.recalls[0.95], 4)} if 0.95 in one.recalls else {}
    built = {name: round(one.facts[name], 1) for name in ("build_s", "bytes_per_item")}
    return {"method": one.name, "split": split, "seed": 0, "metrics": {**metrics, **recall, **built}}


def beside(ours: Contender, others: Sequence[Contender]) -> dict[str, dict[str, Any]]:
    """How many times as fast ours is as the best of others: the median over rounds, by target and way."""
    found = {}
    for (target, way), seconds in ours.seconds.items():
        rivals = [one for one in others if (target, way) in one.seconds]
        if rivals:
            best = min(rivals, key=lambda one: float(np.median(one.seconds[target, way])))
            times = np.asarray(best.seconds[target, way]) / np.asarray(seconds)
            found[f"qps@{_short(target)}{way}"] = {"ratio": round(float(np.median(times)), 3), "best": best.name}
    return found


def run(data: Data, options: argparse.Namespace, record: Record, screen: Console) -> None:
    """One data set."""
    exam = Exam.of(data, options.work)
    with ExitStack() as stack:
        contenders = []
        for name, python in _names(data, options):
            try:
                if options.built and not (_keep(name, exam) / "about.json").exists():
                    raise RuntimeError("not built yet")
                one = stack.enter_context(_contender(name, python, exam))
                calibrate(one, exam)
            except RuntimeError as error:
                record.notes.setdefault("left out", {})[f"{name} on {data.name}"] = str(error)
                screen.print(f"{name} is left out: {error}")
                continue
            screen.print(f"{data.name}: {name} {one.facts['build_s']:.0f} s, {one.settings}")
            contenders.append(one)
        measure(contenders, exam, options.rounds)
    rows = [row(one, data.name) for one in contenders]
    record.rows += rows
    ours = next((one for one in contenders if one.name == OURS), None)
    grid = [one for one in contenders if one.name.startswith("faiss ")]
    peers = [one for one in contenders if one not in grid and one is not ours]
    if ours is not None:
        record.notes.setdefault("ours to the best of the grid", {})[data.name] = beside(ours, grid)
        record.notes.setdefault("ours to the best peer", {})[data.name] = beside(ours, peers)
    record.notes.setdefault("settings", {})[data.name] = {
        one.name: {
            _short(target): [*setting, round(one.recalls[target], 4)] for target, setting in one.settings.items()
        }
        for one in contenders
    }
    screen.print(_table(rows, data.name))


@contextmanager
def _contender(name: str, python: Path, exam: Exam) -> Iterator[Contender]:
    """A worker with its index built, ended in the end."""
    library, _, kind = name.partition(" ")
    worker = Worker(python, library, kind)
    try:
        facts = worker.ask(do="build", vectors=str(exam.folder / "vectors.npy"), keep=str(_keep(name, exam)))
        yield Contender(name, worker, facts)
    finally:
        worker.process.kill()
        worker.process.communicate()


def _keep(name: str, exam: Exam) -> Path:
    """Where its index is kept."""
    return exam.folder / name.replace(" ", "-").replace(",", "-")


def _names(data: Data, options: argparse.Namespace) -> list[tuple[str, Path]]:
    """Who takes part, and the Python that runs it."""
    mine = Path(sys.executable)
    own = [OURS, *(f"faiss {kind}" for kind in faiss_grid(*data.vectors.shape))]
    pythons = {"autofaiss": options.autofaiss}
    peers = [(name, pythons.get(name, options.peers)) for name in PEERS]
    everybody = [*((name, mine) for name in own), *((name, python) for name, python in peers if python is not None)]
    return [(name, python) for name, python in everybody if not options.only or name in options.only]


def _environment() -> dict[str, str]:
    """That of this process, with this checkout to import."""
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}


def _short(target: float) -> str:
    return f"{target:.2f}".removeprefix("0")


def _table(rows: Sequence[dict[str, Any]], title: str) -> Table:
    shown = [f"qps@{_short(target)}{way}" for way in WAYS for target in TARGETS] + ["build_s", "bytes_per_item"]
    table = Table("method", *shown, title=title)
    for one in rows:
        table.add_row(
            one["method"], *(f"{one['metrics'][name]:,.0f}" if name in one["metrics"] else "–" for name in shown)
        )
    return table


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, help="a Python with hnswlib, usearch, voyager, scann and scalable-vs")
    parser.add_argument("--autofaiss", type=Path, help="a Python with autofaiss and its own faiss-cpu")
    parser.add_argument("--lists", type=Path, help="folder with Debian's Translation-en.lz4; left out without it")
    parser.add_argument("--work", type=Path, required=True, help="folder where vectors and built indexes are kept")
    parser.add_argument("--sentences", type=int, default=200_000)
    parser.add_argument("--generated", type=int, default=1_000_000, help="generated items; 0 leaves them out")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="contenders that take part")
    parser.add_argument("--built", action="store_true", help="only contenders whose index is in the work folder")
    parser.add_argument("--save", action="store_true", help="keep the record in benchmarks/results")
    options = parser.parse_args()
    record, screen = Record("ann"), Console(stderr=True, width=200)
    options.work.mkdir(parents=True, exist_ok=True)
    if options.generated:
        run(mixture(options.generated, DIMENSION, QUERIES), options, record, screen)
    if options.lists is not None:
        kept = Data.read(options.work / f"debian-{options.sentences}")
        made = kept or debian(options.lists, options.work / "cache", options.sentences, QUERIES)
        run(made, options, record, screen)
    record.notes |= {
        "protocol": "one thread by processor time of the process, two by the clock; medians of rounds in which each is "
        "asked in turn; build_s is processor time in one thread, bytes_per_item those of the files, vectors included",
        "grid": "HNSW16 and 32; IVF of about √N and 2√N lists, flat and, with RFlat, with 4-bit codes for each or each "
        "two dimensions, of residuals (fsr) or not (fs); efConstruction 40, other graphs 100",
    }
    record.finish(save=options.save)


if __name__ == "__main__":
    main()
