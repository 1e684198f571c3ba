"""A small service of its own for each test, asked without a network."""

from __future__ import annotations

import io
import shutil
import threading
import time
import wave
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")

import uvicorn
from starlette.testclient import TestClient

from serving.retriever import Retriever
from serving.store.store import Store
from serving.web.app import create_app
from serving.web.changes import Changes
from serving.web.limits import Limits
from serving.web.offer import Offer, Shelf
from serving.web.run import listen
from serving.web.source import Source
from towers.catalog import Catalog


@pytest.fixture(scope="session")
def shop(tiny_run: Any) -> Retriever:
    return Retriever(tiny_run.model, tiny_run.index, tiny_run.catalog, tiny_run.log)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store.sqlite") as opened:
        yield opened


@pytest.fixture
def source(tiny_run: Any, store: Store, tmp_path: Path) -> Source:
    """The small world in a folder of its own, with pictures and sounds that nobody reads but that can be shown."""
    index, items = tmp_path / "index", tmp_path / "shop" / "items.parquet"
    shutil.copytree(tiny_run.index_folder, index)
    items.parent.mkdir()
    (items.parent / "cover.png").write_bytes(picture())
    (items.parent / "page.html").write_text("<script>alert(1)</script>")
    (tmp_path / "secret.png").write_bytes(picture())
    images = {0: "cover.png", 1: "../secret.png", 2: "page.html", 3: "none.png"}
    frame = pl.read_csv(tiny_run.items).with_columns(
        image=pl.Series([images.get(n, "cover.png") for n in range(40)]), audio=pl.Series([sound()] * 40)
    )
    frame.write_parquet(items)
    return Source(
        model=tiny_run.model_folder,
        index=index,
        catalog=lambda: Catalog.read(items),
        log=lambda _: tiny_run.log,
        store=store,
        changes=Changes(items.parent),
    )


@pytest.fixture
def offer(tiny_run: Any, source: Source, store: Store) -> Offer:
    catalog = source.catalog()
    retriever = Retriever(tiny_run.model, source.index, catalog, tiny_run.log, store=store)
    return Offer(retriever, tiny_run.model, catalog, tiny_run.log, "first")


@pytest.fixture
def client(offer: Offer, source: Source, store: Store) -> Iterator[Callable[..., TestClient]]:
    """Starts a service; it ends with the test."""
    with ExitStack() as running:

        def start(shelf: Shelf | None = None, **options: Any) -> TestClient:
            app = create_app(shelf or Shelf(offer), source, store, **options)
            return running.enter_context(TestClient(app, base_url="http://localhost", raise_server_exceptions=False))

        yield start


@pytest.fixture
def address(offer: Any, source: Any, store: Any) -> Iterator[str]:
    """A service at a port of its own."""
    with served(create_app(Shelf(offer), source, store, limits=Limits(seconds=60))) as at:
        yield at


@contextmanager
def served(app: Any) -> Iterator[str]:
    """Where an application answers meanwhile."""
    listening = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on"))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def picture() -> bytes:
    """A small red PNG."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "PNG")
    return file.getvalue()


def sound() -> bytes:
    """A tenth of a second of silence."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(bytes(1600))
    return file.getvalue()
