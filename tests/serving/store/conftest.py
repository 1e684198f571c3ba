"""Stores to test: a SQLite file, and a PostgreSQL server of our own on a unix socket."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from serving.store.schema import tables
from serving.store.store import Store


def postgres_tool(name: str) -> str | None:
    """Debian keeps them out of the search path."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(found[-1]) if found else None)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URI of a PostgreSQL server."""
    initdb, pg_ctl = postgres_tool("initdb"), postgres_tool("pg_ctl")
    if initdb is None or pg_ctl is None:
        pytest.skip("needs initdb and pg_ctl: apt-get install postgresql")
    user = "postgres" if os.getuid() == 0 else getpass.getuser()  # it does not run as root
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # a socket's path is short
    if os.getuid() == 0:
        shutil.chown(folder, user)

    def run(*command: str) -> None:
        done = subprocess.run(command, user=user if os.getuid() == 0 else None, capture_output=True, cwd=folder)
        assert done.returncode == 0, done.stderr

    run(initdb, "-D", f"{folder}/data", "-U", user, "-A", "trust", "-E", "UTF8", "--no-sync")
    listen = f"-c listen_addresses= -c unix_socket_directories={folder}"
    run(pg_ctl, "-D", f"{folder}/data", "-w", "-o", listen, "-l", f"{folder}/log", "start")
    try:
        yield f"postgresql+psycopg://{user}@/postgres?host={folder}"
    finally:
        run(pg_ctl, "-D", f"{folder}/data", "-m", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Of an empty store."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/shop.db"
        return
    server = request.getfixturevalue("postgres")
    yield server
    engine = create_engine(server)
    tables.drop_all(engine)
    engine.dispose()


@pytest.fixture
def store(uri: str) -> Iterator[Store]:
    with Store.open(uri) as opened:
        yield opened
