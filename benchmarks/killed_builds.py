"""Builds of an index that are killed again and again: in one process, and over Ray."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np

from benchmarks.building import World, end, until
from indexing.build import build_index
from indexing.index import ItemIndex
from towers.catalog import Catalog
from towers.embed import VectorCache
from towers.model import TwoTower

LONGEST = 1.0  # seconds that a process lives at most
WORKERS = 2


def faults(index: ItemIndex, whole: ItemIndex) -> dict[str, int]:
    """Items lost, there twice, and with another vector than in a build that nobody killed."""
    ids = index.ids.to_list()
    there = whole.ids.rows(ids)
    return {
        "lost": len(set(whole.ids.to_list()) - set(ids)),
        "duplicated": len(ids) - len(set(ids)),
        "wrong": int((index.vectors != whole.vectors[there]).any(axis=1).sum()),
    }


def alone(folder: Path, kills: int, encoder: str, longest: float = LONGEST) -> dict[str, int]:
    """Kill one process so many times, each time at a random moment; what is wrong with all indexes that came of it."""
    world = World.make(folder, 240, 20, encoder)
    model, catalog = TwoTower.load(folder / "model"), Catalog.read(folder / "items.parquet")

    def build(name: str | None) -> ItemIndex:
        cache = VectorCache(folder / f"{name}.cache")
        out = None if name is None else folder / name
        return build_index(model, catalog, out=out, shard=world.shard, progress=False, cache=cache)

    whole, rng = build(None), np.random.default_rng(kills)
    found = {"kills": 0, "builds": 0, "lost": 0, "duplicated": 0, "wrong": 0}
    while found["kills"] < kills:
        name = f"index-{found['builds']}"
        child = os.fork()
        if child == 0:
            build(name)
            os._exit(0)
        time.sleep(rng.random() * longest)
        os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code not in (0, -signal.SIGKILL):
            raise SystemExit("the build ended by itself; see above")
        found["kills"] += code != 0
        if code == 0 or found["kills"] == kills:
            build(name)
            found["builds"] += 1
            for fault, count in faults(world.load(name), whole).items():
                found[fault] += count
    return found


def over_ray(folder: Path, kills: int, encoder: str) -> dict[str, int]:
    """The same with the process that drives a Ray cluster of two workers, killed when some shards are done."""
    world = World.make(folder, 240, 20, encoder)
    world.build("whole")
    found = {"kills": 0, "builds": 1}
    for number in range(kills):
        child = world.start("index", WORKERS)
        found["kills"] += until(lambda goal=number + 1: world.done("index") >= goal, child)  # type: ignore[misc]
        end(child)
    world.build("index", WORKERS)
    return found | faults(world.load("index"), world.load("whole"))
