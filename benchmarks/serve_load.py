"""python -m benchmarks.serve_load [--items 100000] [--seconds 30] [--overload 120] [--save]

How many answers a second does the service give, how soon, and what does HTTP cost? 1, 16 and 64 clients ask for people
of a generated log, each the next as soon as it has its answer, with questions computed together and each alone; beside
them `Retriever.recommend` called from Python. Then five times as many questions a second as 16 clients had answered,
whether answers come or not: those that are refused must be refused with 503, memory must not grow, those that are
answered must be answered within the service's limit, and five seconds later everything must be as before.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.record import Record, protocol
from benchmarks.served import Client, Service, make_world, milliseconds, people_of, serving
from serving.retriever import Retriever
from serving.web.faults import AGAIN
from towers.catalog import Catalog
from towers.interactions import Interactions

CLIENTS = (1, 16, 64)
FREE = {"rate": 1e6, "burst": 1_000_000}  # how often one key may ask is not what is measured
BATCH = {"batching on": 16, "batching off": 1}
ALONE = 200  # calls from Python
TIMES = 5
RECOVERED = 5.0  # seconds


async def closed_loop(
    port: int, clients: int, seconds: float, people: Iterator[int]
) -> tuple[list[float], Counter[int]]:
    """Seconds of each answer, and how many of each status, where each client waits for its answer.

    One that is refused comes again when Retry-After says so.
    """
    taken: list[float] = []
    statuses: Counter[int] = Counter()
    ends = time.perf_counter() + seconds

    async def one() -> None:
        client = Client(port)
        while (began := time.perf_counter()) < ends:
            status, _ = await client.post("/v1/recommend", {"user": next(people), "k": 10})
            statuses[status] += 1
            if status == 200:
                taken.append(time.perf_counter() - began)
            else:
                await asyncio.sleep(AGAIN)
        await client.close()

    await asyncio.gather(*(one() for _ in range(clients)))
    return taken, statuses


async def open_loop(
    service: Service, rate: float, seconds: float, people: Iterator[int]
) -> tuple[list[float], Counter[int], list[float]]:
    """The same where questions come at a rate, whatever becomes of them; and the service's memory, each second, MiB."""
    taken: list[float] = []
    statuses: Counter[int] = Counter()
    memory: list[float] = []
    idle: list[Client] = []
    asked: set[asyncio.Task[None]] = set()

    async def one() -> None:
        client = idle.pop() if idle else Client(service.port)
        began = time.perf_counter()
        status, _ = await client.post("/v1/recommend", {"user": next(people), "k": 10})
        statuses[status] += 1
        if status == 200:
            taken.append(time.perf_counter() - began)
        idle.append(client)

    began, sent = time.perf_counter(), 0
    while (now := time.perf_counter() - began) < seconds:
        while sent < now * rate:
            task = asyncio.create_task(one())
            asked.add(task)
            task.add_done_callback(asked.discard)
            sent += 1
        if len(memory) < now:
            memory.append(service.memory)
        await asyncio.sleep(0.005)
    await asyncio.gather(*asked)
    for client in idle:
        await client.close()
    return taken, statuses, memory


def row(method: str, split: str, metrics: dict[str, Any]) -> dict[str, Any]:
    """A row of the record."""
    return {"method": method, "split": split, "seed": 0, "metrics": metrics}


def from_python(folder: Path, people: list[int]) -> dict[str, Any]:
    """Without HTTP: one call after the other."""
    catalog = Catalog.read(folder / "items.parquet")
    log = Interactions.read(folder / "events.parquet", rating_range=(1, 5))
    shop = Retriever(folder / "model", folder / "index", catalog, log)
    shop.recommend(user=people[0])
    taken = []
    for user in people[1 : ALONE + 1]:
        began = time.perf_counter()
        shop.recommend(user=user, k=10)
        taken.append(time.perf_counter() - began)
    return {"rps": round(len(taken) / sum(taken), 1), **milliseconds(taken)}


def loaded(
    service: Service, method: str, seconds: float, people: Iterator[int], screen: Console
) -> list[dict[str, Any]]:
    """Rows of 1, 16 and 64 clients."""
    rows = []
    asyncio.run(closed_loop(service.port, 4, min(3.0, seconds), people))
    for clients in CLIENTS:
        taken, statuses = asyncio.run(closed_loop(service.port, clients, seconds, people))
        errors = sum(count for status, count in statuses.items() if status not in (200, 503))
        metrics = {"rps": round(len(taken) / seconds, 1), **milliseconds(taken), "errors": errors}
        rows.append(row(method, f"clients-{clients}", {**metrics, "refused": statuses[503]}))
        screen.print(rows[-1])
    return rows


def overloaded(
    service: Service, sustained: float, seconds: float, limit: float, people: Iterator[int]
) -> dict[str, Any]:
    """What five times as many questions do, and what is five seconds later."""
    before, _ = asyncio.run(closed_loop(service.port, 1, RECOVERED, people))
    taken, statuses, memory = asyncio.run(open_loop(service, TIMES * sustained, seconds, people))
    at_rest = _until_as_before(service, float(np.median(before)), people)
    third = max(1, len(memory) // 3)
    tails = milliseconds(taken)
    return {
        "offered_rps": round(TIMES * sustained, 1),
        "rps": round(len(taken) / seconds, 1),
        **tails,
        "refused": statuses[503],
        "errors": sum(count for status, count in statuses.items() if status not in (200, 503)),
        "memory_grown_mib": round(float(np.mean(memory[-third:]) - np.mean(memory[third : 2 * third])), 1),
        "recovered_s": at_rest,
        "within_limit": tails.get("p99_ms", 0.0) <= 1000 * limit,
    }


def _until_as_before(service: Service, median: float, people: Iterator[int]) -> float | None:
    """Seconds until one client is answered as soon as before, in a second's median and with no refusal."""
    began = time.perf_counter()
    while (passed := time.perf_counter() - began) < 10 * RECOVERED:
        taken, statuses = asyncio.run(closed_loop(service.port, 1, 1.0, people))
        if set(statuses) == {200} and np.median(taken) < 1.5 * median:
            return round(passed, 1)
    return None


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--people", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each measurement")
    parser.add_argument("--overload", type=float, default=120.0, help="seconds of too many questions")
    parser.add_argument("--limit", type=float, default=2.0, help="seconds within which the service must answer")
    parser.add_argument("--world", type=Path, help="folder that is made once and kept; default: made for this run")
    parser.add_argument("--save", action="store_true", help="keep the record in benchmarks/results")
    options = parser.parse_args()
    record, screen = Record("serve-load"), Console(stderr=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.world or Path(scratch)
        if not (folder / "index").is_dir():
            make_world(folder, items=options.items, people=options.people)
        people = people_of(folder)
        record.rows.append(row("python", "one-by-one", from_python(folder, people)))
        screen.print(record.rows[0])
        for method, batch in BATCH.items():
            limits = {**FREE, "batch": batch, "seconds": options.limit}
            with serving(folder, limits=limits) as service:
                asked = cycle(people)
                rows = loaded(service, method, options.seconds, asked, screen)
                record.rows += rows
                if batch > 1 and options.overload:
                    sustained = rows[1]["metrics"]["rps"]
                    metrics = overloaded(service, sustained, options.overload, options.limit, asked)
                    record.rows.append(row(method, f"overload-{options.overload:g}-s", metrics))
                    screen.print(record.rows[-1])
    alone, one = (found["metrics"] for found in record.rows[:2])
    record.notes = {
        "protocol": protocol(__doc__),
        "items": options.items,
        "http_ms": round(one["p50_ms"] - alone["p50_ms"], 1),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "load": os.getloadavg()[0],
    }
    _show(record.rows, screen)
    record.finish(save=options.save)


def _show(rows: list[dict[str, Any]], screen: Console) -> None:
    names = ("rps", "p50_ms", "p95_ms", "p99_ms", "errors", "refused")
    table = Table("", "", *names)
    for one in rows:
        table.add_row(one["method"], one["split"], *(str(one["metrics"].get(name, "")) for name in names))
    screen.print(table)


if __name__ == "__main__":
    main()
