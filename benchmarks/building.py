"""A catalog and a model to build an index with, and such a build in a process of its own, which may be killed.

python -m benchmarks.building MODEL CATALOG OUT CACHE [--shard 64] [--workers 2]: the build; with workers over Ray.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import psutil

from indexing.build import build_index
from indexing.index import ItemIndex
from towers.catalog import Catalog
from towers.embed import VectorCache
from towers.ids import IdList
from towers.item import ItemConfig
from towers.model import TwoTower
from towers.model_config import ModelConfig, UserConfig
from towers.text import TextConfig, TextEncoder

WORDS = "piano violin quiet evening rain engine motor race fast night music slow river winter train letter"
PATIENCE = {
    "RAY_agent_register_timeout_ms": "120000",
    "RAY_worker_niceness": "0",
}  # where much else runs
WAIT = 300  # seconds after which a process that was to show a sign of life has failed


@dataclass(frozen=True)
class World:
    """What is built.

    Args:
        folder: of model, catalog and all builds.
        items: how many.
        shard: items of a shard.
    """

    folder: Path
    items: int
    shard: int

    @classmethod
    def make(cls, folder: Path, items: int, shard: int, encoder: str) -> World:
        """Write a catalog of generated texts, and a model that was not trained: embedding takes as long."""
        rng = np.random.default_rng(0)
        texts = [" ".join(rng.choice(WORDS.split(), rng.integers(5, 60))) for _ in range(items)]
        pl.DataFrame({"item_id": [f"i{n}" for n in range(items)], "title": texts}).write_parquet(
            folder / "items.parquet"
        )
        config = TextConfig(source=encoder)
        shape = ModelConfig(text=config, item=ItemConfig(ids=False), user=UserConfig(text=None))
        text = TextEncoder.load(config)
        TwoTower(config=shape, encoder=text, ids=IdList([]), template="{title}").save(folder / "model")
        return cls(folder, items, shard)

    @property
    def shards(self) -> int:
        """How many there are."""
        return -(-self.items // self.shard)

    def start(self, name: str, workers: int = 0) -> subprocess.Popen[bytes]:
        """Begin to build the index `name`, or go on, over a cache of its own."""
        places = self.folder / "model", self.folder / "items.parquet", self.folder / name, self.folder / f"{name}.cache"
        options = ["--shard", str(self.shard), "--workers", str(workers)]
        command = [sys.executable, "-m", "benchmarks.building", *map(str, places), *options]
        return subprocess.Popen(command, env={**os.environ, **PATIENCE})

    def build(self, name: str, workers: int = 0) -> float:
        """The same to its end; seconds."""
        began = time.perf_counter()
        if code := self.start(name, workers).wait():
            raise SystemExit(f"the build of {name} ended with exit code {code}; see above")
        return time.perf_counter() - began

    def load(self, name: str) -> ItemIndex:
        """An index that was built."""
        return ItemIndex.load(self.folder / name)

    def done(self, name: str) -> int:
        """Shards that are on disk."""
        return len(list((self.folder / f"{name}.building").glob("*.shard")))

    def begun(self, name: str) -> int:
        """Shards that one process has ever begun."""
        log = self.folder / f"{name}.cache" / "begun"
        return log.stat().st_size if log.exists() else 0


def until(condition: Callable[[], bool], child: subprocess.Popen[bytes]) -> bool:
    """Wait for a condition; False where the process has ended before."""
    end = time.monotonic() + WAIT
    while not condition():
        if child.poll() is not None:
            return False
        if time.monotonic() > end:
            raise SystemExit("nothing happens; see above")
        time.sleep(0.005)
    return True


def ray_workers(child: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The processes that embed for a build."""
    return [one for one in _below(child) if "_Worker" in one.name() or "MapWorker" in " ".join(one.cmdline())]


def end(child: subprocess.Popen[bytes]) -> None:
    """Kill a build, and wait until the cluster that it had started is gone."""
    others = list(_below(child))
    child.kill()
    child.wait()
    for left in psutil.wait_procs(others, timeout=30)[1]:
        left.kill()


def _below(child: subprocess.Popen[bytes]) -> Iterator[psutil.Process]:
    try:
        for one in psutil.Process(child.pid).children(recursive=True):
            try:
                one.cmdline()
            except psutil.Error:
                continue
            yield one
    except psutil.NoSuchProcess:
        return


def main() -> None:
    """Build."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "catalog", "out", "cache"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--shard", type=int, default=64)
    parser.add_argument("--workers", type=int, default=0)
    options = parser.parse_args()
    whole = TwoTower.embed_items

    def noted(self: TwoTower, *given: Catalog, **more: VectorCache) -> np.ndarray:
        options.cache.mkdir(exist_ok=True)
        with (options.cache / "begun").open("ab") as log:
            log.write(b"b")
        return whole(self, *given, **more)  # type: ignore[arg-type]

    TwoTower.embed_items = noted  # type: ignore[assignment, method-assign]
    build_index(
        options.model,
        Catalog.read(options.catalog),
        out=options.out,
        shard=options.shard,
        progress=False,
        ray=options.workers > 0,
        workers=options.workers or None,
        cache=VectorCache(options.cache),
    )


if __name__ == "__main__":
    main()
