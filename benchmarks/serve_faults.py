"""python -m benchmarks.serve_faults [--swaps 100] [--kills 100] [--save]

What may go wrong with a service, done to it on purpose. Model and index are exchanged under load, each time for those
of another training: no request may fail, and each answer must be, item by item, what one of the two gives, the one that
it names. The process is killed while feedback comes in: whatever was acknowledged must be there, exactly once, and
what was not is sent again. The disk fills (files may grow no further): questions are answered, feedback is refused in a
sentence and, once there is room, taken.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import sqlite3
import tempfile
import time
from collections import Counter
from itertools import cycle
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.record import Record, protocol
from benchmarks.serve_load import FREE, row
from benchmarks.served import RECIPE, Client, Service, make_world, people_of, serving
from indexing.build import build_index
from serving.retriever import Retriever
from towers.catalog import Catalog
from towers.interactions import Interactions
from training.config import Recipe
from training.trainer import train

ITEMS, PEOPLE, ASKED, CLIENTS = 500, 120, 40, 8
LIMITS = {**FREE, "seconds": 30.0}
ROOM = 2**20  # bytes to which files may grow when the disk is full
SAME = 1e-3


def two_worlds(folder: Path) -> dict[str, dict[int, list[tuple[str, float]]]]:
    """Train twice on one log, as ``model-a`` and ``model-b``; what each gives each person, by its fingerprint."""
    make_world(folder, items=ITEMS, people=PEOPLE)
    catalog = Catalog.read(folder / "items.parquet")
    log = Interactions.read(folder / "events.parquet", rating_range=(1, 5))
    for what in ("model", "index"):
        (folder / what).rename(folder / f"{what}-a")
    recipe = Recipe.read({**RECIPE, "train": {**RECIPE["train"], "seed": 1}})
    other = train(catalog, log, recipe=recipe, out=folder / "model-b", progress=False)
    build_index(other, catalog, out=folder / "index-b", progress=False)
    point(folder, "a")
    expected = {}
    for name in "ab":
        shop = Retriever(folder / f"model-{name}", folder / f"index-{name}", catalog, log)
        fingerprint = json.loads((folder / f"model-{name}" / "manifest.json").read_text("utf-8"))["model"][:8]
        expected[fingerprint] = {
            user: [(str(one.item), one.score) for one in shop.recommend(user=user, k=10)]
            for user in people_of(folder)[:ASKED]
        }
    return expected


def point(folder: Path, name: str) -> None:
    """Have `model` and `index` be links to one of the two."""
    for what in ("model", "index"):
        link = folder / f"{what}.new"
        link.symlink_to(f"{what}-{name}")
        link.replace(folder / what)


async def swap_under_load(
    service: Service, folder: Path, swaps: int, expected: dict[str, dict[int, list[tuple[str, float]]]]
) -> dict[str, int]:
    """Exchange them again and again while clients ask."""
    found: Counter[str] = Counter()
    seen: set[str] = set()
    over = False

    async def ask(people: Any) -> None:
        client = Client(service.port)
        while not over:
            user = next(people)
            status, body = await client.post("/v1/recommend", {"user": user, "k": 10})
            found["asked"] += 1
            if status != 200:
                found["failed"] += 1
                continue
            answer = json.loads(body)
            seen.add(answer["version"])
            wanted = expected[answer["version"][:8]][user]
            given = [(one["item"], one["score"]) for one in answer["items"]]
            alike = [one == other and abs(s - t) < SAME for (one, s), (other, t) in zip(given, wanted, strict=True)]
            found["mixed"] += not all(alike)
        await client.close()

    people = cycle(next(iter(expected.values())))
    asking = [asyncio.create_task(ask(people)) for _ in range(CLIENTS)]
    master = Client(service.port)
    for number in range(swaps):
        point(folder, "ba"[number % 2])
        status, _ = await master.post("/v1/admin/swap", {})
        found["swaps"] += status == 200
    over = True
    await asyncio.gather(*asking)
    return {name: found[name] for name in ("swaps", "failed", "mixed", "asked")} | {"versions": len(seen)}


async def tell(port: int, events: dict[str, dict[str, Any]], acknowledged: set[str], stop: asyncio.Event) -> None:
    """Send what is not acknowledged yet, again and again, until told to stop or nobody answers."""
    client = Client(port)
    for event in list(events.values()):
        if event["id"] in acknowledged:
            continue
        if stop.is_set():
            break
        status, _ = await client.post("/v1/feedback", {"events": [event]})
        if status == 200:
            acknowledged.add(event["id"])
        elif status == 0:
            break
    await client.close()


async def until_killed(service: Service, events: dict[str, Any], acknowledged: set[str], rng: random.Random) -> None:
    """Feedback from several clients, and after a moment the end of the process."""
    stop, names = asyncio.Event(), list(events)
    parts = [{name: events[name] for name in names[n::CLIENTS]} for n in range(CLIENTS)]
    sending = [asyncio.create_task(tell(service.port, part, acknowledged, stop)) for part in parts]
    await asyncio.sleep(rng.uniform(0.02, 0.6))
    service.kill()
    stop.set()
    await asyncio.gather(*sending)


def kill_during_feedback(folder: Path, kills: int, screen: Console) -> dict[str, int]:
    """Kill, start again, send again; then count what the store has."""
    rng, acknowledged, sent = random.Random(0), set[str](), dict[str, dict[str, Any]]()
    items = Catalog.read(folder / "items.parquet").ids.to_list()
    for number in range(kills):
        sent |= {
            f"{number}-{n}": {
                "id": f"{number}-{n}",
                "user": f"p{n % 7}",
                "item": items[n % len(items)],
                "kind": "click",
            }
            for n in range(300)
        }
        waiting = {name: event for name, event in sent.items() if name not in acknowledged}
        with serving(folder, limits=LIMITS) as service:
            asyncio.run(until_killed(service, waiting, acknowledged, rng))
        sent = {name: event for name, event in sent.items() if name in acknowledged or rng.random() < 0.5}
        if number % 10 == 9:
            screen.print(f"{number + 1} kills, {len(acknowledged):,} events acknowledged")
    with sqlite3.connect(folder / "serve" / "store.sqlite") as database:
        stored = Counter(one for (one,) in database.execute("SELECT id FROM twotower_events"))
    return {
        "kills": kills,
        "acknowledged": len(acknowledged),
        "lost": len(acknowledged - stored.keys()),
        "duplicated": sum(count > 1 for count in stored.values()),
    }


def fill_the_disk(folder: Path) -> dict[str, Any]:
    """Files may grow no further than they are; ask and tell, then make room."""
    event = {"id": "full-1", "user": "somebody", "kind": "click", "item": Catalog.read(folder / "items.parquet").ids[0]}
    big = {"events": [{**event, "id": f"full-{n}" + "x" * 180, "user": "y" * 180} for n in range(100)]}

    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, resource.RLIM_INFINITY))

    async def run(port: int) -> tuple[Counter[int], list[str], int]:
        client = Client(port)
        statuses: Counter[int] = Counter()
        sentences: list[str] = []
        for number in range(200):
            told = {"events": [{**one, "id": f"{number}-{one['id']}"} for one in big["events"]]}
            status, body = await client.post("/v1/feedback", told)
            statuses[status] += 1
            if status != 200:
                sentences.append(json.loads(body).get("error", "") if body else "")
                if len(sentences) == 5:
                    break
        asked, _ = await client.post("/v1/recommend", {"user": people_of(folder)[0], "k": 10})
        await client.close()
        return statuses, sentences, asked

    with serving(folder, limits=LIMITS, before=no_room) as service:
        statuses, sentences, asked = asyncio.run(run(service.port))
    with serving(folder, limits=LIMITS) as service:
        again, _ = asyncio.run(Client(service.port).post("/v1/feedback", {"events": [event]}))
    return {
        "taken": statuses[200],
        "refused": statuses[503],
        "errors": sum(count for status, count in statuses.items() if status not in (200, 503)),
        "reads_go_on": asked == 200,
        "taken_with_room": again == 200,
        "sentence": sentences[0] if sentences else "",
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--swaps", type=int, default=100)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--save", action="store_true", help="keep the record in benchmarks/results")
    options = parser.parse_args()
    record, screen = Record("serve-faults"), Console(stderr=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        expected = two_worlds(folder)
        began = time.perf_counter()
        with serving(folder, limits=LIMITS) as service:
            swapped = asyncio.run(swap_under_load(service, folder, options.swaps, expected))
        record.rows.append(row("swap", "under-load", swapped))
        screen.print(record.rows[-1], f"{time.perf_counter() - began:.0f} s")
        record.rows.append(row("full-disk", "file-size-limit", fill_the_disk(folder)))
        screen.print(record.rows[-1])
        (folder / "serve" / "store.sqlite").unlink()
        for more in ("-wal", "-shm"):
            (folder / "serve" / f"store.sqlite{more}").unlink(missing_ok=True)
        record.rows.append(row("kill", "during-feedback", kill_during_feedback(folder, options.kills, screen)))
        screen.print(record.rows[-1])
    record.notes = {"protocol": protocol(__doc__), "items": ITEMS, "clients": CLIENTS}
    table = Table("", "", "")
    for one in record.rows:
        table.add_row(
            one["method"], one["split"], ", ".join(f"{name} {value}" for name, value in one["metrics"].items())
        )
    screen.print(table)
    record.finish(save=options.save)


if __name__ == "__main__":
    main()
