"""twotower demo

The whole chain on MovieLens-100K, on this machine: data, baselines, training, index, one person, plain words,
a table of methods, and a page with pictures.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console

from indexing.build import build_index
from indexing.index import ItemIndex
from serving.retriever import Retriever
from towers.artefact import atomic_file, refuse_unwritable
from towers.catalog import Catalog
from towers.errors import MissingExtraError
from towers.ids import IdList
from towers.interactions import Interactions
from towers.model import KIND, TwoTower
from towers.movielens import movielens_100k
from training.config import Recipe
from training.measuring.evaluate import Result, evaluate, score
from training.measuring.metrics import paired_difference
from training.measuring.protocols import leave_one_out
from training.measuring.splits import Split
from training.ranker import IndexRanker
from training.report import Report
from training.trainer import fit, with_range
from twotower.findings import Findings
from twotower.screen import Screen
from twotower.story import LABEL, pick, tell

RECIPE: dict[str, Any] = {
    "item": {"template": "{title}[ ({year})][. {genres}]"},
    "train": {"epochs": 54, "text_epochs": 4, "anchors": 4, "evaluate_every": 10},
}
"""Shorter than the recipe that ships, so that the demo ends within minutes."""

BASELINES: dict[str, dict[str, Any]] = {
    "most-popular": {},
    "item-knn": {"neighbours": 10, "shrink": 0},
    "ease": {"regularisation": 100},
    "als": {"factors": 128, "regularisation": 10, "alpha": 1},
    "bpr": {"factors": 16, "learning_rate": 0.005, "regularisation": 0.001, "iterations": 200},
}
"""The settings that `twotower bench movielens-100k` chose on validation data."""

DEPTH = 100  # candidates that are re-ranked
SPLIT = "leave-one-out"
SENTENCE = "a slow black and white thriller"
FILM = 183  # Alien


@dataclass(frozen=True)
class Data:
    """MovieLens-100K, split.

    Args:
        catalog, log: as read.
        users: the people, in the order of the split.
        ties: events at the very time of the one before.
        split: training data and questions.
        counts: training events of each film.
    """

    catalog: Catalog
    log: Interactions
    users: IdList
    ties: int
    split: Split
    counts: np.ndarray


def run(
    out: str | Path = "runs/demo",
    weights: str | Path | None = None,
    progress: bool = True,
    recipe: dict[str, Any] = RECIPE,
) -> Findings:
    """Train, index, measure and ask on MovieLens-100K; what is found goes to standard output and into `out`.

    Args:
        out: folder for the model, the index, the data as tables, and ``report.html``.
        weights: folder with sample data and pretrained weights, looked in before anything is downloaded.
        progress: show what is being done on standard error.
        recipe: what to train, as in `training.trainer.train`.

    Raises:
        ArtefactError: `out` cannot be written, or holds something else.
        WeightsError: data or weights can be found nowhere.
    """
    started, out = time.perf_counter(), Path(out)
    weights = Path(weights) if weights is not None else None
    screen = Screen()
    refuse_unwritable(out / "model", KIND)
    data = _read(weights, progress)
    _write_tables(out, data)
    screen.data(data.catalog, data.log, data.ties, data.split)

    results = _measure_baselines(data, screen, progress)
    settings = with_range(Recipe.read(recipe), data.log.rating_range)
    screen.recipe(settings)
    model, training = fit(
        data.catalog,
        data.split.train,
        data.split.validation,
        settings,
        out=out / "model",
        weights=weights,
        progress=progress,
    )
    index = build_index(model, data.catalog, out=out / "index", kind=settings.index, progress=progress)
    results |= _measure_ours(data, model, index, progress)

    findings = _findings(data, model, index, results, settings, training, started)
    screen.findings(findings)
    screen.written(out, _report(findings, out / "report.html"), commands(out))
    return findings


def verdict(results: dict[str, Result]) -> str:
    """One sentence: whether `twotower` beats every baseline, and the best of them by how much."""
    rivals = [name for name in BASELINES if name in results]
    if not rivals:
        return "There is no baseline to compare with."
    won: list[str] = []
    lost: list[str] = []
    details = []
    for metric in ("recall@20", "ndcg@20"):
        best = max(rivals, key=lambda name: results[name].metrics[metric][0])  # type: ignore[index]
        ours, theirs = (results[name].per_person[metric] for name in ("twotower", best))
        value, low, high = paired_difference(ours, theirs)
        (won if value > 0 else lost).append(metric)
        details.append(f"{metric} {value:+.3f} against {best} (95 % interval {low:+.3f} to {high:+.3f})")
    beats = f"beats every baseline in {' and '.join(won)}" if won else "does not beat every baseline"
    misses = f", but not in {lost[0]}" if won and lost else ""
    return f"twotower {beats}{misses}: {', '.join(details)}."


def commands(out: Path) -> list[list[str]]:
    """Commands to try next, each as its arguments; the last one serves."""
    both = ["--model", f"{out / 'model'}", "--index", f"{out / 'index'}", "--catalog", f"{out / 'items.parquet'}"]
    people = ["--interactions", f"{out / 'interactions.parquet'}", "--people", f"{out / 'people.parquet'}"]
    return [
        ["twotower", "recommend", "--user", "42", *both, *people],
        ["twotower", "recommend", "--text", "a musical from the fifties", *both],
        ["twotower", "similar", str(FILM), *both],
        ["twotower", "serve", *both, *people],
    ]


def _read(weights: Path | None, progress: bool) -> Data:
    catalog, log = movielens_100k(weights=weights, progress=progress)
    users, histories = log.known(catalog).histories(catalog)
    split = leave_one_out(histories)
    counts = np.bincount(split.train.items, minlength=len(catalog))
    return Data(catalog, log, users, histories.ties, split, counts)


def _write_tables(out: Path, data: Data) -> None:
    """The data as files that every command can read, ratings in stars."""
    low, high = data.log.rating_range or (0.0, 1.0)
    events = data.log.table
    stars = pc.add(pc.multiply(events["rating"], pa.scalar(high - low, pa.float32())), pa.scalar(low, pa.float32()))
    events = events.set_column(events.column_names.index("rating"), "rating", stars)
    tables = {"items": data.catalog.table, "interactions": events, "people": data.log.people}
    for name, table in tables.items():
        with atomic_file(out / f"{name}.parquet") as path:
            pq.write_table(table, path)


def _measure_baselines(data: Data, screen: Screen, progress: bool) -> dict[str, Result]:
    try:
        from training.measuring.baselines import baseline_grids

        kinds = {name: type(candidates[0]) for name, candidates in baseline_grids().items()}
        results = {}
        for name, settings in BASELINES.items():
            with _busy(f"baseline {name}", progress):
                ranker = kinds[name](**settings).fit(data.split.train, len(data.catalog))
                results[name] = evaluate(ranker, data.split.test, counts=data.counts, ks=(20,), depth=DEPTH)
    except MissingExtraError as error:
        screen.left_out(f"baselines are left out: {error}")
        return {}
    return results


def _measure_ours(data: Data, model: TwoTower, index: ItemIndex, progress: bool) -> dict[str, Result]:
    """The test questions by retrieval alone, and re-ranked."""
    test, ranker = data.split.test, IndexRanker(model, index, data.catalog, log=data.split.train)
    with _busy("test questions", progress):
        found = ranker.retrieve(test.histories, DEPTH)
        hits = {"twotower-retrieval": found, "twotower": ranker.rerank(found, test.histories)}
    return {name: score(one.rows, test, counts=data.counts, ks=(20,), depth=DEPTH) for name, one in hits.items()}


def _findings(
    data: Data,
    model: TwoTower,
    index: ItemIndex,
    results: dict[str, Result],
    recipe: Recipe,
    training: Report,
    started: float,
) -> Findings:
    """Ask for one person, by words and by a film, and put all that is told together."""
    number, picked = pick(data.split.test, results["twotower"])
    shop = Retriever(model, index, data.catalog, depth=DEPTH)
    return Findings(
        catalog=data.catalog,
        log=data.log,
        split=data.split,
        recipe=recipe,
        training=training,
        rows=[result.row(method=name, split=SPLIT, seed=recipe.train.seed) for name, result in results.items()],
        verdict=verdict(results),
        story=tell(model, index, data.catalog, data.log, data.users, data.split, number, picked=picked, depth=DEPTH),
        words=SENTENCE,
        described=shop.recommend(text=SENTENCE, k=8),
        film=data.catalog.select(data.catalog.rows([FILM])).texts(LABEL)[0],
        similar=shop.similar(FILM, k=8),
        vectors=index.vectors,
        seconds=time.perf_counter() - started,
    )


def _report(findings: Findings, path: Path) -> str:
    """Write the page; the return value says where it is, or why there is none."""
    try:
        from twotower.report import write_report

        write_report(findings, path)
    except MissingExtraError as error:
        return f"no page: {error}"
    return str(path)


@contextmanager
def _busy(what: str, shown: bool) -> Iterator[None]:
    """A spinner on standard error."""
    if not shown:
        yield
        return
    with Console(stderr=True).status(what):
        yield
