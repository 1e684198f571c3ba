"""`Lists`: items that people in charge block or pin."""

from __future__ import annotations

from sqlalchemy import delete, insert, select

from serving.store.audit import append
from serving.store.database import Database
from serving.store.event import checked_id
from serving.store.schema import listed
from towers.ids import Id

BLOCK, PIN = "block", "pin"


class Lists:
    """The block list and the pin list of a store. Each change writes an entry of the audit log, or does not happen."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def blocked(self) -> list[str]:
        """Items that nobody is shown, in the order in which they were blocked."""
        return self._items(BLOCK)

    def pinned(self) -> list[str]:
        """Items that everybody is shown first, in the order in which they were pinned."""
        return self._items(PIN)

    def block(self, item: Id, *, by: str, reason: str = "") -> bool:
        """Have nobody shown an item; whether that is news.

        Args:
            item: its id.
            by: who wants it, for the audit log.
            reason: why, for the audit log.
        """
        return self._put(BLOCK, item, by, reason)

    def unblock(self, item: Id, *, by: str, reason: str = "") -> bool:
        """Take an item off the block list; whether it was there."""
        return self._take(BLOCK, item, by, reason)

    def pin(self, item: Id, *, by: str, reason: str = "") -> bool:
        """Have everybody shown an item first, after those pinned before; whether that is news."""
        return self._put(PIN, item, by, reason)

    def unpin(self, item: Id, *, by: str, reason: str = "") -> bool:
        """Take an item off the pin list; whether it was there."""
        return self._take(PIN, item, by, reason)

    def _items(self, name: str) -> list[str]:
        wanted = select(listed.c.item).where(listed.c.list == name).order_by(listed.c.number)
        with self._database.reading() as connection:
            return list(connection.scalars(wanted))

    def _put(self, name: str, item: Id, by: str, reason: str) -> bool:
        item = checked_id("item", item)
        there = select(listed.c.number).where(listed.c.list == name, listed.c.item == item)
        with self._database.writing() as connection:
            if connection.scalar(there) is not None:
                return False
            connection.execute(insert(listed).values(list=name, item=item))
            append(connection, by, name, item=item, reason=reason)
        return True

    def _take(self, name: str, item: Id, by: str, reason: str) -> bool:
        item = checked_id("item", item)
        with self._database.writing() as connection:
            gone = connection.execute(delete(listed).where(listed.c.list == name, listed.c.item == item)).rowcount
            if gone:
                append(connection, by, f"un{name}", item=item, reason=reason)
        return bool(gone)
