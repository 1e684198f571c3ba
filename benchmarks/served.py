"""A service in a process of its own: the world that it serves, how it is started, and a client that costs little."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.evaluate_scale import generate
from indexing.build import build_index
from towers.catalog import Catalog
from towers.interactions import Interactions
from training.config import Recipe
from training.trainer import train

ROOT = Path(__file__).parents[1]
TRAINED_ON = 300  # people: what is asked is what an answer costs, not how good it is
LENGTH = 64  # of the content vectors, which stand in for 100,000 texts that would take minutes to read
START = 300.0  # seconds that a service may take to load
RECIPE: dict[str, Any] = {
    "image": {"source": "vectors", "column": "vector"},
    "item": {"text": False, "template": "{title}"},
    "rating": {"range": [1, 5]},
    "train": {"epochs": 1, "text_epochs": 1, "sentences": 0},
}


def make_world(folder: Path, *, items: int, people: int, seed: int = 0) -> None:
    """Write a catalog, a log, a model of the shape that ships (histories read by both readers) and its index."""
    folder.mkdir(parents=True, exist_ok=True)
    generate(folder, events=20 * people, items=items, people=people)
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((items, LENGTH)).astype(np.float32)
    frame = pl.read_parquet(folder / "items.parquet")
    frame.with_columns(vector=pl.Series(vectors.tolist(), dtype=pl.List(pl.Float32))).write_parquet(
        folder / "items.parquet"
    )
    catalog = Catalog.read(folder / "items.parquet")
    log = Interactions.read(folder / "events.parquet", rating_range=(1, 5))
    people_of = log.table["user_id"].to_numpy()
    some = log.keep(np.isin(people_of, np.unique(people_of)[:TRAINED_ON]))
    recipe = Recipe.read({**RECIPE, "train": {**RECIPE["train"], "seed": seed}})
    model = train(catalog, some, recipe=recipe, out=folder / "model", progress=False)
    build_index(model, catalog, out=folder / "index", progress=False)


@dataclass
class Service:
    """A service that runs.

    Args:
        process: its own.
        port: of 127.0.0.1.
    """

    process: subprocess.Popen[str]
    port: int

    @property
    def memory(self) -> float:
        """MiB that it holds."""
        status = Path(f"/proc/{self.process.pid}/status").read_text("utf-8")
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]

    def kill(self) -> None:
        """End it without a word."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextmanager
def serving(
    folder: Path, *, limits: Mapping[str, Any], keys: Path | None = None, threads: int | None = None, before: Any = None
) -> Iterator[Service]:
    """Run `twotower serve` on a world, at a free port, until the block ends.

    Args:
        folder: of the world.
        limits: what differs from those that ship.
        keys: a file of keys; None for none.
        threads: of torch; None: as it likes.
        before: called in the new process, such as to limit what it may write.
    """
    (folder / "limits.toml").write_text("".join(f"{name} = {value}\n" for name, value in limits.items()))
    options = {"model": "model", "index": "index", "catalog": "items.parquet", "interactions": "events.parquet"}
    command = [sys.executable, "-m", "twotower", "serve", "--port", "0", "--limits", str(folder / "limits.toml")]
    command += [part for name, file in options.items() for part in (f"--{name}", str(folder / file))]
    command += [] if keys is None else ["--keys", str(keys)]
    environment = {**os.environ, **({} if threads is None else {"OMP_NUM_THREADS": str(threads)})}
    with (folder / "service.log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, stderr=log, text=True, env=environment, preexec_fn=before)
    try:
        yield Service(process, _port(folder / "service.log", process))
    finally:
        process.terminate()
        process.wait(60)


def _port(log: Path, process: subprocess.Popen[str]) -> int:
    ends = time.monotonic() + START
    while time.monotonic() < ends and process.poll() is None:
        text = log.read_text("utf-8")
        if (found := re.search(r"at http://127\.0\.0\.1:(\d+);", text)) and '"started"' in text:
            return int(found[1])
        time.sleep(0.05)
    raise SystemExit(f"the service did not start: {log.read_text('utf-8')[-500:]}")


@dataclass
class Client:
    """One connection that asks again and again; opened when it is first needed.

    Args:
        port: of the service.
        key: sent with each request, or None.
    """

    port: int
    key: str | None = None
    _streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = field(default=None, init=False)

    async def post(self, path: str, body: Any) -> tuple[int, bytes]:
        """Status and body of the answer; status 0 where the connection ended without one."""
        sent = json.dumps(body).encode()
        key = "" if self.key is None else f"Authorization: Bearer {self.key}\r\n"
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{key}Content-Type: application/json\r\n"
        try:
            if self._streams is None or self._streams[0].at_eof():  # a service closes what was idle for long
                self._streams = await asyncio.open_connection("127.0.0.1", self.port)
            reader, writer = self._streams
            writer.write(f"{head}Content-Length: {len(sent)}\r\n\r\n".encode() + sent)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", answer)
            return int(answer[9:12]), await reader.readexactly(int(length[1]) if length else 0)
        except (OSError, asyncio.IncompleteReadError):
            await self.close()
            return 0, b""

    async def close(self) -> None:
        """End the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def people_of(folder: Path) -> list[int]:
    """Ids of the log's people, in an order drawn at random."""
    users = pl.read_parquet(folder / "events.parquet", columns=["user_id"])["user_id"].unique().sort().to_numpy()
    return np.random.default_rng(1).permutation(users).tolist()


def milliseconds(seconds: list[float]) -> dict[str, float]:
    """Median and tails of times."""
    if not seconds:
        return {}
    return {f"p{q}_ms": round(1000 * float(np.percentile(seconds, q)), 1) for q in (50, 95, 99)}
