"""python -m benchmarks.moment [--epochs N] [--every DAYS] [--out DIR] [--save]

What it is worth to follow each event: MovieLens-100K, split in time, people with a history only, each of their later
events asked for by itself. Histories that follow each event against histories frozen at the split, and against training
that goes on every few days. The sequence reader only, few epochs.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.movielens_jobs import TEMPLATE
from benchmarks.record import Record, plain
from indexing.build import build_index
from towers.catalog import Catalog
from towers.history import Histories
from towers.interactions import Positive
from towers.model import TwoTower
from towers.movielens import movielens_100k
from training.config import Recipe
from training.continuing import go_on
from training.measuring.comparison import split_log
from training.measuring.metrics import bootstrap, paired_difference
from training.measuring.splits import Split
from training.ranker import IndexRanker
from training.trainer import fit_split

DAY = 86_400.0
K = 20
MOST_MET = 200  # further places, for the row in which what was met since is left out of the frozen list


def main() -> None:
    """Run the benchmark."""
    options = _options()
    record = Record("moment")
    catalog, log = movielens_100k()
    _, split = split_log("temporal", log.known(catalog), catalog, Positive())
    train = {"epochs": options.epochs, "evaluate_every": min(4, options.epochs)}
    recipe = Recipe.read({"item": {"template": TEMPLATE}, "user": {"text": False}, "train": train})
    if not (options.out / "model" / "manifest.json").exists():
        fit_split(catalog, split, recipe, out=options.out / "model")
    model = TwoTower.load(options.out / "model")
    events = Events(split)
    found, seconds = ask(model, catalog, split.refit, events)
    again, training = retrained(model, catalog, split, recipe, events, options.every)
    values = {name: events.by_person(hits) for name, hits in {**found, **again}.items()}
    for name, recall in values.items():
        row = {"method": "twotower", "split": name, "seed": 0}
        record.rows.append({**row, "metrics": {f"recall@{K}": plain(bootstrap(recall))}})
    record.notes = {
        "protocol": f"split in time, the last tenth of the log; {len(split.test)} people with a history, "
        f"{len(events.items):,} events that are new to them, each asked for by itself; an event is known to those at "
        "a later second; means over a person's events, 95 % intervals by bootstrap over people; retrieval with "
        "popularity of late as of the split or of the last training; nothing chosen on the test",
        "splits": {
            "frozen": "histories as of the split",
            "frozen, met left out": "the same, and what was met since is not shown",
            "following": "histories up to each event",
            "retrained": f"training that goes on every {options.every:g} days, histories as of then",
            "retrained, following": "the same model, histories up to each event",
        },
        "ratio": plain(ratio(values["following"], values["frozen"])),
        "differences": [
            {
                "metric": "recall@20",
                "split": "temporal",
                "seed": 0,
                "ours": "following",
                "theirs": name,
                "difference": plain(paired_difference(values["following"], values[name])),
            }
            for name in values
            if name != "following"
        ],
        "share_of_gain": share_of_gain(values),
        "seconds_of_retraining": plain(training),
        "seconds_of_asking": round(seconds, 2),
        "epochs_of_retraining": max(1, options.epochs // 4),
        "recipe": recipe.model_dump(mode="json"),
    }
    _show(record)
    record.finish(save=options.save)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=8, help="of the model that is asked; later ones take a fourth")
    parser.add_argument("--every", type=float, default=4, help="days between two trainings")
    parser.add_argument("--out", type=Path, default=Path("runs/moment"), help="where the model is kept")
    parser.add_argument("--save", action="store_true", help="keep the record in benchmarks/results")
    return parser.parse_args()


class Events:
    """The events that are asked for, one question each.

    Attributes:
        people, items, times: of each event, person as in the log.
        cut: the time at which the test begins.
    """

    def __init__(self, split: Split) -> None:
        assert split.cuts is not None
        targets = split.test.targets
        assert targets.times is not None
        self.log, self.cut = split.log, split.cuts[1]
        self.people, self.items, self.times = split.test.people[targets.people], targets.items, targets.times

    def histories(self, until: np.ndarray) -> Histories:
        """All that each one's person did before a time, float64 ``(M,)`` or one for all."""
        until, ends = np.broadcast_to(until, self.times.shape), np.empty(len(self.times), np.int64)
        for place, (person, time_) in enumerate(zip(self.people, until, strict=True)):
            start, end = self.log.offsets[person : person + 2]
            ends[place] = start + np.searchsorted(self.log.times[start:end], time_)  # type: ignore[index]
        return self.log.cut(self.people, self.log.offsets[self.people], ends)

    def hits(self, rows: np.ndarray) -> np.ndarray:
        """Whether each event is among the first places of its list ``(M, k)``."""
        return (rows[:, :K] == self.items[:, None]).any(1)

    def by_person(self, hits: np.ndarray) -> np.ndarray:
        """float64 ``(U,)`` each person's mean."""
        _, person = np.unique(self.people, return_inverse=True)
        return np.bincount(person, hits) / np.bincount(person)


def ask(model: TwoTower, catalog: Catalog, known: Histories, events: Events) -> tuple[dict[str, np.ndarray], float]:
    """Hits of each event by histories as of the split and by those that follow, and the seconds of the latter."""
    ranker = _ranker(model, catalog, known)
    now = events.histories(events.times)
    frozen = ranker.rank(events.histories(np.array(events.cut)), K + MOST_MET).rows
    started = time.perf_counter()
    following = ranker.rank(now, K).rows
    seconds = time.perf_counter() - started
    left = np.stack([_without(rows, now.take([n]).items) for n, rows in enumerate(frozen)])
    found = {"frozen": frozen, "frozen, met left out": left, "following": following}
    return {name: events.hits(rows) for name, rows in found.items()}, seconds


def _without(rows: np.ndarray, met: np.ndarray) -> np.ndarray:
    return rows[~np.isin(rows, met)][:K]


def retrained(
    model: TwoTower, catalog: Catalog, split: Split, recipe: Recipe, events: Events, every: float
) -> tuple[dict[str, np.ndarray], list[float]]:
    """Hits of each event by the model of its day, and the seconds of each training."""
    found = {name: np.zeros(len(events.times), bool) for name in ("retrained", "retrained, following")}
    period, seconds = ((events.times - events.cut) // (every * DAY)).astype(int), []
    for number in range(period.max() + 1):
        begins = events.cut + number * every * DAY
        past = split.log.keep(split.log.times < begins)  # type: ignore[operator]
        if number:  # until the first one there is the model of the split
            started = time.perf_counter()
            model = go_on(model, catalog, past, recipe, epochs=max(1, recipe.train.epochs // 4))
            seconds.append(time.perf_counter() - started)
        asked, ranker = period == number, _ranker(model, catalog, past)
        for name, until in {"retrained": np.array(begins), "retrained, following": events.times}.items():
            histories = events.histories(until).take(np.flatnonzero(asked))
            found[name][asked] = (ranker.rank(histories, K).rows == events.items[asked, None]).any(1)
    return found, seconds


def _ranker(model: TwoTower, catalog: Catalog, known: Histories) -> IndexRanker:
    return IndexRanker(model, build_index(model, catalog, progress=False), catalog, together=True, log=known)


def ratio(ours: np.ndarray, theirs: np.ndarray, n: int = 2000) -> tuple[float, float, float]:
    """How many times as much, with a 95 % interval by bootstrap over people."""
    drawn = np.random.default_rng(0).integers(len(ours), size=(n, len(ours)))
    low, high = np.quantile(ours[drawn].mean(1) / theirs[drawn].mean(1), (0.025, 0.975))
    return float(ours.mean() / theirs.mean()), float(low), float(high)


def share_of_gain(values: dict[str, np.ndarray]) -> float | None:
    """How much of what training gains over frozen histories is had by following alone; None where it gains nothing."""
    gained = values["retrained"].mean() - values["frozen"].mean()
    return round(float((values["following"].mean() - values["frozen"].mean()) / gained), 3) if gained > 0 else None


def _show(record: Record) -> None:
    screen = Console(stderr=True, width=120)
    table = Table("histories", f"recall@{K}", "95 % interval")
    for row in record.rows:
        value, low, high = row["metrics"][f"recall@{K}"]
        table.add_row(row["split"], f"{value:.3f}", f"{low:.3f}–{high:.3f}")
    screen.print(table)
    value, low, high = record.notes["ratio"]
    screen.print(f"following / frozen: {value:.2f} ({low:.2f}–{high:.2f})")
    share = record.notes["share_of_gain"]
    gained = "training gains nothing" if share is None else f"following has {share:.0%} of what training gains"
    screen.print(f"over frozen histories, {gained}")


if __name__ == "__main__":
    main()
