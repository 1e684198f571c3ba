"""`twotower doctor`: each fault is planted in a real run, and exactly its findings fire."""

from __future__ import annotations

import copy
import itertools
import json
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from indexing.build import build_index
from indexing.index import ItemIndex
from serving.web.changes import Changes
from towers.catalog import Catalog
from towers.interactions import Interactions
from towers.model import TwoTower
from training.measuring import symptoms
from training.measuring.checkup import Case
from training.trainer import train
from twotower.cli import main
from twotower.doctor import examine

RECIPE = """
text.source = "{source}"
item = {{dimension = 64, hidden = 32}}
user = {{text = false, sequence = {{blocks = 1}}}}
train = {{epochs = 40, evaluate_every = 10}}
"""
TOPICS = (
    ("piano", "violin"),
    ("quiet", "evening"),
    ("engine", "motor"),
    ("race", "fast"),
    ("night", "music"),
    ("rain", "before"),
    ("loved", "fair"),
    ("motors", "liked"),
)
ASKED = 80  # people whose queries are looked at, of 160
RANK, COSINE = "effective rank of", "mean cosine of"


@dataclass(frozen=True)
class World:
    """240 items of eight topics, 160 people with fourteen events in one of them, and a model that learned as much."""

    folder: Path
    items: pl.DataFrame
    events: pl.DataFrame
    model: TwoTower
    index: ItemIndex
    catalog: Catalog
    log: Interactions

    def wrong(self, **other: Any) -> dict[str, Any]:
        """What is found to be wrong, with some part exchanged: name and figure. A new model gets a new index."""
        parts = {"model": self.model, "catalog": self.catalog, "log": self.log, **other}
        if "index" not in parts:
            parts["index"] = build_index(parts["model"], parts["catalog"], progress=False)
        return {one.name: one.figure for one in examine(**parts) if not one.ok}

    def changed(self, change: Callable[[TwoTower, Tensor], None]) -> TwoTower:
        """A copy of the model with other weights; `change` is given the main directions of the items ``(D, D)`` too."""
        model = copy.deepcopy(self.model)
        with torch.no_grad():
            change(model, torch.linalg.svd(torch.tensor(self.index.vectors), full_matrices=True).Vh)
        return model


@pytest.fixture(scope="module")
def world(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("doctor")
    rng = np.random.default_rng(0)
    titles = [f"{' '.join(TOPICS[n % 8])} {n}" for n in range(240)]
    items = pl.DataFrame({"item_id": [f"m{n:03}" for n in range(240)], "title": titles})
    rows = [
        (f"u{person}", f"m{item:03}", 3600.0 * hour)
        for person in range(160)
        for hour, item in enumerate(rng.permutation(np.arange(person % 8, 240, 8))[:14])
    ]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    items.write_csv(folder / "items.csv")
    events.write_csv(folder / "events.csv")
    (folder / "recipe.toml").write_text(RECIPE.format(source=tiny_bert), "utf-8")
    catalog, log = Catalog.read(items), Interactions.read(events)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWOTOWER_CACHE", str(folder / "cache"))
        patch.setattr("training.measuring.checkup.PEOPLE", ASKED)
        model = train(catalog, log, recipe=folder / "recipe.toml", out=folder / "model", progress=False)
        index = build_index(model, catalog, out=folder / "index", progress=False)
        yield World(folder, items, events, model, index, catalog, log)


def test_a_healthy_run_is_silent(world: World) -> None:
    found = examine(world.model, world.index, world.catalog, world.log)
    assert [one.name for one in found if not one.ok] == []
    assert len(found) == 20
    shown = {one.name: one.figure for one in found}
    assert (shown["index and model"], shown["recall of the search"], shown["items with a wrong vector"]) == (
        "one space",
        1,
        0,
    )


def test_items_in_few_directions(world: World) -> None:
    def squeeze(model: TwoTower, directions: Tensor) -> None:
        # Six directions that belong to no topic, so that no two items fall together.
        into = 5 * directions[30:36].T @ directions[30:36]
        last = model.item.text.layers[3]
        for part in (last.weight, last.bias):
            part.copy_(into @ part)
        model.item.id.weight.copy_(model.item.id.weight @ into)

    model = world.changed(squeeze)
    values = np.linalg.svd(model.embed_items(world.catalog).astype(np.float64), compute_uv=False)[:6]
    shares = values / values.sum()
    assert world.wrong(model=model) == {
        f"{RANK} items": pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-3)
    }


def test_items_that_point_one_way(world: World) -> None:
    model = world.changed(lambda model, directions: model.item.text.layers[3].bias.add_(8 * directions[-1]))
    vectors = model.embed_items(world.catalog)
    cosines = (vectors @ vectors.T)[~np.eye(240, dtype=bool)]
    assert world.wrong(model=model) == {f"{COSINE} items": pytest.approx(cosines.mean(), abs=1e-5)}


def test_queries_in_few_directions(world: World) -> None:
    def squeeze(model: TwoTower, directions: Tensor) -> None:
        into = directions[1:7].T @ directions[1:7]
        last = model.user.sequence.out
        for part in (last.weight, last.bias):
            part.copy_(into @ part)

    found = world.wrong(model=world.changed(squeeze), index=world.index)
    assert found.keys() == {f"{RANK} queries"}
    assert 1 < found[f"{RANK} queries"] < 6


def test_queries_that_point_one_way(world: World) -> None:
    # The way that the items use least, so that the lists hardly change; what is left beside it is little.
    model = world.changed(lambda model, directions: model.user.sequence.out.bias.add_(40 * directions[-1]))
    found = world.wrong(model=model, index=world.index)
    assert found.keys() == {f"{RANK} queries", f"{COSINE} queries"}
    queries = model.encode(world.log.histories(world.catalog)[1], model.memory(world.catalog, world.index.vectors))
    cosines = (queries @ queries.T)[~np.eye(160, dtype=bool)]
    assert found[f"{COSINE} queries"] == pytest.approx(cosines.mean(), abs=0.01)  # a sample of the people


def test_lists_that_are_the_same_for_everybody(world: World) -> None:
    def drawn(model: TwoTower, directions: Tensor) -> None:
        vectors = torch.tensor(world.index.vectors)
        hub = vectors[::8].mean(0) - vectors.mean(0)  # the items of one topic
        model.user.sequence.out.bias.add_(12 * hub / hub.norm())

    model = world.changed(drawn)
    found = world.wrong(model=model, index=world.index)
    assert found.keys() == {"overlap of lists"}
    case = Case(model, world.index, world.catalog, world.log)
    pairs = [len(set(a) & set(b)) / 20 for a, b in itertools.combinations(case.lists.tolist(), 2)]
    assert found["overlap of lists"] == pytest.approx(np.mean(pairs))


def test_an_index_that_misses_neighbours(world: World) -> None:
    ids, vectors, space = world.catalog.ids, world.index.vectors, world.model.space
    index = ItemIndex.from_arrays(ids, vectors, kind="IVF24,Flat", space=space, search="nprobe=2")
    case = Case(world.model, index, world.catalog, world.log)
    nearest = np.argsort(-case.queries @ vectors.T, axis=1, kind="stable")[:, :20]
    found = [len(set(a) & set(b)) / 20 for a, b in zip(nearest, index.search(case.queries, 20).rows, strict=True)]
    assert np.mean(found) < 0.95
    assert world.wrong(index=index) == {"recall of the search": pytest.approx(np.mean(found))}
    assert (
        world.wrong(index=ItemIndex.from_arrays(ids, vectors, kind="IVF24,Flat", space=space, search="nprobe=24")) == {}
    )


def test_an_index_older_than_its_model(world: World) -> None:
    model = world.changed(lambda model, _: model.item.id.weight.mul_(1.01))
    found = examine(model, world.index, world.catalog, world.log)
    assert [(one.name, one.figure) for one in found if not one.ok] == [("index and model", "two spaces")]
    assert not {"items with a wrong vector", "recall of the search"} & {one.name for one in found}


def test_items_that_only_one_of_index_and_catalog_has(world: World) -> None:
    fewer = world.catalog.select(np.arange(3, 240))
    index = build_index(world.model, fewer, progress=False)
    assert world.wrong(index=index) == {"items that the index lacks": 3}
    assert world.wrong(catalog=fewer, index=world.index) == {"items that the catalog lacks": 3}
    about = {one.name: one.about for one in examine(None, index, world.catalog, None)}
    assert about["items that the index lacks"] == "of 240: m000, m001, m002"


def test_people_of_whom_nothing_can_be_read(world: World) -> None:
    strange = world.events.with_columns(
        pl.when(pl.col("user_id").str.len_chars() == 2)
        .then(pl.lit("zebra"))
        .otherwise(pl.col("item_id"))
        .alias("item_id")
    )
    assert world.wrong(log=Interactions.read(strange)) == {"people without a readable event": 10 / 160}
    nothing = world.events.with_columns(pl.lit("zebra").alias("item_id"))
    assert world.wrong(log=Interactions.read(nothing)) == {"people without a readable event": 1}


def test_people_with_one_event(world: World) -> None:
    users = [f"v{n}" for n in range(200)]
    more = pl.DataFrame({"user_id": users, "item_id": [f"m{n:03}" for n in range(200)], "timestamp": [0.0] * 200})
    assert world.wrong(log=Interactions.read(pl.concat([world.events, more]))) == {"people with one event": 200 / 360}


def test_texts_that_are_missing_repeated_or_alike(world: World) -> None:
    def titled(title: pl.Expr, rows: list[int]) -> Catalog:
        new = pl.when(pl.int_range(240).is_in(rows)).then(title).otherwise(pl.col("title"))
        return Catalog.read(world.items.with_columns(new.alias("title")))

    known = np.flatnonzero(world.model.ids.rows(world.catalog.ids.array) >= 0)[:150].tolist()
    assert world.wrong(catalog=titled(pl.lit(None), known)) == {"items without text": 150 / 240}
    assert world.wrong(catalog=titled(pl.lit("piano"), known)) == {"items with the text of another": 150 / 240}
    long = pl.lit("piano violin quiet evening rain engine motor race fast night music before " * 2) + pl.col("item_id")
    found = world.wrong(catalog=titled(long, list(range(240))))
    assert f"{COSINE} texts" in found  # and what follows from it: items, queries and lists that are alike
    assert 0.99 < found[f"{COSINE} texts"] < 1


def test_ids_that_the_model_does_not_know(world: World) -> None:
    renamed = pl.when(pl.col("item_id") >= "m100").then("x" + pl.col("item_id")).otherwise(pl.col("item_id"))
    events = world.events.with_columns(renamed.alias("item_id"))
    known = [one for one in world.model.ids.to_list() if one < "m100"]
    assert world.wrong(
        catalog=Catalog.read(world.items.with_columns(renamed.alias("item_id"))), log=Interactions.read(events)
    ) == {"events with an id vector": events["item_id"].is_in(known).mean()}


def test_what_a_model_does_not_read_is_not_looked_at(world: World) -> None:
    def names(**off: bool) -> set[str]:
        model = copy.deepcopy(world.model)
        model.config = model.config.model_copy(update={"item": model.config.item.model_copy(update=off)})
        case = Case(model, world.index, world.catalog, world.log)
        return {one.name for one in [*symptoms.texts(model, world.catalog), *symptoms.own_vectors(case)]}

    everything = names()
    assert everything - names(text=False) == {"items without text", "items with the text of another", f"{COSINE} texts"}
    assert everything - names(ids=False) == {"events with an id vector"}


def test_near_duplicates_are_named(world: World) -> None:
    more = pl.DataFrame({"item_id": [f"n{n:02}" for n in range(20)], "title": [f"race {n // 2}" for n in range(20)]})
    catalog = Catalog.read(pl.concat([world.items, more]))
    index = build_index(world.model, catalog, progress=False)
    found = [one for one in examine(world.model, index, catalog, world.log) if not one.ok]
    assert [(one.name, one.figure) for one in found] == [("near-duplicate items", 20 / 260)]
    assert found[0].about.endswith(": n00 = n01; n02 = n03; n04 = n05; n06 = n07; n08 = n09; …")


def test_ids_against_other_vectors(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.measuring.symptoms.EMBEDDED", 240)
    ids = world.catalog.ids.to_list()
    ids = [*ids[1:50], ids[0], *ids[50:]]
    index = ItemIndex.from_arrays(ids, world.index.vectors, space=world.model.space)
    found = [one for one in examine(world.model, index, world.catalog, world.log) if not one.ok]
    assert [(one.name, one.figure) for one in found] == [("items with a wrong vector", 50 / 240)]
    assert "50 of their vectors stand at other ids" in found[0].about
    assert found[0].remedy.startswith("the ids are permuted")


def test_texts_that_changed_after_the_index_was_built(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.measuring.symptoms.EMBEDDED", 240)
    new = pl.when(pl.int_range(240) < 40).then(pl.lit("loved fair ") + pl.col("item_id")).otherwise(pl.col("title"))
    catalog = Catalog.read(world.items.with_columns(new.alias("title")))
    own = world.model.embed_items(catalog)
    off = ((own * world.index.vectors).sum(axis=1) < 0.99).mean()
    found = [one for one in examine(world.model, world.index, catalog, world.log) if not one.ok]
    assert 30 / 240 < off <= 40 / 240
    assert [(one.name, one.figure) for one in found] == [("items with a wrong vector", off)]
    assert found[0].remedy.startswith("the texts have changed")


def test_vectors_that_should_not_exist(world: World) -> None:
    vectors = world.index.vectors.copy()
    vectors[3], vectors[5] = 0, np.nan
    index = ItemIndex.from_arrays(world.catalog.ids, world.index.vectors, space=world.model.space)
    index.vectors = vectors
    assert world.wrong(index=index) == {"faulty index vectors": 2}
    model = world.changed(lambda model, _: model.user.sequence.out.bias[:1].fill_(float("nan")))
    assert world.wrong(model=model, index=world.index) == {"faulty queries": ASKED}


def test_a_given_split_that_gives_answers_away(world: World) -> None:
    place = pl.int_range(pl.len()).over("user_id")
    number = pl.col("user_id").str.slice(1).cast(pl.Int64)
    test = pl.when(number < 40).then(place == 5).otherwise(place == 13)  # of 40 people an event in the middle
    words = pl.when(test).then(pl.lit("test")).otherwise(pl.lit("train")).alias("split")
    assert world.wrong(log=Interactions.read(world.events.with_columns(words))) == {"questions given away": 40}
    words = pl.when(place == 13).then(pl.lit("test")).otherwise(pl.lit("train")).alias("split")
    assert world.wrong(log=Interactions.read(world.events.with_columns(words))) == {}


def test_an_index_and_a_catalog_with_nothing_in_common(world: World) -> None:
    strange = world.items.with_columns(("x" + pl.col("item_id")).alias("item_id"))
    found = {
        "items that the index lacks": 240,
        "items that the catalog lacks": 240,
        "people without a readable event": 1,
    }
    assert world.wrong(catalog=Catalog.read(strange), index=world.index) == found


def test_what_cannot_be_examined_takes_nothing_with_it(world: World) -> None:
    found = world.wrong(catalog=Catalog.read(world.items.rename({"title": "name"})), index=world.index)
    assert found == {"aligned": "failed", "texts": "failed"}


@pytest.fixture
def doctor(world: World, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    """Run `twotower doctor`: exit code, standard output and standard error."""

    def command(*arguments: str, **options: Path) -> tuple[int, str, str]:
        parts = {"model": world.folder / "model", "index": world.folder / "index"}
        parts |= {"catalog": world.folder / "items.csv", "interactions": world.folder / "events.csv", **options}
        pairs = [part for name, value in parts.items() for part in (f"--{name}", str(value))]
        monkeypatch.setattr(sys, "argv", ["twotower", "doctor", *pairs, *arguments])
        monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return int(ended.value.code or 0), out, err

    return command


def test_a_healthy_run_on_a_terminal_and_for_programs(doctor: Any) -> None:
    code, out, _ = doctor()
    assert code == 0
    assert out.rstrip().endswith("Nothing is wrong.")
    assert "!" not in out
    assert out.count("✓") == 20
    code, out, _ = doctor("--json")
    answer = json.loads(out)
    assert (code, answer["healthy"], len(answer["findings"])) == (0, True, 20)
    assert answer["findings"][0] == {
        "status": "ok",
        "name": "faulty index vectors",
        "figure": 0,
        "threshold": "at most 0",
        "about": "0 not finite, 0 all zeros, of 240",
        "remedy": "build the index again with this model and this catalog: twotower index build",
    }


def test_a_fault_ends_with_code_1_and_says_what_to_do(world: World, doctor: Any, tmp_path: Path) -> None:
    build_index(world.model, world.catalog.select(np.arange(2, 240)), out=tmp_path / "index", progress=False)
    code, out, _ = doctor(index=tmp_path / "index")
    assert code == 1
    lines = " ".join(out.split())
    assert "! items that the index lacks 2 at most 0 of 240: m000, m001" in lines
    assert "! items that the index lacks: they are never found: build the index again" in lines
    code, out, _ = doctor("--json", index=tmp_path / "index")
    assert (code, json.loads(out)["healthy"]) == (1, False)


def test_what_came_and_went_over_http_is_no_fault(world: World, doctor: Any, tmp_path: Path) -> None:
    items = Path(shutil.copy(world.folder / "items.csv", tmp_path))
    build_index(world.model, world.catalog.select(np.arange(2, 240)), out=tmp_path / "index", progress=False)
    Changes(tmp_path).remove(["m000", "m001"])
    _, out, _ = doctor("--json", index=tmp_path / "index", catalog=items)
    found = {one["name"]: one["figure"] for one in json.loads(out)["findings"]}
    assert (found["items that the index lacks"], found["items that the catalog lacks"]) == (0, 0)


def test_what_cannot_be_loaded_is_a_finding(world: World, doctor: Any, tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(world.folder / "model", tmp_path / "model"))
    (damaged / "model.safetensors").write_bytes(b"nothing")
    faulty = Path(shutil.copytree(world.folder / "index", tmp_path / "index"))
    (faulty / "CURRENT").write_text("9", "utf-8")
    code, out, _ = doctor("--json", model=damaged, index=faulty, catalog=tmp_path / "no.csv", interactions=tmp_path)
    wrong = {one["name"]: one["about"] for one in json.loads(out)["findings"]}
    assert code == 1
    assert wrong.keys() == {"model", "index", "catalog", "interactions"}
    assert "model.safetensors has 7 bytes" in wrong["model"]
    assert "should name a version" in wrong["index"]
    assert "no.csv does not exist" in wrong["catalog"]
    code, out, _ = doctor("--json", model=damaged)
    findings = json.loads(out)["findings"]
    assert [one["name"] for one in findings if one["status"] == "warn"] == ["model"]
    assert "near-duplicate items" in [one["name"] for one in findings]


def test_vectors_on_disk_that_are_not_finite(world: World, doctor: Any, tmp_path: Path) -> None:
    index = ItemIndex.load(world.folder / "index")
    index.vectors = np.full_like(index.vectors, np.nan)
    index.save(tmp_path / "index")
    code, out, _ = doctor("--json", index=tmp_path / "index")
    wrong = [(one["name"], one["figure"]) for one in json.loads(out)["findings"] if one["status"] == "warn"]
    assert (code, wrong) == (1, [("faulty index vectors", 240)])


def test_a_log_is_read_on_the_scale_of_the_model_and_with_its_people(
    tiny_run: Any, doctor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Case] = []
    monkeypatch.setattr("training.measuring.symptoms.leaks", lambda case: seen.append(case) or [])
    header, *rows = tiny_run.events.read_text("utf-8").splitlines()
    rows = [row for row in rows if row.split(",")[2] in "24"]
    (tmp_path / "events.csv").write_text("\n".join([header, *rows]) + "\n", "utf-8")
    (tmp_path / "people.csv").write_text("user_id,job\n1,artist\n", "utf-8")
    folders = {"model": tiny_run.model_folder, "index": tiny_run.index_folder, "catalog": tiny_run.items}
    doctor(**folders, interactions=tmp_path / "events.csv", people=tmp_path / "people.csv")
    assert seen[0].log.rating_range == (1, 5)
    assert seen[0].log.people.num_rows == 1


def test_half_a_run_is_a_wrong_use(world: World, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["twotower", "doctor", "--model", str(world.folder / "model")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "error: a run is --model, --index, --catalog and --interactions together" in capfd.readouterr().err
