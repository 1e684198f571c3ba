"""python -m benchmarks.regimes [--only REGIME ...] [--epochs N] [--save]

How much of BERT is worth training? The reader of history text alone, without a sequence reader, on MovieLens-100K
(leave-one-out): frozen, its two upper layers, low-rank additions to all, or all of it. One seed; each regime in a
process of its own, one after the other, on one core, and timed by the processor time that it takes, which other work on
the machine does not add to.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from accelerate.utils import set_seed
from rich.console import Console
from rich.table import Table

from benchmarks.movielens_jobs import DEPTH, TEMPLATE
from benchmarks.pool import side_by_side
from benchmarks.record import Record, plain
from indexing.build import build_index
from towers.catalog import Catalog
from towers.history import Histories
from towers.model import TwoTower
from towers.movielens import movielens_100k
from towers.tuning import Tune
from training.config import Recipe
from training.loop import Run
from training.measuring.evaluate import Result, evaluate
from training.measuring.metrics import paired_difference
from training.measuring.protocols import leave_one_out
from training.ranker import IndexRanker
from training.untrained import new_model

FROZEN = "frozen"
REGIMES: dict[str, Tune] = {FROZEN: 0, "top 2": 2, "low-rank": "lora", "all": "all"}
COMPARED = ("recall@20", "ndcg@20")


class Job(NamedTuple):
    """A regime and its epochs."""

    regime: str
    epochs: int


class Cost(NamedTuple):
    """What an epoch took.

    Args:
        seconds: of one processor.
        peak: most memory of the process so far, bytes.
        trained: weights that the optimizer changes.
        trained_of_bert: those of them that are the encoder's, or were added to it.
    """

    seconds: float
    peak: int
    trained: int
    trained_of_bert: int


class Outcome(NamedTuple):
    """What a regime gave."""

    result: Result
    costs: list[Cost]
    notes: dict[str, Any]


def main() -> None:
    """Run the benchmark."""
    options = _options()
    record = Record("regimes")
    names = [name for name in REGIMES if name in (FROZEN, *(options.only or REGIMES))]
    jobs = {name: Job(name, options.epochs) for name in names}
    outcomes = dict(zip(names, side_by_side(run_regime, jobs, at_once=1), strict=True))
    for name, outcome in outcomes.items():
        row = outcome.result.row(method=name, split="leave-one-out", seed=0)
        record.rows.append({**row, "metrics": {**row["metrics"], **summary(outcome.costs)}})
    record.notes = {
        "protocol": f"text reader alone, {options.epochs} epochs without early stopping, all else as shipped; "
        "the outputs of frozen layers are kept, up to a gigabyte, which is part of the memory; the first epoch "
        "computes most of them, an epoch's seconds are the median of the others; 95 % intervals by bootstrap over "
        "people",
        "differences": _differences({name: outcome.result for name, outcome in outcomes.items()}),
        "jobs": {name: outcome.notes for name, outcome in outcomes.items()},
    }
    _show(record)
    record.finish(save=options.save)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=tuple(REGIMES), help="regimes to run, beside frozen")
    parser.add_argument("--epochs", type=int, default=8, help="of each regime, at least 2")
    parser.add_argument("--save", action="store_true", help="keep the record in benchmarks/results")
    return parser.parse_args()


def run_regime(job: Job) -> Outcome:
    """Train in one regime, on one core, and ask."""
    torch.set_num_threads(1)
    catalog, log = movielens_100k(progress=False)
    split = leave_one_out(log.known(catalog).histories(catalog)[1])
    user = {"sequence": False, "text": {"tune": REGIMES[job.regime]}}
    recipe = Recipe.read({"item": {"template": TEMPLATE}, "user": user, "train": {"epochs": job.epochs}})
    model, costs = trained(catalog, split.train, recipe)
    index = build_index(model, catalog, progress=False)
    counts = np.bincount(split.train.items, minlength=len(catalog))
    ranker = IndexRanker(model, index, catalog, together=True)
    result = evaluate(ranker, split.test, counts=counts, depth=DEPTH)
    notes = {"epochs": [cost._asdict() for cost in costs], "recipe": recipe.model_dump(mode="json")}
    return Outcome(result, costs, notes)


def trained(catalog: Catalog, past: Histories, recipe: Recipe) -> tuple[TwoTower, list[Cost]]:
    """A model after all epochs, and what each took."""
    set_seed(recipe.train.seed)
    counts = np.bincount(past.items, minlength=len(catalog))
    model = new_model(catalog, counts, recipe)
    costs: list[Cost] = []
    with patch.object(Run, "_epoch", watched(Run._epoch, costs)):
        Run(model, catalog, past, None, counts, recipe, False, until=[recipe.train.epochs]).go()
    return model.eval(), costs


def watched(epoch: Any, costs: list[Cost]) -> Any:
    """An epoch of `Run` that writes down what it took."""

    def timed(run: Run, number: int) -> dict[str, float]:
        assert run.model.user.text is not None
        started = time.process_time()
        losses = epoch(run, number)
        seconds = time.process_time() - started
        trained = sum(weight.numel() for group in run.optimizer.param_groups for weight in group["params"])
        of_bert = sum(part.numel() for part in run.model.user.text.encoder.parameters() if part.requires_grad)
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        costs.append(Cost(round(seconds, 2), peak, trained, of_bert))
        return losses

    return timed


def summary(costs: list[Cost]) -> dict[str, float]:
    """Weights in millions, memory in megabytes, seconds of the first epoch and of one after it."""
    return {
        "trained_m": round(costs[-1].trained / 1e6, 3),
        "trained_of_bert_m": round(costs[-1].trained_of_bert / 1e6, 3),
        "peak_mb": round(costs[-1].peak / 1e6),
        "first_epoch_s": costs[0].seconds,
        "epoch_s": round(statistics.median(cost.seconds for cost in costs[1:]), 2),
    }


def _differences(found: dict[str, Result]) -> list[dict[str, Any]]:
    """Each regime less frozen, on the same people."""
    differences = []
    for name, result in found.items():
        names = {"split": "leave-one-out", "seed": 0, "ours": name, "theirs": FROZEN}
        for metric in COMPARED if name != FROZEN else ():
            difference = paired_difference(result.per_person[metric], found[FROZEN].per_person[metric])
            differences.append({"metric": metric, **names, "difference": plain(difference)})
    return differences


def _show(record: Record) -> None:
    columns = ("trained, M", "of BERT, M", "peak, MB", "first epoch, s", "epoch, s", *COMPARED)
    table = Table("regime", *columns, title="how much of BERT is trained")
    for row in record.rows:
        values = row["metrics"]
        costs = [f"{values[name]:,g}" for name in ("trained_m", "trained_of_bert_m", "peak_mb", "first_epoch_s")]
        quality = [f"{value:.3f} ({low:.3f}–{high:.3f})" for value, low, high in (values[name] for name in COMPARED)]
        table.add_row(row["method"], *costs, f"{values['epoch_s']:,g}", *quality)
    screen = Console(stderr=True, width=140)
    screen.print(table)
    for entry in record.notes["differences"]:
        value, low, high = entry["difference"]
        screen.print(f"{entry['ours']:10} − frozen  {entry['metric']:10} {value:+.4f}  [{low:+.4f}, {high:+.4f}]")


if __name__ == "__main__":
    main()
