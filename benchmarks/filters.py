"""python -m benchmarks.filters [--items 20000] [--dimension 64] [--save]

Where does it pay to scan what passes a filter, and where to ask FAISS for so many rows that enough of them pass? Both
ways are tried at each selectivity from a single item to all, on the same filters, in turn, in one thread by processor
time. Filters let items pass by chance, or whole clouds of them, as a genre does.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from unittest.mock import patch

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from benchmarks.ann_data import mixture
from benchmarks.record import Record
from indexing import nearest
from indexing.approximate import library, square_root
from indexing.exact import exact_search
from indexing.index import ItemIndex

K, QUERIES, ROUNDS = 10, 25, 3
SHARES = (0.0, 0.001, 0.003, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
SCAN, SEARCH = True, False  # what `scan_pays` says
SPREADS = ("by chance", "in clouds")


def passing(vectors: np.ndarray, share: float, spread: str) -> np.ndarray:
    """bool ``(N,)`` which items pass, at least one."""
    generator = np.random.default_rng(0)
    rank = generator.random(len(vectors))
    if spread == "in clouds":
        rank = -(vectors @ vectors[generator.integers(len(vectors))])
    return rank <= np.partition(rank, place := max(0, round(share * len(vectors)) - 1))[place]


def compare(index: ItemIndex, queries: np.ndarray, share: float, spread: str) -> dict[str, float]:
    """Microseconds a query alone in both ways, and the share of the k nearest among the passing that each finds."""
    mask = passing(index.vectors, share, spread)
    attributes = pa.table({"passes": mask})
    filtered = ItemIndex(
        ids=index.ids, vectors=index.vectors, kind=index.kind, space="", faiss=index.faiss, attributes=attributes
    )
    rows = np.flatnonzero(mask)
    truth = exact_search(queries, index.vectors[rows], K).scores
    times: dict[bool, list[float]] = {SCAN: [], SEARCH: []}
    recall = {}
    for number in range(ROUNDS):
        for way in (SCAN, SEARCH)[:: 1 if number % 2 else -1]:
            with patch.object(nearest, "scan_pays", return_value=way):
                started = time.process_time()
                hits = [filtered.search(query[None], K, where={"passes": True}) for query in queries]
                times[way].append(1e6 * (time.process_time() - started) / len(queries))
            scores = np.concatenate([one.scores for one in hits])
            recall[way] = float(((scores >= truth[:, [min(K, len(rows)) - 1]]) & np.isfinite(scores)).mean())
    return {
        "scan µs": round(float(np.median(times[SCAN])), 1),
        "search µs": round(float(np.median(times[SEARCH])), 1),
        "search/scan": round(float(np.median(np.divide(times[SEARCH], times[SCAN]))), 3),
        "recall@10": round(recall[SEARCH] * K / min(K, len(rows)), 4),
    }


def crossing(shares: Iterable[float], ratios: Iterable[float]) -> float:
    """The share from which on searching is never slower than scanning."""
    best = 1.0
    for share, ratio in sorted(zip(shares, ratios, strict=True), reverse=True):
        if ratio > 1:
            break
        best = share
    return best


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--save", action="store_true", help="keep the record in benchmarks/results")
    options = parser.parse_args()
    library().omp_set_num_threads(1)
    record, screen = Record("filters"), Console(stderr=True, width=120)
    data = mixture(options.items, options.dimension, QUERIES)
    lists = square_root(options.items)
    kinds = ["Flat", "HNSW32", f"IVF{lists},Flat", f"IVF{2 * lists},PQ{options.dimension}x4fsr,RFlat"]
    table = Table("kind", "passing", "share", "scan µs", "search µs", "search/scan", "recall@10")
    switch = {}
    for kind in kinds:
        index = ItemIndex.from_arrays(range(len(data.vectors)), data.vectors, kind=kind)
        for spread in SPREADS:
            found = {share: compare(index, data.queries, share, spread) for share in SHARES}
            for share, metrics in found.items():
                record.rows.append({"method": kind, "split": f"{spread}, {share:g}", "seed": 0, "metrics": metrics})
                table.add_row(kind, spread, f"{share:g}", *(f"{value:g}" for value in metrics.values()))
            switch[f"{kind}, {spread}"] = crossing(found, (one["search/scan"] for one in found.values()))
    screen.print(table)
    screen.print(switch)
    record.notes = {
        "searching is never slower from this share on": switch,
        "constants": {
            name: getattr(nearest, name) for name in ("SCAN_PASSING", "SCAN_PASSING_AT", "SPARE", "SPARE_ROWS")
        },
        "items": options.items,
        "measured": "one query at a time, processor time of one thread, the filter's own evaluation included in both",
    }
    record.finish(save=options.save)


if __name__ == "__main__":
    main()
