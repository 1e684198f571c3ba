"""`Reviews`: the queue of items that somebody in charge should look at."""

from __future__ import annotations

import time
from typing import Literal, NamedTuple, get_args

from sqlalchemy import insert, select, update

from serving.store.audit import append
from serving.store.database import Database
from serving.store.event import checked_id
from serving.store.schema import listed, reviews
from towers.errors import InputError
from towers.ids import Id

Decision = Literal["keep", "block"]
LONGEST = 1000  # characters of a reason


class Review(NamedTuple):
    """An item in the queue.

    Args:
        number: by which it is decided.
        item: item id.
        reason: why, in words.
        person: who asked for it, or None.
        time: when, in seconds since 1970.
    """

    number: int
    item: str
    reason: str
    person: str | None
    time: float


class Reviews:
    """The queue of a store, first come, first out."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ask(self, item: Id, *, reason: str, person: Id | None = None) -> int:
        """Put an item into the queue; the number of the review. An item that waits already is not put there again.

        Args:
            item: its id.
            reason: why, at most 1,000 characters.
            person: who asks; None for a program.
        """
        item = checked_id("item", item)
        if not isinstance(reason, str) or not 0 < len(reason) <= LONGEST or "\0" in reason:
            raise InputError(f"a review needs a reason of 1 to {LONGEST:,} characters")
        whom = None if person is None else checked_id("person", person)
        waits = select(reviews.c.number).where(reviews.c.item == item, reviews.c.decision.is_(None))
        with self._database.writing() as connection:
            if (number := connection.scalar(waits)) is not None:
                return number
            new = insert(reviews).values(item=item, reason=reason, person=whom, time=time.time())
            return connection.execute(new.returning(reviews.c.number)).scalar_one()

    def waiting(self, most: int = 100) -> list[Review]:
        """At most so many of those that are not decided, oldest first."""
        columns = (reviews.c.number, reviews.c.item, reviews.c.reason, reviews.c.person, reviews.c.time)
        wanted = select(*columns).where(reviews.c.decision.is_(None)).order_by(reviews.c.number).limit(most)
        with self._database.reading() as connection:
            return [Review(*row) for row in connection.execute(wanted)]

    def decide(self, number: int, decision: Decision, *, by: str) -> None:
        """Take an item out of the queue: ``"keep"`` it, or ``"block"`` it. The audit log tells of it.

        Raises:
            InputError: no such review waits, or another word.
        """
        if decision not in get_args(Decision):
            raise InputError(f"a review is decided by 'keep' or 'block', got {decision!r}")
        asked = reviews.c.number == number, reviews.c.decision.is_(None)
        with self._database.writing() as connection:
            item = connection.scalar(select(reviews.c.item).where(*asked))
            if item is None:
                raise InputError(f"no review {number} waits for a decision")
            connection.execute(update(reviews).where(*asked).values(decision=decision))
            there = select(listed.c.number).where(listed.c.list == "block", listed.c.item == item)
            if decision == "block" and connection.scalar(there) is None:
                connection.execute(insert(listed).values(list="block", item=item))
            append(connection, by, "review", item=item, review=number, decision=decision)
