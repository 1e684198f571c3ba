"""python -m benchmarks.movielens_100k [--full] [--seeds N] [--only JOB ...] [--data-dir DIR] [--save]

MovieLens-100K, leave-one-out by time, full ranking: baselines tuned on validation data, our model and its readers
alone, plain sentences as questions, predicted ratings; with --full also the temporal split, cold items and re-ranking
by stars. Jobs run side by side, one core each.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.movielens_jobs import PROTOCOL_JOBS, Job, Outcome, run_job
from benchmarks.pool import side_by_side
from benchmarks.record import Record
from training.measuring.metrics import paired_difference
from training.measuring.table import results_table

VARIANTS = ("twotower", "twotower-bert", "twotower-sequence", "twotower-bert-frozen")
BASELINES = ("most-popular", "item-knn", "ease", "als", "bpr")


def main() -> None:
    """Run the benchmark."""
    options = _options()
    record = Record("movielens-100k-full" if options.full else "movielens-100k")
    with tempfile.TemporaryDirectory() as scratch:
        outcomes = side_by_side(run_job, {job.name: job for job in _jobs(options, Path(scratch))})
    record.rows = _once([row for outcome in outcomes for row in outcome.rows])
    record.notes = {
        "protocol": "leave-one-out by time, ties in file order, full ranking, seen items excluded; "
        "95 % intervals by bootstrap over people; everything chosen on validation data; temporal and cold items as in "
        "docs/protocols.md",
        "differences": [*_differences(outcomes), *(one for outcome in outcomes for one in outcome.differences)],
        "jobs": {outcome.job.name: outcome.notes for outcome in outcomes},
    }
    _show(record)
    record.finish(save=options.save)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="three seeds, further protocols")
    parser.add_argument("--seeds", type=int, help="how many; default: 2, with --full 3")
    parser.add_argument("--only", nargs="*", help="names of the jobs to run")
    parser.add_argument("--data-dir", type=Path, help="folder with movies/, for description-query")
    parser.add_argument("--save", action="store_true", help="keep the record in benchmarks/results")
    return parser.parse_args()


def _jobs(options: argparse.Namespace, scratch: Path) -> list[Job]:
    """Long jobs first, so that the last one does not run alone."""
    seeds = range(options.seeds or (3 if options.full else 2))
    jobs = [Job(name, seed, scratch, options.data_dir) for name in VARIANTS[:1] for seed in seeds]
    if options.full:
        jobs = [Job(name, seed, scratch, options.data_dir) for name in PROTOCOL_JOBS for seed in seeds] + jobs
    if options.data_dir is None:
        Console(stderr=True).print("description-query needs --data-dir and is skipped")
    else:
        jobs.append(Job("description-query", 0, scratch, options.data_dir))
    jobs += [Job(name, seed, scratch, options.data_dir) for name in VARIANTS[1:] for seed in seeds]
    jobs += [Job("ratings", 0, scratch, options.data_dir), Job("baselines", 0, scratch, options.data_dir)]
    return [job for job in jobs if not options.only or job.method in options.only]


def _once(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each row once: the jobs of several seeds tune and ask the same baselines, to be compared on the same people."""
    return list({(row["method"], row["split"], row["seed"]): row for row in rows}.values())


def _differences(outcomes: Sequence[Outcome]) -> Any:
    """Paired differences on the same people: ours against the best baseline and one reader against another."""
    by_name = {row_name: per_person for outcome in outcomes for row_name, per_person in outcome.per_person.items()}
    seeds = sorted({seed for _, seed in by_name})
    for metric in ("recall@20", "ndcg@20"):
        known = [name for name in BASELINES if (name, 0) in by_name]
        best = max(known, key=lambda name: np.nanmean(by_name[name, 0][metric])) if known else None
        pairs = [
            ("twotower", best),
            ("twotower", "twotower-retrieval"),
            ("twotower-retrieval", "twotower-sequence"),
            ("twotower-bert", "twotower-bert-frozen"),
        ]
        for ours, theirs in pairs:
            for seed in seeds:
                other = (theirs, 0 if theirs in BASELINES else seed)
                if (ours, seed) in by_name and other in by_name:
                    difference = paired_difference(by_name[ours, seed][metric], by_name[other][metric])
                    yield {
                        "metric": metric,
                        "seed": seed,
                        "split": "leave-one-out",
                        "ours": ours,
                        "theirs": theirs,
                        "difference": list(difference),
                    }


def _show(record: Record) -> None:
    screen = Console(stderr=True, width=180)
    for title, splits in {
        "MovieLens-100K, leave-one-out": ("leave-one-out",),
        "plain sentences": ("text-query", "description-query"),
        "ratings, in stars": ("ratings",),
        "temporal split": ("temporal",),
        "temporal split, newcomers": ("temporal-newcomers",),
        "cold items": ("cold-items",),
    }.items():
        rows = [row for row in record.rows if row["split"] in splits]
        metrics = {"ratings": ("rmse", "mae")}.get(splits[0]) or (
            "recall@10", "ndcg@10", "recall@20", "ndcg@20", "recall@20/tail", "coverage@20", "gini@20", "recall@100",
        )  # fmt: skip
        if rows:
            screen.print(results_table(rows, metrics=metrics, title=title))
    for entry in record.notes["differences"]:
        value, low, high = entry["difference"]
        name = f"{entry['ours']} − {entry['theirs']}"
        screen.print(f"{name:48} seed {entry['seed']}  {entry['metric']:10} {value:+.4f}  [{low:+.4f}, {high:+.4f}]")


if __name__ == "__main__":
    main()
