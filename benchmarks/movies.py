"""python -m benchmarks.movies --data-dir DIR [--protocol NAME] [--seeds N] [--only METHOD ...] [--out DIR] [--save]

What descriptions, posters and the sound of trailers add to ids and titles, on MovieLens people and real films:
MovieLens-100K by one of three protocols, or MovieLens-1M in time order, leave-one-out, as its file is split (given).
The reader of history text is off in all rows, so that a grid of trainings is affordable. Jobs run side by side, one
core each; a protocol takes about an hour on two. Its record is movies-PROTOCOL.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console

from benchmarks.among import cold_and_warm
from benchmarks.contents import contents_of
from benchmarks.kept import trained
from benchmarks.movielens_jobs import TEMPLATE
from benchmarks.movies_data import movies_1m, movies_100k
from benchmarks.pool import side_by_side
from benchmarks.record import Record, plain
from indexing.build import build_index
from towers.catalog import Catalog
from towers.fusion import MaskedFusion
from towers.interactions import Positive
from training.config import Recipe
from training.measuring.baselines import baseline_grids, tune
from training.measuring.comparison import DEPTH, split_log
from training.measuring.evaluate import Result, evaluate
from training.measuring.metrics import Interval, bootstrap, paired_difference
from training.measuring.splits import Split
from training.measuring.table import results_table
from training.ranker import IndexRanker

TEXT, ALL, BASELINES = "ids+text", "all", "baselines"
COMPARED = ("recall@20", "ndcg@20", "recall@20/tail", "recall@20/cold", "recall@20/warm")
SHOWN = ("recall@10", "ndcg@10", *COMPARED, "coverage@20")

DESCRIBED = TEMPLATE + "[. {description}]"
POSTER = {"source": "efficientnet-lite0", "column": "poster"}
TRAILER = {"source": "vectors", "column": "trailer", "normalise": "whiten"}
MODELS: dict[str, dict[str, Any]] = {
    ALL: {"item": {"template": DESCRIBED}, "image": POSTER, "audio": TRAILER},
    "ids+text+description": {"item": {"template": DESCRIBED}},
    "ids+text+poster": {"image": POSTER},
    "ids+text+trailer": {"audio": TRAILER},
    TEXT: {},
    "ids": {"item": {"text": False}},
}
CONTENT_ALONE: dict[str, dict[str, Any]] = {
    "description": {"item": {"template": "{description}", "ids": False}},
    "poster": {"item": {"text": False, "ids": False}, "image": POSTER},
    "trailer": {"item": {"text": False, "ids": False}, "audio": TRAILER},
}

GIVEN = "given"  # the protocol of MovieLens-1M in time order
METHODS = {
    "cold-items": (*MODELS, *CONTENT_ALONE, BASELINES),
    "temporal": (*MODELS, BASELINES),
    "leave-one-out": (*MODELS, BASELINES),
    GIVEN: (ALL, TEXT, BASELINES),
}
RIVALS = {
    "cold-items": ("most-popular", "content-knn"),
    "temporal": ("most-popular", "most-popular-of-late"),
    "leave-one-out": ("most-popular", "item-knn", "ease"),
    GIVEN: ("most-popular", "item-knn", "ease"),
}
LARGE: dict[str, Any] = {  # for MovieLens-1M; MovieLens-100K has the sizes that ship
    "item": {"dimension": 128},
    "user": {"sequence": {"length": 200, "dropout": 0.2}},
    "train": {"epochs": 30, "rate": 1e-3, "weight_decay": 0.01},
}


@dataclass(frozen=True)
class Job:
    """One method, or all baselines, under one protocol."""

    protocol: str
    method: str
    seed: int
    data_dir: Path
    out: Path

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.protocol}, {self.method}, seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Where its model is kept."""
        return self.out / f"{self.protocol}-{self.method}-{self.seed}"


class Outcome(NamedTuple):
    """What a job found: results by method and split, and notes."""

    results: dict[tuple[str, str], Result]
    notes: dict[str, Any]


def main() -> None:
    """Run the benchmark."""
    options = _options()
    record = Record(f"movies-{options.protocol}")
    if options.data_dir is None or not (options.data_dir / "movies").is_dir():
        Console(stderr=True).print("movies needs --data-dir DIR with the folder movies/ and is skipped")
        return record.finish(save=False)
    jobs = list(_jobs(options))
    if jobs:
        _embed(jobs)
    outcomes = side_by_side(run_job, {job.name: job for job in jobs})
    found = {
        (split, method, job.seed): result
        for job, outcome in zip(jobs, outcomes, strict=True)
        for (method, split), result in outcome.results.items()
    }
    record.rows = [result.row(method=method, split=split, seed=seed) for (split, method, seed), result in found.items()]
    record.notes = {
        "protocol": "as in docs/protocols.md, full ranking, seen items excluded, in the order of retrieval; 95 % "
        "intervals by bootstrap over people; everything chosen on validation data; no reader of history text",
        "differences": list(_differences(found)),
        "jobs": {job.name: outcome.notes for job, outcome in zip(jobs, outcomes, strict=True)},
    }
    _show(record)
    return record.finish(save=options.save)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="folder with movies/ and, for the protocol given, ml-1m/")
    parser.add_argument("--protocol", choices=METHODS, default="cold-items", help="given: MovieLens-1M in time order")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--only", nargs="*", choices=METHODS["cold-items"], help="methods to run")
    parser.add_argument("--out", type=Path, default=Path("runs/movies"), help="where models are kept")
    parser.add_argument("--save", action="store_true", help="keep the record in benchmarks/results")
    return parser.parse_args()


def _jobs(options: argparse.Namespace) -> Iterator[Job]:
    """Long jobs first, so that the last one does not run alone."""
    for method in METHODS[options.protocol]:
        if options.only is None or method in options.only:
            for seed in range(1 if method == BASELINES else options.seeds):
                yield Job(options.protocol, method, seed, options.data_dir, options.out.resolve())


def _embed(jobs: list[Job]) -> None:
    """Read every text and poster once, before jobs that need them run side by side."""
    catalog, _ = (movies_1m if jobs[0].protocol == GIVEN else movies_100k)(jobs[0].data_dir)
    for method in dict.fromkeys(ALL if job.method == BASELINES else job.method for job in jobs):
        contents_of(catalog, recipe_of(method), progress=True)


def run_job(job: Job) -> Outcome:
    """Do one job on one core."""
    torch.set_num_threads(1)
    catalog, split = read_split(job.protocol, job.data_dir)
    if job.method == BASELINES:
        return ask_baselines(catalog, split, job.protocol)
    return ask_model(catalog, split, job, recipe_of(job.method, job.protocol, job.seed))


def read_split(protocol: str, data_dir: Path) -> tuple[Catalog, Split]:
    """Films and questions. MovieLens-1M is split as its file says, and nothing is refitted, as is usual there."""
    catalog, log = movies_1m(data_dir) if protocol == GIVEN else movies_100k(data_dir)
    _, split = split_log(protocol, log.known(catalog), catalog, Positive())
    return catalog, replace(split, refit=split.train) if protocol == GIVEN else split


def recipe_of(method: str, protocol: str = "leave-one-out", seed: int = 0) -> Recipe:
    """How a method is trained."""
    size: dict[str, Any] = LARGE if protocol == GIVEN else {}
    content = {**MODELS, **CONTENT_ALONE}[method]
    return Recipe.read(
        {
            **content,
            "item": {"template": TEMPLATE, **size.get("item", {}), **content.get("item", {})},
            "user": {"text": False, **size.get("user", {})},
            "train": {**size.get("train", {}), "seed": seed},
        }
    )


def ask_model(catalog: Catalog, split: Split, job: Job, recipe: Recipe) -> Outcome:
    """Train, or take what was trained, and ask the test questions; where items are cold, also among few."""
    model, report = trained(job.folder, catalog, split, recipe)
    index = build_index(model, catalog, progress=False)
    ranker = IndexRanker(model, index, catalog, log=split.refit)
    results = {(job.method, job.protocol): evaluate(ranker, split.test, counts=_counts(split, catalog), depth=DEPTH)}
    if split.cold is not None:
        among = f"{job.protocol}-among-{split.cold.sum()}"
        results[job.method, among] = _as_result(cold_and_warm(model, catalog, split, split.cold), split)
    chosen = {name: report[name] for name in ("best_epochs", "trend", "new_weights", "level", "epochs")}
    assert isinstance(model.item.fusion, MaskedFusion)
    gates = {name: round(model.item.fusion.gate(name).item(), 4) for name in model.item.fusion.gates}
    notes = {**chosen, "gates": gates, "seconds": round(report["seconds"], 1), "recipe": recipe.model_dump(mode="json")}
    return Outcome(results, notes)


def _as_result(found: dict[str, np.ndarray], split: Split) -> Result:
    metrics: dict[str, Interval | float] = {name: bootstrap(values) for name, values in found.items()}
    return Result(metrics=metrics, people=split.test.people, per_person=found, without_target=0, seconds=0.0)


def ask_baselines(catalog: Catalog, split: Split, protocol: str) -> Outcome:
    """Tune the rivals, and ask them the same questions; nearest neighbours by content see all that ours see."""
    content = contents_of(catalog, recipe_of(ALL)).frozen() if "content-knn" in RIVALS[protocol] else None
    grids = baseline_grids(times=split.log.times is not None, content=content)
    results, notes = {}, {}
    for name in RIVALS[protocol]:
        tuned = tune(grids[name], split, len(catalog))
        results[name, protocol] = evaluate(tuned.ranker, split.test, counts=_counts(split, catalog), depth=DEPTH)
        notes[name] = {"chosen": tuned.settings, "tried": tuned.tried}
    return Outcome(results, notes)


def _counts(split: Split, catalog: Catalog) -> np.ndarray:
    """int64 ``(N,)`` training events of each item."""
    return np.bincount(split.refit.items, minlength=len(catalog))


def _differences(found: dict[tuple[str, str, int], Result]) -> Iterator[dict[str, Any]]:
    """Each model less the one of ids and text, and the one that reads all less each rival, on the same people."""
    for split, method, seed in found:
        rival = method not in (*MODELS, *CONTENT_ALONE)
        if method == TEXT:
            continue
        for one in sorted({key[2] for key in found}) if rival else (seed,):
            ours, theirs = (ALL, method) if rival else (method, TEXT)
            pair = found.get((split, ours, one)), found.get((split, theirs, seed if rival else one))
            yield from _paired(pair, {"split": split, "seed": one, "ours": ours, "theirs": theirs})


def _paired(pair: tuple[Result | None, Result | None], names: dict[str, Any]) -> Iterator[dict[str, Any]]:
    ours, theirs = pair
    if ours is None or theirs is None:
        return
    assert np.array_equal(ours.people, theirs.people)
    for metric in COMPARED:
        if metric in ours.per_person and metric in theirs.per_person:
            values = ours.per_person[metric], theirs.per_person[metric]
            if not np.isnan(np.add(*values)).all():  # nobody has a cold target where no item is cold
                yield {"metric": metric, **names, "difference": plain(paired_difference(*values))}


def _show(record: Record) -> None:
    screen = Console(stderr=True, width=180)
    for split in dict.fromkeys(row["split"] for row in record.rows):
        rows = [row for row in record.rows if row["split"] == split]
        screen.print(results_table(rows, metrics=SHOWN, title=split))
    for entry in record.notes["differences"]:
        value, low, high = entry["difference"]
        name = f"{entry['split']}: {entry['ours']} − {entry['theirs']}, seed {entry['seed']}"
        screen.print(f"{name:72} {entry['metric']:15} {value:+.4f}  [{low:+.4f}, {high:+.4f}]")


if __name__ == "__main__":
    main()
