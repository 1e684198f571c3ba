"""python -m benchmarks.ablation [--negatives] [--only PART ...] [--save]

What each part earns: MovieLens-100K, leave-one-out, one part switched off at a time (or on, where it is off by
default), differences on the same people; and on the temporal split, with and without popularity of late. With
--negatives, what each source of negatives and each correction earns where the softmax is sampled: 16 people a step, so
that a step sees a part of the films only, and the sequence reader alone. One seed; jobs side by side, one core each.
"""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console

from benchmarks.movielens_jobs import TEMPLATE
from benchmarks.pool import side_by_side
from benchmarks.record import Record, plain
from indexing.build import build_index
from towers.interactions import Positive
from towers.movielens import movielens_100k
from training.config import Recipe
from training.measuring.comparison import DEPTH, split_log
from training.measuring.evaluate import Result, evaluate
from training.measuring.metrics import paired_difference
from training.measuring.table import results_table
from training.ranker import IndexRanker
from training.trainer import fit_split

WHOLE = "twotower"
LATE, NO_LATE = "with popularity of late", "no popularity of late"  # of one model, on the temporal split
COMPARED = ("recall@20", "ndcg@20", "recall@20/tail", "debiased-ndcg@20")
PARTS: dict[str, dict[str, Any]] = {
    "all of BERT tuned": {"user": {"text": {"tune": "all"}}},
    "BERT pre-trained on the texts": {"pretrain": {"epochs": 5}},
    "two views of a past": {"train": {"views_weight": 0.1}},
    WHOLE: {},
    "no id vectors": {"item": {"ids": False}},
    "no item text": {"item": {"text": False}},
    "no BERT reader": {"user": {"text": False}},
    "no sequence reader": {"user": {"sequence": False}, "train": {"epochs": 8, "evaluate_every": 4}},
    "BERT frozen": {"user": {"text": {"tune": 0}}},
    "no id dropout": {"item": {"id_dropout": 0.0}},
}
SAMPLED = "sampled"  # in-batch and uniform negatives, the refined correction
SAMPLE = {"softmax": "sampled", "uniform_negatives": 256}
SAMPLES: dict[str, dict[str, Any]] = {
    SAMPLED: SAMPLE,
    "full softmax": {"softmax": "full"},
    "standard correction": {**SAMPLE, "correction": "standard"},
    "no correction": {**SAMPLE, "correction": "none"},
    "in-batch negatives alone": {**SAMPLE, "uniform_negatives": 1},
    "popular negatives too": {**SAMPLE, "popular_negatives": 256},
    "a memory too": {**SAMPLE, "memory_negatives": 4096},
    "hard negatives too": {**SAMPLE, "hard_negatives": 32},
}


class Outcome(NamedTuple):
    """What a job found: results by the name of the row, and notes."""

    results: dict[str, Result]
    notes: dict[str, Any]


def main() -> None:
    """Run the benchmark."""
    options = _options()
    record = Record("ablation-negatives" if options.negatives else "ablation")
    whole, parts = (SAMPLED, tuple(SAMPLES)) if options.negatives else (WHOLE, (NO_LATE, *PARTS))
    jobs = {name: name for name in parts if name in (whole, *(options.only or parts))}
    outcomes = side_by_side(run_part, jobs)
    found = {name: result for outcome in outcomes for name, result in outcome.results.items()}
    splits = {name: "temporal" if name in (LATE, NO_LATE) else "leave-one-out" for name in found}
    record.rows = [result.row(method=name, split=splits[name], seed=0) for name, result in found.items()]
    record.notes = {
        "protocol": "one part switched off (or on) at a time, everything else as shipped, chosen on validation data; "
        "95 % intervals by bootstrap over people",
        "differences": _differences(found, splits, {"leave-one-out": whole, "temporal": LATE}),
        "jobs": dict(zip(jobs, (outcome.notes for outcome in outcomes), strict=True)),
    }
    _show(record)
    record.finish(save=options.save)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--negatives", action="store_true", help="what the sources of a sampled softmax earn")
    parser.add_argument("--only", nargs="*", choices=(NO_LATE, *PARTS, *SAMPLES), help="parts to switch off")
    parser.add_argument("--save", action="store_true", help="keep the record in benchmarks/results")
    return parser.parse_args()


def run_part(name: str) -> Outcome:
    """Train without a part, on one core, and ask."""
    torch.set_num_threads(1)
    catalog, log = movielens_100k(progress=False)
    protocol = "temporal" if name == NO_LATE else "leave-one-out"
    _, split = split_log(protocol, log.known(catalog), catalog, Positive())
    recipe = recipe_of(name)
    model, report = fit_split(catalog, split, recipe, progress=False)
    index = build_index(model, catalog, progress=False)
    counts = np.bincount(split.refit.items, minlength=len(catalog))
    logs = {LATE: split.refit, NO_LATE: None} if name == NO_LATE else {name: split.refit}
    results = {
        row: evaluate(IndexRanker(model, index, catalog, log=late), split.test, counts=counts, depth=DEPTH)
        for row, late in logs.items()
    }
    notes = {"best_epochs": report.best_epochs, "fusion": report.fusion, "trend": report.trend}
    return Outcome(results, {**notes, "seconds": round(report.seconds, 1), "recipe": recipe.model_dump(mode="json")})


def recipe_of(name: str) -> Recipe:
    """How the row of this name is trained."""
    if name in SAMPLES:
        train = {"batch_people": 16, **SAMPLES[name]}
        return Recipe.read({"item": {"template": TEMPLATE}, "user": {"text": False}, "train": train})
    values = PARTS.get(name, {})
    return Recipe.read({**values, "item": {"template": TEMPLATE, **values.get("item", {})}})


def _differences(found: dict[str, Result], splits: dict[str, str], wholes: dict[str, str]) -> list[dict[str, Any]]:
    """The whole less each other row of its split, on the same people."""
    differences = []
    for name, result in found.items():
        whole = wholes[splits[name]]
        names = {"seed": 0, "split": splits[name], "ours": whole, "theirs": name}
        for metric in COMPARED if name != whole else ():
            difference = paired_difference(found[whole].per_person[metric], result.per_person[metric])
            differences.append({"metric": metric, **names, "difference": plain(difference)})
    return differences


def _show(record: Record) -> None:
    screen = Console(stderr=True, width=160)
    metrics = (*COMPARED, "coverage@20", "gini@20")
    for title, split in {"one part off": "leave-one-out", "popularity of late": "temporal"}.items():
        if rows := [row for row in record.rows if row["split"] == split]:
            screen.print(results_table(rows, metrics=metrics, title=title))
    for entry in record.notes["differences"]:
        value, low, high = entry["difference"]
        screen.print(f"without: {entry['theirs']:28} {entry['metric']:18} {-value:+.4f}  [{-high:+.4f}, {-low:+.4f}]")


if __name__ == "__main__":
    main()
