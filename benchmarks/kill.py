"""python -m benchmarks.kill [--kills 250] [--build-kills 50] [--ray-kills 5] [--save]

Is what was acknowledged there after a SIGKILL? A process adds, replaces and removes items, compacts and publishes, and
says after each that it is done; it is killed at a random moment, and another one goes on in the same folder. What the
folder holds must be what was acknowledged, with or without the one batch that was on its way.

Builds are killed too, in one process at random moments and over Ray when some shards are done, and given again: the
index that comes of it must be the one of a build that nobody killed, bit for bit.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.killed_builds import alone, over_ray
from benchmarks.living import Plain, World
from benchmarks.record import Record, protocol
from indexing.index import ItemIndex
from indexing.vectors import unit
from indexing.writer import IndexWriter

os.environ["OMP_NUM_THREADS"] = "1"  # threads do not outlive a fork

KINDS = {"Flat": 0.25, "HNSW32": 0.25, "IVF16,Flat": 0.25, "IVF16,PQ8x4,RFlat": 2.0}
"""Seconds that a process lives at most: compaction, which trains a quantiser, must end in some of them."""
ITEMS, DIMENSION = 400, 32
WHAT = ("add", "upsert", "remove", "compact", "publish")
WEIGHTS = (0.25, 0.25, 0.2, 0.1, 0.2)


def operation(number: int, plain: Plain) -> tuple[str, list[str], np.ndarray, list[int]]:
    """What happens as the n-th: the same each time, given what is there."""
    rng = np.random.default_rng(number)
    what, count = str(rng.choice(WHAT, p=WEIGHTS)), int(rng.integers(1, 12))
    if what == "add":
        ids = [f"new{number}-{n}" for n in range(count)]
    elif what in ("upsert", "remove"):
        ids = [str(one) for one in rng.choice(sorted(plain.items), count, replace=False)]
    else:
        ids = []
    vectors = unit(rng.normal(size=(len(ids), DIMENSION))) if ids else np.empty((0, DIMENSION), np.float32)
    return what, ids, vectors, rng.integers(1000, size=len(ids)).tolist()


def apply(number: int, plain: Plain) -> Plain:
    """What is there after the n-th."""
    what, ids, vectors, numbers = operation(number, plain)
    after = plain.copy()
    if what in ("add", "upsert"):
        after.put(ids, vectors, numbers)
    elif what == "remove":
        after.remove(ids)
    return after


def work(folder: Path, plain: Plain, number: int, tell: int) -> None:
    """Do one after the other, and write a byte after each, until the end comes from outside."""
    with IndexWriter(folder) as writer:
        os.write(tell, b"o")
        while True:
            what, ids, vectors, numbers = operation(number, plain)
            if what in ("add", "upsert"):
                getattr(writer, what)(ids, vectors, {"number": numbers})
            elif what == "remove":
                writer.remove(ids)
            else:
                getattr(writer, what)()
            os.write(tell, b"d")
            plain, number = apply(number, plain), number + 1


def killed(folder: Path, plain: Plain, number: int, longest: float, rng: np.random.Generator) -> tuple[int, str]:
    """Start a process and kill it; how many it acknowledged, and during what it was killed."""
    hear, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(hear)
            work(folder, plain, number, tell)
        finally:
            os._exit(1)
    os.close(tell)
    # Most have opened the folder when they are killed, some are about to.
    said = os.read(hear, 1) if rng.random() < 0.9 else b""
    time.sleep(rng.random() * longest)
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    while more := os.read(hear, 65536):
        said += more
    os.close(hear)
    if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
        raise SystemExit("the process ended by itself; see above")
    done = said.count(b"d")
    for n in range(done):
        plain = apply(number + n, plain)
    return done, operation(number + done, plain)[0] if said else "opening"


def run(kind: str, kills: int, folder: Path, tell: Console) -> tuple[Counter[str], Counter[str], int]:
    """Kill again and again over one index; what was found, during what it was killed, and how much was acknowledged."""
    rng = np.random.default_rng(kills)
    plain, vectors = Plain(), World(0).draw(ITEMS)
    ids = [f"i{n}" for n in range(ITEMS)]
    plain.put(ids, vectors, list(range(ITEMS)))
    ItemIndex.from_arrays(ids, vectors, {"number": range(ITEMS)}, kind=kind).save(folder)
    faults: Counter[str] = Counter(lost=0, duplicated=0, wrong=0)
    during: Counter[str] = Counter()
    number = 0
    for _ in range(kills):
        done, what = killed(folder, plain, number, KINDS[kind], rng)
        during[what] += 1
        for _ in range(done):
            plain, number = apply(number, plain), number + 1
        with IndexWriter(folder) as writer:
            index = writer.index
        on_its_way = apply(number, plain)
        found = plain.differences(index)
        if found and not on_its_way.differences(index):  # on disk, but killed before it could say so
            found, plain, number = [], on_its_way, number + 1
        faults.update(one.split(" is ")[1].split(":")[0] if " is " in one else "wrong" for one in found)
        if found:
            tell.print(f"{kind}, killed while {what}: {found[:3]}")
            break
        hits = index.search(index.vectors[:20], 5)
        faults["duplicated"] += sum(len(set(rows)) < 5 for rows in hits.rows.tolist())
    return faults, during, number


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=250, help="of all kinds together")
    parser.add_argument("--build-kills", type=int, default=50, help="of builds in one process")
    parser.add_argument("--ray-kills", type=int, default=5, help="of builds over Ray")
    parser.add_argument("--encoder", default="minilm", help="a pretrained text encoder, for builds")
    parser.add_argument("--save", action="store_true", help="keep the record in benchmarks/results")
    options = parser.parse_args()
    record, tell = Record("kill"), Console(stderr=True)
    steps: dict[str, Any] = {}
    for place, kind in enumerate(KINDS):
        kills = options.kills // len(KINDS) + (place < options.kills % len(KINDS))
        with tempfile.TemporaryDirectory() as scratch:
            faults, during, acknowledged = run(kind, kills, Path(scratch) / "index", tell)
        metrics = {"kills": sum(during.values()), **faults, "acknowledged": acknowledged}
        tell.print(f"{kind}: {metrics}, killed while {dict(during)}")
        record.rows.append({"method": kind, "split": "generated", "seed": 0, "metrics": metrics})
        steps[kind] = dict(during)
    jobs = ("build", alone, options.build_kills), ("build over Ray", over_ray, options.ray_kills)
    for method, job, kills in jobs:
        if kills:
            with tempfile.TemporaryDirectory() as scratch:
                metrics = job(Path(scratch), kills, options.encoder)
            tell.print(f"{method}: {metrics}")
            record.rows.append({"method": method, "split": "generated", "seed": 0, "metrics": metrics})
    record.notes = {"protocol": protocol(__doc__), "killed_while": steps}
    record.finish(save=options.save)


if __name__ == "__main__":
    main()
