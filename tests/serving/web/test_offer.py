"""Swaps: a question keeps the shop that it began with, the old one goes when nobody asks it any more."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")

from serving.retriever import Retriever
from serving.web.offer import Offer, Shelf
from towers.errors import ArtefactError


def fresh(run: Any, version: str) -> Offer:
    return Offer(Retriever(run.model, run.index, run.catalog, run.log), run.model, run.catalog, version)


def test_a_question_keeps_its_shop_and_the_old_one_is_freed(
    client: Any, tiny_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Shelf(fresh(tiny_run, "old"), lambda: fresh(tiny_run, "new"))
    begun, go = threading.Event(), threading.Event()
    own = Retriever.recommend_many

    def waiting(self: Retriever, questions: Any) -> Any:
        begun.set()
        assert go.wait(10)
        return own(self, questions)

    service = client(shelf)
    monkeypatch.setattr(Retriever, "recommend_many", waiting)
    old = weakref.ref(shelf.offer.retriever)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(service.post, "/v1/recommend", json={"user": 7})
        assert begun.wait(10)
        shelf.renew()
        second = threads.submit(service.post, "/v1/recommend", json={"user": 7})
        assert old() is not None
        go.set()
        assert [first.result().json()["version"], second.result().json()["version"]] == ["old", "new"]
    gc.collect()
    assert old() is None


def test_what_does_not_fit_together_changes_nothing(tiny_run: Any) -> None:
    def broken() -> Offer:
        raise ArtefactError("the index belongs to another model")

    shelf = Shelf(fresh(tiny_run, "old"), broken)
    with pytest.raises(ArtefactError):
        shelf.renew()
    assert shelf.offer.version == "old"
