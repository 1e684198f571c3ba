"""python -m benchmarks.evaluate_scale [--events 1000000] [--items N] [--people N] [--save]

How long does `twotower evaluate` take on a log of a million events, and how much memory? The log is generated: items of
falling popularity (Zipf), people with a few clusters of taste. The model has the shape that ships and is trained for
one epoch on a few of the people, which is told apart: its figures say what asking costs, not how good it is.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from benchmarks.record import Record
from towers.weights import fetch

ROOT = Path(__file__).parents[1]
PROTOCOL = "leave-one-out"
BASELINES = "most-popular,item-knn,ease"
TRAINED_ON = 1_000  # people; enough for weights that are not random
CLUSTERS = 200
OWN = 0.8  # of a person's events lie in their clusters, the others anywhere
YEAR = 365 * 86_400
MINUTES, GIB = 10, 6  # what it may take
VOCABULARY = (
    "amber anchor apple arrow autumn bridge bronze candle canyon castle cedar circle cloud copper coral cotton crane "
    "crystal desert diamond dragon eagle echo ember falcon feather forest fountain fox garden ghost glass gold harbor "
    "harvest hazel hollow horizon island ivory jade jungle lantern lemon light lion maple marble meadow mirror moon "
    "morning mountain night north ocean olive opal orchard owl palace paper pearl pepper pine planet prairie quartz "
    "rain raven river rose ruby saffron sailor salt shadow silver sky snow spring star stone storm summer sun thunder "
    "tiger tower valley velvet violet water whale wheel willow wind winter wolf"
)
RECIPE = """
text.source = "{source}"
rating.range = [1, 5]
train = {{epochs = 1, text_epochs = 1, sentences = 0}}
"""


@dataclass(frozen=True)
class Evaluated:
    """A run of `twotower evaluate`.

    Args:
        seconds: from its start to its end.
        processor: seconds that it kept processors busy; other work on the machine hardly changes them.
        peak: most memory it held, GiB.
        said: what it told on standard error, each line with the second at which it came.
        table: the JSON that it printed.
    """

    seconds: float
    processor: float
    peak: float
    said: list[tuple[float, str]]
    table: dict[str, Any]


def generate(folder: Path, *, events: int, items: int, people: int, seed: int = 0) -> None:
    """Write ``items.parquet`` and ``events.parquet`` of made-up people and items.

    An item's popularity is one over its rank, and each item belongs to one cluster. A person has one to three clusters
    of taste and meets no item twice; how many events each has is spread as in real logs (log-normal, three or more but
    for a few).
    """
    rng = np.random.default_rng(seed)
    cluster = rng.integers(CLUSTERS, size=items)
    vocabulary = np.array(VOCABULARY.split())
    words = np.stack([rng.permutation(vocabulary)[:12] for _ in range(CLUSTERS)])
    titles = words[cluster[:, None], rng.integers(12, size=(items, 5))]
    lengths = rng.integers(3, 6, size=items)
    pl.DataFrame(
        {
            "item_id": [f"i{n:06}" for n in range(items)],
            "title": [" ".join(row[:length]).capitalize() for row, length in zip(titles, lengths, strict=True)],
        }
    ).write_parquet(folder / "items.parquet")

    person, item = _events(rng, cluster, events, people)
    time_of = rng.integers(YEAR, size=len(person))
    rating = np.clip(rng.normal(3.8, 1.0, len(person)).round(), 1, 5).astype(np.int64)
    order = rng.permutation(len(person))
    pl.DataFrame(
        {
            "user_id": person[order],
            "item_id": pl.Series(item[order]).cast(pl.String).str.zfill(6).str.replace("^", "i"),
            "rating": rating[order],
            "timestamp": 1_600_000_000 + time_of[order],
        }
    ).write_parquet(folder / "events.parquet")


def _events(rng: np.random.Generator, cluster: np.ndarray, events: int, people: int) -> tuple[np.ndarray, np.ndarray]:
    """Who met what, int64 ``(events,)`` each, no pair twice."""
    items = len(cluster)
    weight = 1 / (1.0 + np.arange(items))
    by_cluster = np.argsort(cluster, kind="stable")
    ends = np.cumsum(weight[by_cluster])
    border = np.concatenate([[0.0], ends[np.cumsum(np.bincount(cluster, minlength=CLUSTERS)) - 1]])
    tastes = rng.integers(CLUSTERS, size=(people, 3))
    share = rng.lognormal(0, 0.9, people)
    person, item = np.empty(0, np.int64), np.empty(0, np.int64)
    while len(person) < events:
        missing = events - len(person)
        drawn = np.concatenate(
            [np.repeat(np.arange(people), 3), rng.choice(people, 2 * missing, p=share / share.sum())]
        )
        own = tastes[drawn, rng.integers(3, size=len(drawn))]
        low, high = border[own], border[own + 1]
        anywhere = rng.random(len(drawn)) > OWN
        at = np.where(anywhere, 0.0, low) + rng.random(len(drawn)) * np.where(anywhere, ends[-1], high - low)
        met = by_cluster[np.minimum(np.searchsorted(ends, at, side="right"), items - 1)]
        keys = np.concatenate([person * items + item, drawn * items + met])
        first = np.sort(np.unique(keys, return_index=True)[1])[:events]
        person, item = keys[first] // items, keys[first] % items
    return person, item


def prepare(folder: Path, encoder: Path, events: int, items: int, people: int) -> None:
    """Data and a model for them in `folder`: the shape that ships, with `encoder`, trained on a few of the people."""
    from towers.catalog import Catalog
    from towers.interactions import Interactions, Positive
    from training.config import Recipe
    from training.measuring.comparison import sample_people, split_log
    from training.saved import save
    from training.trainer import fit

    generate(folder, events=events, items=items, people=people)
    catalog = Catalog.read(folder / "items.parquet")
    log = Interactions.read(folder / "events.parquet", rating_range=(1, 5))
    _, split = split_log(PROTOCOL, log, catalog, Positive())
    (folder / "recipe.toml").write_text(RECIPE.format(source=encoder), "utf-8")
    recipe = Recipe.read(folder / "recipe.toml")
    asked = sample_people(split.validation, TRAINED_ON)
    past = split.train.keep(np.isin(split.train.people, asked.people))
    model, report = fit(catalog, past, asked, recipe, progress=False)
    save(model, report, recipe, split.refit, folder / "model")  # may be asked what `evaluate` asks


def evaluate(folder: Path) -> Evaluated:
    """Run `twotower evaluate` on what `prepare` has made.

    Raises:
        SystemExit: it failed.
    """
    files = {"--catalog": "items.parquet", "--interactions": "events.parquet", "--model": "model"}
    options = [part for option, name in files.items() for part in (option, str(folder / name))]
    command = [sys.executable, "-m", "twotower", "evaluate", *options, "--protocol", PROTOCOL]
    started, said = time.perf_counter(), []
    command += ["--rating-range", "1", "5", "--baselines", BASELINES, "--json"]
    with (
        (folder / "table.json").open("w") as table,
        subprocess.Popen(command, cwd=ROOT, stdout=table, stderr=subprocess.PIPE, text=True) as process,
    ):
        assert process.stderr is not None
        for line in process.stderr:
            said.append((round(time.perf_counter() - started, 1), line.rstrip().replace(str(folder), "DIR")))
            print(*said[-1], file=sys.stderr, flush=True)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"twotower evaluate failed: {said[-1:]}")
    seconds = time.perf_counter() - started
    return Evaluated(
        seconds=seconds,
        processor=used.ru_utime + used.ru_stime,
        peak=used.ru_maxrss / 2**20,  # Linux counts KiB
        said=said,
        table=json.loads((folder / "table.json").read_text("utf-8")),
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, help="default: a tenth of the events")
    parser.add_argument("--people", type=int, help="default: a twentieth of the events")
    parser.add_argument("--save", action="store_true", help="keep the record in benchmarks/results")
    options = parser.parse_args()
    items, people = options.items or options.events // 10, options.people or options.events // 20
    record, screen = Record("evaluate-scale"), Console(stderr=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        encoder = fetch("minilm")
        os.environ["TWOTOWER_CACHE"] = str(folder / "cache")  # for the made-up texts' vectors
        prepared = _prepared(folder, encoder, options.events, items, people)
        load, evaluated = os.getloadavg()[0], evaluate(folder)
    metrics = {
        "seconds": round(evaluated.seconds, 1),
        "processor seconds": round(evaluated.processor, 1),
        "peak GiB": round(evaluated.peak, 2),
    }
    table = Table("method", "recall@20", "ndcg@20")
    for row in evaluated.table["rows"]:
        table.add_row(row["method"], *(f"{row['metrics'][name][0]:.3f}" for name in ("recall@20", "ndcg@20")))
    screen.print(table)
    enough = evaluated.seconds <= 60 * MINUTES and evaluated.peak <= GIB
    screen.print(
        f"{evaluated.seconds:.0f} s of {60 * MINUTES}, {evaluated.peak:.2f} GiB of {GIB}; prepared in {prepared:.0f} s"
    )
    split = f"generated-{options.events}-events-{items}-items-{people}-people"
    record.rows = [{"method": "twotower evaluate", "split": split, "seed": 0, "metrics": metrics}]
    record.notes = {
        "enough": enough,
        "load before": load,
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "prepared, seconds": round(prepared, 1),
        "said": evaluated.said,
        "table": evaluated.table,
    }
    record.finish(save=options.save)


def _prepared(folder: Path, encoder: Path, *sizes: int) -> float:
    """Prepare in a process of its own, so that what it holds is not counted for what comes after; seconds."""
    started = time.perf_counter()
    process = multiprocessing.get_context("spawn").Process(target=prepare, args=(folder, encoder, *sizes))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit("the data or the model could not be made, see above")
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
