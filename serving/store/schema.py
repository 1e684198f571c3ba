"""The tables of the store, and the version of them."""

from __future__ import annotations

from sqlalchemy import Column, Double, Index, Integer, MetaData, Table, Text, UniqueConstraint

VERSION = 1

tables = MetaData()

about = Table(
    "twotower_about",
    tables,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

events = Table(
    "twotower_events",
    tables,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("person", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("item", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("time", Double, nullable=False),
    Column("value", Double),
    Column("probability", Double),
    UniqueConstraint("person", "id"),
    Index("twotower_events_newest", "person", "time", "number"),
    sqlite_autoincrement=True,  # the number of what was erased is not given again
)

listed = Table(
    "twotower_listed",
    tables,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("list", Text, nullable=False),
    Column("item", Text, nullable=False),
    UniqueConstraint("list", "item"),
    sqlite_autoincrement=True,
)

reviews = Table(
    "twotower_reviews",
    tables,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("item", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("person", Text),
    Column("time", Double, nullable=False),
    Column("decision", Text),
    sqlite_autoincrement=True,
)

audit = Table(
    "twotower_audit",
    tables,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("time", Double, nullable=False),
    Column("who", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("person", Text, index=True),
    Column("said", Text),
    Column("seal", Text, nullable=False),
    Column("previous", Text, nullable=False),
    Column("hash", Text, nullable=False),
)
