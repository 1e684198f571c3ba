"""python -m benchmarks.multi_objective [--seeds N] [--only METHOD ...] [--save]

What training for several objectives at once gives: MovieLens-100K, leave-one-out, Recall@20 of retrieval by the vectors
alone and the error of the predicted rating of the same film, against training for each objective alone. The sequence
reader only, 10 epochs; jobs run side by side, one core each.
"""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console

from benchmarks.movielens_jobs import STARS, TEMPLATE
from benchmarks.pool import side_by_side
from benchmarks.record import Record, plain
from indexing.build import build_index
from towers.catalog import Catalog
from towers.model import TwoTower
from towers.movielens import movielens_100k
from training.config import Recipe
from training.measuring.evaluate import Result, score
from training.measuring.metrics import paired_difference, rmse
from training.measuring.protocols import leave_one_out
from training.measuring.splits import Questions, Split
from training.measuring.table import results_table
from training.ranker import IndexRanker
from training.report import Report
from training.trainer import fit, refit

EPOCHS, DEPTH = 10, 100
ALONE = ("contrastive", "rating")
METHODS: dict[str, dict[str, Any]] = {
    "contrastive": {},
    "rating": {"contrastive_weight": 0.0, "rating_weight": 1.0},
    "joint, uncertainty": {"rating_weight": 1.0, "weighting": "uncertainty"},
    "joint, rating x 1": {"rating_weight": 1.0},
    "joint, rating x 10": {"rating_weight": 10.0},
    "contrastive and click": {"click_weight": 1.0},
}
COMPARED = ("recall@20", "ndcg@20", "squared error")


class Job(NamedTuple):
    """A training."""

    method: str
    seed: int


class Outcome(NamedTuple):
    """What it reached: the ranking, the squared error of each person's rating in square stars, and notes."""

    result: Result
    rmse: list[float]
    errors: np.ndarray
    notes: dict[str, Any]


def main() -> None:
    """Run the benchmark."""
    options = _options()
    record = Record("multi-objective")
    wanted = options.only or list(METHODS)
    jobs = {f"{name}, seed {seed}": Job(name, seed) for seed in range(options.seeds) for name in wanted}
    outcomes = dict(zip(jobs.values(), side_by_side(run_job, jobs), strict=True))
    for (method, seed), outcome in outcomes.items():
        row = outcome.result.row(method=method, split="leave-one-out", seed=seed)
        row["metrics"]["rmse"] = outcome.rmse
        record.rows.append(row)
    record.notes = {
        "protocol": "leave-one-out, sequence reader only, 10 epochs, best epoch by NDCG@20 on validation data (for "
        "ratings alone the last one); weights were fixed beforehand; retrieval by the vectors alone; ratings of the "
        "test films in stars, by the rating head, which is fitted to the towers after each training alike; 95 % "
        "intervals by bootstrap over people",
        "differences": _differences(outcomes),
        "jobs": {name: outcomes[job].notes for name, job in jobs.items()},
    }
    _show(record)
    record.finish(save=options.save)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2, help="how many")
    parser.add_argument("--only", nargs="*", choices=METHODS, help="methods to run")
    parser.add_argument("--save", action="store_true", help="keep the record in benchmarks/results")
    return parser.parse_args()


def run_job(job: Job) -> Outcome:
    """Train and ask, on one core."""
    torch.set_num_threads(1)
    catalog, log = movielens_100k(progress=False)
    _, histories = log.known(catalog).histories(catalog)
    split = leave_one_out(histories)
    train = {"epochs": EPOCHS, "seed": job.seed, **METHODS[job.method]}
    recipe = Recipe.read({"item": {"template": TEMPLATE}, "user": {"text": False}, "train": train})
    model, report = _fit(catalog, split, recipe)
    counts = np.bincount(split.train.items, minlength=len(catalog))
    ranker = IndexRanker(model, build_index(model, catalog, progress=False), catalog, depth=DEPTH)
    found = ranker.retrieve(split.test.histories, DEPTH)
    result = score(found.rows, split.test, counts=counts, depth=DEPTH)
    predicted, rated = predict(model, catalog, split.test), split.test.targets.ratings
    error = [STARS * value for value in rmse(predicted, rated, split.test.people)]
    notes = {"best_epochs": report.best_epochs, "rating_error": report.rating_error, "epochs": report.epochs}
    notes |= {"seconds": round(report.seconds, 1), "recipe": recipe.model_dump(mode="json")}
    return Outcome(result, plain(error), (STARS * (predicted - rated)) ** 2, notes)


def _fit(catalog: Catalog, split: Split, recipe: Recipe) -> tuple[TwoTower, Report]:
    """Ratings alone are trained to the end, as how well a model ranks says nothing of them."""
    if recipe.train.contrastive_weight:
        return fit(catalog, split.train, split.validation, recipe, progress=False)
    chosen = Report(best_epochs=[recipe.train.epochs], reranking={"weight": 0.0})
    return refit(catalog, split.train, recipe, chosen), chosen


def predict(model: TwoTower, catalog: Catalog, questions: Questions) -> np.ndarray:
    """The rating of each question's one target, in [0, 1]."""
    memory = model.memory(catalog, model.embed_items(catalog))
    return model.rate(questions.histories, memory, questions.targets.items[:, None])[:, 0]


def _differences(outcomes: dict[Job, Outcome]) -> list[dict[str, Any]]:
    """Each method less each objective alone, on the same people."""
    differences = []
    for job, ours in outcomes.items():
        for alone in ALONE:
            theirs = outcomes.get(Job(alone, job.seed))
            for metric in COMPARED if theirs is not None and job.method not in ALONE else ():
                difference = plain(paired_difference(_of_people(ours, metric), _of_people(theirs, metric)))
                names = {"split": "leave-one-out", "seed": job.seed, "ours": job.method, "theirs": alone}
                differences.append({"metric": metric, **names, "difference": difference})
    return differences


def _of_people(outcome: Outcome, metric: str) -> np.ndarray:
    return outcome.errors if metric == "squared error" else outcome.result.per_person[metric]


def _show(record: Record) -> None:
    screen = Console(stderr=True, width=140)
    screen.print(results_table(record.rows, metrics=("recall@20", "ndcg@20", "coverage@20", "rmse")))
    for entry in record.notes["differences"]:
        value, low, high = entry["difference"]
        names = f"{entry['ours']:22} − {entry['theirs']:12} {entry['metric']:14}"
        screen.print(f"{names} {value:+.4f}  [{low:+.4f}, {high:+.4f}]")


if __name__ == "__main__":
    main()
