"""Any sequence of changes, publications, roll-backs and reopenings, against a dictionary."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from indexing.exact import exact_search
from indexing.index import ItemIndex
from indexing.vectors import similarity, unit
from indexing.writer import IndexWriter

POOL = [f"i{n}" for n in range(40)]
START = 24
SOME = st.lists(st.sampled_from(POOL), min_size=1, max_size=8, unique=True)
SEEDS = st.integers(0, 2**20)


class Life(RuleBasedStateMachine):
    """A writer, a reader, and what they should hold."""

    @initialize(kind=st.sampled_from(["Flat", "HNSW8", "IVF4,Flat", "IVF4,PQ4x4,RFlat"]))
    def begin(self, kind: str) -> None:
        self.scratch = tempfile.TemporaryDirectory()
        self.folder = Path(self.scratch.name) / "index"
        vectors = self.draw(START, 0)
        ItemIndex.from_arrays(POOL[:START], vectors, {"number": range(START)}, kind=kind).save(self.folder)
        self.now = dict(zip(POOL, zip(vectors, range(START), strict=True), strict=False))
        self.published = {"000001": dict(self.now)}
        self.writer, self.reader = IndexWriter(self.folder), ItemIndex.load(self.folder)

    @staticmethod
    def draw(count: int, seed: int) -> np.ndarray:
        return unit(np.random.default_rng(seed).normal(size=(count, 8)))

    @rule(ids=SOME, seed=SEEDS)
    def upsert(self, ids: list[str], seed: int) -> None:
        vectors = self.draw(len(ids), seed)
        self.writer.upsert(ids, vectors, {"number": range(len(ids))})
        self.now |= dict(zip(ids, zip(vectors, range(len(ids)), strict=False), strict=False))

    @rule(ids=SOME)
    def remove(self, ids: list[str]) -> None:
        there = [one for one in ids if one in self.now]
        if there:
            self.writer.remove(there)
            self.now = {one: what for one, what in self.now.items() if one not in there}

    @rule()
    def compact(self) -> None:
        self.writer.compact()

    @rule()
    def publish(self) -> None:
        self.published[self.writer.publish()] = dict(self.now)

    @rule()
    def refresh(self) -> None:
        self.reader = self.reader.refresh()
        self.agrees(self.reader, self.published[str(self.reader.version)])

    @rule()
    def reopen(self) -> None:
        self.writer.close()
        self.writer = IndexWriter(self.folder)

    @precondition(lambda self: len(self.published) > 1)
    @rule()
    def rollback(self) -> None:
        there = sorted(path.name for path in (self.folder / "versions").iterdir())
        self.now = dict(self.published[self.writer.rollback(there[-2], discard=True)])

    @rule(seed=SEEDS, k=st.integers(1, 50))
    def search(self, seed: int, k: int) -> None:
        index, queries = self.writer.index, self.draw(3, seed)
        self.agrees(index, self.now)
        hits, exact = index.search(queries, k), exact_search(queries, index.vectors, k)
        assert ((hits.rows >= 0).sum(axis=1) == min(k, len(self.now))).all()
        for query in range(3):
            found = hits.rows[query][hits.rows[query] >= 0]
            scores = similarity(queries, index.vectors, np.full(len(found), query), found)
            np.testing.assert_array_equal(scores, hits.scores[query][: len(found)])
        if index.kind == "Flat":
            np.testing.assert_array_equal(hits.rows, exact.rows)

    @invariant()
    def counts(self) -> None:
        assert len(self.writer) == len(self.now)

    @staticmethod
    def agrees(index: ItemIndex, plain: dict[str, tuple[np.ndarray, int]]) -> None:
        assert set(index.ids.to_list()) == set(plain)
        for item in index:
            vector, number = plain[str(item.id)]
            np.testing.assert_array_equal(item.vector, vector)
            assert item.attributes == {"number": number}

    def teardown(self) -> None:
        self.agrees(self.writer.index, self.now)
        self.writer.close()
        self.scratch.cleanup()


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=12, stateful_step_count=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
