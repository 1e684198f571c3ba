"""Items come, change and go while the service answers; pictures and sounds are had by an item's id alone."""

from __future__ import annotations

import io
import json
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from fastapi import HTTPException

from indexing.build import build_index
from indexing.index import ItemIndex
from indexing.writer import IndexWriter
from serving.web.changes import Changes, with_rows
from serving.web.limits import refuse_long
from serving.web.offer import Shelf
from serving.web.routes.items import _own
from tests.serving.web.conftest import picture, sound
from towers.catalog import Catalog
from towers.errors import ArtefactError, InputError


def near(service: Any, item: str) -> list[str]:
    return [one["item"] for one in service.post("/v1/similar", json={"item": item, "k": 39}).json()["items"]]


def test_a_new_item_is_found_at_once_and_after_a_restart(client: Any, source: Any) -> None:
    service = client()
    row = {"item_id": "new", "title": "quiet piano evening 99", "topic": "music"}
    assert service.put("/v1/items", json={"items": [row]}).status_code == 200
    assert service.get("/v1/item", params={"item": "new"}).json()["attributes"] == {
        "title": row["title"],
        "topic": "music",
    }
    assert "new" in near(service, "m02")
    answer = service.post("/v1/recommend", json={"text": "quiet piano evening 99", "where": {"topic": "music"}}).json()
    assert answer["items"][0]["item"] == "new"
    again = source.load()
    assert again.catalog.titles[again.row("new")] == row["title"]
    assert "new" in {one.item for one in again.retriever.similar("m02", k=40)}


def test_it_writes_nowhere_but_beside_its_catalog_and_its_index(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path / "file" / "cache"))  # where nothing can be made
    service = client()
    answer = service.put("/v1/items", json={"items": [{"item_id": "new", "title": "quiet piano", "topic": "music"}]})
    assert answer.status_code == 200, answer.text
    assert service.post("/v1/similar", json={"item": "new", "by": "text"}).status_code == 200


def test_a_changed_item_is_found_as_what_it_is_now(client: Any, source: Any) -> None:
    service = client()
    before = ItemIndex.load(source.index).get("m04")
    service.put("/v1/items", json={"items": [{"item_id": "m04", "title": "fast engine race", "topic": "motors"}]})
    after = ItemIndex.load(source.index).get("m04")
    assert before is not None
    assert after is not None
    assert after.attributes["topic"] == "motors"
    assert float(before.vector @ after.vector) < 0.999
    told = service.get("/v1/item", params={"item": "m04"}).json()
    assert (told["title"], told["image"], told["audio"]) == ("fast engine race", True, True)


def test_a_removed_item_is_gone_for_good_but_stays_in_histories(client: Any, source: Any) -> None:
    service = client()
    past = service.post("/v1/people/history", json={"user": 7}).json()["events"][0]["item"]
    assert service.post("/v1/items/remove", json={"items": [past]}).status_code == 200
    assert service.get("/v1/item", params={"item": past}).status_code == 404
    assert past not in near(service, "m00" if past != "m00" else "m02")
    assert service.post("/v1/recommend", json={"user": 7}).status_code == 200
    assert source.load().row(past) == -1
    assert service.post("/v1/items/remove", json={"items": [past]}).status_code == 404


def test_an_item_that_the_index_lacks_goes_from_the_catalog(client: Any, source: Any) -> None:
    with IndexWriter(source.index) as writer:
        writer.remove(["m06"])
        version = writer.publish()
    service = client()
    assert service.get("/v1/item", params={"item": "m06"}).status_code == 200
    assert service.post("/v1/items/remove", json={"items": ["m06"]}).status_code == 200
    assert service.get("/v1/item", params={"item": "m06"}).status_code == 404
    assert ItemIndex.load(source.index).version == version
    assert service.post("/v1/items/remove", json={"items": ["m06"]}).status_code == 404
    # Among others, it does not keep them.
    with IndexWriter(source.index) as writer:
        writer.remove(["m08"])
        writer.publish()
    assert service.post("/v1/items/remove", json={"items": ["m08", "m10"]}).status_code == 200
    assert "m10" not in ItemIndex.load(source.index)
    assert [source.load().row(item) for item in ("m06", "m08", "m10")] == [-1, -1, -1]


def test_the_last_items_cannot_be_removed(offer: Any, source: Any) -> None:
    items = offer.catalog.ids.to_list()
    with pytest.raises(InputError, match="nothing would be left that can be recommended: put other items first"):
        source.remove(offer, items)
    assert len(ItemIndex.load(source.index)) == len(items)
    assert len(source.load().catalog) == len(items)
    assert source.remove(offer, items[1:]).catalog.ids.to_list() == items[:1]


def test_a_removed_item_that_comes_again_has_nothing_of_what_it_was(client: Any, source: Any) -> None:
    service = client()
    assert service.get("/v1/item", params={"item": "m04"}).json()["image"]
    service.post("/v1/items/remove", json={"items": ["m04"]})
    service.put("/v1/items", json={"items": [{"item_id": "m04", "title": "quiet rain"}]})
    expected = {"item": "m04", "title": "quiet rain", "image": False, "audio": False}
    for _ in range(2):
        told = service.get("/v1/item", params={"item": "m04"}).json()
        assert told == expected | {"attributes": {"title": "quiet rain", "topic": None}}
        assert service.post("/v1/admin/swap").status_code == 200  # as after a restart


def test_the_audit_log_tells_who_changed_which_item(client: Any, store: Any) -> None:
    service = client()
    version = service.put("/v1/items", json={"items": [{"item_id": "new", "title": "quiet piano"}]}).json()["version"]
    service.post("/v1/items/media", data={"item": "m03"}, files={"image": ("a.png", picture(), "image/png")})
    service.post("/v1/items/remove", json={"items": ["new"]})
    assert service.post("/v1/items/remove", json={"items": ["new"]}).status_code == 404
    told = [(one.who, one.action, one.details["items"]) for one in store.audit.entries()]
    assert told == [("local", "put", ["new"]), ("local", "put-media", ["m03"]), ("local", "remove", ["new"])]
    assert store.audit.entries()[0].details["version"] == version


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"title": "no id"}], "needs an item_id"),
        ([{"item_id": "", "title": "a"}], "needs an item_id"),
        ([{"item_id": "x" * 201, "title": "a"}], "needs an item_id"),
        ([{"item_id": "a\0b", "title": "a"}], "needs an item_id"),
        ([{"item_id": True, "title": "a"}], "needs an item_id"),
        ([{"item_id": 2**63, "title": "a"}], "needs an item_id"),
        ([{"item_id": "x", "titel": "a"}], "did you mean 'title'"),
        ([{"item_id": "x", "title": 7}], "does not fit"),
        ([{"item_id": "x", "title": "a"}, {"item_id": "x", "title": "b"}], "comes twice"),
        ([{"item_id": "x", "title": "a", "image": "/etc/passwd"}], "sent as a file"),
        ([{"item_id": "x", "title": "a", "audio": "x"}], "sent as a file"),
        ([{"item_id": "x", "title": float("nan")}], "what JSON cannot"),
        ([{"item_id": "x", "title": "\ud800"}], "what JSON cannot"),
        ([{"item_id": "x", "title": [["a"]]}], "does not fit"),
    ],
)
def test_what_is_no_item_changes_nothing(client: Any, source: Any, rows: Any, said: str) -> None:
    version = ItemIndex.load(source.index).version
    answer = client().put(
        "/v1/items", content=json.dumps({"items": rows}), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 422
    assert said in answer.json()["error"]
    assert ItemIndex.load(source.index).version == version
    assert len(source.load().catalog) == 40


OF_MANY_TYPES = pa.table(
    {
        "item_id": [1, 2],
        "title": ["quiet rain", "fast race"],
        "topic": ["music", "motors"],
        "released": pa.array([date(2020, 1, 10), None], pa.date32()),
        "opens": pa.array([time(8, 30), None], pa.time32("s")),
        "changed": pa.array([datetime(2020, 1, 10, 12), None], pa.timestamp("us", "UTC")),
        "price": pa.array([Decimal("9.99"), None], pa.decimal128(5, 2)),
        "doc": pa.array([None, None], pa.struct({"file": pa.string(), "pages": pa.int64()})),
        "cover": pa.array([None, None], pa.binary()),
        "pages": pa.array([3, None], pa.int16()),
    }
)


def test_dates_times_decimals_and_structs_are_put_as_they_are_told(
    client: Any, source: Any, tiny_run: Any, store: Any
) -> None:
    catalog = Catalog.read(OF_MANY_TYPES)
    build_index(tiny_run.model, catalog, out=source.index, progress=False)
    source.catalog, source.log = lambda: catalog, None
    service = client(Shelf(source.load()))
    told = service.get("/v1/item", params={"item": 1}).json()["attributes"]
    assert (told["released"], told["opens"], told["price"]) == ("2020-01-10", "08:30:00", "9.99")
    doc = {"file": "manual.pdf", "pages": 3}  # which looks like what the journal has in the place of bytes
    rows = [told | {"item_id": 2, "doc": doc}, {"item_id": 800, "title": "quiet", "price": 7.5}]
    answer = service.put("/v1/items", json={"items": rows})
    assert answer.status_code == 200, answer.text
    assert service.get("/v1/item", params={"item": 2}).json()["attributes"] == told
    where = {"released": "2020-01-10", "price": {">": "9.98"}, "opens": "08:30", "changed": "2020-01-10T12:00:00Z"}
    found = service.post("/v1/similar", json={"item": 800, "where": where}).json()["items"]
    assert sorted(one["item"] for one in found) == [1, 2]
    one, two, new = source.load().catalog.table.drop_columns(["item_id", "title"]).to_pylist()
    assert two == one | {"doc": doc}
    assert new == dict.fromkeys(one) | {"price": Decimal("7.50")}


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("released", "soon", "which is of date32[day]: got 'soon'; expected a date such as \"2020-01-31\""),
        ("released", "2020-01-10T12:00:00", "got '2020-01-10T12:00:00'"),
        ("released", 18271, "got 18271"),
        ("opens", "08:30:00.5", "got '08:30:00.5'; expected a time of day"),
        ("changed", True, "got True; expected a date"),
        ("price", "cheap", "which is of decimal128(5, 2): got 'cheap'; expected a number"),
        ("price", 9.999, "got 9.999"),
        ("price", 1000, "got 1000"),
        ("price", True, "got True"),
        ("pages", 1.5, "which is of int16: got 1.5"),
        ("pages", False, "which is of int16: got False"),
        ("title", 7, "got 7; expected a text"),
        ("doc", "manual.pdf", "got 'manual.pdf'; "),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_its_item_and_its_column(column: str, value: Any, said: str) -> None:
    with pytest.raises(InputError) as raised:
        with_rows(Catalog.read(OF_MANY_TYPES), [{"item_id": 2, "title": "a"}, {"item_id": 800, column: value}])
    assert str(raised.value).startswith(f"item 800 does not fit the column {column!r}, ")
    assert said in str(raised.value)


@pytest.mark.parametrize("named", ["serve/media/../../secret", "/etc/passwd", f"serve/media/{'0' * 64}", None])
def test_the_journal_names_what_the_service_keeps_and_nothing_else(tmp_path: Path, named: str | None) -> None:
    (tmp_path / "secret").write_text("secret")
    changes, catalog = Changes(tmp_path), Catalog.read(OF_MANY_TYPES)
    changes.put([{"item_id": 1, "cover": b"red"}])
    assert changes.applied(catalog).table["cover"].to_pylist() == [b"red", None]
    changes.put([{"item_id": 1, "cover": {"file": named}}])
    with pytest.raises(ArtefactError, match=r"items\.jsonl names"):
        changes.applied(catalog)


def test_a_journal_that_does_not_fit_the_catalog_is_named_with_the_item_and_the_column(tmp_path: Path) -> None:
    changes, catalog = Changes(tmp_path), Catalog.read(OF_MANY_TYPES)
    changes.put([{"item_id": 800, "title": "quiet", "price": "7.50"}])
    assert changes.applied(catalog).table["price"].to_pylist() == [Decimal("9.99"), None, Decimal("7.50")]
    with pytest.raises(InputError) as raised:
        changes.applied(Catalog.read(OF_MANY_TYPES.drop_columns(["price"])))
    for part in (str(tmp_path / "serve" / "items.jsonl"), "item 800", "no column 'price'", "take the item's lines out"):
        assert part in str(raised.value)


def test_one_item_of_which_nothing_can_be_read_keeps_the_others_away_too(client: Any, source: Any) -> None:
    """And is not named on standard error, where the service's log goes: warnings are errors here."""
    rows = [{"item_id": "x", "title": "quiet rain"}, {"item_id": "y", "title": None}]
    answer = client().put("/v1/items", json={"items": rows})
    assert (answer.status_code, answer.json()["error"]) == (
        422,
        "of 1 of 2 items nothing can be read: give them a text",
    )
    assert len(ItemIndex.load(source.index)) == len(source.load().catalog) == 40


def test_what_came_while_an_index_was_built_elsewhere_is_found_after_the_swap(
    client: Any, source: Any, tiny_run: Any, tmp_path: Path
) -> None:
    """As by a refresh that began before it came."""
    service = client()
    rows = [{"item_id": item, "title": "quiet piano", "topic": "music"} for item in ("new", "brief")]
    service.put("/v1/items", json={"items": rows})
    service.post("/v1/items/remove", json={"items": ["brief", "m05"]})
    tiny_run.index.save(tmp_path / "release")
    source.index = tmp_path / "release"
    assert service.post("/v1/admin/swap").status_code == 200
    assert "new" in near(service, "m02")
    assert not {"brief", "m05"} & set(near(service, "m02"))
    found = ItemIndex.load(source.index).get("new")
    assert found is not None
    assert found.attributes["topic"] == "music"


def test_what_came_over_http_outlives_an_index_built_from_the_catalogs_file(
    client: Any, source: Any, tiny_run: Any
) -> None:
    """Such a build counts what the file lacks as removed, and has what was changed as it was."""
    service = client()
    changed = {"item_id": "m04", "title": "fast engine race", "topic": "motors"}
    service.put("/v1/items", json={"items": [changed, {"item_id": "new", "title": "quiet piano", "topic": "music"}]})
    service.post("/v1/items/remove", json={"items": ["m05"]})
    put = ItemIndex.load(source.index).get("m04")
    build_index(tiny_run.model, source.catalog(), out=source.index, progress=False)
    assert ItemIndex.load(source.index).removed.ids.to_list() == ["new"]
    assert service.post("/v1/admin/swap").status_code == 200
    index = ItemIndex.load(source.index)
    held = index.get("m04")
    assert held.attributes == put.attributes == {"title": "fast engine race", "topic": "motors"}
    assert float(held.vector @ put.vector) > 0.9999
    assert index.get("new").attributes["topic"] == "music"
    assert "new" in near(service, "m02")
    assert "m05" not in near(service, "m07")
    source.load()
    assert ItemIndex.load(source.index).version == index.version  # nothing is behind, so nothing is written


def test_a_picture_and_a_sound_are_had_by_the_items_id(client: Any) -> None:
    service = client()
    image = service.get("/v1/media", params={"item": "m00", "kind": "image"})
    assert (image.status_code, image.headers["Content-Type"], image.content) == (200, "image/png", picture())
    audio = service.get("/v1/media", params={"item": "m00", "kind": "audio"})
    assert (audio.headers["Content-Type"], audio.content) == ("audio/wav", sound())


@pytest.mark.parametrize("item", ["m01", "m02", "m03", "none", "../secret.png", "cover.png", "m00/../m01"])
def test_nothing_else_is_had(client: Any, item: str) -> None:
    """A path out of the folder, a page in the place of a picture, no file, no such item."""
    assert client().get("/v1/media", params={"item": item, "kind": "image"}).status_code == 404


@pytest.mark.parametrize(
    "path", ["/page/../app.py", "/page/%2e%2e/app.py", "/page/..%2fapp.py", "/page/page.js/", "/page//"]
)
def test_the_page_has_its_own_files_alone(client: Any, path: str) -> None:
    assert client().get(path, follow_redirects=False).status_code in (404, 307)


def test_items_are_found_by_their_titles(client: Any, tiny_run: Any) -> None:
    service = client()
    found = service.get("/v1/items", params={"search": "PIANO", "limit": 3}).json()
    wanted = [title for title in tiny_run.catalog.titles if "piano" in title]
    assert [one["title"] for one in found] == wanted[:3]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v1/items?q=piano", "/v1/items has no parameter 'q'; it has: search, limit"),
        ("/v1/items?serch=piano&limit=3", "no parameter 'serch' (did you mean 'search'?)"),
        ("/v1/item?item=m00&k=3", "/v1/item has no parameter 'k'; it has: item"),
        ("/v1/about?k=3", "/v1/about has no parameter 'k'; it has: none"),
    ],
)
def test_a_parameter_that_there_is_not_is_refused(client: Any, path: str, said: str) -> None:
    answer = client().get(path)
    assert answer.status_code == 422
    assert said in answer.json()["error"]


def test_a_question_by_a_picture_is_refused_where_the_model_reads_none(client: Any) -> None:
    answer = client().post("/v1/recommend/media", files={"image": ("a.png", picture(), "image/png")})
    assert answer.status_code == 422
    assert "no encoder of image" in answer.json()["error"]
    wrong = client().post("/v1/recommend/media", data={"question": '{"k": "many"}'})
    assert (wrong.status_code, wrong.json()["error"][:10]) == (422, "question.k")


def test_an_item_that_went_meanwhile_takes_no_other_along(offer: Any, source: Any) -> None:
    without = source.remove(offer, ["m03"])
    with pytest.raises(HTTPException, match="404"):
        _own(without, ["m03"])
    assert _own(without, ["m04"]) == ["m04"]


def test_what_was_refused_is_not_published_by_the_next_change(
    offer: Any, source: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(items: Any) -> None:
        raise ArtefactError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(source.changes, "remove", full)
        with pytest.raises(ArtefactError, match="full"):
            source.remove(offer, ["m03"])
    now = source.remove(offer, ["m05"])
    left = ItemIndex.load(source.index)
    assert "m03" in left
    assert "m05" not in left
    assert now.row("m03") >= 0


def test_a_long_sound_is_refused_before_it_is_decoded() -> None:
    written = io.BytesIO()
    soundfile.write(written, np.zeros(8000 * 601, np.int16), 8000, format="FLAC")
    with pytest.raises(InputError, match="may last 10 minutes"):
        refuse_long(written.getvalue())
    refuse_long(sound())
    refuse_long(b"no sound")
