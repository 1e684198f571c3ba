"""python -m benchmarks.embed_scale [--items 4000] [--shard 256] [--kills 5] [--encoder minilm] [--save]

How fast is an index built by two workers of a Ray cluster on this machine, beside one process, and is it the same one,
bit for bit? All compute with one thread each (OMP_NUM_THREADS=1); what a process needs to begin (imports, model, for
Ray its cluster) is in the seconds, and told apart by building an index of one shard.

Then the build in one process is killed on its way and begun again until it is done, which may begin one shard twice for
each kill; and once the driver and once a worker of Ray are killed. The bits must be the same each time.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.building import World, end, ray_workers, until
from benchmarks.record import Record, protocol
from indexing.index import ItemIndex

os.environ["OMP_NUM_THREADS"] = "1"

WORKERS = 2


def same(one: ItemIndex, other: ItemIndex) -> bool:
    """Whether two indexes hold the same items, bit for bit."""
    return one.ids == other.ids and one.vectors.tobytes() == other.vectors.tobytes()


def speeds(world: World, small: World) -> list[dict[str, Any]]:
    """One process and two workers, the whole and one shard, one after the other."""
    rows = []
    for method, workers in (("one process", 0), (f"Ray, {WORKERS} workers", WORKERS)):
        name = f"by-{workers}"
        begin, whole = small.build(f"small-{name}", workers), world.build(name, workers)
        speed = (world.items - small.items) / max(whole - begin, 1e-9)
        metrics = {"build_s": whole, "begin_s": begin, "items_per_second": speed}
        rows.append({"method": method, "split": "generated", "seed": 0, "metrics": metrics})
    first, second = (row["metrics"] for row in rows)
    second["speedup"] = second["items_per_second"] / first["items_per_second"]
    second["same_bits"] = float(same(world.load("by-0"), world.load(f"by-{WORKERS}")))
    return rows


def killed_alone(world: World, kills: int) -> dict[str, float]:
    """One process, killed so many times on its way; how many shards were begun twice."""
    step = max(1, world.shards // (kills + 1))
    happened = 0
    for number in range(kills):
        child = world.start("killed")
        happened += until(partial(_has_begun, world, (number + 1) * step + number), child)
        end(child)
    world.build("killed")
    repeated = world.begun("killed") - world.shards
    return {
        "kills": happened,
        "repeated": repeated,
        "repeated_a_kill": repeated / max(1, happened),
        "same_bits": float(same(world.load("by-0"), world.load("killed"))),
    }


def killed_over_ray(world: World, whom: str) -> dict[str, float]:
    """The driver, or a worker, killed when a third is done; what was kept, and the bits that come out."""
    name = f"ray-{whom}"
    child = world.start(name, WORKERS)
    hit = until(lambda: world.done(name) >= world.shards // 3, child)
    kept = world.done(name)
    if hit and whom == "driver":
        end(child)
        kept = world.done(name)
        world.build(name, WORKERS)
    else:
        for worker in ray_workers(child)[:1]:
            worker.kill()
        if child.wait():
            raise SystemExit("the build did not outlive its worker; see above")
    return {"kills": hit, "kept_shards": kept, "same_bits": float(same(world.load("by-0"), world.load(name)))}


def _has_begun(world: World, shards: int) -> bool:
    return world.begun("killed") >= shards


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=4000)
    parser.add_argument("--shard", type=int, default=256, help="items of a shard")
    parser.add_argument("--kills", type=int, default=5, help="of one process")
    parser.add_argument("--encoder", default="minilm", help="a pretrained text encoder")
    parser.add_argument("--save", action="store_true", help="keep the record in benchmarks/results")
    options = parser.parse_args()
    record, tell = Record("embed-scale"), Console(stderr=True)
    with tempfile.TemporaryDirectory() as scratch:
        folders = [Path(scratch) / name for name in ("whole", "small")]
        for folder in folders:
            folder.mkdir()
        world = World.make(folders[0], options.items, options.shard, options.encoder)
        small = World.make(folders[1], options.shard, options.shard, options.encoder)
        record.rows = speeds(world, small)
        lives = {"one process, killed": killed_alone(world, options.kills)}
        for whom in ("driver", "worker"):
            lives[f"Ray, {whom} killed"] = killed_over_ray(world, whom)
    for method, metrics in lives.items():
        record.rows.append({"method": method, "split": "generated", "seed": 0, "metrics": metrics})
    for row in record.rows:
        tell.print(row["method"], row["metrics"])
    record.notes = {
        "protocol": protocol(__doc__),
        "items": options.items,
        "shard": options.shard,
        "encoder": options.encoder,
    }
    record.finish(save=options.save)


if __name__ == "__main__":
    main()
