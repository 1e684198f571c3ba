"""The jobs of the MovieLens-100K benchmark; each runs in a process of its own, on one core."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.movielens_protocols import run_protocol
from benchmarks.text_queries import TextQuestions, held_out_descriptions, phrases
from benchmarks.text_rankers import bm25_scores, frozen_scores, score_questions
from indexing.build import build_index
from towers.catalog import Catalog
from towers.history import Histories
from towers.interactions import Interactions
from towers.model import TwoTower
from towers.movielens import movielens_100k
from towers.words import Words
from training.config import Recipe
from training.measuring.baselines import baseline_grids, tune
from training.measuring.evaluate import Result, evaluate, score
from training.measuring.metrics import Interval, mae, rmse
from training.measuring.protocols import last_event, leave_one_out, random_tenth
from training.measuring.rating_baselines import BiasModel, GlobalMean
from training.measuring.splits import Split
from training.ranker import IndexRanker
from training.trainer import fit

DEPTH = 100  # candidates that are re-ranked
STARS = 4  # ratings in [0, 1] times this are stars

PROTOCOL_JOBS = ("temporal", "cold-items")

TEMPLATE = "{title}[ ({year})][. {genres}]"
BERT_TRAIN = {"epochs": 8, "evaluate_every": 4}
RECIPES: dict[str, dict[str, Any]] = {
    "twotower": {"item": {"template": TEMPLATE}},
    "twotower-sequence": {"item": {"template": TEMPLATE}, "user": {"text": False}},
    "twotower-bert": {"item": {"template": TEMPLATE}, "user": {"sequence": False}, "train": BERT_TRAIN},
    "twotower-bert-frozen": {
        "item": {"template": TEMPLATE},
        "user": {"sequence": False, "text": {"tune": 0}},
        "train": BERT_TRAIN,
    },
    "description-query": {
        "item": {"template": TEMPLATE + "[. {description}]"},
        "user": {"text": {"history": {"template": "{title}[, {genres}]"}}},
        "train": {"epochs": 40, "sentences": 128, "sentence_weight": 1.0, "anchors_per_step": 1},
    },
    "ratings": {"item": {"template": TEMPLATE}, "user": {"text": False}},
}


@dataclass(frozen=True)
class Job:
    """One piece of the benchmark: a method and a seed."""

    method: str
    seed: int
    scratch: Path
    data_dir: Path | None

    @property
    def name(self) -> str:
        """For people: method and seed."""
        return f"{self.method}, seed {self.seed}"


@dataclass
class Outcome:
    """What a job found: JSON rows, metrics of each person under (method, seed), notes and paired differences."""

    job: Job
    rows: list[dict[str, Any]] = field(default_factory=list)
    per_person: dict[tuple[str, int], dict[str, np.ndarray]] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    differences: list[dict[str, Any]] = field(default_factory=list)

    def add(self, result: Result, method: str) -> None:
        """A leave-one-out result."""
        self.rows.append(result.row(method=method, split="leave-one-out", seed=self.job.seed))
        self.per_person[method, self.job.seed] = {m: result.per_person[m] for m in ("recall@20", "ndcg@20")}


def run_job(job: Job) -> Outcome:
    """Do one job on one core."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    outcome = Outcome(job)
    catalog, log = movielens_100k(progress=False)
    _, histories = log.known(catalog).histories(catalog)
    if job.method == "baselines":
        _baselines(outcome, catalog, leave_one_out(histories))
    elif job.method in PROTOCOL_JOBS:
        _protocol(outcome, catalog, log)
    elif job.method == "ratings":
        _ratings(outcome, catalog, histories)
    elif job.method == "description-query":
        _descriptions(outcome, catalog, leave_one_out(histories))
    else:
        _ours(outcome, catalog, leave_one_out(histories))
    outcome.notes["seconds"] = round(time.perf_counter() - started, 1)
    return outcome


def _recipe(job: Job) -> Recipe:
    values = RECIPES[job.method]
    return Recipe.read({**values, "train": {**values.get("train", {}), "seed": job.seed}})


def _fit(outcome: Outcome, catalog: Catalog, split: Split) -> TwoTower:
    recipe = _recipe(outcome.job)
    model, report = fit(catalog, split.train, split.validation, recipe, progress=False)
    outcome.notes |= {
        "best_epoch": report.best_epoch,
        "curve": report.epochs,
        "fusion": report.fusion,
        "words": report.words,
        "trend": report.trend,
        "level": report.level,
        "reranking": report.reranking,
        "recipe": recipe.model_dump(mode="json"),
        "ties": split.ties,
    }
    return model


def _ours(outcome: Outcome, catalog: Catalog, split: Split) -> None:
    method = outcome.job.method
    model = _fit(outcome, catalog, split)
    index = build_index(model, catalog, progress=False)
    counts = np.bincount(split.train.items, minlength=len(catalog))
    ranker = IndexRanker(model, index, catalog, depth=DEPTH, log=split.train)
    found = ranker.retrieve(split.test.histories, DEPTH)
    retrieval = score(found.rows, split.test, counts=counts, depth=DEPTH)
    if method != "twotower":
        outcome.add(retrieval, method)
        return
    outcome.add(retrieval, "twotower-retrieval")
    reranked = ranker.rerank(found, split.test.histories)
    outcome.add(score(reranked.rows, split.test, counts=counts, depth=DEPTH), "twotower")
    questions = phrases(catalog)
    _text_rows(outcome, catalog, model, questions, "text-query")


def _protocol(outcome: Outcome, catalog: Catalog, log: Interactions) -> None:
    job = outcome.job
    recipe = Recipe.read({**RECIPES["twotower"], "train": {"seed": job.seed}})
    found = run_protocol(job.method, catalog, log, recipe, job.seed)
    outcome.rows, outcome.differences, outcome.notes = found


def _baselines(outcome: Outcome, catalog: Catalog, split: Split) -> None:
    counts = np.bincount(split.train.items, minlength=len(catalog))
    for name, candidates in baseline_grids().items():
        tuned = tune(candidates, split, len(catalog))
        outcome.add(evaluate(tuned.ranker, split.test, counts=counts, depth=DEPTH), name)
        outcome.notes[name] = {"chosen": tuned.settings, "tried": tuned.tried}


def _descriptions(outcome: Outcome, catalog: Catalog, split: Split) -> None:
    assert outcome.job.data_dir is not None
    described, questions = held_out_descriptions(catalog, outcome.job.data_dir)
    model = _fit(outcome, described, split)
    _text_rows(outcome, described, model, questions, "description-query")


def _text_rows(outcome: Outcome, catalog: Catalog, model: TwoTower, questions: TextQuestions, split: str) -> None:
    vectors = model.embed_items(catalog)
    memory = model.memory(catalog, vectors)
    nothing = Histories.of([[] for _ in questions.sentences])
    texts = catalog.texts(model.template)
    assert model.user.text is not None
    words = Words(texts)
    cosines = model.encode(nothing, memory, questions.sentences) @ vectors.T
    shares = np.stack([words.shares(sentence) for sentence in questions.sentences])
    scores = {
        "twotower": cosines + float(model.user.text.words) * shares,
        "twotower-vector": cosines,
        "bm25": bm25_scores(texts, questions.sentences),
        "frozen-text": frozen_scores(model.encoder, texts, questions.sentences),
    }
    for method, values in scores.items():
        metrics = score_questions(values, questions)
        outcome.rows.append({"method": method, "split": split, "seed": outcome.job.seed, "metrics": metrics})


def _ratings(outcome: Outcome, catalog: Catalog, histories: Histories) -> None:
    split = random_tenth(histories, seed=0)
    past, validation = last_event(split.train)
    recipe = _recipe(outcome.job)
    model, report = fit(catalog, past, validation, recipe, rated=split.train, progress=False)
    memory = model.memory(catalog, model.embed_items(catalog))
    predicted = {
        "global-mean": GlobalMean().fit(split.train, len(catalog)).predict(split.people, split.items),
        "bias-model": BiasModel().fit(split.train, len(catalog)).predict(split.people, split.items),
        "twotower": _predict(model, memory, split.train, split.people, split.items),
    }
    for method, values in predicted.items():
        errors = {
            name: _stars(measure(values, split.ratings, split.people))
            for name, measure in {"rmse": rmse, "mae": mae}.items()
        }
        outcome.rows.append({"method": method, "split": "ratings", "seed": 0, "metrics": errors})
    outcome.notes |= {"reranking": report.reranking, "recipe": recipe.model_dump(mode="json")}


def _predict(model: TwoTower, memory: Any, train: Histories, people: np.ndarray, items: np.ndarray) -> np.ndarray:
    predicted = np.empty(len(people))
    for person in np.unique(people):
        asked = people == person
        predicted[asked] = model.rate(train.take([person]), memory, items[asked][None])[0]
    return predicted


def _stars(interval: Interval) -> list[float]:
    return [round(STARS * value, 6) for value in interval]
