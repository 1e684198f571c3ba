"""`twotower index …`: vectors of one's own in, items come and go, and back."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from indexing.index import ItemIndex
from indexing.milvus import MilvusIndex
from indexing.store import open_index, open_writer
from indexing.writer import IndexWriter
from serving.retriever import Retriever
from towers.model import TwoTower
from twotower.cli import main


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    def command(*arguments: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["twotower", *map(str, arguments)])
        monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    return command


def write(folder: Path, name: str, ids: list[str], rows: list[int]) -> Path:
    vectors = pa.array((3 * np.eye(8, dtype=np.float32)[rows]).tolist())
    pq.write_table(pa.table({"item_id": ids, "vector": vectors, "price": rows}), folder / name)
    return folder / name


def test_a_life_on_the_command_line(run: Any, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    first = write(tmp_path, "first.parquet", ["a", "b", "c"], [0, 1, 2])
    assert run("index", "build", "--vectors", first, "--out", folder)[0] == 0
    second = write(tmp_path, "second.parquet", ["c", "d"], [3, 4])
    code, out, err = run("index", "add", folder, "--vectors", second)
    assert (code, out) == (0, "")
    assert err == f"1 items added, 1 replaced; version 000002 of {folder} is current\n"
    assert run("index", "remove", folder, "a", "b")[2] == f"2 items removed; version 000003 of {folder} is current\n"
    index = ItemIndex.load(folder)
    assert [(item.id, item.attributes) for item in index] == [("c", {"price": 3}), ("d", {"price": 4})]
    np.testing.assert_array_equal(index.vectors, np.eye(8, dtype=np.float32)[[3, 4]])
    assert run("index", "compact", folder)[2].endswith(f"version 000004 of {folder} is current\n")
    assert run("index", "rollback", folder, "--to", "000002")[2] == f"version 000002 of {folder} is current\n"
    facts = json.loads(run("index", "info", folder, "--json")[1])
    assert (facts["version"], facts["count"], facts["unpublished"]) == ("000002", 4, 0)
    assert facts["versions"] == ["000002", "000003", "000004"]
    assert facts["attributes"] == ["price"]


@pytest.mark.parametrize(
    ("arguments", "sentence", "code"),
    [
        (["remove", "INDEX", "a", "z"], "1 of 2 items ('z') is not in the index, so nothing was removed", 2),
        (
            ["build", "--model", "m", "--catalog", "c.csv", "--out", "new", "--workers", "2"],
            "--workers is for --ray: without it the items are embedded here",
            2,
        ),
        (
            ["build", "--vectors", "v.parquet", "--out", "new", "--shard", "-3"],
            "--shard are for --model and --catalog",
            2,
        ),
        (["tune", "NOTHING", "--recall", "95"], "recall must be in (0, 1], latency and memory above 0; got (95.0, ", 2),
        (["add", "INDEX"], "where do the items come from? Give --model and --catalog, or --vectors", 2),
        (["add", "INDEX", "--vectors", "no.parquet"], "no.parquet cannot be read as parquet", 2),
        (["rollback", "INDEX"], "is the first version, there is none to go back to", 2),
        (["compact", "NOTHING"], "expected an index at", 1),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    run: Any, tmp_path: Path, arguments: list[str], sentence: str, code: int
) -> None:
    ItemIndex.from_arrays(["a", "b"], np.eye(2, dtype=np.float32)).save(tmp_path / "index")
    places = {"INDEX": str(tmp_path / "index"), "NOTHING": str(tmp_path / "nothing")}
    got, out, err = run("index", *(places.get(one, one) for one in arguments))
    assert (got, out, len(err.splitlines())) == (code, "", 1)
    assert sentence in err
    assert len(ItemIndex.load(tmp_path / "index")) == 2


def test_a_model_adds_items_to_its_index_and_removed_ones_stay_in_histories(
    run: Any, tiny_run: Any, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_run.index_folder, tmp_path / "index")
    whole = Retriever(tiny_run.model, folder, tiny_run.catalog, tiny_run.log)
    expected = [one.item for one in whole.recommend(history=["m02", "m04", "m06"], k=5)]
    assert run("index", "remove", folder, "m02", "m10")[0] == 0
    after = whole.refresh()
    assert after is not whole
    assert after.refresh() is after
    # The removed one is read as before, whether the catalog still has it or not, and is not recommended.
    smaller = tiny_run.catalog.select(np.flatnonzero(~np.isin(tiny_run.catalog.ids.to_list(), ["m02", "m10"])))
    for shop in (after, Retriever(tiny_run.model, folder, smaller, tiny_run.log)):
        found = shop.recommend(history=["m02", "m04", "m06"], k=30)
        assert found.unknown == ()
        assert not {"m02", "m10"} & {one.item for one in found}
        if shop is after:
            assert [one.item for one in found][:4] == [one for one in expected if one != "m10"][:4]
        some = shop.recommend(user=7, k=5)
        assert some.unknown == ()
    code, _, err = run("index", "add", folder, "--model", tiny_run.model_folder, "--catalog", tiny_run.items)
    assert code == 0
    assert "2 items added, 0 replaced, 38 unchanged" in err
    again = Retriever(tiny_run.model, folder, tiny_run.catalog, tiny_run.log)
    assert [one.item for one in again.recommend(history=["m02", "m04", "m06"], k=5)] == expected


@pytest.mark.filterwarnings("default:1 of 2 items have neither:UserWarning")
def test_what_cannot_be_added_is_written_down_beside_the_index(run: Any, tmp_path: Path, tiny_run: Any) -> None:
    folder = tmp_path / "index"
    tiny_run.index.save(folder)
    items = tmp_path / "new.csv"
    items.write_text("item_id,title,topic\nn1,a quiet piano,music\nn2,,\n,a race,motors\n", "utf-8")
    code, _, err = run("index", "add", folder, "--model", tiny_run.model_folder, "--catalog", items)
    assert code == 0, err
    assert "1 items added, 0 replaced" in err
    written = tmp_path / "index.rejected.jsonl"
    lines = [json.loads(line) for line in written.read_text("utf-8").splitlines()]
    assert [(line["row"], line.get("item"), line["reason"], line.get("value")) for line in lines] == [
        (3, None, "missing item_id", None),
        (2, "n2", "item of which nothing can be read", "n2"),
    ]
    items.write_text("item_id,title,topic\nn2,a quiet violin,music\n", "utf-8")
    assert run("index", "add", folder, "--model", tiny_run.model_folder, "--catalog", items)[0] == 0
    assert not written.exists()


def test_what_was_set_aside_of_other_items_stays_beside_the_index(run: Any, tmp_path: Path, tiny_run: Any) -> None:
    folder, written = tmp_path / "index", tmp_path / "index.rejected.jsonl"
    tiny_run.index.save(folder)
    before = [
        {"file": "old.csv", "row": 5, "item": "m04", "reason": "image is missing", "value": "a.png"},
        {"file": "old.csv", "row": 6, "item": "m05", "reason": "image is missing", "value": "b.png"},
        {"file": "old.csv", "row": 9, "reason": "missing item_id"},
    ]
    written.write_text("".join(json.dumps(line) + "\n" for line in before), "utf-8")

    def add(rows: str) -> tuple[int, list[dict[str, Any]], str]:
        items = tmp_path / "new.csv"
        items.write_text(f"item_id,title,topic\n{rows}", "utf-8")
        code, _, err = run("index", "add", folder, "--model", tiny_run.model_folder, "--catalog", items)
        return code, [json.loads(line) for line in written.read_text("utf-8").splitlines()], err

    code, lines, err = add("n1,a quiet piano,music\n")
    assert (code, lines) == (0, before), err
    # What is said of an item ends when it comes again, what is said of a file's faulty rows when that does.
    code, lines, _ = add("m05,a quiet evening,music\n,a race,motors\n")
    faulty = {"file": str(tmp_path / "new.csv"), "row": 2, "reason": "missing item_id"}
    assert (code, lines) == (0, [before[0], before[2], faulty])
    assert add("n2,a quiet rain,music\n")[1] == [before[0], before[2]]
    # A batch that is refused changes nothing.
    (tmp_path / "other.csv").write_text("item_id,title\nm04,a quiet violin\n", "utf-8")
    code, _, err = run("index", "add", folder, "--model", tiny_run.model_folder, "--catalog", tmp_path / "other.csv")
    assert code == 2, err
    assert [json.loads(line) for line in written.read_text("utf-8").splitlines()] == [before[0], before[2]]
    written.write_text("[1]\n", "utf-8")
    code, _, err = run("index", "add", folder, "--model", tiny_run.model_folder, "--catalog", tmp_path / "new.csv")
    assert (code, len(err.splitlines())) == (1, 1)
    assert "index.rejected.jsonl does not say what was set aside" in err


def test_what_an_index_has_just_so_is_not_added_again(run: Any, tmp_path: Path, tiny_run: Any) -> None:
    folder = tmp_path / "index"
    tiny_run.index.save(folder)
    text = tiny_run.items.read_text("utf-8")

    def add(items: str) -> str:
        (tmp_path / "items.csv").write_text(items, "utf-8")
        asked = ("--model", tiny_run.model_folder, "--catalog", tmp_path / "items.csv")
        code, _, err = run("index", "add", folder, *asked)
        assert code == 0, err
        return err

    assert add(text) == f"0 items added, 0 replaced, 40 unchanged; version 000001 of {folder} is current\n"
    lines = text.splitlines(keepends=True)
    assert add(lines[0] + lines[3]).startswith("0 items added, 0 replaced, 1 unchanged; version 000001")
    assert lines[3].endswith(",music\n")
    assert ItemIndex.load(folder).get("m02").attributes["topic"] == "music"
    lines[3] = lines[3].replace(",music\n", ",rain\n")
    assert add("".join(lines)).startswith("0 items added, 1 replaced, 39 unchanged; version 000002")
    assert ItemIndex.load(folder).get("m02").attributes["topic"] == "rain"


def test_questions_of_any_length_tune(run: Any, tmp_path: Path) -> None:
    folder, first = tmp_path / "index", write(tmp_path, "1.parquet", ["a", "b", "c"], [0, 1, 2])
    assert run("index", "build", "--vectors", first, "--out", folder)[0] == 0
    np.save(tmp_path / "people.npy", 3 * np.eye(8)[:2])
    code, _, err = run("index", "tune", folder, "--queries", tmp_path / "people.npy", "-k", 1)
    assert code == 0, err
    assert ItemIndex.load(folder).tuned["queries"] == 2


def test_history_vectors_of_removed_items_are_theirs(tiny_run: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_run.index_folder, tmp_path / "index")
    with IndexWriter(folder) as writer:
        writer.remove(["m02"])
        writer.publish()
    smaller = tiny_run.catalog.select(np.arange(3, 40))
    shop = Retriever(tiny_run.model, folder, smaller)
    found = shop.recommend(history=["m00", "m02", "m04", "m99"], k=3)
    assert found.unknown == ("m99",)  # neither the index nor what was removed from it vouches for it
    assert found.query == "a history of 3 items"
    vectors, ids = shop._memory.vectors.numpy(), shop.catalog.ids.to_list()
    for one in ("m00", "m02", "m04"):
        np.testing.assert_array_equal(vectors[ids.index(one)], tiny_run.index.get(one).vector)
    assert sorted(ids) == tiny_run.catalog.ids.to_list()
    assert np.flatnonzero(shop.on_offer).tolist() == list(range(37))


def test_a_life_in_a_milvus_on_the_command_line(run: Any, tmp_path: Path) -> None:
    place = f"{tmp_path}/shop.db#songs"
    first = write(tmp_path, "first.parquet", ["a", "b", "c"], [0, 1, 2])
    code, out, err = run("index", "build", "--vectors", first, "--store", place)
    assert (code, out) == (0, "")
    assert err == f"the index is in {place}: MilvusIndex(3 items, 8 dimensions, kind 'AUTOINDEX', at {place})\n"
    second = write(tmp_path, "second.parquet", ["c", "d"], [3, 4])
    assert run("index", "add", place, "--vectors", second)[2] == "1 items added, 1 replaced; 4 are there\n"
    assert run("index", "remove", place, "a", "b")[2] == "2 items removed; 2 are there\n"
    facts = json.loads(run("index", "info", place, "--json")[1])
    assert {name: facts[name] for name in ("collection", "count", "removed", "dimension", "attributes")} == {
        "collection": "songs", "count": 2, "removed": 2, "dimension": 8, "attributes": ["price"],
    }  # fmt: skip
    index = open_index(place)
    assert [(item.id, item.attributes) for item in index] == [("c", {"price": 3}), ("d", {"price": 4})]
    for arguments, sentence in (
        (["rollback", place], "is a Milvus, which compacts by itself and has no versions"),
        (["build", "--vectors", first], "Give --out FOLDER, or --store for a Milvus"),
        (["remove", place, "z"], "1 of 1 items ('z') is not in the index, so nothing was removed"),
        (["info", f"{tmp_path}/shop.db"], "expected an index at"),
        (["build", "--vectors", first, "--store", str(tmp_path / "folder")], "expected a Milvus, such as milvus.db"),
    ):
        code, out, err = run("index", *arguments)
        assert (out, len(err.splitlines())) == ("", 1), err
        assert code in (1, 2)
        assert sentence in err


def test_a_model_asks_a_milvus_as_it_asks_a_folder(run: Any, tiny_run: Any, tmp_path: Path) -> None:
    place = tmp_path / "shop.db"
    asked = ("--model", tiny_run.model_folder, "--catalog", tiny_run.items)
    assert run("index", "build", *asked, "--store", place, "--kind", "FLAT")[0] == 0
    there = ("--interactions", tiny_run.events, "--json")
    questions = (
        ("recommend", "--user", "7", *there),
        ("recommend", "--text", "quiet piano", "--where", '{"topic": "music"}', "-k", "30", "--json"),
        ("recommend", "--history", "m02,m04", "--where", '{"not": {"topic": "music"}}', "--json"),
        ("similar", "m03", "--json"),
    )
    for question in questions:
        of_folder, of_store = (run(*question, *asked, "--index", one)[1] for one in (tiny_run.index_folder, place))
        expected, got = json.loads(of_folder), json.loads(of_store)
        assert got == expected
        assert len(got["items"]) >= 10
    expected = Retriever(tiny_run.model, tiny_run.index, tiny_run.catalog, tiny_run.log)
    with open_writer(place) as writer:
        writer.remove(["m02", "m10"])
    shop = Retriever(tiny_run.model, place, tiny_run.catalog, tiny_run.log)
    found = shop.recommend(history=["m02", "m04", "m06"], k=30)
    assert found.unknown == ()
    before = [one.item for one in expected.recommend(history=["m02", "m04", "m06"], k=30)]
    assert [one.item for one in found][:5] == [one for one in before if one != "m10"][:5]
    with open_writer(place) as writer:
        writer.upsert(
            ["m10"], tiny_run.index.vectors[[10]], {"title": ["x"], "topic": ["music"]}, space=shop._index.space
        )
    assert "m10" not in [one.item for one in shop.recommend(history=["m04"], k=39)]
    assert "m10" in [one.item for one in shop.refresh().recommend(history=["m04"], k=39)]


def test_a_milvus_of_other_items_is_refused_before_anything_is_embedded(
    run: Any, tiny_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("--model", tiny_run.model_folder, "--catalog", tiny_run.items, "--store")
    index, short = tiny_run.index, np.eye(8, dtype=np.float32)[:1]
    MilvusIndex.build(f"{tmp_path}/shop.db#space", index.ids, index.vectors, index.attributes, space="0" * 64)
    MilvusIndex.build(f"{tmp_path}/shop.db#length", ["m01"], short, index.attributes[:1], space=index.space)
    MilvusIndex.build(f"{tmp_path}/shop.db#ids", [1], index.vectors[:1], index.attributes[:1], space=index.space)
    MilvusIndex.build(f"{tmp_path}/shop.db#columns", ["m01"], index.vectors[:1], {"n": [1]}, space=index.space)
    MilvusIndex.build(f"{tmp_path}/shop.db#same", ["m01"], index.vectors[:1], index.attributes[:1], space=index.space)
    assert run("index", "build", *asked, f"{tmp_path}/shop.db#same")[0] == 0
    assert len(open_index(f"{tmp_path}/shop.db#same")) == 40

    def embed(*_: Any, **__: Any) -> None:
        raise AssertionError("it embeds")

    monkeypatch.setattr(TwoTower, "embed_items", embed)
    for name, sentence in (
        ("space", f"other space: 000000000000, these have {index.space[:12]}; name another"),
        ("length", "other dimension: 8, these have 16"),
        ("ids", "other ids: int64, these have large_string"),
        ("columns", "other attributes: n: int64, these have title: large_string topic: large_string"),
    ):
        code, out, err = run("index", "build", *asked, f"{tmp_path}/shop.db#{name}")
        assert (code, out, len(err.splitlines())) == (1, "", 1)
        assert f"#{name} holds items of {sentence}" in err


def test_drift_says_how_far_new_vectors_have_moved(run: Any, tiny_run: Any, tmp_path: Path) -> None:
    old = write(tmp_path, "old.parquet", list("abcd"), [0, 1, 2, 3])
    run("index", "build", "--vectors", old, "--out", tmp_path / "index")
    new = write(tmp_path, "new.parquet", list("bcde"), [2, 3, 4, 5])
    found = json.loads(run("index", "drift", tmp_path / "index", "--vectors", new, "--json")[1])
    assert (found["items"], found["added"], found["dropped"], found["neighbours"]) == (3, 1, 1, 1.0)
    assert found["quantiles"] == [0, 0, 0]
    assert found["turned"] == pytest.approx([1, 1, 1])
    _, out, err = run(
        "index", "drift", tiny_run.index_folder, "--model", tiny_run.model_folder, "--catalog", tiny_run.items
    )
    assert "40 items in both" in out
    assert "100.0% of the 10 nearest" in " ".join(out.split())
    assert "another space" not in out
    assert err == ""
