"""A small service, asked without a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")

from starlette.testclient import TestClient

from serving.retriever import Retriever
from serving.web.app import create_app
from serving.web.offer import Offer, Shelf


@pytest.fixture(scope="session")
def shop(tiny_run: Any) -> Retriever:
    return Retriever(tiny_run.model, tiny_run.index, tiny_run.catalog, tiny_run.log)


@pytest.fixture
def offer(tiny_run: Any, shop: Retriever) -> Offer:
    return Offer(shop, tiny_run.model, tiny_run.catalog, "first")


@pytest.fixture
def client(offer: Offer, tmp_path: Path) -> Iterator[Callable[..., TestClient]]:
    """Starts a service; it ends with the test."""
    with ExitStack() as running:

        def start(shelf: Shelf | None = None, **options: Any) -> TestClient:
            app = create_app(shelf or Shelf(offer, lambda: offer), **options)
            return running.enter_context(TestClient(app, base_url="http://localhost", raise_server_exceptions=False))

        yield start
