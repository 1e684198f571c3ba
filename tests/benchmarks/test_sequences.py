"""The benchmarks on published sequences: what training and peers may see, and that a stopped run goes on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from benchmarks import amazon_beauty, kept, ml_1m, ml_1m_sets, sequences
from benchmarks.sequences import Job, Task, ask_peer, read_split, run_job
from towers.catalog import Catalog
from towers.errors import InputError
from towers.interactions import Interactions

PEOPLE, ITEMS = 12, 20
PEER = """
import csv, sys
rows = list(csv.DictReader(open(sys.argv[1])))
with open(sys.argv[2], "w") as out:
    print("user_id,item_id,rank", file=out)
    for person in sorted({row["user_id"] for row in rows}):
        print(f"{person},i{int(person[1:]) + 3},1\\n{person},i19,2", file=out)
"""


def events() -> pl.DataFrame:
    """Person n goes from item n to n + 3; the last is the test, the one before validation."""
    words = ["train", "train", "validation", "test"]
    rows = [(f"u{n}", f"i{n + step}", step, words[step]) for n in range(PEOPLE) for step in range(4)]
    return pl.DataFrame(rows, schema=["user_id", "item_id", "position", "split"], orient="row")


@pytest.fixture
def task(tiny_bert: Path) -> Task:
    def read(_: Path) -> tuple[Catalog, Interactions]:
        catalog = pl.DataFrame(
            {"item_id": [f"i{n}" for n in range(ITEMS)], "title": [f"piano {n}" for n in range(ITEMS)]}
        )
        return Catalog.read(catalog), Interactions.read(events())

    recipe = {
        "text": {"source": str(tiny_bert)},
        "item": {"dimension": 16, "hidden": 16},
        "user": {"text": False, "sequence": {"blocks": 1}},
        "train": {"epochs": 2},
    }
    return Task("small", "small", read, {"twotower": recipe}, {"peer": {"model": "esasrec"}}, {})


def test_nothing_is_refitted_and_the_test_sees_the_validation_event(task: Task, tmp_path: Path) -> None:
    catalog, _, split = read_split(task, tmp_path)
    assert split.refit is split.train
    assert np.bincount(split.train.people).tolist() == [2] * PEOPLE
    assert split.test.histories.lengths.tolist() == [3] * PEOPLE
    assert sorted(catalog.ids.take(split.test.targets.items)) == sorted(f"i{n + 3}" for n in range(PEOPLE))


def test_a_peer_gets_no_target_and_its_lists_are_scored(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hits the target of everybody at the first place."""
    script = tmp_path / "peer.py"
    script.write_text(PEER)
    monkeypatch.setattr(sequences, "PEER", script)
    written: list[pl.DataFrame] = []
    write = pl.DataFrame.write_csv
    monkeypatch.setattr(pl.DataFrame, "write_csv", lambda self, path: written.append(self) or write(self, path))
    catalog, users, split = read_split(task, tmp_path)
    job = Job(task, "peer", 0, tmp_path, tmp_path / "out", Path(sys.executable))
    found = ask_peer(job, catalog, users, split, np.ones(ITEMS, np.int64)).results["peer"]
    assert found.metrics["recall@10"][0] == found.metrics["ndcg@10"][0] == 1.0
    seen = written[0].join(events(), on=["user_id", "item_id"], suffix="_then")
    last = seen["position"] == 2
    assert set(seen.filter(~last)["split"]) == {"train"}
    assert set(seen.filter(last)["split"]) == {"validation"}
    assert seen["position"].to_list() == seen["position_then"].to_list()
    assert len(seen) == PEOPLE * 3


def test_what_was_trained_is_kept_and_belongs_to_its_recipe(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path / "cache"))
    job = Job(task, "twotower", 0, tmp_path, tmp_path / "out", None)
    first = run_job(job)
    monkeypatch.setattr(kept, "fit_split", None)  # calling it would be a TypeError
    again = run_job(job)
    assert first.results["twotower"].metrics == again.results["twotower"].metrics
    other: dict[str, Any] = {**task.recipes["twotower"], "train": {"epochs": 3}}
    changed = Task(task.name, task.folder, task.read, {"twotower": other}, {}, {})
    with pytest.raises(InputError, match="was trained by another recipe"):
        run_job(Job(changed, "twotower", 0, tmp_path, tmp_path / "out", None))


def test_the_published_files(data_dir: Path) -> None:
    """People, items and questions as the papers count them."""
    catalog, _, split = read_split(amazon_beauty.TASK, data_dir)
    assert (len(catalog), len(split.test), len(split.log.items)) == (12_101, 22_363, 198_502)
    catalog, _, split = read_split(ml_1m.TASK, data_dir)
    assert (len(catalog), len(split.test), len(split.log.items)) == (3_416, 6_040, 999_601)
    assert len(split.validation) == 6_030


def test_a_tenth_of_what_trains_validates_and_is_refitted_with(data_dir: Path) -> None:
    _, _, split = read_split(ml_1m_sets.TASK, data_dir)
    assert len(split.refit.items) == 801_218
    assert len(split.test.targets.items) == 197_321
    tenth = np.floor(split.refit.lengths * 0.1)
    np.testing.assert_array_equal(split.validation.targets.lengths, tenth[split.validation.people])
    assert len(split.train.items) == 801_218 - tenth.sum()
    places = split.refit.items[split.refit.offsets[:-1]]  # the file's order tells nothing of what was drawn
    assert np.isin(places, split.validation.targets.items).mean() > 0.05
