"""`Store`: the feedback of people, durable and append-only, each event exactly once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Row, Select, delete, func, insert, select, tuple_, update

from serving.store import audit as audits
from serving.store.audit import Audit
from serving.store.database import Database
from serving.store.event import REFUSALS, Event, checked_id
from serving.store.lists import Lists
from serving.store.reviews import Reviews
from serving.store.schema import events as table
from serving.store.schema import reviews
from towers.ids import Id

TOGETHER = 500  # events looked up at once
COLUMNS = (table.c.id, table.c.person, table.c.item, table.c.kind, table.c.time, table.c.value, table.c.probability)


class Erased(NamedTuple):
    """What an erasure removed.

    Args:
        events: how many.
        reviews: how many reviews no longer say who asked, nor why.
        entry: number of the entry in the audit log that tells of it, without the person's name.
    """

    events: int
    reviews: int
    entry: int


class Store:
    """Feedback, lists, reviews and the audit log in one database; made by `open`.

    Any number of threads may use one, and any number of processes may open the same. Reads do not wait for writes.
    Ids are text here, whole numbers as they are written.

    Attributes:
        lists: the block list and the pin list.
        reviews: the queue of items to look at.
        audit: who changed what.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.lists, self.reviews, self.audit = Lists(database), Reviews(database), Audit(database)

    @classmethod
    def open(cls, uri: str | Path) -> Store:
        """A store, made where there is none.

        Args:
            uri: a path of a SQLite file, or a URI such as ``sqlite:///shop.db``,
                ``postgresql+psycopg://user@host/shop``.

        Raises:
            InputError: not such a URI.
            MissingExtraError: a driver is not installed.
            StoreError: it cannot be opened, or was made by a newer version.
        """
        return cls(Database(uri))

    def close(self) -> None:
        """Let go of the database."""
        self._database.engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def record(self, events: Iterable[Event]) -> int:
        """Keep events; when this returns they are on disk.

        An event whose id the person has used before is one that is sent again, whatever else it says: it is not kept
        twice. So whoever got no answer sends the same again.

        Returns:
            How many were new.

        Raises:
            StoreError: they cannot be written now, such as on a full disk; then none of them is, and reads go on.
        """
        wanted = {(one.person, one.id): one for one in reversed(list(events))}  # of equals the first
        ordered = list(wanted.values())[::-1]
        if not ordered:
            return 0
        new = 0
        with self._database.writing() as connection:
            for start in range(0, len(ordered), TOGETHER):
                part = ordered[start : start + TOGETHER]
                same = tuple_(table.c.person, table.c.id).in_([(one.person, one.id) for one in part])
                there = {tuple(row) for row in connection.execute(select(table.c.person, table.c.id).where(same))}
                rows = [vars(one) for one in part if (one.person, one.id) not in there]
                if rows:
                    connection.execute(insert(table), rows)
                new += len(rows)
        return new

    def history(self, person: Id, most: int = 1000) -> list[Event]:
        """The newest events of a person, oldest first, without views; none where nothing is known of them.

        Args:
            person: whose.
            most: how many at most.
        """
        mine = select(*COLUMNS).where(table.c.person == checked_id("person", person), table.c.kind != "view")
        newest = mine.order_by(table.c.time.desc(), table.c.number.desc()).limit(most)
        return self._events(newest)[::-1]

    def refused(self, person: Id) -> list[str]:
        """All items to which a person ever said "not this" or "less like this", in no order."""
        mine = table.c.person == checked_id("person", person), table.c.kind.in_(REFUSALS)
        with self._database.reading() as connection:
            return list(connection.scalars(select(table.c.item).where(*mine).distinct()))

    def since(self, cursor: int = 0, most: int = 10_000) -> tuple[list[Event], int]:
        """Events of everybody in the order in which they were recorded, part after part.

        Args:
            cursor: where to go on; 0 at first.
            most: how many at most.

        Returns:
            The next events, and the cursor behind them. None are left where there are no events. Nothing that is
            recorded later ever lies before a cursor.
        """
        wanted = select(table.c.number, *COLUMNS).where(table.c.number > cursor).order_by(table.c.number).limit(most)
        with self._database.reading() as connection:
            rows = connection.execute(wanted).all()
        return [_event(row[1:]) for row in rows], rows[-1].number if rows else cursor

    def count(self) -> int:
        """How many events there are."""
        with self._database.reading() as connection:
            return connection.scalar(select(func.count()).select_from(table)) or 0

    def export(self, person: Id) -> dict[str, Any]:
        """Everything a person gave, and what the audit log says of them, as JSON values."""
        whom = checked_id("person", person)
        asked = select(reviews.c.item, reviews.c.reason, reviews.c.time, reviews.c.decision).where(
            reviews.c.person == whom
        )
        mine = select(*COLUMNS).where(table.c.person == whom).order_by(table.c.number)
        with self._database.reading() as connection:
            return {
                "person": whom,
                "events": [vars(_event(row)) for row in connection.execute(mine)],
                "reviews": [dict(row) for row in connection.execute(asked).mappings()],
                "audit": [one._asdict() for one in audits.about_person(connection, whom)],
            }

    def erase(self, person: Id, *, by: str) -> Erased:
        """Erase everything a person gave. The audit log tells that it happened, not to whom, and stays valid.

        Args:
            person: whose.
            by: who does it, for the audit log.
        """
        whom = checked_id("person", person)
        with self._database.writing() as connection:
            gone = connection.execute(delete(table).where(table.c.person == whom)).rowcount
            asked = update(reviews).where(reviews.c.person == whom).values(person=None, reason="")
            unnamed = connection.execute(asked).rowcount
            emptied = audits.empty(connection, whom)
            entry = audits.append(connection, by, audits.ERASE, events=gone, reviews=unnamed, emptied=emptied)
        self._database.forget_deleted()
        return Erased(gone, unnamed, entry)

    def _events(self, wanted: Select[Any]) -> list[Event]:
        with self._database.reading() as connection:
            return [_event(row) for row in connection.execute(wanted)]


def _event(row: Row[Any] | Sequence[Any]) -> Event:
    return Event(*row)
