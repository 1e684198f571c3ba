"""python -m benchmarks.lifecycle [--operations 25500] [--save]

The life of an index against a model in plain Python: random upserts, removals, searches, compactions, publications,
refreshes, roll-backs and reopenings on four kinds, while the vectors that come in move away from those that FAISS was
trained on. What is live, its attributes, and every score must agree; on Flat the ids, too. Elsewhere recall@10 is set
against an index of the same kind that was built afresh from the same items. The same in an embedded Milvus, where there
is nothing to publish, compact or roll back to, with a fifth of the operations, as each takes longer.

Then what tombstones cost, by their share, which is what `indexing.changes.DEAD_SHARE` goes by.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.living import Plain, World
from benchmarks.pool import side_by_side
from benchmarks.record import Record, protocol
from indexing.changes import changed
from indexing.exact import exact_search
from indexing.index import ItemIndex
from indexing.journal import Change
from indexing.milvus import MilvusIndex
from indexing.milvus_writer import MilvusWriter
from indexing.store import Index
from indexing.vectors import similarity
from indexing.writer import IndexWriter
from towers.ids import as_id_array

KINDS = {"Flat": "Flat", "HNSW": "HNSW32", "IVF-Flat": "IVF16,Flat", "IVF-PQ, refined": "IVF16,PQ16x4,RFlat"}
MILVUS = {"Milvus, FLAT": "FLAT", "Milvus, HNSW": "HNSW"}
ITEMS, POOL, BATCH, K, QUERIES = 1500, 2500, 60, 10, 500
STEPS = {
    "upsert": 40,
    "remove": 20,
    "search": 25,
    "compact": 0.5,
    "publish": 5,
    "refresh": 5,
    "rollback": 1,
    "reopen": 4,
}
MILVUS_STEPS = {"upsert": 40, "remove": 20, "search": 30, "reopen": 5}
SHARES = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7)
WEAR_ITEMS = 10_000
MEASURED = 0.3  # share of publications and compactions at which recall is set against a new index


@dataclass(frozen=True)
class Job:
    """One life.

    Args:
        name, kind: as people and FAISS call the kind.
        operations: how many, an item put or removed and a query asked counting one each.
        seed: of all that is drawn.
    """

    name: str
    kind: str
    operations: int
    seed: int = 0


class Life:
    """An index on disk with its writer and a reader, and what they should hold."""

    steps: Mapping[str, float] = STEPS
    writer: Any
    reader: Any

    def __init__(self, folder: Path, job: Job) -> None:
        self.world, self.kind = World(job.seed), job.kind
        self.exact = job.kind in ("Flat", "FLAT")
        self.rng = self.world.rng
        self.now = Plain()
        self.counts = dict.fromkeys(self.steps, 0)
        self.found: list[str] = []
        self.gaps: list[float] = []
        ids = [f"i{n}" for n in range(ITEMS)]
        vectors = self.world.draw(ITEMS)
        self.now.put(ids, vectors, list(range(ITEMS)))
        self.folder = folder
        self._begin(ids, vectors)

    def _begin(self, ids: list[str], vectors: np.ndarray) -> None:
        folder = self.folder
        ItemIndex.from_arrays(ids, vectors, {"number": range(ITEMS)}, kind=self.kind).save(folder)
        self.reader = ItemIndex.load(folder)
        self.writer = IndexWriter(folder)
        self.published = {self.writer.version: self.now.copy()}
        self.read = self.writer.version

    def close(self) -> None:
        """The end, after which the folder may go."""
        self.writer.close()

    def step(self) -> None:
        """Something happens, and is looked at."""
        weights = np.array(list(self.steps.values()))
        name = str(self.rng.choice(list(self.steps), p=weights / weights.sum()))
        self.counts[name] += getattr(self, f"_{name}")()

    def _upsert(self) -> int:
        ids = self._some(POOL, [f"i{n}" for n in range(POOL)])
        vectors, numbers = self.world.draw(len(ids)), self.rng.integers(1000, size=len(ids)).tolist()
        self.now.put(ids, vectors, numbers)
        self.writer.upsert(ids, vectors, {"number": numbers})
        return len(ids)

    def _remove(self) -> int:
        ids = self._some(len(self.now.items), list(self.now.items))
        self.now.remove(ids)
        self.writer.remove(ids)
        return len(ids)

    def _search(self) -> int:
        queries = self.world.draw(int(self.rng.integers(1, BATCH)))
        self._compare(self.writer.index, self.now, queries)
        return len(queries)

    def _compact(self) -> int:
        self.writer.compact()
        self.found += self.now.differences(self.writer.index)
        self._fall_behind(self.writer.index)
        return 1

    def _publish(self) -> int:
        self._fall_behind(self.writer.index)
        version = self.writer.publish()
        self.published[version] = self.now.copy()
        return 1

    def _refresh(self) -> int:
        self.reader = self.reader.refresh()
        assert self.reader.version is not None
        self.read = self.reader.version
        self.found += self.published[self.read].differences(self.reader)
        self._compare(self.reader, self.published[self.read], self.world.draw(5))
        return 1

    def _rollback(self) -> int:
        there = sorted(path.name for path in (self.folder / "versions").iterdir())
        version = self.writer.rollback(str(self.rng.choice(there[-2:])), discard=True)
        self.now = self.published[version].copy()
        self.found += self.now.differences(self.writer.index)
        return 1

    def _reopen(self) -> int:
        self.writer.close()
        self.writer = IndexWriter(self.folder)
        if len(self.writer) != len(self.now.items):
            self.found.append(f"{len(self.writer)} items after reopening, expected {len(self.now.items)}")
        self.found += self.now.differences(self.writer.index)
        return 1

    def _some(self, count: int, ids: list[str]) -> list[str]:
        size = int(self.rng.integers(1, min(BATCH, count)))
        return [ids[place] for place in self.rng.choice(count, size, replace=False)]

    def _compare(self, index: Index, plain: Plain, queries: np.ndarray) -> None:
        """Every hit must be an item of the model with its score; on Flat, the best ones."""
        ids = list(plain.items)
        vectors = np.stack([plain.items[one][0] for one in ids])
        row_of = {one: row for row, one in enumerate(ids)}
        hits = index.search(queries, K)
        for query, (rows, scores) in enumerate(zip(hits.rows, hits.scores, strict=True)):
            named = index.ids.take(rows)
            if len(set(named)) < K or not set(named) <= row_of.keys():
                self.found.append(f"a search gave {named}")
                continue
            mine = np.array([row_of[str(one)] for one in named])
            true = similarity(queries, vectors, np.full(K, query), mine)
            if not np.array_equal(true, scores):
                self.found.append("a search gave wrong scores")
            if self.exact:
                every = similarity(queries, vectors, np.full(len(ids), query), np.arange(len(ids)))
                if {ids[row] for row in np.argsort(-every, kind="stable")[:K]} != set(named):
                    self.found.append("a search on Flat gave other items than the nearest")

    def _fall_behind(self, index: ItemIndex) -> None:
        """How much higher recall is in an index that was built afresh."""
        if not self.exact and self.rng.random() < MEASURED:
            queries = self.world.draw(QUERIES)
            fresh = ItemIndex.from_arrays(index.ids, index.vectors, kind=index.kind, search=index.parameters)
            self.gaps.append(fresh.recall(queries, K) - index.recall(queries, K))


class LifeInMilvus(Life):
    """The same in an embedded Milvus."""

    steps = MILVUS_STEPS

    def _begin(self, ids: list[str], vectors: np.ndarray) -> None:
        self.reader = MilvusIndex.build(self.folder, ids, vectors, {"number": range(ITEMS)}, kind=self.kind)
        self.writer = MilvusWriter(self.folder)

    def close(self) -> None:
        self.writer.close()
        self.reader.close()

    def _search(self) -> int:
        self.reader = self.reader.refresh()
        queries = self.world.draw(int(self.rng.integers(1, BATCH)))
        self._compare(self.reader, self.now, queries)
        return len(queries)

    def _reopen(self) -> int:
        self.writer.close()
        self.reader.close()
        self.writer, self.reader = MilvusWriter(self.folder), MilvusIndex.open(self.folder)
        if len(self.writer) != len(self.now.items):
            self.found.append(f"{len(self.writer)} items after reopening, expected {len(self.now.items)}")
        self.found += self.now.differences(self.reader)
        if not self.exact and self.rng.random() < MEASURED:
            queries, vectors = self.world.draw(QUERIES), self.reader.vectors[np.arange(len(self.reader))]
            with tempfile.TemporaryDirectory() as scratch:
                fresh = MilvusIndex.build(f"{scratch}/fresh.db", self.reader.ids, vectors, kind=self.kind)
                best = exact_search(queries, vectors, K).scores[:, -1:]
                of = [float((index.search(queries, K).scores >= best).mean()) for index in (fresh, self.reader)]
                fresh.close()
            self.gaps.append(of[0] - of[1])
        return 1


def live(job: Job) -> dict[str, Any]:
    """A row of the record."""
    with tempfile.TemporaryDirectory() as scratch:
        in_milvus = job.name in MILVUS
        life = LifeInMilvus(Path(scratch) / "index.db", job) if in_milvus else Life(Path(scratch) / "index", job)
        while sum(life.counts.values()) < job.operations:
            life.step()
        life.close()
    metrics: dict[str, Any] = {"operations": sum(life.counts.values()), "differences": len(life.found)}
    if life.gaps:
        metrics |= {"recall_lost_at_most": round(max(life.gaps), 4), "recall_lost": round(float(np.mean(life.gaps)), 5)}
    return {
        "method": job.name,
        "split": "generated",
        "seed": job.seed,
        "metrics": metrics,
        "steps": life.counts,
        "found": life.found[:5],
    }


def wear(job: Job) -> list[dict[str, Any]]:
    """Recall and speed of one kind by its share of tombstones, the items being the same and the world at rest."""
    world, rows = World(job.seed, speed=0.0), []
    before, after, queries = world.draw(4 * WEAR_ITEMS), world.draw(WEAR_ITEMS), world.draw(QUERIES)
    for share in SHARES:
        dead = round(WEAR_ITEMS * share / (1 - share))
        ids = [f"i{n}" for n in range(WEAR_ITEMS)]
        old = min(dead, WEAR_ITEMS)  # items that get another vector; if there are more, the rest is removed
        start = np.concatenate([before[:old], after[old:], before[WEAR_ITEMS : WEAR_ITEMS + dead - old]])
        index = ItemIndex.from_arrays([*ids, *(f"gone{n}" for n in range(dead - old))], start, kind=job.kind)
        changes = [Change(as_id_array(ids[:old]), after[:old])] if old else []
        if dead > old:
            changes.append(Change(as_id_array([f"gone{n}" for n in range(dead - old)])))
        index = changed(index, changes)
        taken = []
        for query in queries:
            began = time.perf_counter()
            index.search(query[None], K)
            taken.append(time.perf_counter() - began)
        metrics = {
            "tombstones": share,
            "recall@10": round(index.recall(queries, K), 4),
            "ms": round(1000 * float(np.median(taken)), 3),
        }
        rows.append({"method": f"{job.name}, {share:.0%} tombstones", "split": "wear", "seed": 0, "metrics": metrics})
    return rows


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--operations", type=int, default=25_500, help="of each kind of FAISS")
    parser.add_argument("--save", action="store_true", help="keep the record in benchmarks/results")
    parser.add_argument("--only", nargs="*", choices=[*KINDS, *MILVUS], help="these kinds; default: all")
    options = parser.parse_args()
    record = Record("lifecycle")
    kinds = {name: kind for name, kind in (MILVUS | KINDS).items() if not options.only or name in options.only}
    jobs = {
        name: Job(name, kind, options.operations // (5 if name in MILVUS else 1))
        for name, kind in reversed(kinds.items())
    }
    record.rows = list(side_by_side(live, jobs))
    worn = {f"wear of {name}": job for name, job in jobs.items() if name not in ("Flat", *MILVUS)}
    for rows in side_by_side(wear, worn):
        record.rows += rows
    table = Table("", "operations", "differences", "recall lost, at most", "recall@10", "ms a query")
    for row in record.rows:
        of = row["metrics"].get
        table.add_row(
            row["method"], *(str(of(name, "")) for name in ("operations", "differences", "recall_lost_at_most")),
            *(str(of(name, "")) for name in ("recall@10", "ms")),
        )  # fmt: skip
    Console(stderr=True).print(table)
    record.notes = {"protocol": protocol(__doc__), "steps": STEPS, "items": ITEMS}
    record.finish(save=options.save)


if __name__ == "__main__":
    main()
