"""python -m benchmarks.query_side [--out DIR] [--save]

What asking costs: the user tower in torch, in ONNX and in ONNX rounded to int8, one person at a time on one thread, in
turns; how far the queries move, and what that does to Recall@20 on MovieLens-100K, leave-one-out, with a model that was
trained for a few epochs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.movielens_jobs import TEMPLATE
from benchmarks.record import Record, plain
from indexing.build import build_index
from indexing.excluded import Excluded
from indexing.index import ItemIndex
from serving.export import export_query
from serving.query import THREADS, QueryTower
from towers.catalog import Catalog
from towers.history import Histories
from towers.interactions import Positive
from towers.model import TwoTower
from towers.movielens import movielens_100k
from training.config import Recipe
from training.measuring.comparison import DEPTH, split_log
from training.measuring.evaluate import Result, score
from training.measuring.metrics import bootstrap, paired_difference
from training.measuring.splits import Questions
from training.trainer import fit_split

RECIPE = {"item": {"template": TEMPLATE}, "train": {"epochs": 12, "evaluate_every": 4, "text_epochs": 1}}
TORCH, METHODS = "torch float32", ("torch float32", "onnx float32", "onnx int8")
PERSON, SEQUENCE, SENTENCE = "person", "sequence alone", "sentence"
WARM_UP, SENTENCES = 20, 500
PAUSE = 0.005  # seconds before each person, as requests come

Ask = Callable[[Histories, Sequence[str | None]], np.ndarray]  # one person and a sentence or none to the query


def main() -> None:
    """Run the benchmark."""
    options = _options()
    record = Record("query-side")
    torch.set_num_threads(THREADS)
    catalog, log = movielens_100k()
    _, split = split_log("leave-one-out", log.known(catalog), catalog, Positive())
    if not (options.out / "model" / "manifest.json").exists():
        fit_split(catalog, split, Recipe.read(RECIPE), out=options.out / "model")
    model = TwoTower.load(options.out / "model")
    index = build_index(model, catalog)
    asked, sizes = ways(model, index, catalog, options.out), {}
    for method in METHODS[1:]:
        sizes[method] = sum(one.stat().st_size for one in (options.out / method).glob("*.onnx"))
    people, sentences = split.test.histories, _sentences(catalog)
    seconds, queries = {}, {}
    for name, (histories, texts) in {
        PERSON: (people, [None] * len(people)),
        SEQUENCE: (people, [None] * len(people)),
        SENTENCE: (Histories.of([[]] * len(sentences)), sentences),
    }.items():
        seconds[name], queries[name] = measure(asked[name], histories, texts)
    counts = np.bincount(split.refit.items, minlength=len(catalog))
    results = {
        name: {way: judge(index, catalog, split.test, q, counts) for way, q in queries[name].items()}
        for name in (PERSON, SEQUENCE)
    }
    record.rows = [
        row for name in seconds for row in rows(name, seconds[name], queries[name], index, results.get(name))
    ]
    record.notes = {
        "protocol": f"one person at a time, {THREADS} thread, the three in turns; the {len(people)} people of the "
        f"leave-one-out test, by all that is known of them and by their items alone, and {len(sentences)} titles with "
        "genres as sentences; cosine to the query of torch; ranked by vectors alone, seen items excluded; intervals "
        "of 95 % by bootstrap over people; the model is trained for 12 epochs, its text reader for 1, and not tuned",
        "bytes": sizes,
        "differences": differences(results),
    }
    _show(record)
    record.finish(save=options.save)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/query-side"), help="where the model is kept")
    parser.add_argument("--save", action="store_true", help="keep the record in benchmarks/results")
    return parser.parse_args()


def ways(model: TwoTower, index: ItemIndex, catalog: Catalog, out: Path) -> dict[str, dict[str, Ask]]:
    """How to ask, by what is asked and by method; the graphs are written into `out`."""
    memory = model.memory(catalog, index.vectors[index.ids.rows(catalog.ids.array)])
    blind = replace(memory, text=None)
    found: dict[str, dict[str, Ask]] = {
        PERSON: {TORCH: lambda one, texts: model.encode(one, memory, texts)},
        SEQUENCE: {TORCH: lambda one, texts: model.encode(one, blind, texts)},
    }
    for method in METHODS[1:]:
        export_query(model, out / method, precision="int8" if method.endswith("int8") else "float32")
        tower = QueryTower.load(out / method)
        found[PERSON][method], found[SEQUENCE][method] = _asks(tower, index, catalog)
    return {**found, SENTENCE: found[PERSON]}


def _asks(tower: QueryTower, index: ItemIndex, catalog: Catalog) -> tuple[Ask, Ask]:
    items = tower.beside(index, catalog)
    blind = replace(items, text=None)
    return (lambda one, texts: tower.encode(one, items, texts)), (lambda one, texts: tower.encode(one, blind, texts))


def _sentences(catalog: Catalog) -> list[str]:
    return catalog.texts("{title}[, {genres}]")[:SENTENCES]


def measure(
    asks: Mapping[str, Ask], histories: Histories, texts: Sequence[str | None]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Seconds of each question, and the queries ``(B, D)``, by method."""
    people = range(len(histories))
    for person in people[:WARM_UP]:
        for ask in asks.values():
            ask(histories.take([person]), [texts[person]])
    seconds: dict[str, list[float]] = {method: [] for method in asks}
    queries: dict[str, list[np.ndarray]] = {method: [] for method in asks}
    for person in people:
        one = histories.take([person])
        time.sleep(PAUSE)
        for method, ask in asks.items():
            started = time.perf_counter()
            query = ask(one, [texts[person]])
            seconds[method].append(time.perf_counter() - started)
            queries[method].append(query)
    return {m: np.array(s) for m, s in seconds.items()}, {m: np.concatenate(q) for m, q in queries.items()}


def judge(index: ItemIndex, catalog: Catalog, questions: Questions, queries: np.ndarray, counts: np.ndarray) -> Result:
    """How well queries find what people met next, by their vectors alone."""
    past, to_index = questions.histories, index.ids.rows(catalog.ids.array)
    seen = Excluded(past.people, to_index[past.items])
    hits = index.search(queries, DEPTH, exclude=seen)
    rows = np.where(hits.rows < 0, -1, catalog.rows(index.ids.array)[hits.rows])
    return score(rows, questions, counts=counts, ks=(20,), depth=DEPTH)


def rows(
    name: str,
    seconds: Mapping[str, np.ndarray],
    queries: Mapping[str, np.ndarray],
    index: ItemIndex,
    results: Mapping[str, Result] | None,
) -> list[dict[str, Any]]:
    """One for each method; ``same@20`` is the share of torch's 20 nearest items that are among its own."""
    found = []
    nearest = {method: index.search(query, 20).rows for method, query in queries.items()}
    for method, spent in seconds.items():
        cosines = (queries[method] * queries[TORCH]).sum(1)
        same = [np.isin(*both).mean() for both in zip(nearest[TORCH], nearest[method], strict=True)]
        metrics: dict[str, Any] = {
            "p50 ms": round(1e3 * float(np.quantile(spent, 0.5)), 3),
            "p99 ms": round(1e3 * float(np.quantile(spent, 0.99)), 3),
            "cosine": plain(bootstrap(cosines)),
            "least cosine": round(float(cosines.min()), 6),
            "same@20": plain(bootstrap(np.array(same))),
        }
        if results is not None:
            metrics |= results[method].row(method=method, split=name, seed=0)["metrics"]
        found.append({"method": method, "split": name, "seed": 0, "metrics": metrics})
    return found


def differences(results: Mapping[str, Mapping[str, Result]]) -> list[dict[str, Any]]:
    """Each method less torch, on the same people."""
    return [
        {
            "metric": metric,
            "seed": 0,
            "split": name,
            "ours": method,
            "theirs": TORCH,
            "difference": plain(paired_difference(found[method].per_person[metric], found[TORCH].per_person[metric])),
        }
        for name, found in results.items()
        for method in METHODS[1:]
        for metric in ("recall@20", "ndcg@20")
    ]


def _show(record: Record) -> None:
    screen = Console(stderr=True, width=140)
    table = Table("asked", "method", "p50 ms", "p99 ms", "cosine", "least cosine", "same@20", "recall@20")
    for row in record.rows:
        metrics = row["metrics"]
        recall = metrics.get("recall@20", [np.nan])
        shown = [metrics["p50 ms"], metrics["p99 ms"], metrics["cosine"][0], metrics["least cosine"]]
        shown += [metrics["same@20"][0], recall[0]]
        table.add_row(row["split"], row["method"], *(f"{value:.5g}" for value in shown))
    screen.print(table)
    for entry in record.notes["differences"]:
        value, low, high = entry["difference"]
        screen.print(
            f"{entry['split']:16} {entry['ours']:14} {entry['metric']:10} {value:+.4f}  [{low:+.4f}, {high:+.4f}]"
        )


if __name__ == "__main__":
    main()
