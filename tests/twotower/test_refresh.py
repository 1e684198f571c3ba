"""Learning again: what came since is learned from, what is worse is refused, one link changes over and back."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from indexing.index import ItemIndex
from serving.retriever import Retriever
from serving.store.event import Event
from serving.store.store import Store
from towers.errors import ArtefactError, InputError
from towers.interactions import Interactions
from towers.model import TwoTower
from training.measuring.metrics import Interval
from twotower import refresh as module
from twotower import releases
from twotower.cli import main
from twotower.refresh import begin, joined, newest, refresh

LATER = 1_000_000.0


@pytest.fixture
def shop(tiny_run: Any, tmp_path: Path) -> Path:
    """A folder of releases whose first is the small world's model."""
    assert begin(tmp_path / "shop", tiny_run.model_folder, tiny_run.catalog, tiny_run.log) == "000001"
    return tmp_path / "shop"


def gathered(store: Store, people: int = 20, at: float = LATER) -> None:
    """Everybody clicks on four further items of their own kind, one after the other."""
    for hour in range(4):
        store.record(
            [
                Event(f"e{hour}", person, f"m{(person % 2 + 2 * (7 * hour + person)) % 40:02}", "click", at + hour)
                for person in range(1, people + 1)
            ]
        )


def test_what_came_since_is_learned_from_and_one_link_changes_over(tiny_run: Any, shop: Path, tmp_path: Path) -> None:
    with Store.open(tmp_path / "shop.db") as store:
        run = tiny_run.catalog, tiny_run.log
        assert refresh(shop, *run, store=store).said == "nothing new since release 000001"
        gathered(store, 5)
        few = refresh(shop, *run, store=store)
        assert "only 3 people whom release 000001 knows" in few.said
        gathered(store)
        would = refresh(shop, *run, store=store, dry_run=True)
        assert would.said.startswith("80 events came since release 000001; the newest are asked of 16 people")
        assert not would.refused
        assert releases.names(shop) == ["000001"]
        outcome = refresh(shop, *run, store=store, epochs=1)
        assert outcome.promoted
        assert releases.current(shop) == outcome.release == "000002"
        assert set(outcome.differences) == {"recall@20", "ndcg@20"}
        facts = releases.about(shop, "000002")
        assert facts["from"] == "000001"
        assert LATER < facts["until"] < LATER + 4  # the slice it was judged by is still new
        served = Retriever(shop / "current" / "model", shop / "current" / "index", *run, store=store)
        assert len(served.recommend(user=7)) == 10
        assert served._model.space != tiny_run.model.space
        with pytest.raises(ArtefactError, match="belongs to another model"):
            Retriever(shop / "releases/000001/model", shop / "current/index", *run)
    assert releases.rollback(shop) == "000001"
    assert TwoTower.load(shop / "current" / "model").space == tiny_run.model.space
    assert releases.rollback(shop, "000002") == "000002"
    with pytest.raises(InputError, match="no release '000009' to go back to; it has 000001, 000002"):
        releases.rollback(shop, "000009")


def test_the_kind_and_parameters_that_somebody_chose_stay(tiny_run: Any, shop: Path, tmp_path: Path) -> None:
    before = ItemIndex.load(shop / "current" / "index")
    kept = before.ids, before.vectors.copy(), before.attributes
    chosen = ItemIndex.from_arrays(*kept, kind="HNSW16", space=before.space, search="efSearch=77")
    chosen.save(shop / "current" / "index")
    with Store.open(tmp_path / "shop.db") as store:
        gathered(store)
        assert refresh(shop, tiny_run.catalog, tiny_run.log, store=store, epochs=1).promoted
    index = ItemIndex.load(shop / "current" / "index")
    assert (index.kind, index.parameters) == ("HNSW16", chosen.parameters)
    assert "efSearch=77" in index.parameters
    assert index.space != before.space


def test_a_time_to_come_in_the_log_does_not_end_learning(tiny_run: Any, tmp_path: Path) -> None:
    wrong = pl.read_csv(tiny_run.events).tail(1).with_columns(timestamp=pl.lit(4e9))  # in the year 2096
    events = pl.concat([pl.read_csv(tiny_run.events), wrong], how="vertical_relaxed")
    log = Interactions.read(events, rating_range=(1, 5))
    begin(tmp_path / "shop", tiny_run.model_folder, tiny_run.catalog, log)
    with Store.open(tmp_path / "shop.db") as store:
        gathered(store, at=time.time() + 60)
        would = refresh(tmp_path / "shop", tiny_run.catalog, log, store=store, dry_run=True)
    assert would.said.startswith("81 events came since release 000001; the newest are asked of 16 people")


def test_a_model_that_is_worse_is_refused(
    tiny_run: Any, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(model: TwoTower, *_: Any, **__: Any) -> TwoTower:
        """One that finds for everybody what they like least."""
        other = TwoTower.load(tiny_run.model_folder)
        other.user.sequence.out.weight.data *= -1  # type: ignore[union-attr]
        other.user.sequence.out.bias.data *= -1  # type: ignore[union-attr]
        return other

    monkeypatch.setattr(module, "go_on", spoiled)
    monkeypatch.setattr(module, "METRICS", ("ndcg@20",))
    with Store.open(tmp_path / "shop.db") as store:
        gathered(store)
        outcome = refresh(shop, tiny_run.catalog, tiny_run.log, store=store)
    assert outcome.refused
    assert outcome.said.startswith("refused, as the new model is worse: ndcg@20 -0.")
    assert outcome.differences["ndcg@20"].value < 0
    assert (releases.current(shop), releases.names(shop)) == ("000001", ["000001"])
    assert outcome.to_json()["promoted"] is False


def test_a_log_and_a_store_are_one_log(tiny_run: Any, tmp_path: Path) -> None:
    first = tiny_run.log.table.to_pylist()[0]
    with Store.open(tmp_path / "shop.db") as store:
        same = Event("0", first["user_id"], first["item_id"], "click", first["timestamp"])
        kinds = [
            ("1", "rating", 4),
            ("2", "rating", 9),
            ("3", "click", 3),
            ("4", "view", None),
            ("5", "not-this", None),
        ]
        store.record([same, *(Event(n, "new", f"m0{n}", kind, LATER, value) for n, kind, value in kinds)])
        table = joined(tiny_run.log, store).table
    assert len(table) == len(tiny_run.log) + 3
    assert table.slice(len(tiny_run.log)).to_pylist() == [
        {"user_id": "new", "item_id": "m01", "timestamp": LATER, "rating": 0.75},
        {"user_id": "new", "item_id": "m02", "timestamp": LATER, "rating": 1.0},
        {"user_id": "new", "item_id": "m03", "timestamp": LATER, "rating": None},
    ]
    assert table["user_id"].to_pylist()[0] == str(first["user_id"])


def test_events_of_a_store_count_once_beside_a_log_with_weights(tiny_run: Any, tmp_path: Path) -> None:
    log = Interactions.read(pl.DataFrame({"user_id": ["u"], "item_id": ["m01"], "weight": [3.0]}))
    with Store.open(tmp_path / "shop.db") as store:
        store.record([Event("1", "u", "m02", "click", LATER, None)])
        found = joined(log, store).histories(tiny_run.catalog)[1].weights
    assert found is not None
    assert found.tolist() == [3.0, 1.0]


def test_questions_are_about_people_who_were_known_and_what_is_new_to_them(tiny_run: Any) -> None:
    rows = [
        ("known", "m01", 1.0), ("known", "m02", 5.0), ("known", "m03", 8.0), ("known", "m01", 9.0),
        ("known", "m04", 9.0), ("robot", "m05", 6.0), ("robot", "m06", 9.0), ("idle", "m07", 2.0),
    ]  # fmt: skip
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    _, histories = Interactions.read(frame).histories(tiny_run.catalog)
    questions = newest(histories, until=4.0, cut=8.0)
    assert questions.people.tolist() == [0]
    assert tiny_run.catalog.ids.take(questions.histories.items) == ["m01", "m02"]
    assert tiny_run.catalog.ids.take(questions.targets.items) == ["m03", "m04"]


def test_old_releases_go_but_never_the_one_to_go_back_to(tiny_run: Any, tmp_path: Path) -> None:
    model, index = tiny_run.model, tiny_run.index
    for _ in range(4):
        releases.release(tmp_path, model, index, {"until": 0.0, "model": {}})
    releases.rollback(tmp_path, "000002")
    (tmp_path / "releases" / ".000005.0a1b2c3d.part" / "model").mkdir(parents=True)  # of a refresh that was killed
    assert releases.prune(tmp_path, keep=1) == ["000003"]
    assert releases.names(tmp_path) == ["000001", "000002", "000004"]
    assert {path.name for path in (tmp_path / "releases").iterdir()} == {"000001", "000002", "000004"}
    assert ItemIndex.load(tmp_path / "current" / "index").space == model.space
    shutil.rmtree(tmp_path / "releases" / "000002")
    with pytest.raises(ArtefactError, match="is not there: point it at a release"):
        releases.current(tmp_path)


def test_the_command(tiny_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    def run(*arguments: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["twotower", "refresh", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return (int(ended.value.code or 0), *capfd.readouterr())

    folder, data = tmp_path / "shop", ("--catalog", tiny_run.items, "--interactions", tiny_run.events)
    assert "give a trained --model once" in run(folder, *data)[2]
    assert "--dry-run says what a refresh would do" in run(folder, *data, "--model", "m", "--dry-run")[2]
    assert not folder.exists()
    code, out, _ = run(folder, *data, "--model", tiny_run.model_folder, "--json")
    assert (code, json.loads(out)) == (0, {"release": "000001"})
    assert "nothing new since release 000001" in run(folder, *data)[2]
    with Store.open(tmp_path / "shop.db") as store:
        gathered(store)
    code, out, _ = run(folder, *data, "--store", tmp_path / "shop.db", "--dry-run", "--json")
    assert (code, json.loads(out)["promoted"]) == (0, False)
    worse = {"recall@20": Interval(-0.2, -0.3, -0.1)}
    monkeypatch.setattr(module, "_compare", lambda *_: (worse, {"recall@20": 0.4}))
    monkeypatch.setattr(module, "go_on", lambda model, *_, **__: model)
    code, _, said = run(folder, *data, "--store", tmp_path / "shop.db")
    assert code == 1
    assert "refused, as the new model is worse: recall@20 -0.200 (-0.300 to -0.100)" in said
    assert "no release to go back to" in run(folder, "--rollback")[2]
    assert "leave it out with --rollback" in run(folder, "--rollback", "--dry-run")[2]
    assert np.isfinite(releases.about(folder, "000001")["until"])
