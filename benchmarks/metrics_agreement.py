"""python -m benchmarks.metrics_agreement [--save]

Do our metrics say what a public library says? The largest absolute difference from ranx, person by person, over 10,000
random rankings: short and empty lists, tied scores, graded answers, people without any. Needs `pip install ranx`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.metadata import version

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.record import Record
from indexing.hits import Hits
from towers.history import Histories
from training.measuring.metrics import graded_ndcg, matches, ndcg, recall, reciprocal_rank

RANKINGS, ITEMS, DEPTH = 10_000, 100, 50
LENGTHS = (1, 5, 10, 20, 50)

Metric = Callable[[np.ndarray, Histories, np.ndarray, int], np.ndarray]
METRICS: dict[str, tuple[str, Metric]] = {
    "recall": ("recall", lambda rows, targets, _, k: recall(matches(rows, targets), targets.lengths, k)),
    "ndcg": ("ndcg", lambda rows, targets, _, k: ndcg(matches(rows, targets), targets.lengths, k)),
    "mrr": ("mrr", lambda rows, targets, _, k: reciprocal_rank(matches(rows, targets), targets.lengths, k)),
    "graded-ndcg": ("ndcg", graded_ndcg),
    "graded-ndcg-exponential": (
        "ndcg_burges",
        lambda rows, targets, stars, k: graded_ndcg(rows, targets, 2.0**stars - 1, k),
    ),
}
"""Our name: ranx's name, and ours as a function of rows, targets, stars and k."""


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", action="store_true", help="keep the record in benchmarks/results")
    options = parser.parse_args()
    record = Record("metrics-agreement")
    differences = _differences()
    record.rows.append({"method": "ranx", "split": f"random-{RANKINGS}", "seed": 0, "metrics": differences})
    record.notes["ranx"] = version("ranx")
    table = Table("metric", *(f"@{k}" for k in LENGTHS), title=f"largest difference from ranx, {RANKINGS:,} rankings")
    for name in METRICS:
        table.add_row(name, *(f"{differences[f'{name}@{k}']:.1e}" for k in LENGTHS))
    Console(stderr=True).print(table)
    record.finish(save=options.save)


def _differences() -> dict[str, float]:
    rows, targets, stars = _rankings()
    known = targets.lengths > 0
    found: dict[str, float] = {}
    for name, (theirs, ours) in METRICS.items():
        gains = stars if name.startswith("graded") else np.ones_like(stars)
        expected = _ranx(rows, targets, gains, theirs)
        for k in LENGTHS:
            values = ours(rows, targets, stars, k)
            assert (np.isnan(values) == ~known).all(), f"{name}@{k} is unknown where it should not be, or the reverse"
            found[f"{name}@{k}"] = float(np.abs(values[known] - expected[k][known]).max())
    return found


def _rankings() -> tuple[np.ndarray, Histories, np.ndarray]:
    """Ranked rows ``(B, K)``, relevant items, and the stars of each of them, 1 to 5."""
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 20, (RANKINGS, ITEMS)).astype(np.float32)
    left = rng.integers(0, ITEMS, (RANKINGS, 1))  # items that have a score, none at all now and then
    scores[np.argsort(rng.random(scores.shape)) >= left] = -np.inf
    relevant = [rng.permutation(ITEMS)[:length].tolist() for length in rng.integers(0, 60, RANKINGS)]
    targets = Histories.of(relevant)
    return Hits.top(scores, DEPTH).rows, targets, rng.integers(1, 6, len(targets.items))


def _ranx(rows: np.ndarray, targets: Histories, gains: np.ndarray, metric: str) -> dict[int, np.ndarray]:
    """What ranx says of each person, by k, 0 where it has no answer or no list; it gets ranks as scores, so no ties."""
    try:
        from ranx import Qrels, Run, evaluate
    except ImportError as error:
        raise SystemExit("error: this compares with ranx, which is not installed: pip install ranx") from error
    answers: dict[str, dict[str, int]] = {}
    for person, item, gain in zip(targets.people, targets.items, gains, strict=True):
        answers.setdefault(str(person), {})[str(item)] = int(gain)
    lists = {str(p): {str(i): float(-n) for n, i in enumerate(row) if i >= 0} for p, row in enumerate(rows)}
    asked = [name for name in answers if lists[name]]
    given = Qrels({name: answers[name] for name in asked}), Run({name: lists[name] for name in asked})
    order = np.array([int(name) for name in given[0].keys()])  # noqa: SIM118, it is no dict
    names = [f"{metric}@{k}" for k in LENGTHS]
    values = evaluate(*given, names, return_mean=False)
    by_k = {}
    for k, name in zip(LENGTHS, names, strict=True):
        by_k[k] = np.zeros(len(rows))
        by_k[k][order] = values[name]
    return by_k


if __name__ == "__main__":
    main()
