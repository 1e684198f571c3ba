"""Amazon Reviews 2023: small files in exactly its formats, odd rows included, against values by hand."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from towers.catalog import Catalog
from towers.errors import InputError
from towers.importers import amazon, objects
from towers.interactions import Interactions

NAMES = ("user_id", "item_id", "rating", "timestamp")


def events_of(log: Interactions) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in NAMES) for row in log.table.to_pylist()]


def rejected_of(thing: Catalog | Interactions) -> list[tuple[str, int, str, str | None]]:
    return [(Path(r["file"]).name, r["row"], r["reason"], r.get("value")) for r in thing.rejected.rows]


def flags(*numbers: int) -> str:
    return "|".join("1" if number in numbers else "0" for number in range(19))


def review(item: str, user: str, **more: Any) -> dict[str, Any]:
    return {
        "rating": 5.0, "title": "Wow", "text": "Such a lovely scent", "images": [], "asin": f"{item}-variant",
        "parent_asin": item, "user_id": user, "timestamp": 1588687728923, "helpful_vote": 0, "verified_purchase": True,
        **more,
    }  # fmt: skip


def meta(item: str, **more: Any) -> dict[str, Any]:
    return {
        "main_category": "All Beauty", "title": f"Title of {item}", "average_rating": 4.8, "rating_number": 10,
        "features": [], "description": [], "price": None, "images": [], "videos": [], "store": None, "categories": [],
        "details": {}, "parent_asin": item, "bought_together": None, **more,
    }  # fmt: skip


def put(path: Path, *lines: dict[str, Any] | str) -> Path:
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


REVIEWS = [
    review("B1", "ann", text="Nice.<br /><br />Smells\u00a0of “café” \U0001f600"),
    review("B2", "ann", rating=1, timestamp=1600000000000, text=""),
    '{"rating": 4.0, "user_id": "bob", "parent_asin"',
    review("0007", "bob", rating="2.0", text=None),
    "[1, 2]",
    review("B1", "bob", rating="many"),
    review("", "bob"),
    review("B1", "bob", timestamp=None),
    review("B1", "cid", rating=7.0),
]


def test_amazon_reviews(tmp_path: Path) -> None:
    put(tmp_path / "All_Beauty.jsonl.gz", *REVIEWS)
    put(
        tmp_path / "meta_All_Beauty.jsonl",
        meta(
            "B1",
            price=9.5,
            store="Yes To",
            categories=["Beauty", "Skin <br> Care", ""],
            features=["Soft", "Vegan"],
            description=["First.", "Second,<br>third."],
            details={"Brand": "Yes To", "Packs": 2, "Best Sellers Rank": {"Beauty": 7}, "Empty": ""},
            images=[{"thumb": "t", "large": "https://x/l.jpg", "variant": "MAIN", "hi_res": None}],
        ),
        meta("B2", price="from 11.99", title=None, description="plain, no list", main_category=None),
        meta("B3", price="3.25", author={"name": "Ann Author", "about": ["x"]}, subtitle="Paperback"),
        "nonsense",
        meta("B1", title="again"),
    )
    catalog, log = amazon.read(tmp_path)
    rows = catalog.table.to_pylist()
    assert rows[0] == {
        "item_id": "B1",
        "title": "Title of B1",
        "subtitle": None,
        "author": None,
        "main_category": "All Beauty",
        "store": "Yes To",
        "categories": ["Beauty", "Skin Care"],
        "features": ["Soft", "Vegan"],
        "description": "First. Second, third.",
        "price": 9.5,
        "details": "Brand: Yes To, Packs: 2",
        "images": [{"variant": "MAIN", "large": "https://x/l.jpg", "hi_res": None}],
    }
    assert [(row["item_id"], row["title"], row["price"], row["description"]) for row in rows[1:]] == [
        ("B2", None, None, "plain, no list"),
        ("B3", "Title of B3", 3.25, None),
        ("0007", None, None, None),
    ]
    assert (rows[2]["author"], rows[2]["subtitle"]) == ("Ann Author", "Paperback")
    assert rejected_of(catalog) == [
        ("meta_All_Beauty.jsonl", 4, "not a JSON object", "nonsense"),
        ("meta_All_Beauty.jsonl", 5, "duplicate item_id", "B1"),
    ]
    assert catalog.texts(catalog.default_template())[0].startswith(
        "Title of B1. All Beauty. Yes To. Beauty, Skin Care. "
    )

    assert log.rating_range == (1, 5)
    assert events_of(log) == [
        ("ann", "B1", 1.0, 1588687728.923),
        ("ann", "B2", 0.0, 1600000000.0),
        ("bob", "0007", 0.25, 1588687728.923),
    ]
    assert log.table["text"].to_pylist() == ["Nice. Smells\u00a0of “café” \U0001f600", None, None]
    assert rejected_of(log) == [
        ("All_Beauty.jsonl.gz", 3, "not a JSON object", '{"rating": 4.0, "user_id": "bob", "parent_asin"'),
        ("All_Beauty.jsonl.gz", 5, "not a JSON object", "[1, 2]"),
        ("All_Beauty.jsonl.gz", 6, "rating is not a number", "many"),
        ("All_Beauty.jsonl.gz", 7, "missing item_id", None),
        ("All_Beauty.jsonl.gz", 8, "missing timestamp", None),
        ("All_Beauty.jsonl.gz", 9, "rating outside 1 to 5", "7"),
    ]
    assert log.rejected.total == 9


def test_a_column_of_metadata_without_values_is_left_out(tmp_path: Path) -> None:
    put(tmp_path / "X.jsonl", review("B1", "ann"))
    put(tmp_path / "meta_X.jsonl", meta("B1", price="nan", details={"Rank": {}}, images=["odd"]))
    assert amazon.read(tmp_path)[0].table.column_names == ["item_id", "title", "main_category"]


def test_without_metadata_an_item_is_its_id(tmp_path: Path) -> None:
    put(tmp_path / "X.jsonl", review("B2", "ann"), review("B1", "ann"), review("B2", "bob"))
    source = amazon.load(tmp_path)
    assert source.read()[0].table.to_pylist() == [{"item_id": "B2"}, {"item_id": "B1"}]
    assert source.bare == 2


def test_several_categories_stand_below_one_another(tmp_path: Path) -> None:
    put(tmp_path / "A.jsonl", review("B1", "ann"), "broken", review("B9", "ann"))
    put(tmp_path / "B.jsonl", review("B2", "ann"), review("B2", "ann", rating=9))
    put(tmp_path / "meta_B.jsonl", meta("B2"))
    catalog, log = amazon.read(tmp_path)
    assert [event[1] for event in events_of(log)] == ["B1", "B9", "B2"]
    assert catalog.table["item_id"].to_pylist() == ["B2", "B1", "B9"]
    assert [(row["row"], row["reason"]) for row in log.rejected.rows] == [
        (2, "not a JSON object"),
        (5, "rating outside 1 to 5"),  # the fifth line of all
    ]
    assert log.loaded.file == f"{tmp_path / 'A.jsonl'}, {tmp_path / 'B.jsonl'}"


HEAD = "user_id,parent_asin,rating,timestamp"


def benchmark(folder: Path) -> None:
    put(
        folder / "X.train.csv",
        HEAD + ",history",
        "ann,B1,5.0,1588687728923,",
        "bob,B2,4.0,1500000000001,B1 B3",
        "ann,B2",
    )
    put(folder / "X.valid.csv.gz", HEAD + ",history", "ann,B2,1.0,1600000000000,B1")
    put(folder / "X.test.csv", HEAD + ",history", "ann,0123456789,3.0,1600000000001,B1 B2")


def test_benchmark_files_decide_events_items_and_split(tmp_path: Path) -> None:
    benchmark(tmp_path)
    put(tmp_path / "X.csv", HEAD, "zoe,B8,5.0,1588687728923")  # the same before it was split
    put(tmp_path / "other.csv", "a,b", "1,2")
    put(tmp_path / "meta_X.jsonl", *(meta(item) for item in ("B9", "B2", "B1")))
    put(tmp_path / "X.jsonl", *REVIEWS, review("B1", "ann", text="later copy"))
    catalog, log = amazon.read(tmp_path)
    assert catalog.table.select(["item_id", "title"]).to_pylist() == [
        {"item_id": "B2", "title": "Title of B2"},
        {"item_id": "B1", "title": "Title of B1"},
        {"item_id": "0123456789", "title": None},
    ]
    assert events_of(log) == [
        ("ann", "B1", 1.0, 1588687728.923),
        ("bob", "B2", 0.75, 1500000000.001),
        ("ann", "B2", 0.0, 1600000000.0),
        ("ann", "0123456789", 0.5, 1600000000.001),
    ]
    assert log.table["split"].to_pylist() == ["train", "train", "validation", "test"]
    assert log.table["text"].to_pylist() == ["Nice. Smells\u00a0of “café” \U0001f600", None, None, None]
    assert log.rejected.counts["wrong number of fields"] == 1
    assert log.rejected.counts["not a JSON object"] == 2  # of the reviews


def test_benchmark_files_alone_suffice(tmp_path: Path) -> None:
    put(tmp_path / "X.csv", HEAD, "ann,B1,5.0,1588687728923", "bob,B1,4.0,1588687728924")
    catalog, log = amazon.read(tmp_path)
    assert catalog.table.to_pylist() == [{"item_id": "B1"}]
    assert log.table.column_names == ["user_id", "item_id", "timestamp", "rating"]
    assert events_of(log)[1] == ("bob", "B1", 0.75, 1588687728.924)


def test_an_older_release_is_told_from_this_one(tmp_path: Path) -> None:
    put(tmp_path / "X.jsonl", {"reviewerID": "A", "asin": "B", "overall": 5.0, "unixReviewTime": 1})
    with pytest.raises(InputError, match=r"X\.jsonl is not of Amazon Reviews 2023: no line has the key 'user_id'"):
        amazon.read(tmp_path)


def test_a_download_that_broke_off_is_named(tmp_path: Path) -> None:
    path = put(tmp_path / "X.jsonl.gz", *(review(f"B{n}", "ann") for n in range(100)))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"X\.jsonl\.gz cannot be read to its end"):
        amazon.read(tmp_path)


def test_of_a_file_that_is_there_twice_one_is_read(tmp_path: Path) -> None:
    put(tmp_path / "X.jsonl", review("B1", "ann"))
    put(tmp_path / "X.jsonl.gz", review("B1", "ann"))
    assert len(amazon.read(tmp_path)[1]) == 1


# JSON lines


@pytest.mark.parametrize("size", [1, 7, 50, 1 << 20])
def test_blocks_of_any_size_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(objects, "BLOCK_BYTES", size)
    path = put(tmp_path / "X.jsonl", '{"a": "x"}', "", "bad", '{"b": 1, "a": null}', "null?", '{"a": [1, "y"], "c": 2}')
    path.write_bytes(path.read_bytes() + b'{"a": "\xff"}\n{"a": "last"}')  # no UTF-8; no end of line
    loaded = objects.read_objects(path, ["a", "b"])
    assert loaded.table.to_pylist() == [
        {"a": "x", "b": None},
        {"a": None, "b": "1"},
        {"a": '[1, "y"]', "b": None},
        {"a": "last", "b": None},
    ]
    assert loaded.rows.tolist() == [1, 3, 5, 7]
    assert [row["row"] for row in loaded.rejected.rows] == [2, 4, 6]
    assert loaded.rejected.total == 7


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    assert len(objects.read_objects(put(tmp_path / "X.jsonl"), ["a"]).table) == 0


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5), st.booleans())
def test_any_text_comes_through(tmp_path: Path, texts: list[str], ascii_only: bool) -> None:
    path = tmp_path / "X.jsonl"
    path.write_text("\n".join(json.dumps({"a": text}, ensure_ascii=ascii_only) for text in texts), "utf-8")
    assert objects.read_objects(path, ["a"]).table["a"].to_pylist() == texts


def test_nothing_is_written_where_nothing_is_usable(tmp_path: Path) -> None:
    put(tmp_path / "X.jsonl", review("B1", "ann", rating=9))
    with pytest.raises(
        InputError, match=r"X\.jsonl has no usable row \(1 of 1 rows set aside: 1 rating outside 1 to 5\)"
    ):
        amazon.load(tmp_path).write(tmp_path / "data")
    assert [path.name for path in tmp_path.iterdir()] == ["X.jsonl"]
