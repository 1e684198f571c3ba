"""Tuning chooses by what was measured, for people and not for items, and says what it did."""

from __future__ import annotations

import warnings
from dataclasses import replace

import faiss
import numpy as np
import pyarrow as pa
import pytest

from indexing import approximate
from indexing import tune as tuning
from indexing.changes import changed
from indexing.exact import exact_search
from indexing.index import ItemIndex
from indexing.journal import Change
from indexing.tune import Setting, _choose, _groups, grid, tune
from indexing.vectors import unit
from towers.errors import InputError

COUNT, DIMENSION = 1500, 16
GENERATOR = np.random.default_rng(0)
CENTRES = GENERATOR.normal(size=(40, DIMENSION))
CLOUD = GENERATOR.integers(40, size=COUNT)
ITEMS = unit(CENTRES[CLOUD] + 0.2 * GENERATOR.normal(size=(COUNT, DIMENSION)))
PEOPLE = unit(GENERATOR.normal(size=(150, DIMENSION)))  # between the clouds, where lists have their borders
COUNTS = (2000 / np.sqrt(1 + np.arange(COUNT))).astype(np.int64)


@pytest.fixture(scope="module")
def index():
    attributes = pa.table({"cloud": CLOUD})
    return ItemIndex.from_arrays(range(COUNT), ITEMS, attributes, kind="IVF32,Flat", search="nprobe=1", space="s")


def setting(kind="A", recall=0.9, latency_ms=1.0, size=10.0, **groups):
    return Setting(kind, "", recall, groups, latency_ms, size, 1.0)


@pytest.fixture
def counted(monkeypatch):
    """A clock that says the same on every machine: FAISS's count of the vectors that it compared."""
    monkeypatch.setattr(tuning, "perf_counter", lambda: float(faiss.cvar.indexIVF_stats.ndis))


def test_people_need_more_than_items_and_get_it(index, counted):
    tuned = tune(index, PEOPLE, recall=0.95, kinds=["IVF32,Flat"], counts=COUNTS)
    assert tuned.chosen.recall >= 0.95
    assert tuned.index.recall(PEOPLE, 10) == pytest.approx(tuned.chosen.recall, abs=1e-9)
    assert tuned.on_items["recall of items"] >= 0.95 > tuned.on_items["recall of people"]
    assert tuned.on_items["lost"] == pytest.approx(tuned.chosen.recall - tuned.on_items["recall of people"])
    assert {one.parameters for one in tuned.settings} == {f"nprobe={n}" for n in (1, 2, 4, 8, 16, 32)}
    assert {"head", "torso", "tail"} <= set(tuned.chosen.groups)
    assert tuned.chosen.groups["tail"] >= tuned.chosen.groups["head"] - 0.01
    assert (index.parameters, index.tuned) == ("nprobe=1", {})
    assert tuned.index.attributes.equals(index.attributes)
    assert tuned.index.space == "s"


def test_a_group_with_hardly_any_answers_is_told_of_and_not_measured(index):
    counts = np.where(np.arange(COUNT) == 0, 1, 1000)
    tuned = tune(index, PEOPLE, recall=0.9, kinds=["Flat"], counts=counts)
    assert tuned.index.tuned["too few targets"] == {}  # nothing is cold
    counts[np.bincount(exact_search(PEOPLE[:40], ITEMS, 10).rows.ravel(), minlength=COUNT).argmax()] = 0
    tuned = tune(index, PEOPLE[:40], recall=0.9, kinds=["Flat"], counts=counts)
    seen = int((counts == 0)[exact_search(PEOPLE[:40], ITEMS, 10).rows].sum())
    assert 0 < seen < 20
    assert tuned.index.tuned["too few targets"] == {"cold": seen}
    assert "cold" not in tuned.chosen.groups


def test_the_choice_is_kept_and_poorer_parameters_say_so(index, tmp_path):
    best = tune(index, PEOPLE, recall=1.0, kinds=["IVF32,Flat"]).index
    assert best.tuned["wish"] == {"recall": 1.0}
    assert best.tuned["queries"] == 150
    best.save(tmp_path)
    again = ItemIndex.load(tmp_path)
    assert again.tuned == best.tuned
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again.set_parameters("nprobe=32")
    with pytest.warns(UserWarning, match=r"searches with 'nprobe=1', poorer than 'nprobe=\d+'.* recall of 1\.000"):
        again.set_parameters("nprobe=1")
    again.save(tmp_path)
    with pytest.warns(UserWarning, match="poorer"):
        ItemIndex.load(tmp_path)


def test_limits(index):
    flat = 4 * DIMENSION * COUNT
    small = tune(index, PEOPLE, memory_bytes=flat + 2000, kinds=["Flat", "HNSW32"]).chosen
    assert (small.kind, small.recall) == ("Flat", 1.0)
    assert small.bytes_per_item == pytest.approx(4 * DIMENSION, rel=0.01)
    with pytest.raises(InputError, match=r"nothing lies within the limits.*bytes an item"):
        tune(index, PEOPLE, memory_bytes=1000, kinds=["Flat"])
    with pytest.raises(InputError, match="nothing reaches that recall"):
        tune(index, PEOPLE, recall=1.0, kinds=["PQ2x4"])


def test_a_limit_of_time_is_one_of_queries_alone(index, monkeypatch):
    searched, search = [], ItemIndex.search
    monkeypatch.setattr(ItemIndex, "search", lambda self, q, k: searched.append(len(q)) or search(self, q, k))
    monkeypatch.setattr(tuning, "perf_counter", lambda: float(len(searched)))  # a second a search, however many ask
    together = tune(index, PEOPLE, recall=0.9, kinds=["Flat"])
    assert together.chosen.latency_ms == pytest.approx(1000 / len(PEOPLE))
    assert together.index.tuned["how"] == "against exact search, all queries in one batch, median of 3 rounds"
    assert set(searched) == {len(PEOPLE), 1000}
    with pytest.raises(InputError, match=r"the fastest takes 1e\+03 ms a query"):
        tune(index, PEOPLE, latency_ms=999, kinds=["Flat"])
    alone = tune(index, PEOPLE, latency_ms=1001, kinds=["Flat"])
    assert alone.chosen.latency_ms == 1000
    assert alone.chosen.recall == 1.0
    assert alone.index.tuned["how"] == ("against exact search, the time is the median of 150 queries, each asked alone")


@pytest.mark.parametrize(
    "wish",
    [{"recall": 0}, {"recall": 1.1}, {"recall": "0.9"}, {"recall": True}, {"latency_ms": -1}, {"memory_bytes": 0}],
)
def test_wishes_that_are_none(index, wish):
    with pytest.raises(InputError, match=r"recall must be in \(0, 1\], latency and memory above 0"):
        tune(index, PEOPLE, **wish)
    with pytest.raises(InputError, match="needs people's vectors"):
        tune(index, PEOPLE[:0])
    with pytest.raises(InputError, match="needs kinds to try, got none"):
        tune(index, PEOPLE, kinds=[])


def test_an_index_without_items_has_nothing_to_measure():
    empty = changed(ItemIndex.from_arrays(["a"], PEOPLE[:1].copy()), [Change(pa.array(["a"], pa.large_string()))])
    assert len(empty) == 0
    with pytest.raises(InputError, match="this index has no items, so there is nothing to measure: add some first"):
        tune(empty, PEOPLE)
    with pytest.raises(InputError, match="this index has no items, so there is nothing that a search could find"):
        empty.recall(PEOPLE, 10)


def test_the_fastest_with_enough_recall_or_the_best():
    slow, fast, poor = setting("slow", 0.99, 3.0), setting("fast", 0.96, 1.0), setting("poor", 0.5, 0.1)
    assert _choose([slow, fast, poor], 0.95) is fast
    assert _choose([slow, fast, poor], None) is slow
    assert _choose([poor], 0.95) is None


def test_a_neglected_tail_is_not_chosen():
    unfair = replace(setting("unfair", 0.97, 0.5), groups={"head": 1.0, "tail": 0.98})
    fair = replace(setting("fair", 0.96, 1.0), groups={"head": 0.97, "tail": 0.961})
    assert _choose([unfair, fair], 0.95) is fair
    assert _choose([unfair], 0.95) is None


def test_groups_by_share_of_events():
    groups = _groups(np.array([0, 10, 70, 20, 0]), 5)
    assert {name: np.flatnonzero(rows).tolist() for name, rows in groups.items()} == {
        "head": [2],
        "torso": [3],
        "tail": [0, 1, 4],
        "cold": [0, 4],
    }
    with pytest.raises(InputError, match="counts must be 5 numbers"):
        _groups(np.ones(4), 5)


@pytest.mark.parametrize(
    ("kind", "steps"),
    [
        ("Flat", [""]),
        ("IVF4,Flat", ["nprobe=1", "nprobe=2", "nprobe=4"]),
        ("HNSW8", [f"efSearch={n}" for n in (16, 32, 64, 128, 256, 512)]),
    ],
)
def test_parameters_from_fast_to_thorough(kind, steps):
    assert approximate.ladder(approximate.build(kind, ITEMS)) == steps


def test_poorer_is_less_of_what_was_chosen():
    assert approximate.poorer("nprobe=3", "nprobe=4")
    assert approximate.poorer("nprobe=8,k_factor_rf=2", "k_factor_rf=4,nprobe=4")
    assert not approximate.poorer("nprobe=4", "nprobe=4")
    assert not approximate.poorer("nprobe=1", "")


def test_every_kind_of_the_grid_can_be_built():
    for kind in grid(1500, DIMENSION):
        assert approximate.build(kind, ITEMS).ntotal == COUNT
    assert grid(10, 4) == ["Flat"]
