"""What the benchmarks on published sequences share: rows of ours, of rivals and of papers, on files split as theirs."""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from rich.console import Console

from benchmarks.kept import trained
from benchmarks.pool import side_by_side
from benchmarks.record import ROOT, Record, plain
from indexing.build import build_index
from towers.catalog import Catalog
from towers.ids import IdList
from towers.interactions import Interactions, Positive
from training.config import Recipe
from training.measuring.baselines import baseline_grids, tune
from training.measuring.comparison import DEPTH, split_log
from training.measuring.evaluate import Result, evaluate, score
from training.measuring.foreign import read_lists
from training.measuring.metrics import paired_difference
from training.measuring.splits import Questions, Split
from training.measuring.table import results_table
from training.ranker import IndexRanker

GIVEN = "given"
BASELINES = ("most-popular", "item-knn", "ease")
PEER = ROOT / "benchmarks" / "peers" / "rectools_sequences.py"
REFITTED = {False: "not refitted", True: "then refitted with them"}
SHOWN = ("recall@10", "ndcg@10", "recall@20", "ndcg@20", "recall@20/tail", "coverage@20", "gini@20")
COMPARED = ("recall@10", "ndcg@10", "recall@20", "ndcg@20", "recall@20/tail")


@dataclass(frozen=True)
class Task:
    """A data set whose files say what is training, validation and test.

    Args:
        name: of the benchmark.
        folder: where its files lie in the data folder.
        read: reads catalog and log from the data folder.
        recipes: settings of each of our rows; the first of them that is run is compared with the others.
        peers: settings of each row of RecTools (``benchmarks/peers``).
        published: recall@10 and ndcg@10 of papers that used these files, by name and source.
        refits: whether models are refitted with the validation events before they are tested.
    """

    name: str
    folder: str
    read: Callable[[Path], tuple[Catalog, Interactions]]
    recipes: Mapping[str, dict[str, Any]]
    peers: Mapping[str, dict[str, Any]]
    published: Mapping[str, tuple[float, float]]
    refits: bool = False


@dataclass(frozen=True)
class Job:
    """One row, or all baselines.

    Args:
        task: of which.
        method: name of the row, or ``"baselines"``.
        seed: of training.
        data_dir: where the files are.
        out: where trained models and lists are kept, so that a run that was stopped goes on.
        python: of the environment that has RecTools; None without one.
    """

    task: Task
    method: str
    seed: int
    data_dir: Path
    out: Path
    python: Path | None

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.method}, seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Where what it trained is kept."""
        return self.out / f"{self.method}-{self.seed}"


class Outcome(NamedTuple):
    """What a job found: results by method, and notes."""

    results: dict[str, Result]
    notes: dict[str, Any]


def run(task: Task, doc: str | None) -> tuple[Record, bool]:
    """Run a benchmark; its record, and whether to keep it."""
    options = _options(task, doc)
    record = Record(task.name)
    if options.data_dir is None or not (options.data_dir / task.folder).is_dir():
        Console(stderr=True).print(f"{task.name} needs --data-dir DIR with the folder {task.folder}/ and is skipped")
        return record, False
    jobs = list(_jobs(task, options))
    outcomes = side_by_side(run_job, {job.name: job for job in jobs})
    found = {
        (method, job.seed): result
        for job, outcome in zip(jobs, outcomes, strict=True)
        for method, result in outcome.results.items()
    }
    record.rows = [result.row(method=method, split=GIVEN, seed=seed) for (method, seed), result in found.items()]
    record.notes = {
        "protocol": f"split as the file says; chosen on the validation events and {REFITTED[task.refits]}, asked with "
        "them in the history; full ranking through the index, seen items excluded; 95 % intervals by bootstrap over "
        "people",
        "published": {name: {"recall@10": r, "ndcg@10": n} for name, (r, n) in task.published.items()},
        "differences": list(_differences(found, [name for name in task.recipes if name in options.only])),
        "jobs": {job.name: outcome.notes for job, outcome in zip(jobs, outcomes, strict=True)},
    }
    _show(record)
    return record, options.save


def _options(task: Task, doc: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    methods = [*task.recipes, *task.peers, "baselines"]
    parser.add_argument("--data-dir", type=Path, help=f"folder with {task.folder}/")
    parser.add_argument("--seeds", type=int, default=1, help="how many, of our rows")
    parser.add_argument("--only", nargs="*", choices=methods, default=methods, help="rows to run")
    parser.add_argument("--rectools", type=Path, help="Python of an environment with rectools[torch], for its rows")
    parser.add_argument("--out", type=Path, default=Path("runs") / task.name, help="where models are kept")
    parser.add_argument("--save", action="store_true", help="keep the record in benchmarks/results")
    return parser.parse_args()


def _jobs(task: Task, options: argparse.Namespace) -> Iterator[Job]:
    """Long jobs first."""
    for method in [*task.peers, *task.recipes, "baselines"]:
        if method not in options.only:
            continue
        if method in task.peers and options.rectools is None:
            Console(stderr=True).print(f"{method} needs --rectools PYTHON and is left out")
            continue
        for seed in range(options.seeds if method in task.recipes else 1):
            yield Job(task, method, seed, options.data_dir, options.out.resolve(), options.rectools)


def run_job(job: Job) -> Outcome:
    """Do one job on one core."""
    torch.set_num_threads(1)
    catalog, users, split = read_split(job.task, job.data_dir)
    counts = np.bincount(split.refit.items, minlength=len(catalog))
    if job.method in job.task.recipes:
        return ask_ours(job, catalog, split, counts)
    if job.method in job.task.peers:
        return ask_peer(job, catalog, users, split, counts)
    return ask_baselines(catalog, split, counts)


def read_split(task: Task, data_dir: Path) -> tuple[Catalog, IdList, Split]:
    """Items, people and questions."""
    catalog, log = task.read(data_dir)
    users, split = split_log(GIVEN, log.known(catalog), catalog, Positive())
    return catalog, users, split if task.refits else replace(split, refit=split.train)


def ask_ours(job: Job, catalog: Catalog, split: Split, counts: np.ndarray) -> Outcome:
    """Train, or go on, or take what was trained, and ask."""
    recipe = Recipe.read(job.task.recipes[job.method])
    recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"seed": job.seed})})
    model, report = trained(job.folder, catalog, split, recipe)
    index = build_index(model, catalog, progress=False)
    ranker = IndexRanker(model, index, catalog, log=split.refit, together=True)
    result = evaluate(ranker, split.test, counts=counts, depth=DEPTH)
    notes = {name: report[name] for name in ("best_epochs", "fusion", "trend", "level", "epochs", "seconds")}
    return Outcome({job.method: result}, {**notes, "recipe": recipe.model_dump(mode="json")})


def ask_peer(job: Job, catalog: Catalog, users: IdList, split: Split, counts: np.ndarray) -> Outcome:
    """Let RecTools train in its own environment on the same events, and score the lists that it leaves."""
    lists = job.folder.with_suffix(".csv")
    if not lists.exists():
        with tempfile.TemporaryDirectory() as folder:
            events = Path(folder) / "events.csv"
            _write_events(events, catalog, users, split.test)
            settings = [f"--{name}={value}" for name, value in job.task.peers[job.method].items()]
            lists.parent.mkdir(parents=True, exist_ok=True)
            command = [str(job.python), str(PEER), str(events), str(lists), f"--seed={job.seed}", *settings]
            subprocess.run(command, check=True)
    told = pl.read_csv(lists, schema_overrides={"user_id": pl.String, "item_id": pl.String})
    rows = read_lists(told, users, split.test, catalog, DEPTH).rows
    result = score(rows, split.test, counts=counts, depth=DEPTH)
    return Outcome({job.method: result}, {"settings": dict(job.task.peers[job.method])})


def _write_events(path: Path, catalog: Catalog, users: IdList, test: Questions) -> None:
    """The histories of the test, each of which ends with the event that validates."""
    past = test.histories
    table = {
        "user_id": users.take(test.people[past.people]),
        "item_id": catalog.ids.take(past.items),
        "position": np.arange(len(past.items)) - past.offsets[past.people],
    }
    pl.DataFrame(table).write_csv(path)


def ask_baselines(catalog: Catalog, split: Split, counts: np.ndarray) -> Outcome:
    """Tune the rivals, and ask them the same questions."""
    grids = baseline_grids(times=split.log.times is not None)
    results, notes = {}, {}
    for name in BASELINES:
        tuned = tune(grids[name], split, len(catalog))
        results[name] = evaluate(tuned.ranker, split.test, counts=counts, depth=DEPTH)
        notes[name] = {"chosen": tuned.settings, "tried": tuned.tried}
    return Outcome(results, notes)


def _differences(found: dict[tuple[str, int], Result], ours: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The first of our rows less every other row on the same people."""
    for name, seed in [key for key in sorted(found) if key[0] in ours[:1]]:
        first = found[name, seed]
        for (method, other), theirs in found.items():
            if method == name or other not in (seed, 0):
                continue
            for metric in COMPARED:
                difference = paired_difference(first.per_person[metric], theirs.per_person[metric])
                names = {"metric": metric, "split": GIVEN, "seed": seed, "ours": name, "theirs": method}
                yield {**names, "difference": plain(difference)}


def _show(record: Record) -> None:
    screen = Console(stderr=True, width=180)
    screen.print(results_table(record.rows, metrics=SHOWN, title=record.bench))
    for name, figures in record.notes["published"].items():
        screen.print(f"{name:60} recall@10 {figures['recall@10']:.4f}  ndcg@10 {figures['ndcg@10']:.4f}  (published)")
    for entry in record.notes["differences"]:
        value, low, high = entry["difference"]
        name = f"{entry['ours']} − {entry['theirs']}, seed {entry['seed']}"
        screen.print(f"{name:60} {entry['metric']:15} {value:+.4f}  [{low:+.4f}, {high:+.4f}]")
