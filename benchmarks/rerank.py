"""python -m benchmarks.rerank [--epochs N] [--out DIR] [--save]

What each step of re-ranking gives and takes: MovieLens-100K, each person's last ten ratings, a sequence reader trained
for a few epochs. NDCG with stars as gains, diversity, coverage, exposure and the tail's share before and after each
step, its price, and a picture of how much accuracy diversity costs. How strong a step is, validation data say: the
strongest that costs at most 2 % of NDCG there.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from benchmarks.interests import last_ten
from benchmarks.movielens_jobs import TEMPLATE
from benchmarks.record import Record, plain
from indexing.build import build_index
from indexing.index import ItemIndex
from serving.rerank.calibration import Calibration
from serving.rerank.contract import Candidates, Known, Step, rerank
from serving.rerank.diversity import Dpp, MaxSum, Mmr
from serving.rerank.exploration import EpsilonGreedy, Thompson
from serving.rerank.items import Items
from serving.rerank.rules import Block, Floor, Only, Pin, Quota
from serving.rerank.scores import Novelty, Rating
from towers.artefact import read_manifest
from towers.catalog import Catalog
from towers.embed import VectorCache
from towers.errors import InputError
from towers.model import KIND, TwoTower
from towers.movielens import movielens_100k
from towers.user import Memory
from training.config import Recipe
from training.measuring.comparison import DEPTH
from training.measuring.exposure import coverage, diversity, gini, novelty
from training.measuring.metrics import bootstrap, graded_ndcg, matches, paired_difference, popularity_groups, recall
from training.measuring.metrics import relative_difference as relative
from training.measuring.splits import Questions, Split
from training.ranker import IndexRanker
from training.trainer import fit
from twotower.charts import OTHERS, Figure, blank
from twotower.pages import document, picture

K = 10
STARS = 4  # ratings in [0, 1] times this, plus 1, are stars
EPOCHS = 15
ALLOWED = 0.02  # of NDCG, on validation data; the goal allows 0.03, and validation is not the test
WEIGHTS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8)
BEFORE, RETRIEVAL = "rating", "retrieval"
TIMED = 300  # people, one at a time
COLOURS = ("#4e79a7", "#e15759", "#59a14f", "#b07aa1", "#f28e2b", "#76b7b2", "#9c6b4e", "#868e96")

Weighted = Callable[[float], Step]
CHOSEN: dict[str, Weighted] = {
    "mmr, vectors": Mmr,
    "mmr, genres": partial(Mmr, by="genres"),
    "dpp, vectors": Dpp,
    "dpp, genres": partial(Dpp, by="genres"),
    "max-sum, vectors": MaxSum,
    "max-sum, genres": partial(MaxSum, by="genres"),
    "novelty": Novelty,
    "calibration": Calibration,
}
FIXED: dict[str, Step] = {  # examples, settled before anything was measured
    "block: no horror": Block(where={"genres": "Horror"}),
    "only: from 1990 on": Only({"year": {">=": 1990}}),
    "quota: 3 dramas": Quota({"genres": "Drama"}, 3),
    "floor: a fifth before 1980": Floor({"year": {"<": 1980}}, 0.2),
    "pin: one film third": Pin({3: 1}),
    "epsilon-greedy, 0.1": EpsilonGreedy(0.1, seed=0),
    "thompson, 0.05": Thompson(0.05, seed=0),
}


class Asked(NamedTuple):
    """Questions with the candidates of retrieval."""

    questions: Questions
    candidates: Candidates
    known: Known


class Seen(NamedTuple):
    """What lists are measured with: events of each film, unit vectors of its genres, of its text, and by the model."""

    counts: np.ndarray
    genres: np.ndarray
    texts: np.ndarray
    vectors: np.ndarray


def main() -> None:
    """Run the benchmark."""
    options = _options()
    record = Record("rerank")
    catalog, split = read_split()
    model = trained(catalog, split, options.epochs, options.out / "model")
    index = build_index(model, catalog, progress=False)
    items = _items(catalog, index, split)
    seen = _seen(model, catalog, split, items.vectors)
    validation, test = (ask(model, index, catalog, split, items, one) for one in (split.validation, split.test))
    curves = {name: sweep(make, validation, seen) for name, make in CHOSEN.items()}
    weights = {name: strongest(curve) for name, curve in curves.items()}
    steps = {name: make(weights[name]) for name, make in CHOSEN.items()} | FIXED
    found = {RETRIEVAL: measured(test, (), seen), BEFORE: measured(test, (Rating(),), seen)}
    found |= {name: measured(test, (Rating(), step), seen) for name, step in steps.items()}
    prices = {name: price(step, test) for name, step in steps.items()}
    memory = model.memory(catalog, items.vectors)
    prices[BEFORE] = predicting(model, memory, test) + price(Rating(), test)
    record.rows = [_row(name, one, len(catalog), prices.get(name)) for name, one in found.items()]
    record.notes = {
        "protocol": f"each person's last ten ratings are the test, the five before them validation; the model learns "
        f"from what came before, sequence reader only, {options.epochs} epochs; {DEPTH} candidates, seen films left "
        "out; gains are stars; every step stands alone behind re-ranking by rating; its weight is the largest that "
        f"costs at most {ALLOWED:.0%} of NDCG@10 on validation data, the rules are examples settled beforehand; "
        "diversity@10 is the mean of 1 - cosine over pairs of a list, of genres (1 for each that a film has), "
        "diversity@10/text of the frozen text encoder's vectors of title, year and genres, their mean taken off, "
        "diversity@10/vectors of the model's own; "
        "tail@10 is the share of what is shown that takes the last fifth of the training events; ms is the median "
        f"processor time of one request, {TIMED} people one at a time; 95 % intervals by bootstrap over people",
        "weights": weights,
        "differences": list(_differences(found)),
        "frontier": curves,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    page = document("Diversity and accuracy", [picture("frontier", frontier(curves, record.notes["differences"]))])
    (options.out / "frontier.html").write_text(page, "utf-8")
    _show(record)
    record.finish(save=options.save)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of training")
    parser.add_argument("--out", type=Path, default=Path("runs/rerank"), help="where model and picture are kept")
    parser.add_argument("--save", action="store_true", help="keep the record in benchmarks/results")
    return parser.parse_args()


def read_split() -> tuple[Catalog, Split]:
    """Films, their genres as lists, and each person's last ten ratings to ask for."""
    catalog, log = movielens_100k()
    films = pl.DataFrame(catalog.table).with_columns(pl.col("genres").str.split(", "))
    catalog = Catalog.read(films)
    return catalog, last_ten(log.known(catalog).histories(catalog)[1])


def trained(catalog: Catalog, split: Split, epochs: int, folder: Path) -> TwoTower:
    """The model, or the one that an earlier run has kept in `folder`."""
    recipe = Recipe.read(
        {"item": {"template": TEMPLATE}, "user": {"text": False}, "train": {"epochs": epochs, "evaluate_every": 5}}
    )
    if not (folder / "manifest.json").exists():
        fit(catalog, split.train, split.validation, recipe, out=folder)
    if read_manifest(folder, KIND)["recipe"] != recipe.model_dump(mode="json"):
        raise InputError(f"{folder} was trained by another recipe: remove it, or give another --out")
    return TwoTower.load(folder)


def ask(model: TwoTower, index: ItemIndex, catalog: Catalog, split: Split, items: Items, questions: Questions) -> Asked:
    """Candidates and their predicted ratings for all people at once."""
    ranker = IndexRanker(model, index, catalog, log=split.train, together=True)
    hits = ranker.retrieve(questions.histories, DEPTH)
    ratings = model.rate(questions.histories, model.memory(catalog, items.vectors), hits.rows)
    known = Known(items, questions.histories, K, model.rerank_scores)
    return Asked(questions, Candidates.of(hits, ratings), known)


def _items(catalog: Catalog, index: ItemIndex, split: Split) -> Items:
    vectors = index.vectors[index.ids.rows(catalog.ids.array)]
    return Items(catalog.ids, vectors, catalog.table, np.bincount(split.train.items, minlength=len(catalog)))


def _seen(model: TwoTower, catalog: Catalog, split: Split, vectors: np.ndarray) -> Seen:
    counts = np.bincount(split.train.items, minlength=len(catalog))
    nothing = np.empty((len(catalog), 0), np.float32)
    genres = Items(catalog.ids, nothing, catalog.table).features(np.arange(len(catalog)), "genres")
    texts = VectorCache().embed(model.encoder, catalog.texts(TEMPLATE)).vectors.numpy()
    texts = texts - texts.mean(axis=0)
    return Seen(counts, genres, texts / np.linalg.norm(texts, axis=1, keepdims=True), vectors)


def measured(asked: Asked, steps: Iterable[Step], seen: Seen) -> dict[str, np.ndarray]:
    """Metrics of each person ``(M,)`` by name, and under "rows" their lists ``(M, K)``."""
    rows, targets = rerank(tuple(steps), asked.candidates, asked.known).candidates.rows[:, :K], asked.questions.targets
    stars = 1 + STARS * targets.ratings.astype(np.float64)
    there = rows >= 0
    return {
        "rows": rows,
        "ndcg@10": graded_ndcg(rows, targets, stars, K),
        "recall@10": recall(matches(rows, targets), targets.lengths, K),
        "diversity@10": diversity(rows, seen.genres, K),
        "diversity@10/text": diversity(rows, seen.texts, K),
        "diversity@10/vectors": diversity(rows, seen.vectors, K),
        "novelty@10": novelty(rows, seen.counts, K),
        "tail@10": ((popularity_groups(seen.counts)[rows] == 2) & there).sum(axis=1) / there.sum(axis=1),
    }


def sweep(make: Weighted, asked: Asked, seen: Seen) -> list[dict[str, float]]:
    """What each weight does to NDCG and diversity, relative to the list before."""
    before, found = measured(asked, (Rating(),), seen), []
    for weight in WEIGHTS:
        after = measured(asked, (Rating(), make(weight)), seen)
        means = {name: np.nanmean([after[name], before[name]], axis=1) for name in ("ndcg@10", "diversity@10")}
        found.append({"weight": weight, **{name: round(float(a / b - 1), 6) for name, (a, b) in means.items()}})
    return found


def strongest(curve: list[dict[str, float]]) -> float:
    """The largest weight that costs no more NDCG than is allowed; the smallest where all cost more."""
    return max((one["weight"] for one in curve if one["ndcg@10"] >= -ALLOWED), default=WEIGHTS[0])


def price(step: Step, asked: Asked) -> np.ndarray:
    """Milliseconds of processor time that a step takes for one person at a time."""
    spent = []
    for person in range(min(TIMED, len(asked.questions))):
        one, known = _alone(asked, person)
        started = time.process_time()
        step(one, known)
        spent.append(1e3 * (time.process_time() - started))
    return np.array(spent)


def predicting(model: TwoTower, memory: Memory, asked: Asked) -> np.ndarray:
    """Milliseconds of processor time that predicted ratings, which the first step needs, take for one person."""
    spent = []
    for person in range(min(TIMED, len(asked.questions))):
        one, known = _alone(asked, person)
        started = time.process_time()
        model.rate(known.histories, memory, one.rows)
        spent.append(1e3 * (time.process_time() - started))
    return np.array(spent)


def _alone(asked: Asked, person: int) -> tuple[Candidates, Known]:
    whole = asked.candidates
    assert whole.ratings is not None
    one = Candidates(*(values[person : person + 1] for values in (whole.rows, whole.scores, whole.ratings)))
    return one, replace(asked.known, histories=asked.known.histories.take([person]))


def _row(name: str, found: Mapping[str, np.ndarray], items: int, spent: np.ndarray | None) -> dict[str, Any]:
    metrics: dict[str, Any] = {metric: plain(bootstrap(values)) for metric, values in found.items() if metric != "rows"}
    metrics["coverage"] = round(coverage(found["rows"], items, K), 6)
    metrics["gini"] = round(gini(found["rows"], items, K), 6)
    if spent is not None:
        metrics |= {"ms": round(float(np.median(spent)), 3), "ms p99": round(float(np.quantile(spent, 0.99)), 3)}
    return {"method": name, "split": "last-ten", "seed": 0, "metrics": metrics}


def _differences(found: Mapping[str, Mapping[str, np.ndarray]]) -> Iterable[dict[str, Any]]:
    """Each step less the list before it, on the same people, and by what share the mean has changed."""
    before = found[BEFORE]
    for name, after in found.items():
        for metric in () if name == BEFORE else (one for one in after if one != "rows"):
            yield {
                "metric": metric,
                "split": "last-ten",
                "seed": 0,
                "ours": name,
                "theirs": BEFORE,
                "difference": plain(paired_difference(after[metric], before[metric])),
                "relative": plain(relative(after[metric], before[metric])),
            }


def frontier(curves: Mapping[str, list[dict[str, float]]], differences: list[dict[str, Any]]) -> Figure:
    """Diversity over NDCG, both relative to before: lines over the weights (validation), points as chosen (test)."""
    figure = blank("Diversity of genres against NDCG@10, change in %", height=460, left=64, bottom=56)
    changes = {(one["ours"], one["metric"]): one["relative"] for one in differences}
    for (name, curve), colour in zip(curves.items(), COLOURS, strict=False):
        figure.add_scatter(
            x=[100 * one["ndcg@10"] for one in curve],
            y=[100 * one["diversity@10"] for one in curve],
            text=[f"{name}, weight {one['weight']:g}, validation" for one in curve],
            name=name,
            mode="lines",
            line={"color": colour, "width": 2},
            hovertemplate="%{text}: %{x:.1f} %, %{y:.1f} %<extra></extra>",
        )
        (x, *wide), (y, *high) = changes[name, "ndcg@10"], changes[name, "diversity@10"]
        figure.add_scatter(
            x=[100 * x],
            y=[100 * y],
            error_x=_bars(x, wide, colour),
            error_y=_bars(y, high, colour),
            text=[f"{name}, as chosen, test"],
            mode="markers",
            marker={"color": colour, "size": 11},
            hovertemplate="%{text}: %{x:.1f} %, %{y:.1f} %<extra></extra>",
            showlegend=False,
        )
    figure.add_hline(y=30, line={"dash": "dot", "width": 1, "color": OTHERS}, annotation={"text": "goal: + 30 %"})
    figure.add_vline(x=-3, line={"dash": "dot", "width": 1, "color": OTHERS}, annotation={"text": "goal: − 3 %"})
    figure.update_layout(showlegend=True)
    figure.update_xaxes(title={"text": "NDCG@10 with stars as gains"}, range=[-16, 4])
    figure.update_yaxes(title={"text": "diversity@10"})
    return figure


def _bars(value: float, ends: list[float], colour: str) -> dict[str, Any]:
    low, high = (100 * abs(end - value) for end in ends)
    return {"symmetric": False, "array": [high], "arrayminus": [low], "color": colour, "thickness": 1.5, "width": 0}


def _show(record: Record) -> None:
    screen = Console(stderr=True, width=180)
    names = (
        "ndcg@10",
        "diversity@10",
        "diversity@10/text",
        "diversity@10/vectors",
        "novelty@10",
        "tail@10",
        "coverage",
        "gini",
        "ms",
        "ms p99",
    )
    table = Table("method", "weight", *names)
    for row in record.rows:
        cells = []
        for name in names:
            value = row["metrics"].get(name)
            value = value[0] if isinstance(value, list) else value
            cells.append("" if value is None else f"{value:.3f}")
        table.add_row(row["method"], f"{record.notes['weights'].get(row['method'], '')}", *cells)
    screen.print(table)
    for one in record.notes["differences"]:
        if one["metric"] == "ndcg@10" or one["metric"].startswith("diversity@10"):
            value, low, high = (100 * number for number in one["relative"])
            screen.print(f"{one['ours']:28} {one['metric']:20} {value:+7.2f} %  [{low:+.2f}, {high:+.2f}]")


if __name__ == "__main__":
    main()
