"""The jobs of the MovieLens-100K benchmark beyond leave-one-out: temporal split, cold items, re-ranking by stars."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.among import cold_and_warm
from benchmarks.record import plain
from indexing.build import build_index
from indexing.hits import Hits
from indexing.index import ItemIndex
from towers.catalog import Catalog
from towers.embed import VectorCache
from towers.interactions import Interactions, Positive
from towers.model import TwoTower
from training.config import Recipe
from training.measuring.comparison import DEPTH, Comparison, add_baselines, split_log
from training.measuring.metrics import bootstrap, graded_ndcg, matches, paired_difference
from training.measuring.splits import Split
from training.ranker import IndexRanker
from training.report import Report
from training.trainer import fit_split

STARS = 4  # ratings in [0, 1] times this, plus 1, are stars
GRADED = "graded-ndcg@10"

Rows = list[dict[str, Any]]


def run_protocol(
    protocol: str, catalog: Catalog, log: Interactions, recipe: Recipe, seed: int
) -> tuple[Rows, Rows, dict[str, Any]]:
    """Baselines and our model under one protocol.

    Returns:
        Rows, paired differences, and notes for the record.
    """
    _, split = split_log(protocol, log.known(catalog), catalog, Positive())
    comparison = Comparison(split, protocol, len(catalog))
    model, report = fit_split(catalog, split, recipe, progress=False)
    content = None
    if split.cold is not None:
        content = VectorCache().embed(model.encoder, catalog.texts(model.template)).vectors.numpy()
    add_baselines(comparison, content=content)
    index = build_index(model, catalog, progress=False)
    without = IndexRanker(model, index, catalog)
    if report.level is not None:
        comparison.add("twotower-no-level", _without_level(model, index, catalog, split, report), seed=seed)
    ranker = IndexRanker(model, index, catalog, log=split.refit, depth=DEPTH)
    comparison.add("twotower-no-trend", without, seed=seed)
    comparison.add("twotower-retrieval", IndexRanker(model, index, catalog, log=split.refit), seed=seed)
    comparison.add("twotower", ranker, seed=seed)
    rows, differences = comparison.rows, comparison.differences(seed)
    if split.cold is not None:
        found = cold_and_warm(model, catalog, split, split.cold)
        metrics = {name: plain(bootstrap(values)) for name, values in found.items()}
        rows.append(
            {"method": "twotower", "split": f"cold-items-among-{split.cold.sum()}", "seed": seed, "metrics": metrics}
        )
        more, compared = _by_stars(model, ranker, catalog, split, seed)
        rows, differences = rows + more, differences + compared
    notes = {name: getattr(report, name) for name in ("best_epochs", "fusion", "trend", "level", "reranking")}
    return rows, differences, {**comparison.notes, **notes, "recipe": recipe.model_dump(mode="json")}


def _without_level(model: TwoTower, index: ItemIndex, catalog: Catalog, split: Split, report: Report) -> IndexRanker:
    """New items stand where they come: what their level costs the others."""
    chosen = float(model.level), float(model.trend_weight)
    model.level.fill_(0)
    model.trend_weight.fill_(report.trend["weight"] if report.trend is not None else 0)
    ranker = IndexRanker(model, index, catalog, log=split.refit)
    model.level.fill_(chosen[0])
    model.trend_weight.fill_(chosen[1])
    return ranker


def _by_stars(model: TwoTower, ranker: IndexRanker, catalog: Catalog, split: Split, seed: int) -> tuple[Rows, Rows]:
    """NDCG@10 with stars as gains: of the films that a person rated, and of all films, with and without the head."""
    questions = split.test
    gains = 1 + STARS * questions.targets.ratings.astype(np.float64)
    retrieved = ranker.retrieve(questions.histories, DEPTH)
    lists = {
        "reranking-end-to-end": retrieved,
        "reranking-rated-films": _rated(ranker, questions.targets, questions.histories, catalog),
    }
    rows, differences = [], []
    for name, hits in lists.items():
        order = {"twotower-retrieval": hits, "twotower": ranker.rerank(hits, questions.histories)}
        values = {method: graded_ndcg(one.rows, questions.targets, gains, 10) for method, one in order.items()}
        for method, value in values.items():
            metrics = {GRADED: plain(bootstrap(value)), "weight": float(model.rating.weight)}
            rows.append({"method": method, "split": name, "seed": seed, "metrics": metrics})
        difference = paired_difference(values["twotower"], values["twotower-retrieval"])
        names = {"metric": GRADED, "split": name, "seed": seed, "ours": "twotower", "theirs": "twotower-retrieval"}
        differences.append({**names, "difference": plain(difference)})
    return rows, differences


def _rated(ranker: IndexRanker, targets: Any, histories: Any, catalog: Catalog) -> Hits:
    """Each person's rated films in the order of retrieval."""
    everything = ranker.retrieve(histories, len(catalog))
    wanted = matches(everything.rows, targets)
    order = np.argsort(~wanted, axis=1, kind="stable")[:, : max(10, int(targets.lengths.max()))]
    rows = np.where(np.take_along_axis(wanted, order, axis=1), np.take_along_axis(everything.rows, order, axis=1), -1)
    scores = np.where(rows < 0, -np.inf, np.take_along_axis(everything.scores, order, axis=1)).astype(np.float32)
    return Hits(rows, scores)
