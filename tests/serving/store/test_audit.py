"""People in charge: lists, reviews, and a log of what they did that cannot be edited unnoticed."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import delete, select, update

from serving.store.audit import Head, append
from serving.store.schema import audit
from serving.store.store import Store
from towers.errors import InputError, StoreError


def test_lists_keep_their_order_and_each_change_is_told_once(store: Store) -> None:
    assert [store.lists.pin(item, by="kim") for item in ("b", "a", "b")] == [True, True, False]
    assert store.lists.block(7, by="kim", reason="recalled")
    assert (store.lists.pinned(), store.lists.blocked()) == (["b", "a"], ["7"])
    assert store.lists.unpin("b", by="lee")
    assert not store.lists.unblock("b", by="lee")
    assert store.lists.pin("b", by="lee")
    assert store.lists.pinned() == ["a", "b"]
    told = [(entry.who, entry.action, entry.details) for entry in store.audit.entries()]
    assert told == [
        ("kim", "pin", {"item": "b", "reason": ""}),
        ("kim", "pin", {"item": "a", "reason": ""}),
        ("kim", "block", {"item": "7", "reason": "recalled"}),
        ("lee", "unpin", {"item": "b", "reason": ""}),
        ("lee", "pin", {"item": "b", "reason": ""}),
    ]
    assert store.audit.entries(since=3, most=1)[0].number == 4


def test_a_review_waits_until_it_is_decided(store: Store) -> None:
    first = store.reviews.ask("a", reason="cruel", person="ann")
    assert store.reviews.ask("a", reason="cruel indeed", person="bob") == first
    second = store.reviews.ask("b", reason="a duplicate")
    assert [(one.item, one.person) for one in store.reviews.waiting()] == [("a", "ann"), ("b", None)]
    store.reviews.decide(first, "block", by="kim")
    store.reviews.decide(second, "keep", by="kim")
    assert store.reviews.waiting() == []
    assert store.lists.blocked() == ["a"]
    assert [entry.action for entry in store.audit.entries()] == ["review", "review"]
    with pytest.raises(InputError, match="no review 1 waits"):
        store.reviews.decide(first, "keep", by="kim")
    with pytest.raises(InputError, match="by 'keep' or 'block', got 'burn'"):
        store.reviews.decide(second, "burn", by="kim")  # type: ignore[arg-type]


def test_a_change_and_its_entry_are_one(store: Store) -> None:
    with pytest.raises(InputError, match="who must have 1 to 256 characters"):
        store.lists.block("a", by="")
    assert (store.lists.blocked(), store.audit.entries()) == ([], [])
    with pytest.raises(InputError, match="JSON values"):
        store.audit.note("kim", "swap", model=object())
    assert store.audit.head() == Head(0, "") == store.audit.verify()


@pytest.fixture
def written(store: Store) -> Store:
    """Five entries, the second and the fourth about a person, of which the fourth was erased."""
    store.audit.note("kim", "swap", model="m2")
    store.audit.note("kim", "look", person="bob", why="asked")
    store.lists.block("a", by="lee", reason="recalled")
    store.audit.note("kim", "look", person="ann", why="asked")
    store.erase("ann", by="kim")
    assert store.audit.verify().number == 5
    return store


EDITS: dict[str, tuple[Any, int]] = {
    "another who": (update(audit).where(audit.c.number == 3).values(who="kim"), 3),
    "another action": (update(audit).where(audit.c.number == 3).values(action="pin"), 3),
    "another time": (update(audit).where(audit.c.number == 2).values(time=1.0), 2),
    "other details": (update(audit).where(audit.c.number == 1).values(said='["", {"model": "m3"}]'), 1),
    "another person": (update(audit).where(audit.c.number == 2).values(person="eve"), 2),
    "emptied in silence": (update(audit).where(audit.c.number == 1).values(said=None), 1),
    "no JSON": (update(audit).where(audit.c.number == 1).values(said="model"), 1),
    "an erasure without JSON": (update(audit).where(audit.c.number == 5).values(said='["", 7]'), 5),
    "no time": (update(audit).where(audit.c.number == 3).values(time=float("inf")), 3),
    "an erasure emptied": (update(audit).where(audit.c.number == 5).values(said=None, person=None), 4),
    "another seal": (update(audit).where(audit.c.number == 4).values(seal="0" * 64), 4),
    "removed": (delete(audit).where(audit.c.number == 2), 2),
    "the first removed": (delete(audit).where(audit.c.number == 1), 1),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_does_not_go_unnoticed(written: Store, edit: str) -> None:
    statement, entry = EDITS[edit]
    with written._database.writing() as connection:
        connection.execute(statement)
    with pytest.raises(StoreError, match=f"entry {entry} does not fit"):
        written.audit.verify()


@pytest.mark.parametrize("said", ["model", "7", "[]", '["", 7]'])
def test_an_entry_that_cannot_be_read_says_so(written: Store, said: str) -> None:
    with written._database.writing() as connection:
        connection.execute(update(audit).where(audit.c.number == 2).values(said=said))
    with pytest.raises(StoreError, match="entry 2 does not fit"):
        written.audit.entries()
    assert [entry.number for entry in written.audit.entries(since=2)] == [3, 4, 5]


def test_a_chain_that_is_shortened_or_written_anew_lacks_the_known_head(written: Store) -> None:
    head = written.audit.head()
    with written._database.writing() as connection:
        connection.execute(delete(audit).where(audit.c.number == 5))
        connection.execute(delete(audit).where(audit.c.number == 4))
    assert written.audit.verify().number == 3  # as it stands it is whole
    with pytest.raises(StoreError, match="entry 5 is missing or another one"):
        written.audit.verify(head)
    with written._database.writing() as connection:
        for _ in range(2):
            append(connection, "eve", "swap")
    with pytest.raises(StoreError, match="entry 5 is missing or another one"):
        written.audit.verify(head)


def test_who_was_erased_cannot_be_guessed_from_what_stays(written: Store) -> None:
    with written._database.reading() as connection:
        kept = connection.execute(select(audit).where(audit.c.number.in_((4, 5)))).all()
    assert "ann" not in repr(kept)
