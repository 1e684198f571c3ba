"""python -m benchmarks.refresh [--epochs N] [--days N] [--out DIR] [--save]

Ten days of a log replayed through `twotower refresh`: the last three tenths of MovieLens-100K, cut into ten days of as
many events, each refreshed from and the next one asked about; one of them is flooded with events of accounts that are
nobody. The promoted models against the one that is never refreshed. The sequence reader only, few epochs.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from benchmarks.movielens_jobs import TEMPLATE
from benchmarks.record import Record, plain
from indexing.build import build_index
from towers.catalog import Catalog
from towers.history import Histories
from towers.interactions import Interactions
from towers.model import TwoTower
from towers.movielens import movielens_100k
from training.config import Recipe
from training.measuring.evaluate import Result, evaluate
from training.measuring.metrics import paired_difference
from training.measuring.protocols import last_event
from training.measuring.splits import Questions
from training.ranker import IndexRanker
from training.trainer import fit
from twotower import releases
from twotower.refresh import begin, newest, refresh

DAYS, SHARE = 10, 0.3
ACCOUNTS, EVENTS, PUSHED = 600, 100, 20  # of the flood: about as many events as people did before, and items
FROZEN, REFRESHED = "frozen", "refreshed"


def main() -> None:
    """Run the benchmark."""
    options = _options()
    record = Record("refresh")
    catalog, log = movielens_100k()
    log = log.known(catalog)
    cuts = days(log.table["timestamp"].to_numpy())[: options.days + 1]
    poisoned = len(cuts) // 2
    _begin(catalog, _until(log, cuts[0]), options.epochs, options.out)
    shop, outcomes = options.out / "shop", []
    for day, (start, end) in enumerate(pairwise(cuts), 1):
        gathered = _until(log, end)
        given = flooded(gathered, catalog, start, end) if day == poisoned else gathered
        outcome = refresh(shop, catalog, given, epochs=max(1, options.epochs // 4))
        outcomes.append({"day": day, "poisoned": day == poisoned, **outcome.to_json()})
        Console(stderr=True, width=120).print(f"day {day}: {outcome.said}")
        if day < len(cuts) - 1:
            record.rows += judge(options.out, catalog, log, cuts, day)
    record.notes = {
        "protocol": f"the last {SHARE:.0%} of the log as {DAYS} days of as many events; each day's refresh holds back "
        "its newest events to compare by; after it, people whom the model knew are asked what they did the next day, "
        f"by retrieval with popularity of late; on day {poisoned} {ACCOUNTS} accounts that are nobody add {EVENTS} "
        f"events each, every other one of {PUSHED} films that are pushed, and are gone the day after; 95 % intervals "
        "by bootstrap over people; one seed",
        "days": outcomes,
        "refused": [one["day"] for one in outcomes if one["differences"] and not one["promoted"]],
    }
    _show(record)
    record.finish(save=options.save)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=12, help="of the first model; a refresh takes a fourth")
    parser.add_argument("--days", type=int, default=DAYS, help="how many of the ten")
    parser.add_argument("--out", type=Path, default=Path("runs/refresh"), help="where models are kept")
    parser.add_argument("--save", action="store_true", help="keep the record in benchmarks/results")
    return parser.parse_args()


def days(times: np.ndarray) -> np.ndarray:
    """The times at which days begin, and the end of the last."""
    ordered = np.sort(times)
    places = np.linspace((1 - SHARE) * len(ordered), len(ordered) - 1, DAYS + 1).astype(int)
    return np.append(ordered[places[:-1]], ordered[-1] + 1)


def _until(log: Interactions, end: float) -> Interactions:
    return log.keep(log.table["timestamp"].to_numpy() < end)


def _begin(catalog: Catalog, log: Interactions, epochs: int, out: Path) -> None:
    """A model of what was before, as the first release."""
    if not (out / "model" / "manifest.json").exists():
        train = {"epochs": epochs, "evaluate_every": min(4, epochs)}
        recipe = Recipe.read({"item": {"template": TEMPLATE}, "user": {"text": False}, "train": train})
        _, histories = log.histories(catalog)
        fit(catalog, *last_event(histories), recipe, out=out / "model")
    shutil.rmtree(out / "shop", ignore_errors=True)
    begin(out / "shop", out / "model", catalog, log)


def flooded(log: Interactions, catalog: Catalog, start: float, end: float, accounts: int = ACCOUNTS) -> Interactions:
    """The log with events of accounts that are nobody between two times: after each known item one that is pushed."""
    rng, pairs = np.random.default_rng(0), accounts * EVENTS // 2
    counts = np.bincount(catalog.rows(log.table["item_id"]), minlength=len(catalog))
    known = rng.choice(len(catalog), pairs, p=counts / counts.sum())
    pushed = rng.choice(np.argsort(counts, kind="stable")[:PUSHED], pairs)
    flood = pl.DataFrame(
        {
            "user_id": np.repeat([f"robot {n}" for n in range(accounts)], EVENTS),
            "item_id": [str(one) for one in catalog.ids.take(np.stack([known, pushed], axis=1).ravel())],
            "timestamp": np.sort(rng.uniform(start, end, (accounts, EVENTS))).ravel(),
            "rating": np.ones(2 * pairs, np.float32),
        }
    )
    old = pl.DataFrame(pl.from_arrow(log.table)).with_columns(pl.col("user_id", "item_id").cast(pl.String))
    table = pl.concat([old, flood], how="diagonal_relaxed").to_arrow()
    return replace(log, loaded=replace(log.loaded, table=table))


def judge(out: Path, catalog: Catalog, log: Interactions, cuts: np.ndarray, day: int) -> list[dict[str, object]]:
    """The current release and the first model, asked what people did on the next day."""
    _, histories = _until(log, cuts[day + 1]).histories(catalog)
    questions = newest(histories, cuts[0], cuts[day])
    known = histories.keep(histories.times < cuts[day])  # type: ignore[arg-type, operator]
    models = {FROZEN: out / "model", REFRESHED: out / "shop" / releases.CURRENT / "model"}
    found = {name: _ask(TwoTower.load(model), catalog, known, questions) for name, model in models.items()}
    rows = [one.row(method=name, split=f"day {day + 1}", seed=0) for name, one in found.items()]
    ours, theirs = (found[name].per_person["recall@20"] for name in (REFRESHED, FROZEN))
    rows[1]["metrics"]["less frozen"] = plain(paired_difference(ours, theirs))
    return [{**row, "people": len(questions)} for row in rows]


def _ask(model: TwoTower, catalog: Catalog, known: Histories, questions: Questions) -> Result:
    ranker = IndexRanker(model, build_index(model, catalog, progress=False), catalog, together=True, log=known)
    counts = np.bincount(known.items, minlength=len(catalog))
    return evaluate(ranker, questions, counts=counts, ks=(20,), depth=20)


def _show(record: Record) -> None:
    screen = Console(stderr=True, width=120)
    table = Table("asked", "people", "frozen", "refreshed", "difference")
    for frozen, ours in zip(record.rows[::2], record.rows[1::2], strict=True):
        value, low, high = ours["metrics"]["less frozen"]
        both = (f"{row['metrics']['recall@20'][0]:.3f}" for row in (frozen, ours))
        table.add_row(ours["split"], str(ours["people"]), *both, f"{value:+.3f} ({low:+.3f} to {high:+.3f})")
    screen.print(table)
    screen.print(f"refused: day {', '.join(map(str, record.notes['refused'])) or 'none'}")


if __name__ == "__main__":
    main()
