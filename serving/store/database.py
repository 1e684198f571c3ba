"""`Database`: one SQLite file or PostgreSQL database, one writer at a time, and errors as sentences."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, insert, inspect, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from serving.store import schema
from towers.errors import InputError, MissingExtraError, StoreError

WAIT = 10.0  # seconds for the writer before
WRITER = 0x74776F746F776572  # the PostgreSQL advisory lock that writers take in turns
TAKE_TURN = "SELECT set_config('lock_timeout', :wait, true), pg_advisory_xact_lock(:writer)"


class Database:
    """A database with the tables of `serving.store.schema`, which are made where there are none.

    SQLite is opened in WAL mode with synchronous=FULL: readers and the writer do not wait for each other, and what a
    transaction wrote is on disk when it returns. Content that is deleted is overwritten.

    Args:
        uri: a path of a SQLite file, or a URI such as ``sqlite:///shop.db``, ``postgresql+psycopg://user@host/shop``.

    Attributes:
        engine: SQLAlchemy's.

    Raises:
        InputError: not a URI of SQLite or PostgreSQL.
        MissingExtraError: its driver is not installed.
        StoreError: it cannot be opened, or was made by a newer version.
    """

    def __init__(self, uri: str | Path) -> None:
        url = _url(uri)
        self._name = url.render_as_string(hide_password=True)
        self._sqlite = url.get_backend_name() == "sqlite"
        self._writer = threading.Lock()
        self.engine = _sqlite(url) if self._sqlite else _postgres(url)
        try:
            self._settle()
        except BaseException:
            self.engine.dispose()
            raise

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads."""
        with self._told("read"), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that no other writer runs beside; on disk when it ends, or nothing of it.

        Writers in turns are what makes numbers rise in the order in which they are seen, and the audit log one chain.
        """
        with self._turn(), self._told("written"), self._connected() as connection:
            connection.execution_options(writes=True)
            with connection.begin():
                if not self._sqlite:
                    connection.execute(text(TAKE_TURN), {"writer": WRITER, "wait": f"{round(1000 * WAIT)}ms"})
                yield connection

    def forget_deleted(self) -> None:
        """Have SQLite write over what was deleted in its log, too, as far as nobody is reading it."""
        if self._sqlite:
            with self._told("written"), self.engine.connect() as connection:
                connection.execution_options(plain=True).exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def _settle(self) -> None:
        """Make the tables, or check their version."""
        with self.reading() as connection:
            there = inspect(connection).has_table(schema.about.name)
        if not there:
            with self.writing() as connection:
                schema.tables.create_all(connection)
                if self._version(connection) is None:
                    connection.execute(insert(schema.about).values(name="version", value=str(schema.VERSION)))
        with self.reading() as connection:
            version = self._version(connection)
        if version != str(schema.VERSION):
            raise StoreError(
                f"the store {self._name} is of version {version}, this twotower knows {schema.VERSION}: use a newer one"
            )

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Writers of this process wait for one another without a connection, so that there are some to read by."""
        if not self._writer.acquire(timeout=WAIT):
            raise StoreError(f"the store {self._name} cannot be written now: others have been writing for {WAIT:g} s")
        try:
            yield
        finally:
            self._writer.release()

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        """A connection; where there is none, nothing can be read either, and it is told otherwise."""
        with self._told("reached"):
            connection = self.engine.connect()
        with connection:
            yield connection

    @staticmethod
    def _version(connection: Connection) -> str | None:
        return connection.scalar(select(schema.about.c.value).where(schema.about.c.name == "version"))

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Errors of the database as one sentence."""
        try:
            yield
        except DBAPIError as error:
            raise StoreError(f"the store {self._name} cannot be {what} now: {_first_line(error.orig)}") from error
        except SQLAlchemyError as error:
            raise StoreError(f"the store {self._name} cannot be {what} now: {_first_line(error)}") from error


def _url(uri: str | Path) -> URL:
    uri = str(uri)
    try:
        url = make_url(uri if "://" in uri else f"sqlite:///{uri}")
    except (ArgumentError, ValueError) as error:
        raise InputError(f"{uri!r} is not the URI of a database, such as sqlite:///shop.db") from error
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise InputError(f"a store is kept in sqlite or postgresql, got {url.get_backend_name()!r}")
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise InputError("a store needs a file, such as sqlite:///shop.db: what is in memory does not last")
    return url


def _sqlite(url: URL) -> Engine:
    if not str(url.database).startswith("file:"):  # SQLite's own URIs may say that nothing is to be made
        _make(Path(str(url.database)))
    engine = create_engine(url, connect_args={"timeout": WAIT}, poolclass=QueuePool)

    @event.listens_for(engine, "connect")
    def settings(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions begin where `begin` below says, not where the driver thinks
        _into_wal(connection)
        for setting in ("synchronous=FULL", "secure_delete=ON"):
            connection.execute(f"PRAGMA {setting}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if not options.get("plain"):
            connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("writes") else "BEGIN")

    return engine


def _into_wal(connection: sqlite3.Connection) -> None:
    """WAL mode, which SQLite does not wait for where several connections open a new file at once: it says "locked"."""
    until = time.monotonic() + WAIT
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY  # of an extended code the last byte
            if not is_busy or time.monotonic() > until:
                raise
            time.sleep(0.01)


def _make(path: Path) -> None:
    """An empty file where there is none, which nobody but its owner reads; SQLite makes those beside it alike."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDONLY, 0o600))
    except OSError as error:
        raise StoreError(f"the store {path} cannot be opened: {error.strerror}") from error


def _postgres(url: URL) -> Engine:
    try:
        return create_engine(url, pool_pre_ping=True)
    except (ImportError, NoSuchModuleError) as error:
        raise MissingExtraError(
            f"{url.drivername} needs a driver: pip install 'twotower[postgres]', and postgresql+psycopg:// in the URI"
        ) from error


def _first_line(error: BaseException | None) -> str:
    return str(error).strip().partition("\n")[0]
