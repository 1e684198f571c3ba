"""`Audit`: who changed what and when, each entry sealed to the one before, so that none is edited unnoticed."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, insert, select, update

from serving.store.database import Database
from serving.store.event import checked_id
from serving.store.schema import audit
from towers.errors import InputError, StoreError
from towers.ids import Id

ERASE = "erase"
NOTHING = ""  # what stands before the first entry


class Entry(NamedTuple):
    """One entry of the audit log.

    Args:
        number: from 1 on.
        time: seconds since 1970.
        who: the person or key that acted, as given.
        action: a word, such as ``"block"``.
        details: further JSON values; None where they spoke of somebody who was erased.
        person: whom it is about, or None.
    """

    number: int
    time: float
    who: str
    action: str
    details: dict[str, Any] | None
    person: str | None


class Head(NamedTuple):
    """The newest entry of an audit log: kept elsewhere, it tells whether the log was shortened or written anew."""

    number: int
    hash: str


class Audit:
    """The audit log of a store.

    An entry's hash is the SHA-256 of its number, time, who, action, seal and the hash of the entry before. The seal is
    the SHA-256 of a random salt, the details and whom they are about, so that these can be erased and the chain still
    holds; an erasure names the entries that it emptied, and only those may be empty.

    Whoever can write to the database can write the whole chain anew: keep a `head` somewhere else and `verify` with it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, who: str, action: str, *, person: Id | None = None, **details: Any) -> int:
        """Write an entry of its own, for what changes outside the store, such as a model that is swapped; its number.

        Args:
            who, action, person, details: as in `Entry`; names and ids of people belong into `person` alone.

        Raises:
            InputError: `who`, `action` or `person` is no id, or the details are no JSON.
            StoreError: it cannot be written; then nothing is.
        """
        with self._database.writing() as connection:
            return append(connection, who, action, person=person, **details)

    def entries(self, since: int = 0, most: int = 1000) -> list[Entry]:
        """At most so many entries after number `since`, oldest first."""
        wanted = select(audit).where(audit.c.number > since).order_by(audit.c.number).limit(most)
        with self._database.reading() as connection:
            return [_entry(row) for row in connection.execute(wanted)]

    def head(self) -> Head:
        """The newest entry's number and hash; number 0 where there is none."""
        with self._database.reading() as connection:
            return _head(connection)

    def verify(self, known: Head | None = None) -> Head:
        """Read the whole chain and check it.

        Args:
            known: an earlier head, which must still be there.

        Returns:
            The head now.

        Raises:
            StoreError: an entry was changed, removed, emptied or put in between; it names the first.
        """
        with self._database.reading() as connection:
            rows = connection.execute(select(audit).order_by(audit.c.number)).all()
        erased = {number for row in rows if row.action == ERASE for number in _emptied(row)}
        head, known_hash = Head(0, NOTHING), None
        for row in rows:
            if not _fits(row, head, erased):
                raise _another(head.number + 1)
            head = Head(row.number, row.hash)
            if known is not None and head.number == known.number:
                known_hash = head.hash
        if known is not None and known.number and known_hash != known.hash:
            raise StoreError(f"the audit log is not what was written: entry {known.number} is missing or another one")
        return head


def append(connection: Connection, who: str, action: str, *, person: Id | None = None, **details: Any) -> int:
    """Write an entry inside a transaction of `Database.writing`; its number."""
    who, action = checked_id("who", who), checked_id("action", action)
    whom = None if person is None else checked_id("person", person)
    said = _said(secrets.token_hex(16), details)
    head, now = _head(connection), time.time()
    number, seal = head.number + 1, _digest([said, whom])
    fields = {"number": number, "time": now, "who": who, "action": action, "seal": seal}
    sealed = _digest([*fields.values(), head.hash])
    connection.execute(insert(audit).values(**fields, person=whom, said=said, previous=head.hash, hash=sealed))
    return number


def empty(connection: Connection, person: str) -> list[int]:
    """Erase what entries say about a person, inside a transaction; their numbers, for the entry that tells of it."""
    theirs = audit.c.person == person
    numbers = connection.scalars(select(audit.c.number).where(theirs).order_by(audit.c.number)).all()
    connection.execute(update(audit).where(theirs).values(person=None, said=None))
    return list(numbers)


def about_person(connection: Connection, person: str) -> list[Entry]:
    """The entries about a person."""
    wanted = select(audit).where(audit.c.person == person).order_by(audit.c.number)
    return [_entry(row) for row in connection.execute(wanted)]


def _head(connection: Connection) -> Head:
    row = connection.execute(select(audit.c.number, audit.c.hash).order_by(audit.c.number.desc()).limit(1)).first()
    return Head(0, NOTHING) if row is None else Head(row.number, row.hash)


def _said(salt: str, details: dict[str, Any]) -> str:
    try:
        return json.dumps([salt, details], allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"details of an audit entry must be JSON values: {error}") from error


def _entry(row: Row[Any]) -> Entry:
    try:
        details = None if row.said is None else dict(json.loads(row.said)[1])
    except (ValueError, TypeError, LookupError) as error:
        raise _another(row.number) from error
    return Entry(row.number, row.time, row.who, row.action, details, row.person)


def _another(number: int) -> StoreError:
    return StoreError(f"the audit log is not what was written: entry {number} does not fit")


def _fits(row: Row[Any], head: Head, erased: set[int]) -> bool:
    """Whether an entry is what was written after the one before."""
    fields = [row.number, row.time, row.who, row.action, row.seal, head.hash]
    try:
        whole = row.number == head.number + 1 and row.previous == head.hash and row.hash == _digest(fields)
        return whole and _is_sealed(row, erased)
    except (TypeError, ValueError):  # SQLite keeps whatever is put there, such as bytes or infinity
        return False


def _is_sealed(row: Row[Any], erased: set[int]) -> bool:
    if row.said is None:
        return row.person is None and row.number in erased
    return row.seal == _digest([row.said, row.person])


def _emptied(row: Row[Any]) -> Sequence[int]:
    """Earlier entries that an erasure emptied."""
    told = (_entry(row).details or {}).get("emptied")
    return [one for one in told if isinstance(one, int) and one < row.number] if isinstance(told, list) else []


def _digest(values: list[Any]) -> str:
    return hashlib.sha256(json.dumps(values, allow_nan=False).encode()).hexdigest()
