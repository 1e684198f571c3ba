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
from serving.web.limits import Limits
from serving.web.metrics import Metrics
from serving.web.offer import Offer, Shelf, beside
from serving.web.run import renew
from towers.errors import ArtefactError, InputError


def fresh(run: Any, version: str) -> Offer:
    return Offer(Retriever(run.model, run.index, run.catalog, run.log), run.model, run.catalog, run.log, version)


def test_a_question_keeps_its_shop_and_the_old_one_is_freed(
    client: Any, tiny_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Shelf(fresh(tiny_run, "old"))
    begun, go = threading.Event(), threading.Event()
    own = Retriever.recommend_many

    def waiting(self: Retriever, questions: Any) -> Any:
        begun.set()
        assert go.wait(60)
        return own(self, questions)

    service = client(shelf, limits=Limits(seconds=60))
    monkeypatch.setattr(Retriever, "recommend_many", waiting)
    old = weakref.ref(shelf.offer.retriever)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(service.post, "/v1/recommend", json={"user": 7})
        assert begun.wait(60)
        shelf.exchange(lambda _: fresh(tiny_run, "new"))
        second = threads.submit(service.post, "/v1/recommend", json={"user": 7})
        assert old() is not None
        go.set()
        assert [first.result().json()["version"], second.result().json()["version"]] == ["old", "new"]
    gc.collect()
    assert old() is None


def test_what_does_not_fit_together_changes_nothing(tiny_run: Any) -> None:
    def broken(_: Offer) -> Offer:
        raise ArtefactError("the index belongs to another model")

    shelf = Shelf(fresh(tiny_run, "old"))
    with pytest.raises(ArtefactError):
        shelf.exchange(broken)
    assert shelf.offer.version == "old"


def test_a_swap_reads_what_lies_on_disk_and_a_broken_one_is_refused(
    client: Any, source: Any, tiny_run: Any, store: Any
) -> None:
    service = client()
    done = service.post("/v1/admin/swap")
    assert done.status_code == 200
    assert service.post("/v1/recommend", json={"user": 7}).json()["version"] == done.json()["version"] != "first"
    assert [entry.action for entry in store.audit.entries()] == ["swap"]
    source.model = tiny_run.model_folder / "none"
    refused = service.post("/v1/admin/swap")
    assert refused.status_code == 409
    assert service.get("/v1/about").json()["version"] == done.json()["version"]
    counted = service.get("/metrics").text
    assert 'twotower_swaps_total{outcome="done"} 1.0' in counted
    assert 'twotower_swaps_total{outcome="refused"} 1.0' in counted


def test_steps_that_cannot_work_are_refused_at_the_start_and_by_a_swap(client: Any, source: Any) -> None:
    service = client()
    for step, lacks in (
        ({"name": "mmr", "weight": 0.3, "by": "topics"}, r"column 'topics' \(did you mean 'topic'\?\)"),
        ({"name": "only", "where": {"topics": "music"}}, "did you mean 'topic'"),
    ):
        source.settings = {"steps": [step]}
        with pytest.raises(InputError, match=f"the steps cannot work here: .*{lacks}"):
            source.load()
        assert service.post("/v1/admin/swap").status_code == 422
        assert service.get("/v1/about").json()["version"] == "first"
    source.settings = {"steps": [{"name": "mmr", "weight": 0.3, "by": "topic"}]}
    assert service.post("/v1/admin/swap").status_code == 200


def test_a_hangup_swaps_is_counted_and_stands_in_the_audit_log(
    client: Any, offer: Offer, source: Any, tiny_run: Any, store: Any
) -> None:
    shelf, metrics = Shelf(offer), Metrics()
    service = client(shelf, metrics=metrics)
    renew(shelf, source, store, metrics)
    assert shelf.offer.version != "first"
    source.model = tiny_run.model_folder / "none"
    renew(shelf, source, store, metrics)
    (entry,) = store.audit.entries()
    assert (entry.who, entry.details) == ("SIGHUP", {"before": "first", "after": shelf.offer.version})
    counted = service.get("/metrics").text
    for outcome in ("done", "refused"):
        assert f'twotower_swaps_total{{outcome="{outcome}"}} 1.0' in counted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Alien (1979). Horror, Sci-Fi", "1979. Horror, Sci-Fi"),
        ("Alien. Horror (and more)", "Horror (and more)"),
        ("Alien", ""),
        ("A film (1979) that is not named", "A film (1979) that is not named"),
    ],
)
def test_a_text_is_shown_without_the_title_beside_it(text: str, said: str) -> None:
    assert beside("Alien", text) == said
