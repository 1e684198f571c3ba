"""python -m benchmarks.ablation [--set NAME] [--only PART ...] [--data-dir DIR] [--out DIR] [--save]

What each part earns: one part switched off at a time (or on, where it is off by default), differences on the same
people. The sets:

people: MovieLens-100K, leave-one-out, and on the temporal split with and without popularity of late.
negatives: the same films, where the softmax is sampled: 16 people a step, so that a step sees a part of the films only,
    and the sequence reader alone.
films: MovieLens-100K with descriptions, posters and trailers (--data-dir), a tenth of the films new, no history text.
goods: Amazon Beauty (--data-dir), split as the file says; a fourth of the people, drawn at random, and all items.

One seed; jobs side by side, one core each. A run that was stopped goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool
from rich.console import Console
from torch import Tensor

from benchmarks import amazon_beauty, movies
from benchmarks.contents import contents_of
from benchmarks.kept import trained
from benchmarks.movielens_jobs import TEMPLATE
from benchmarks.movies_data import movies_100k
from benchmarks.pool import side_by_side
from benchmarks.record import Record, plain
from benchmarks.sequences import GIVEN
from benchmarks.settings import merged
from indexing.build import build_index
from towers.catalog import Catalog
from towers.history import Histories
from towers.interactions import Interactions, Positive
from towers.movielens import movielens_100k
from towers.projection import ContentProjection
from training.config import Recipe
from training.measuring.comparison import DEPTH, split_log
from training.measuring.evaluate import Result, evaluate
from training.measuring.metrics import paired_difference
from training.measuring.splits import Split
from training.measuring.table import results_table
from training.negatives import Known
from training.ranker import IndexRanker

WHOLE = "twotower"
LATE, NO_LATE = "with popularity of late", "no popularity of late"  # of one model, on the temporal split
LIFTED = "new items lifted"  # the whole, once more, where its rows are asked without
SHARE = 0.25  # of the people whose goods are looked at
KNOWN, CENTRELESS = "known items among the negatives", "contents not centred"  # which no setting does
COMPARED = ("recall@20", "ndcg@20", "recall@20/tail", "recall@20/cold", "debiased-ndcg@20")
PARTS: dict[str, dict[str, Any]] = {
    "all of BERT tuned": {"user": {"text": {"tune": "all"}}},
    "BERT pre-trained on the texts": {"pretrain": {"epochs": 5}},
    "two views of a past": {"train": {"views_weight": 0.1}},
    WHOLE: {},
    "no id vectors": {"item": {"ids": False}},
    "no item text": {"item": {"text": False}},
    "no BERT reader": {"user": {"text": False}},
    "no sequence reader": {"user": {"sequence": False}, "train": {"epochs": 8, "evaluate_every": 4}},
    "attention alone": {"user": {"sequence": {"recent": 0}}},
    "BERT frozen": {"user": {"text": {"tune": 0}}},
    "no id dropout": {"item": {"id_dropout": 0.0}},
    KNOWN: {},
    CENTRELESS: {},
}
SAMPLED = "sampled"  # in-batch and uniform negatives, the refined correction
SAMPLE = {"softmax": "sampled", "uniform_negatives": 256}
SAMPLES: dict[str, dict[str, Any]] = {
    SAMPLED: {"train": SAMPLE},
    "full softmax": {"train": {"softmax": "full"}},
    "standard correction": {"train": {**SAMPLE, "correction": "standard"}},
    "no correction": {"train": {**SAMPLE, "correction": "none"}},
    "in-batch negatives alone": {"train": {**SAMPLE, "uniform_negatives": 1}},  # none at all is refused
    "popular negatives too": {"train": {**SAMPLE, "popular_negatives": 256}},
    "a memory too": {"train": {**SAMPLE, "memory_negatives": 4096}},
    "hard negatives too": {"train": {**SAMPLE, "hard_negatives": 32}},
}
FILMS: dict[str, dict[str, Any]] = {
    WHOLE: {},
    "no id vectors": {"item": {"ids": False}},
    "no item text": {"item": {"text": False}},
    "no modality dropout": {"item": {"content_dropout": 0.0}},
    "no kind alone": {"train": {"alone_weight": 0.0}},
    "no id dropout": {"item": {"id_dropout": 0.0}},
    KNOWN: {},
    CENTRELESS: {},
}
GOODS: dict[str, dict[str, Any]] = {
    WHOLE: {},
    "no id vectors": {"item": {"ids": False}},
    "no item text": {"item": {"text": False}},
    "no id dropout": {"item": {"id_dropout": 0.0}},
    "attention alone": {"user": {"sequence": {"recent": 0}}},
    "sampled softmax": {"train": {"softmax": "sampled", "uniform_negatives": 1024}},
    "sampled softmax, no correction": {
        "train": {"softmax": "sampled", "uniform_negatives": 1024, "correction": "none"}
    },
    KNOWN: {},
    CENTRELESS: {},
}


class NobodyKnown(Known):
    """Everything may be a negative of everybody."""

    def of_catalog(self, people: np.ndarray) -> Bool[Tensor, "b n"]:
        return torch.zeros_like(super().of_catalog(people))

    def of(self, people: np.ndarray, candidates: Tensor) -> Bool[Tensor, "b m"]:
        return torch.zeros_like(super().of(people, candidates))


def _not_centred(**values: Any) -> ContentProjection:
    return ContentProjection(**(values | {"normalise": "none"} if values["normalise"] == "centre" else values))


OTHERWISE: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    KNOWN: partial(patch, "training.loop.Known", NobodyKnown),
    CENTRELESS: partial(patch, "towers.item.ContentProjection", _not_centred),
}


def films(_: Path | None) -> tuple[Catalog, Interactions]:
    """MovieLens-100K as it is."""
    return movielens_100k(progress=False)


def films_with_content(data_dir: Path | None) -> tuple[Catalog, Interactions]:
    """MovieLens-100K with descriptions, posters and trailers."""
    assert data_dir is not None
    return movies_100k(data_dir)


def goods(data_dir: Path | None) -> tuple[Catalog, Interactions]:
    """Amazon Beauty's items, and the events of a part of its people."""
    assert data_dir is not None
    folder = data_dir / "amazon-beauty"
    events = pl.read_parquet(folder / "interactions.parquet")
    people = events["user_id"].unique().sort().to_list()
    chosen = np.random.default_rng(0).choice(people, round(SHARE * len(people)), replace=False)
    own = events.filter(pl.col("user_id").is_in(pl.Series(chosen, dtype=events["user_id"].dtype).implode()))
    return Catalog.read(folder / "items.parquet"), Interactions.read(own)


@dataclass(frozen=True)
class Set:
    """Rows that are compared.

    Args:
        record: name of the record.
        parts: settings by row, the longest training first.
        whole: the row that the others are compared with.
        protocol: of the rows, but for `NO_LATE`.
        base: settings that all rows have.
        told: what these are, for people.
        read: items and events, of the data folder.
        folder: what it needs there.
        refits: whether what validation chose is trained anew with the validation events.
        lifts: whether items that nobody has met stand as high as validation chose; otherwise as high as their vectors
            put them, so that no row pays more for them than another, and `LIFTED` says what they cost.
    """

    record: str
    parts: dict[str, dict[str, Any]]
    whole: str
    protocol: str
    base: dict[str, Any]
    told: str = "as shipped"
    read: Callable[[Path | None], tuple[Catalog, Interactions]] = films
    folder: str | None = None
    refits: bool = True
    lifts: bool = True

    def recipe(self, name: str) -> Recipe:
        """How the row of this name is trained."""
        return Recipe.read(merged(self.base, self.parts[name]))

    def split(self, catalog: Catalog, log: Interactions, protocol: str) -> Split:
        """What is trained on, and what is asked."""
        _, split = split_log(protocol, log.known(catalog), catalog, Positive())
        return split if self.refits else replace(split, refit=split.train)


SETS = {
    "people": Set("ablation", {NO_LATE: {}, **PARTS}, WHOLE, "leave-one-out", {"item": {"template": TEMPLATE}}),
    "negatives": Set(
        "ablation-negatives",
        SAMPLES,
        SAMPLED,
        "leave-one-out",
        {"item": {"template": TEMPLATE}, "user": {"text": False}, "train": {"batch_people": 16}},
        "as shipped but for 16 people a step, the softmax over their targets and 256 uniform ones, and no history text",
    ),
    "films": Set(
        "ablation-films",
        FILMS,
        WHOLE,
        "cold-items",
        movies.recipe_of(movies.ALL).model_dump(mode="json", exclude_unset=True),
        "as shipped but without history text, and new items no higher than their vectors put them",
        films_with_content,
        folder="movies",
        lifts=False,
    ),
    "goods": Set(
        "ablation-goods",
        GOODS,
        WHOLE,
        GIVEN,
        merged(
            amazon_beauty.TASK.recipes[WHOLE],
            {"item": {"id_speed": 5.0}, "train": {"batch_people": 64, "epochs": 12}},
        ),
        "as in the benchmark of Amazon Beauty, but with 64 people a step, `id_speed` 5, 12 epochs, and new items no "
        "higher than their vectors put them",
        goods,
        folder="amazon-beauty",
        refits=False,
        lifts=False,
    ),
}


class Job(NamedTuple):
    """A row of a set; where films and models are."""

    set: str
    name: str
    data_dir: Path | None
    out: Path

    @property
    def protocol(self) -> str:
        """By which it is asked."""
        return "temporal" if self.name == NO_LATE else SETS[self.set].protocol


class Outcome(NamedTuple):
    """What a job found: results by the name of the row, and notes."""

    results: dict[str, Result]
    notes: dict[str, Any]


def main() -> None:
    """Run the benchmark."""
    options = _options()
    chosen = SETS[options.set]
    record = Record(chosen.record)
    folder = chosen.folder
    if folder is not None and (options.data_dir is None or not (options.data_dir / folder).is_dir()):
        Console(stderr=True).print(f"{options.set} need --data-dir DIR with the folder {folder}/ and are skipped")
        return record.finish(save=False)
    wanted = (chosen.whole, *(options.only or chosen.parts))
    jobs = [Job(options.set, name, options.data_dir, options.out.resolve()) for name in chosen.parts if name in wanted]
    contents_of(chosen.read(options.data_dir)[0], chosen.recipe(chosen.whole), progress=True)  # once, for all jobs
    outcomes = side_by_side(run_part, {job.name: job for job in jobs})
    found = {name: result for outcome in outcomes for name, result in outcome.results.items()}
    splits = {name: job.protocol for job, outcome in zip(jobs, outcomes, strict=True) for name in outcome.results}
    record.rows = [result.row(method=name, split=splits[name], seed=0) for name, result in found.items()]
    record.notes = {
        "protocol": f"one part switched off (or on) at a time, everything else {chosen.told}; chosen on validation "
        "data; 95 % intervals by bootstrap over people",
        "differences": _differences(found, splits, {chosen.protocol: chosen.whole, "temporal": LATE}),
        "jobs": {job.name: outcome.notes for job, outcome in zip(jobs, outcomes, strict=True)},
    }
    _show(record, chosen)
    return record.finish(save=options.save)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=SETS, default="people", help="what is compared")
    parser.add_argument("--only", nargs="*", help="parts to switch off")
    parser.add_argument("--data-dir", type=Path, help="folder with movies/ for films, amazon-beauty/ for goods")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"), help="where models are kept")
    parser.add_argument("--save", action="store_true", help="keep the record in benchmarks/results")
    options = parser.parse_args()
    if unknown := set(options.only or ()) - set(SETS[options.set].parts):
        parser.error(f"--set {options.set} has no {sorted(unknown)}, but {list(SETS[options.set].parts)}")
    return options


def run_part(job: Job) -> Outcome:
    """Train without a part, or take what was trained, on one core, and ask."""
    torch.set_num_threads(1)
    chosen = SETS[job.set]
    catalog, log = chosen.read(job.data_dir)
    split = chosen.split(catalog, log, job.protocol)
    recipe = chosen.recipe(job.name)
    with OTHERWISE.get(job.name, nullcontext)():
        model, report = trained(job.out / f"{job.set}-{job.name.replace(' ', '-')}", catalog, split, recipe)
        index = build_index(model, catalog, progress=False)
    counts = np.bincount(split.refit.items, minlength=len(catalog))

    def ask(log: Histories | None) -> Result:
        return evaluate(IndexRanker(model, index, catalog, log=log), split.test, counts=counts, depth=DEPTH)

    results = {LIFTED: ask(split.refit)} if job.name == chosen.whole and not chosen.lifts else {}
    if not chosen.lifts:
        model.level.fill_(0)
    logs = {LATE: split.refit, NO_LATE: None} if job.name == NO_LATE else {job.name: split.refit}
    results |= {row: ask(log) for row, log in logs.items()}
    notes = {name: report[name] for name in ("best_epochs", "epochs", "fusion", "trend", "seconds")}
    return Outcome(results, {**notes, "recipe": recipe.model_dump(mode="json")})


def _differences(found: dict[str, Result], splits: dict[str, str], wholes: dict[str, str]) -> list[dict[str, Any]]:
    """The whole less each other row of its split, on the same people."""
    differences = []
    for name, result in found.items():
        whole = wholes[splits[name]]
        names = {"seed": 0, "split": splits[name], "ours": whole, "theirs": name}
        for metric in COMPARED if name != whole else ():
            ours, theirs = found[whole].per_person[metric], result.per_person[metric]
            if not np.isnan(ours + theirs).all():  # nobody has a cold target where no film is new
                differences.append({"metric": metric, **names, "difference": plain(paired_difference(ours, theirs))})
    return differences


def _show(record: Record, chosen: Set) -> None:
    screen = Console(stderr=True, width=170)
    metrics = (*COMPARED, "coverage@20", "gini@20")
    for title, split in {"one part off": chosen.protocol, "popularity of late": "temporal"}.items():
        if rows := [row for row in record.rows if row["split"] == split]:
            screen.print(results_table(rows, metrics=metrics, title=title))
    for entry in record.notes["differences"]:
        value, low, high = entry["difference"]
        screen.print(f"without: {entry['theirs']:32} {entry['metric']:18} {-value:+.4f}  [{-high:+.4f}, {-low:+.4f}]")


if __name__ == "__main__":
    main()
