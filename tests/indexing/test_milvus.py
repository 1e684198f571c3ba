"""What is Milvus's own: filters become expressions of the same meaning, strangers are refused, errors are sentences."""

from __future__ import annotations

import fcntl
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexing import collection as collections
from indexing import connection, milvus
from indexing.address import Address
from indexing.collection import Collection
from indexing.exact import exact_search
from indexing.expressions import expression, literal
from indexing.filters import Filter
from indexing.index import ItemIndex
from indexing.milvus import MilvusIndex
from indexing.milvus_writer import MilvusWriter
from indexing.store import open_index, open_writer
from indexing.vectors import unit
from towers.errors import ArtefactError, InputError, MissingExtraError

COUNT, DIMENSION = 120, 8
RNG = np.random.default_rng(0)
VECTORS = unit(RNG.normal(size=(COUNT, DIMENSION)))
WORDS = ["jazz", "soul", 'a "quoted" one', "back\\slash", "line\nbreak", "Ä", ""]


def some(values: list[Any], kind: pa.DataType | None = None) -> pa.Array:
    """A column of these, a fifth of it missing."""
    drawn = [None if RNG.random() < 0.2 else values[RNG.integers(len(values))] for _ in range(COUNT)]
    return pa.array(drawn, kind)


DAYS = [date(1969, 12, 31), date(2020, 1, 1), date(2020, 1, 2), date(2024, 2, 29)]
TIMES = [datetime(2020, 1, 1, 12, tzinfo=UTC), datetime(1960, 5, 5, tzinfo=UTC), datetime(2024, 1, 1, 1, 2, 3, 4, UTC)]
SHOP = pa.table(
    {
        "genre": some(WORDS, pa.large_string()),
        "the year": some([-3, 1989, 1990, 2001], pa.int16()),
        "views": some([0, 2**53 + 1, 2**63 - 1, -(2**62)], pa.int64()),
        "price": some([0.1, -2.5, 1e-7, 3e22], pa.float32()),
        "score": some([0.1, 1 / 3, -1e300, 5.0, 0.0, -0.0], pa.float64()),
        "sold": some([True, False]),
        "tags": some([["jazz", "a 'b'"], [], ["soul"], ["back\\slash", "jazz"]]),
        "sizes": some([[1, 2], [], [2**40], [-5]], pa.large_list(pa.int64())),
        "shown": some(DAYS, pa.date32()),
        "at": some(TIMES, pa.timestamp("us", tz="UTC")),
        "nothing": pa.nulls(COUNT),
    }
)
SIGNS = ["<", "<=", ">", ">="]
VALUES = {
    "genre": [*WORDS, "k"],
    "the year": [1989, 1989.5, 1990, -3, 10**6, 2**70, -(2**70)],
    "views": [2**53 + 1, 2**53, 2.0**53, 2**63 - 1, -(2**63) + 1],
    "price": [0.1, -2.5, 3, 1e-7, 3e22, float("inf"), 1e300],
    "score": [0.0, -0.0, 0.1, 1 / 3, 5, -1e300, float("-inf")],
    "shown": ["2020-01-01", date(2020, 1, 2), "1969-12-31", datetime(2020, 1, 1, 12)],
    "at": [TIMES[0], TIMES[2], "2020-01-01T12:00:00Z", date(2020, 1, 1), "2020-01-01T11:59:59.999999999Z"],
    "sold": [True, False],
    "tags": ["jazz", "a 'b'", "x"],
    "sizes": [1, -5, 2**40, 1.5, 7],
    "nothing": ["x", 1],
}
ORDERED = ["genre", "the year", "views", "price", "score", "shown", "at", "nothing"]
COMPARISONS = st.one_of(
    st.sampled_from(sorted(VALUES)).flatmap(
        lambda name: st.one_of(
            st.sampled_from(VALUES[name]).map(lambda value: {name: value}),
            st.sampled_from(VALUES[name]).map(lambda value: {name: {"!=": value}}),
            st.lists(st.sampled_from([*VALUES[name], None]), max_size=3).map(lambda values: {name: values}),
            st.just({name: None}),
        )
    ),
    st.sampled_from(ORDERED).flatmap(
        lambda name: st.dictionaries(st.sampled_from(SIGNS), st.sampled_from(VALUES[name]), min_size=1, max_size=2).map(
            lambda bounds: {name: bounds}
        )
    ),
)
CONDITIONS = st.recursive(
    COMPARISONS,
    lambda inner: st.one_of(
        inner.map(lambda one: {"not": one}),
        st.lists(inner, min_size=1, max_size=3).map(lambda several: {"or": several}),
        st.lists(inner, min_size=1, max_size=3).map(lambda several: {"and": several}),
    ),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("milvus") / "shop.db"


@pytest.fixture(scope="module")
def shop(place: Path) -> Iterator[Collection]:
    MilvusIndex.build(place, range(COUNT), VECTORS, SHOP, kind="FLAT", space="a space")
    shop = Collection.open(Address(str(place)))
    yield shop
    shop.close()


# Filters


@given(condition=CONDITIONS)
@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_expression_lets_pass_what_the_filter_does(shop: Collection, condition: dict[str, Any]) -> None:
    expected = np.flatnonzero(Filter.read(condition).passing(SHOP)).tolist()
    said = expression(condition, SHOP.schema, shop.columns)
    assert sorted(shop.ids(said).to_pylist()) == expected
    assert shop.count(said) == len(expected)


def test_what_passes_all_or_nothing_needs_no_expression(shop: Collection) -> None:
    read = [expression(one, SHOP.schema, shop.columns) for one in ({"genre": []}, {"not": {"genre": []}})]
    assert read == [False, True]
    assert shop.count(False) == 0
    assert shop.nearest(VECTORS[:2], 3, False)[1][0] == []


def test_each_comparison_is_said_for_what_fits_and_what_does_not(shop: Collection) -> None:
    said = expression({"not": {"the year": {">": 1989.5}}}, SHOP.schema, shop.columns)
    assert said == "(a1_the_year is null) or (a1_the_year <= 1989)"
    assert literal('a"b\\c\n') == '"a\\"b\\\\c\\n"'


@pytest.mark.parametrize(
    "condition", [{"score": 0.0}, {"score": {"!=": -0.0}}, {"sizes": -5}, {"not": {"sizes": [-5, 1]}}]
)
def test_zeros_are_equal_and_lists_hold_negative_numbers(shop: Collection, condition: dict[str, Any]) -> None:
    expected = np.flatnonzero(Filter.read(condition).passing(SHOP)).tolist()
    assert 0 < len(expected) < COUNT
    assert sorted(shop.ids(expression(condition, SHOP.schema, shop.columns)).to_pylist()) == expected


def test_elements_of_lists_are_not_compared_by_more_or_less(shop: Collection) -> None:
    with pytest.raises(InputError, match="'tags' is a list, whose elements Milvus cannot compare by '<'"):
        expression({"tags": {"<": "b"}}, SHOP.schema, shop.columns)


# Attributes


def test_attributes_come_back_as_they_were(shop: Collection) -> None:
    ids, vectors, attributes = shop.items(pa.array(range(COUNT)))
    order = np.argsort(ids)
    assert [attributes[row] for row in order] == SHOP.to_pylist()
    np.testing.assert_array_equal(vectors[order], VECTORS)


@pytest.mark.parametrize(
    ("column", "sentence"),
    [
        (pa.array([1], pa.uint64()), "'x' is of the type uint64, which Milvus cannot keep"),
        (pa.array([{"a": 1}]), "'x' is of the type struct<a: int64>, which"),
        (pa.array([[date(2020, 1, 1)]]), r"'x' is of the type list<.*date32\[day\]>, which"),
        (pa.array([float("nan")]), "'x' has numbers that are not finite"),
        (pa.array([["a", None]]), "'x' has lists with missing elements"),
        (pa.array([["a"] * 5000]), "'x' has a list of 5,000 elements, Milvus keeps 4,096"),
        (pa.array(["é" * 40_000]), "'x' has a text of 80,000 bytes, Milvus keeps 65,535"),
    ],
)
def test_what_milvus_cannot_keep_is_refused_before_anything_is_made(
    tmp_path: Path, column: pa.Array, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        MilvusIndex.build(tmp_path / "a.db", ["a"], VECTORS[:1], pa.table({"x": column}))
    assert Collection.find(Address(str(tmp_path / "a.db"))) is None


# Searching


def test_too_few_are_answered_by_asking_deeper_and_at_last_by_a_scan(
    shop: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, asked = MilvusIndex(shop), []
    whole = shop.nearest

    def short(queries: np.ndarray, depth: int, said: Any) -> list[Any]:
        asked.append(depth)
        return [(ids[:2], vectors[:2]) for ids, vectors in whole(queries, depth, said)]

    expected = index.search(VECTORS[:3], 5, where={"sold": True})
    monkeypatch.setattr(shop, "nearest", short)
    monkeypatch.setattr(milvus, "MOST", 60)
    hits = index.search(VECTORS[:3], 5, where={"sold": True})
    assert asked == [5, 20, 60]
    np.testing.assert_array_equal(hits.rows, expected.rows)
    np.testing.assert_array_equal(hits.scores, expected.scores)


def test_what_others_add_is_found_from_refresh_on_and_what_they_remove_no_more(tmp_path: Path) -> None:
    index = MilvusIndex.build(tmp_path / "a.db", [f"i{n}" for n in range(50)], VECTORS[:50], kind="FLAT")
    assert len(index) == 50
    with MilvusWriter(tmp_path / "a.db") as writer:
        writer.add([f"a{n}" for n in range(20)], VECTORS[50:70])
        writer.remove(["i7"])
    hits = index.search(VECTORS[50:70], 5)
    kept = np.delete(np.arange(50), 7)
    exact = exact_search(VECTORS[50:70], VECTORS[kept], 5)
    assert [index.ids.take(rows) for rows in hits.rows] == [[f"i{kept[row]}" for row in rows] for rows in exact.rows]
    assert len(list(index)) == 49
    np.testing.assert_array_equal(index.vectors[index.ids.rows(["i7"])], np.zeros((1, DIMENSION)))
    bonus = np.where(np.array(index.ids.to_list()) == "i7", np.float32(9), np.float32(0))
    assert index.ids.rows(["i7"])[0] not in index.search(VECTORS[:1], 5, bonus=bonus).rows
    after = index.refresh()
    assert after.ids.take(after.search(VECTORS[50:70], 1).rows[:, 0]) == [f"a{n}" for n in range(20)]
    assert after.removed.ids.to_list() == ["i7"]


def test_building_again_brings_a_collection_to_what_is_given(tmp_path: Path) -> None:
    place = tmp_path / "a.db"
    MilvusIndex.build(place, ["a", "b", "c"], VECTORS[:3], {"n": [1, 2, 3]})
    index = MilvusIndex.build(place, ["c", "d"], VECTORS[3:5], {"n": [4, 5]})
    assert [(item.id, item.attributes["n"]) for item in index] == [("c", 4), ("d", 5)]
    assert index.removed.ids.to_list() == ["a", "b"]
    np.testing.assert_array_equal(index.removed.vectors, VECTORS[:2])
    other = MilvusIndex.build(f"{place}#others", [1, 2], VECTORS[:2], space="another")
    assert (len(other), other.space, len(index.refresh())) == (2, "another", 2)
    for ids, vectors, options, sentence in (
        (
            ["c"],
            VECTORS[:1],
            {"space": "0123456789abcdef"},
            "holds items of other space: none, these have 0123456789ab; name another",
        ),
        ([1], VECTORS[:1], {}, "other ids: large_string, these have int64"),
        (["c"], unit(RNG.normal(size=(1, 4))), {}, "other dimension: 8, these have 4"),
        (["c"], VECTORS[:1], {"attributes": {"m": [1]}}, "other attributes: n: int64, these have m: int64"),
    ):
        given: dict[str, Any] = {"attributes": {"n": [1]}, **options}
        with pytest.raises(ArtefactError, match=sentence):
            MilvusIndex.build(place, ids, vectors, **given)


# Strangers and errors


def test_places_are_told_apart(tmp_path: Path) -> None:
    ItemIndex.from_arrays(["a", "b"], VECTORS[:2]).save(tmp_path / "folder.db")
    assert Address.read(tmp_path / "folder.db") is None
    assert Address.read("runs/index") is None
    assert Address.read("runs/index#2") is None
    assert Address.read("milvus.db") == Address("milvus.db", "items")
    assert Address.read(Path("a/milvus.db#songs")) == Address("a/milvus.db", "songs")
    secret = Address.read(Path("https://root:Milvus@host:19530/base#songs"))
    assert secret == Address("https://host:19530/base", "songs", "root:Milvus")
    assert str(secret) == "https://host:19530/base#songs"
    assert "Milvus" not in repr(secret)
    with pytest.raises(InputError, match="named by letters, digits and underscores, not a digit first, got '2nd'"):
        Address.read("milvus.db#2nd")


def test_a_token_may_stand_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILVUS_TOKEN", "key")
    assert Address.read("http://host:1") == Address("http://host:1", "items", "key")
    assert Address.read("http://other@host:1") == Address("http://host:1", "items", "other")


def test_what_is_not_ours_is_refused(place: Path, shop: Collection, tmp_path: Path) -> None:
    from pymilvus import MilvusClient

    client = MilvusClient(str(place))
    client.create_collection("strange", dimension=4)
    client.create_collection("newer", dimension=4, properties={"twotower": json.dumps({"format": 2})})
    said = client.describe_collection("items")["properties"]["twotower"]
    client.create_collection("changed", dimension=4, properties={"twotower": said})
    client.close()
    for name, sentence in (
        ("strange", "the collection 'strange' at .* is not one of twotower's: name another one"),
        ("newer", "is of format 2, this version reads 1: update twotower"),
        ("changed", "changed is damaged: .*its fields are not those"),
        ("absent", "expected an index at .*absent, there is none: twotower index build --store"),
    ):
        for opening in (open_index, open_writer):
            with pytest.raises(ArtefactError, match=sentence):
                opening(f"{place}#{name}")
    with pytest.raises(ArtefactError, match=r"expected an index at .*none.db"):
        open_index(tmp_path / "none.db")
    assert not (tmp_path / "none.db").exists()
    (tmp_path / "photos.db").mkdir()
    (tmp_path / "photos.db" / "one.png").write_bytes(b"")
    (tmp_path / "file.db").write_bytes(b"sqlite")
    for name in ("photos.db", "file.db"):
        with pytest.raises(ArtefactError, match=f"{name} is something else than a database of milvus-lite"):
            MilvusIndex.build(tmp_path / name, ["a"], VECTORS[:1])
    with pytest.raises(InputError, match="nowhere is not a folder"):
        MilvusIndex.build(tmp_path / "nowhere" / "a.db", ["a"], VECTORS[:1])
    with pytest.raises(
        InputError, match=r"expected a Milvus, such as milvus.db or http://host:19530, got 'runs/index'"
    ):
        MilvusIndex.open("runs/index")


def test_a_server_that_does_not_answer_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(connection, "CONNECTING", 0.3)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = f"http://user:secret@127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ArtefactError, match=r"no Milvus answers at http://127.0.0.1:[0-9]+: is it running") as caught:
        open_index(uri)
    assert "secret" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_what_milvus_objects_to_is_one_sentence(shop: Collection, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ArtefactError, match=r"Milvus at .*shop.db does not do as it was asked: .*unknown"):
        shop.count("unknown > 3")
    with pytest.raises(
        InputError, match=r"kind must be auto or one of Milvus's index types, FLAT, .*; got 'IVF64,Flat'"
    ):
        MilvusIndex.build(f"{shop.address.uri}#bad", ["a"], VECTORS[:1], kind="IVF64,Flat")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("module", "sentence"),
    [
        ("pymilvus", r"Milvus needs pymilvus: pip install 'twotower\[milvus\]'"),
        ("milvus_lite", "milvus-lite, without the faiss-cpu .* pip install --no-deps milvus-lite"),
    ],
)
def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: str, sentence: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(connection, "find_spec", lambda name: None if name == module else object())
    with pytest.raises(MissingExtraError, match=sentence):
        MilvusIndex.build(tmp_path / "a.db", ["a"], VECTORS[:1])


def test_an_embedded_one_is_open_in_one_process_at_a_time(tmp_path: Path) -> None:
    MilvusIndex.build(tmp_path / "a.db", ["a", "b"], VECTORS[:2]).close()
    with (tmp_path / "a.db" / "LOCK").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ArtefactError, match=r"a.db cannot be opened: another process has it open, it is damaged"):
            open_index(tmp_path / "a.db")
    index = open_index(tmp_path / "a.db")
    MilvusWriter(f"{tmp_path}/../{tmp_path.name}/a.db").close()  # the same by another name, and not the last one
    assert index.ids.to_list() == ["a", "b"]


KILLED = """
import os, signal, sys
import numpy as np
from indexing.milvus_writer import MilvusWriter
writer = MilvusWriter(sys.argv[1])
writer.add(["c"], np.eye(8, dtype=np.float32)[:1])
writer.remove(["a"])
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_what_was_acknowledged_outlives_its_process(tmp_path: Path) -> None:
    MilvusIndex.build(tmp_path / "a.db", ["a", "b"], VECTORS[:2]).close()
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "a.db")], check=False, capture_output=True)
    index = MilvusIndex.open(tmp_path / "a.db")
    assert index.ids.to_list() == ["b", "c"]
    assert index.removed.ids.to_list() == ["a"]


def test_a_server_is_asked_as_an_embedded_one_is(tmp_path: Path) -> None:
    from milvus_lite.adapter.grpc.server import start_server_in_thread

    server, database, port = start_server_in_thread(data_dir=str(tmp_path / "data"), host="127.0.0.1", port=0)
    try:
        place = f"http://127.0.0.1:{port}#songs"
        ids = [f"i{n}" for n in range(60)]
        index = MilvusIndex.build(Path(place), ids, VECTORS[:60], SHOP[:60], kind="FLAT")
        assert repr(index) == f"MilvusIndex(60 items, 8 dimensions, kind 'FLAT', at {place})"
        order = index.ids.rows(ids)
        exact = exact_search(VECTORS[60:], VECTORS[:60], 5)
        hits = index.search(VECTORS[60:], 5)
        np.testing.assert_array_equal(hits.rows, order[exact.rows])
        np.testing.assert_array_equal(hits.scores, exact.scores)
        with open_writer(place) as writer:
            writer.remove(["i3"])
            assert len(writer) == 59
        assert "i3" not in index
        index.close()
    finally:
        server.stop(grace=0)
        database.close()
    with pytest.raises(ArtefactError, match=rf"Milvus .*127.0.0.1:{port}"):
        open_index(place)


def test_vectors_are_fetched_by_row(shop: Collection) -> None:
    index = MilvusIndex(shop)
    rows = np.array([[3, 3], [5, 0]])
    np.testing.assert_array_equal(index.vectors[rows], VECTORS[np.array(index.ids.to_list())[rows]])
    assert len(index.vectors) == COUNT
    assert collections.MOST == milvus.MOST
