"""The store: every event once, in order, durable; what is asked of it in other ways than events is beside this."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import update

from serving.store import database, schema
from serving.store.event import Event
from serving.store.store import Store
from towers.errors import InputError, StoreError

ROOT = Path(__file__).parents[3]


def click(n: int, person: str = "ann", **more: object) -> Event:
    return Event(f"e{n}", person, f"i{n}", "click", 1000.0 + n, **more)  # type: ignore[arg-type]


def test_what_is_sent_again_is_kept_once(store: Store) -> None:
    assert store.record([click(1), click(2), click(1)]) == 2
    assert store.record([click(2), click(3)]) == 1
    assert store.record([Event("e1", "ann", "other", "view", 5)]) == 0  # its id was used
    assert store.record([click(1, "bob")]) == 1  # ids are each person's own
    assert store.record([]) == 0
    assert store.history("ann") == [click(1), click(2), click(3)]
    assert store.count() == 4


def test_a_history_is_of_one_person_in_order_of_time_and_bounded(store: Store) -> None:
    rated = Event("r", 17, 3, "rating", 500.5, 4.5, 0.25)
    store.record([click(9, "17"), click(2, "17"), click(5), rated, Event("v", "17", "i1", "view", 2000)])
    assert store.history(17) == [rated, click(2, "17"), click(9, "17")]
    assert store.history("17", most=2) == [click(2, "17"), click(9, "17")]
    assert store.history("nobody") == []
    assert vars(store.history(17)[0]) == {
        "id": "r",
        "person": "17",
        "item": "3",
        "kind": "rating",
        "time": 500.5,
        "value": 4.5,
        "probability": 0.25,
    }


def test_refusals_are_all_remembered(store: Store) -> None:
    store.record([Event(str(n), "ann", f"i{n % 3}", "not-this", n) for n in range(9)])
    store.record([Event("l", "ann", "i7", "less-like-this", 1), Event("m", "bob", "i8", "not-this", 1), click(9)])
    assert sorted(store.refused("ann")) == ["i0", "i1", "i2", "i7"]


def test_a_cursor_goes_through_all_events_in_parts(store: Store) -> None:
    store.record([click(n) for n in range(1201)])  # more than are looked up at once
    found, cursor = store.since(most=1000)
    assert found == [click(n) for n in range(1000)]
    rest, cursor = store.since(cursor, most=1000)
    assert rest == [click(n) for n in range(1000, 1201)]
    assert store.since(cursor) == ([], cursor)
    store.record([click(1, "bob")])
    assert store.since(cursor)[0] == [click(1, "bob")]


def test_writers_side_by_side_keep_each_event_once_and_a_reader_misses_none(uri: str) -> None:
    errors: list[BaseException] = []

    def write(writer: int) -> None:
        try:
            with Store.open(uri) as own:  # all begin by making the tables
                for n in range(20):
                    own.record([click(n, "same"), click(n, f"own {writer}")])
        except BaseException as error:
            errors.append(error)

    writers = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for writer in writers:
        writer.start()
    seen, cursor = [], 0
    with Store.open(uri) as reader:
        while any(writer.is_alive() for writer in writers):
            found, cursor = reader.since(cursor)
            seen += found
        seen += reader.since(cursor)[0]
        assert errors == []
        assert len(seen) == 100 == reader.count()
        assert len({(one.person, one.id) for one in seen}) == 100


def test_many_open_a_new_store_at_once(tmp_path: Path) -> None:
    """SQLite refuses to wait for another connection that changes a new file to its log."""

    def opened(path: Path) -> int:
        with Store.open(path) as store:
            return store.count()

    with ThreadPoolExecutor(8) as threads:
        for number in range(40):
            assert list(threads.map(opened, [tmp_path / f"{number}.db"] * 8)) == [0] * 8


def test_readers_go_on_while_more_writers_wait_than_there_are_connections(uri: str) -> None:
    with Store.open(uri) as store, Store.open(uri) as other, ThreadPoolExecutor(20) as threads:
        with other._database.writing():
            writes = [threads.submit(store.record, [click(n)]) for n in range(20)]
            time.sleep(0.3)
            began = time.monotonic()
            assert [store.history("ann") for _ in range(10)] == [[]] * 10
            assert time.monotonic() - began < 1
        assert [one.result() for one in writes] == [1] * 20
        assert store.count() == 20


def test_a_writer_that_does_not_end_is_not_waited_for_without_end(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "WAIT", 0.3)
    with Store.open(uri) as store, Store.open(uri) as other:
        for holder in (other, store):
            with holder._database.writing(), pytest.raises(StoreError, match="cannot be written now: "):
                store.record([click(1)])
        assert store.record([click(1)]) == 1


def test_everything_a_person_gave_is_exported_and_erased(store: Store) -> None:
    store.record([click(1), click(2, probability=0.5), click(1, "bob")])
    store.reviews.ask("i1", reason="I found this cruel", person="ann")
    store.audit.note("kim", "look", person="ann", why="she asked")
    given = store.export("ann")
    assert [event["item"] for event in given["events"]] == ["i1", "i2"]
    assert given["events"][1]["probability"] == 0.5
    assert [review["reason"] for review in given["reviews"]] == ["I found this cruel"]
    assert [entry["details"] for entry in given["audit"]] == [{"why": "she asked"}]
    head = store.audit.head()
    assert store.erase("ann", by="kim") == (2, 1, 2)
    assert store.export("ann") == {"person": "ann", "events": [], "reviews": [], "audit": []}
    assert store.history("bob") == [click(1, "bob")]
    assert store.audit.verify(head).number == 2
    assert [entry.details for entry in store.audit.entries()] == [None, {"events": 2, "reviews": 1, "emptied": [1]}]
    store.record([click(7)])
    assert store.since(3)[0] == [click(7)]  # numbers of erased events are not given again


def test_erased_words_are_not_in_the_file(tmp_path: Path) -> None:
    with Store.open(tmp_path / "shop.db") as store:
        store.record([Event("e", "Ann Unforgettable", "i", "click", 1)])
        store.reviews.ask("i", reason="Ann Unforgettable asks", person="Ann Unforgettable")
        held = [path.read_bytes() for path in tmp_path.iterdir()]
        assert any(b"Ann Unforgettable" in content for content in held)
        store.erase("Ann Unforgettable", by="kim")
        held = [path.read_bytes() for path in tmp_path.iterdir()]
        assert not any(b"Unforgettable" in content for content in held)


def test_only_its_owner_reads_the_file(tmp_path: Path) -> None:
    with Store.open(tmp_path / "new folder" / "shop.db") as store:
        store.record([click(1)])
        modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new folder").iterdir()}
    assert modes == {0o600}


def test_on_a_full_disk_reads_go_on_and_writes_are_refused_in_a_sentence(tmp_path: Path) -> None:
    with Store.open(tmp_path / "shop.db") as store:
        store.record([click(1)])
        with store._database.engine.connect() as connection:  # the one connection in the pool
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
        with pytest.raises(StoreError, match=r"shop\.db cannot be written now: .*full"):
            store.record([click(n) for n in range(2, 5000)])
        assert store.history("ann") == [click(1)]
        with store._database.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count=1000000")
        assert store.record([click(2)]) == 1


def test_a_store_that_may_only_be_read_is_read(tmp_path: Path) -> None:
    with Store.open(tmp_path / "shop.db") as store:
        store.record([click(1)])
    with Store.open(f"sqlite:///file:{tmp_path}/shop.db?mode=ro&uri=true") as store:
        assert store.history("ann") == [click(1)]
        with pytest.raises(StoreError, match=r"cannot be written now: .*readonly"):
            store.record([click(2)])
        with pytest.raises(StoreError, match=r"cannot be written now: .*readonly"):
            store.lists.block("i1", by="kim")
        assert store.history("ann") == [click(1)]


def test_a_store_of_a_newer_version_is_refused(uri: str) -> None:
    with Store.open(uri) as store, store._database.writing() as connection:
        connection.execute(update(schema.about).values(value="2"))
    with pytest.raises(StoreError, match=r"version 2, this twotower knows 1: use a newer one"):
        Store.open(uri)


def test_what_is_no_store_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("these are not the pages of a database\n" * 100)
    with pytest.raises(StoreError, match=r"notes\.txt cannot be read now: file is not a database"):
        Store.open(tmp_path / "notes.txt")
    with pytest.raises(StoreError, match="cannot be opened"):
        Store.open(tmp_path)
    with pytest.raises(StoreError, match="cannot be read now"):
        Store.open(f"postgresql+psycopg://ann:secret@/shop?host={tmp_path}")
    with pytest.raises(InputError, match="sqlite or postgresql, got 'mysql'"):
        Store.open("mysql://ann@localhost/shop")
    with pytest.raises(InputError, match="what is in memory does not last"):
        Store.open("sqlite://")


def test_a_password_is_never_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        Store.open(f"postgresql+psycopg://ann:secret@/shop?host={tmp_path}")
    assert "secret" not in str(caught.value)


KILLED = """
import sys
from serving.store.event import Event
from serving.store.store import Store

store = Store.open(sys.argv[1])
for n in range(int(sys.argv[2]), 100_000):
    store.record([Event(f"e{n}", "ann", f"i{n}", "click", n)])
    print(n, flush=True)
"""


def test_killed_at_any_time_what_was_acknowledged_is_there_once(uri: str) -> None:
    acknowledged: list[int] = []
    for _ in range(2):
        arguments = [sys.executable, "-c", KILLED, uri, str(len(acknowledged))]
        with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(12):
                acknowledged.append(int(process.stdout.readline()))
            os.kill(process.pid, signal.SIGKILL)
            acknowledged += map(int, process.stdout.read().split())
    assert acknowledged == list(range(len(acknowledged)))
    with Store.open(uri) as store:
        kept = [int(event.id[1:]) for event in store.since()[0]]
        assert kept[: len(acknowledged)] == acknowledged
        assert len(kept) - len(acknowledged) in (0, 1)  # one may be kept of which the writer could not say so
