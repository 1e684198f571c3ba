"""python -m benchmarks.interests [--splits SPLIT ...] [--out DIR] [--save]

What several interests of a person earn, and what they cost: MovieLens-100K, the sequence reader alone with 1, 2 and 4
interests. Leave-one-out, and each person's last ten events, where a list can also be held against the genres of what
they liked. One seed; one job after the other, so that what they cost can be compared.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console

from benchmarks.kept import trained
from benchmarks.movielens_jobs import TEMPLATE
from benchmarks.record import Record, plain
from indexing.build import build_index
from indexing.index import ItemIndex
from indexing.interests import search_interests
from towers.catalog import Catalog
from towers.history import Histories
from towers.model import TwoTower
from towers.movielens import movielens_100k
from training.config import Recipe
from training.loop import Run
from training.measuring.comparison import DEPTH
from training.measuring.evaluate import Result, ranked_rows, score
from training.measuring.metrics import bootstrap, paired_difference, subtopic_recall
from training.measuring.protocols import given, leave_one_out
from training.measuring.splits import Split
from training.measuring.table import results_table
from training.ranker import IndexRanker
from training.untrained import new_model

INTERESTS = (1, 2, 4)
LAST_TEN = "last ten"
SPLITS = (LAST_TEN, "leave-one-out")
ASKED, CHOSEN_BY = 10, 5  # events of each person at the end for the test, and before them for validation
EPOCHS = 25  # of the 60 of the recipe that ships
LIKED = 0.75  # four stars
WIDTHS = (5, 10, 20)  # of lists whose genres are counted
COMPARED = ("recall@10", "recall@20", "ndcg@20", "recall@20/tail", "coverage@20", *(f"genres@{k}" for k in WIDTHS))
WARM_UP, STEPS = 2, 8
REPEATS = 5


class Outcome(NamedTuple):
    """What a model found: its figures, and notes."""

    result: Result
    notes: dict[str, Any]


def main() -> None:
    """Run the benchmark."""
    options = _options()
    torch.set_num_threads(1)
    record, screen = Record("interests"), Console(stderr=True, width=180)
    catalog, log = movielens_100k(progress=False)
    _, histories = log.known(catalog).histories(catalog)
    found: dict[str, dict[int, Outcome]] = {}
    for name in options.splits:
        split = last_ten(histories) if name == LAST_TEN else leave_one_out(histories)
        found[name] = {}
        for interests in INTERESTS:
            folder = options.out / f"{name.replace(' ', '-')}-{interests}"
            found[name][interests] = ask(catalog, split, interests, folder)
            screen.print(f"{time.perf_counter() - record.started:6.0f} s  {name}, {_method(interests)}")
    costs = cost(catalog, histories)
    for name, outcomes in found.items():
        for interests, outcome in outcomes.items():
            row = outcome.result.row(method=_method(interests), split=name, seed=0)
            record.rows.append({**row, "metrics": {**row["metrics"], **costs[interests]}})
    record.notes = {
        "protocol": f"the sequence reader alone, {EPOCHS} epochs, chosen on validation data, not refitted; the last "
        f"{ASKED} events of each person, chosen by the {CHOSEN_BY} before, and leave-one-out by time; genres@k is "
        "S-recall, the share of the genres of targets with at least 4 stars that the first k answers have; ranking in "
        "full through the index, seen items excluded; 95 % intervals by bootstrap over people; costs in processor time",
        "differences": _differences(found),
        "jobs": {f"{_method(k)}, {name}": one.notes for name, outcomes in found.items() for k, one in outcomes.items()},
    }
    _show(record, screen)
    record.finish(save=options.save)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", nargs="*", choices=SPLITS, default=list(SPLITS), help="which questions to ask")
    parser.add_argument("--out", type=Path, default=Path("runs") / "interests", help="where models are kept")
    parser.add_argument("--save", action="store_true", help="keep the record in benchmarks/results")
    return parser.parse_args()


def last_ten(histories: Histories) -> Split:
    """Each person's last ten events are the test, the five before them validation; nothing is refitted."""
    left = histories.offsets[1:][histories.people] - np.arange(len(histories.items))  # events from here on
    words = np.where(left <= ASKED, "test", np.where(left <= ASKED + CHOSEN_BY, "validation", "train"))
    split = given(histories, words.tolist())
    return replace(split, refit=split.train)


def recipe_of(interests: int) -> Recipe:
    """As shipped but for the text reader, and a shorter training."""
    user = {"text": False, "interests": interests}
    return Recipe.read({"item": {"template": TEMPLATE}, "user": user, "train": {"epochs": EPOCHS}})


def ask(catalog: Catalog, split: Split, interests: int, folder: Path) -> Outcome:
    """Train, or take what was trained, and ask."""
    recipe = recipe_of(interests)
    model, report = trained(folder, catalog, split, recipe)
    index = build_index(model, catalog, progress=False)
    ranker = IndexRanker(model, index, catalog, log=split.train, together=True)
    rows = ranked_rows(ranker, split.test, DEPTH)
    result = score(rows, split.test, counts=np.bincount(split.train.items, minlength=len(catalog)), depth=DEPTH)
    for k in WIDTHS:
        liked = split.test.targets.keep(split.test.targets.ratings >= LIKED)
        result.per_person[f"genres@{k}"] = values = subtopic_recall(rows, liked, genres(catalog), k)
        result.metrics[f"genres@{k}"] = bootstrap(values)
    queries = model.user.encode_together(split.test.histories, model.memory(catalog, model.embed_items(catalog)))
    notes = {name: report[name] for name in ("best_epochs", "trend", "epochs", "seconds")}
    return Outcome(result, {**notes, **_use(queries, index, catalog.rows(index.ids.array), rows)})


def genres(catalog: Catalog) -> np.ndarray:
    """bool ``(N, G)`` which genres each film has."""
    named = [set((text or "").split(", ")) - {""} for text in catalog.table["genres"].to_pylist()]
    names = sorted(set.union(*named))
    return np.array([[name in own for name in names] for own in named])


def _use(queries: np.ndarray, index: ItemIndex, catalog_rows: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
    """Whether interests differ: which of them is nearest to the first 20 answers, and how alike they are."""
    if queries.ndim == 2:
        return {}
    place = np.empty(len(catalog_rows), np.int64)
    place[catalog_rows] = np.arange(len(catalog_rows))
    shown = index.vectors[place[rows[:, :20]]]  # (B, 20, D)
    nearest = np.einsum("bkd,bnd->bkn", queries, shown).argmax(axis=1)
    cosines = np.einsum("bkd,bjd->bkj", queries, queries)
    others = ~np.eye(queries.shape[1], dtype=bool)
    shares = np.bincount(nearest.ravel(), minlength=len(others)) / nearest.size
    used = np.mean([len(set(row)) for row in nearest.tolist()])
    return {
        "share of the first 20 answers by interest": plain(shares),
        "interests with an answer among them": round(float(used), 3),
        "cosine of two interests of a person": round(float(cosines[:, others].mean()), 3),
    }


def cost(catalog: Catalog, histories: Histories) -> dict[int, dict[str, Any]]:
    """Processor time of a training step, and of finding 100 items for a person, in milliseconds; turn by turn."""
    counts = np.bincount(histories.items, minlength=len(catalog))
    runs: dict[int, Run] = {}
    for interests in INTERESTS:
        recipe = recipe_of(interests)
        model = new_model(catalog, counts, recipe)
        runs[interests] = Run(model, catalog, histories, None, counts, recipe, False)
        runs[interests].step_module.train()
    steps: dict[int, list[float]] = {interests: [] for interests in INTERESTS}
    for _ in range(WARM_UP + STEPS):
        for interests, run in runs.items():
            started = time.process_time()
            run._step(run.feed.order()[: run.config.batch_people])
            steps[interests].append(time.process_time() - started)
    asked = {interests: _query_cost(run.model, catalog, histories) for interests, run in runs.items()}
    return {
        interests: {
            "step_ms": round(1000 * float(np.median(steps[interests][WARM_UP:])), 1),
            "encode_ms": round(1000 * asked[interests][0], 3),
            "search_ms": round(1000 * asked[interests][1], 3),
        }
        for interests in INTERESTS
    }


def _query_cost(model: TwoTower, catalog: Catalog, histories: Histories) -> tuple[float, float]:
    """Seconds to read one person, and to search for them, among a hundred people asked one at a time."""
    model.eval()
    index = build_index(model, catalog, progress=False)
    memory = model.memory(catalog, model.embed_items(catalog))
    people = histories.take(np.arange(100))
    best = [np.inf, np.inf]
    for _ in range(REPEATS):
        started = time.process_time()
        queries = model.encode(people, memory)
        read = time.process_time()
        for query in queries:
            search_interests(index, query[None], 100)
        spent = read - started, time.process_time() - read
        best = [min(pair) for pair in zip(best, spent, strict=True)]
    return best[0] / len(people), best[1] / len(people)


def _method(interests: int) -> str:
    return f"{interests} interest" + ("s" if interests > 1 else "")


def _differences(found: dict[str, dict[int, Outcome]]) -> list[dict[str, Any]]:
    """Several interests less one, on the same people."""
    differences = []
    for name, outcomes in found.items():
        one = outcomes[1].result.per_person
        for interests, outcome in outcomes.items():
            names = {"seed": 0, "split": name, "ours": _method(interests), "theirs": _method(1)}
            for metric in COMPARED if interests > 1 else ():
                if metric in one:
                    difference = paired_difference(outcome.result.per_person[metric], one[metric])
                    differences.append({"metric": metric, **names, "difference": plain(difference)})
    return differences


def _show(record: Record, screen: Console) -> None:
    for name in {row["split"]: None for row in record.rows}:
        rows = [row for row in record.rows if row["split"] == name]
        screen.print(results_table(rows, metrics=(*COMPARED, "gini@20"), title=name))
    for row in record.rows[: len(INTERESTS)]:
        costs = row["metrics"]
        query = f"{costs['encode_ms']:.2f} + {costs['search_ms']:.2f} ms to read and to search for a person"
        screen.print(f"{row['method']:12} {costs['step_ms']:8.1f} ms a step, {query}")
    for entry in record.notes["differences"]:
        value, low, high = entry["difference"]
        name = f"{entry['split']}: {entry['ours']} − {entry['theirs']}"
        screen.print(f"{name:44} {entry['metric']:15} {value:+.4f}  [{low:+.4f}, {high:+.4f}]")


if __name__ == "__main__":
    main()
