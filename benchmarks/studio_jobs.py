"""The jobs of the studio benchmark: make a shop, train on it, ask; each runs in a process of its own, on one core."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.contents import contents_of
from benchmarks.studio_lists import PerPerson, examine, examine_oracle
from indexing.build import build_index
from towers.embed import VectorCache
from training.config import Recipe
from training.measuring.baseline import Baseline
from training.measuring.baselines import baseline_grids, tune
from training.measuring.content_baseline import ContentKNN
from training.ranker import IndexRanker
from training.trainer import fit
from twotower.studio.exam import Exam, make_exam
from twotower.studio.oracle import subsets
from twotower.studio.probes import probes
from twotower.studio.settings import PARTS, StudioSettings
from twotower.studio.shop import Shop, make_shop, read_shop

TRAIN: dict[str, Any] = {"epochs": 20}
TUNED = (
    "nothing by hand: the recipe that ships, but 20 epochs instead of 60 to save time (not for `twotower`), of which "
    "each training keeps the best by its own validation; baselines by validation ndcg@20"
)

SHIPPED = "twotower"
SUBSETS = {f"{SHIPPED} {'+'.join(parts)}": parts for parts in subsets() if parts}
WHOLE = f"{SHIPPED} {'+'.join(PARTS)}"
WITH_IDS = f"{WHOLE}+ids"
FUSIONS = ("mean", "attention")  # beside the default, which `WHOLE` has
BASELINES, COLLABORATIVE = "baselines", ("item-knn", "ease")
ORACLE, FROZEN, FLOOR = "oracle", "frozen encoders", f"probe {'+'.join(PARTS)}"
LASTS = (1, 3, 5, 10, 20, 50)  # of a history's tracks, of which neighbours by content are looked for


@dataclass(frozen=True)
class Job:
    """One piece of the benchmark.

    Args:
        method: a key of `SUBSETS`, `WITH_IDS`, `SHIPPED`, one of `FUSIONS` or `BASELINES`.
        seed: of the shop and of the training.
        folder: of the shop.
    """

    method: str
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        """For people: method and seed."""
        return f"{self.method}, seed {self.seed}"


@dataclass
class Outcome:
    """What a job found: recall of each person by method and set of questions, and notes."""

    job: Job
    found: dict[str, PerPerson] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Opening:
    """A shop to be made."""

    folder: Path
    seed: int
    settings: StudioSettings


def open_shop(opening: Opening) -> None:
    """Make a shop and put the vectors of its texts, covers and sounds into the cache, so that no job waits for them."""
    torch.set_num_threads(1)
    shop = make_shop(opening.folder, opening.seed, opening.settings, progress=False)
    contents_of(shop.catalog, content_recipe(PARTS, 0))


def run_job(job: Job) -> Outcome:
    """Train and ask."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    outcome, shop = Outcome(job), read_shop(job.folder)
    if job.method == BASELINES:
        _baselines(outcome, shop)
    elif job.method in FUSIONS:
        _fusion(outcome, shop)
    else:
        _ours(outcome, shop)
    outcome.notes["seconds"] = round(time.perf_counter() - started, 1)
    return outcome


def content_recipe(parts: Sequence[str], seed: int, *, item: dict[str, Any] | None = None, **train: Any) -> Recipe:
    """Tracks are known by these parts only: no vectors of their own, and no reader that sees texts of histories.

    Args:
        parts: some of ``text``, ``image`` and ``audio``.
        seed: of the training.
        item: further values of the item tower.
        train: further values of the training.
    """
    left_out = {name: False for name in ("image", "audio") if name not in parts}
    tower = {"text": "text" in parts, "ids": False, **(item or {})}
    return Recipe.read({**left_out, "item": tower, "user": {"text": False}, "train": {**TRAIN, **train, "seed": seed}})


def _recipe(job: Job) -> Recipe:
    if job.method == SHIPPED:
        return Recipe.read({"train": {"seed": job.seed}})
    if job.method == WITH_IDS:
        return content_recipe(PARTS, job.seed, item={"ids": True})
    if job.method in FUSIONS:
        return content_recipe(PARTS, job.seed, item={"fusion": job.method})
    return content_recipe(SUBSETS[job.method], job.seed)


def _ours(outcome: Outcome, shop: Shop) -> None:
    job, exam = outcome.job, make_exam(shop)
    recipe = _recipe(job)
    model, report = fit(shop.catalog, exam.split.train, exam.split.validation, recipe, progress=False)
    index = build_index(model, shop.catalog, progress=False)
    outcome.found[job.method] = examine(exam, IndexRanker(model, index, shop.catalog, log=exam.split.train))
    for name in ("best_epochs", "epochs", "fusion", "trend"):
        outcome.notes[name] = getattr(report, name)
    outcome.notes["recipe"] = recipe.model_dump(mode="json")
    if job.method == WHOLE:
        contents, _ = model.contents(shop.catalog, VectorCache())
        _tuned(outcome, exam, FROZEN, _neighbours({name: one.numpy() for name, one in contents.vectors.items()}))


def _fusion(outcome: Outcome, shop: Shop) -> None:
    """Validation figures only, from which the fusion is chosen."""
    exam, recipe = make_exam(shop), _recipe(outcome.job)
    _, report = fit(shop.catalog, exam.split.train, exam.split.validation, recipe, progress=False)
    outcome.notes |= {"best_epochs": report.best_epochs, "epochs": report.epochs}


def _baselines(outcome: Outcome, shop: Shop) -> None:
    exam, grids = make_exam(shop), baseline_grids()
    outcome.found[ORACLE] = examine_oracle(exam)
    for name in ("most-popular", *COLLABORATIVE):
        _tuned(outcome, exam, name, grids[name])
    vectors = probes(shop)
    for parts in (*((part,) for part in PARTS), PARTS):
        _tuned(outcome, exam, f"probe {'+'.join(parts)}", _neighbours({part: vectors[part] for part in parts}))


def _tuned(outcome: Outcome, exam: Exam, name: str, candidates: Sequence[Baseline]) -> None:
    """The best of the candidates by validation."""
    tuned = tune(candidates, exam.split, len(exam.shop.catalog))
    outcome.found[name] = examine(exam, tuned.ranker)
    outcome.notes[name] = {"chosen": tuned.settings, "tried": tuned.tried}


def _neighbours(vectors: Mapping[str, np.ndarray]) -> list[ContentKNN]:
    """Neighbours by the vectors of all parts side by side."""
    together = np.concatenate([_units(one) for one in vectors.values()], axis=1)
    return [ContentKNN(vectors=together, last=last) for last in LASTS]


def _units(vectors: np.ndarray) -> np.ndarray:
    """Each row less the mean of all, of length 1, so that no part drowns another."""
    centred = vectors - vectors.mean(axis=0)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.divide(centred, lengths, out=np.zeros_like(centred), where=lengths > 0)
