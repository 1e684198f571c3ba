"""Training that goes on begins with what the model knows."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from indexing.build import build_index
from towers.catalog import Catalog
from towers.history import Histories
from training.config import Recipe
from training.continuing import go_on, with_ids
from training.loop import Run
from training.measuring.evaluate import evaluate
from training.measuring.protocols import last_event
from training.ranker import IndexRanker


@pytest.fixture(scope="module")
def recipe(tiny_run: Any) -> Recipe:
    return Recipe.read(tiny_run.recipe)


def test_new_vectors_change_nothing_before_they_are_learned(tiny_run: Any) -> None:
    old = tiny_run.model
    known = set(old.ids.to_list())
    table = tiny_run.catalog.table.to_pandas()
    more = [f"n{n}" for n in range(3)]
    table = [*table.to_dict("records"), *({"item_id": item, "title": "quiet engine", "topic": "x"} for item in more)]
    catalog = Catalog.read(pl.DataFrame(table))
    grown = with_ids(old, catalog, catalog.rows([*more, *list(known)[:2]]))
    assert grown.ids.to_list() == [*old.ids.to_list(), *more]
    before, after = old.embed_items(catalog), grown.embed_items(catalog)
    np.testing.assert_array_equal(before[:40], after[:40])
    _, histories = tiny_run.log.histories(catalog)
    memory = grown.memory(catalog, after)
    np.testing.assert_array_equal(grown.encode(histories, memory), old.encode(histories, old.memory(catalog, before)))
    rows = np.tile(np.arange(40), (len(histories), 1))
    np.testing.assert_allclose(
        grown.rate(histories, memory, rows), old.rate(histories, old.memory(catalog, before), rows), atol=1e-6
    )


def test_a_model_that_goes_on_learns_from_where_it_was(tiny_run: Any, recipe: Recipe) -> None:
    catalog, old = tiny_run.catalog, tiny_run.model
    kept = {name: value.clone() for name, value in old.state_dict().items()}
    _, positives = tiny_run.log.histories(catalog)
    past, questions = last_event(positives)
    new = go_on(old, catalog, past, recipe, epochs=3)
    assert all(torch.equal(value, kept[name]) for name, value in old.state_dict().items())
    assert new.space != old.space
    assert float(new.trend_weight) == float(old.trend_weight)
    moved = (new.embed_items(catalog) * old.embed_items(catalog)).sum(1)
    assert 0.5 < moved.mean() < 0.9999  # not begun anew, not left alone
    counts = np.bincount(past.items, minlength=len(catalog))
    found = {
        name: evaluate(
            IndexRanker(model, build_index(model, catalog, progress=False), catalog), questions, counts=counts, depth=20
        ).metrics["recall@10"][0]  # type: ignore[index]
        for name, model in {"old": old, "new": new}.items()
    }
    assert found["new"] >= found["old"] - 0.1


def test_nothing_moves_before_it_goes_on(tiny_run: Any, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where new items move the mean of all contents, and what the text reader has learned stays."""
    old = tiny_run.model
    more = [{"item_id": f"n{n}", "title": "quiet engine", "topic": "x"} for n in range(60)]
    catalog = Catalog.read(pl.DataFrame([*tiny_run.catalog.table.to_pylist(), *more]))
    _, positives = tiny_run.log.histories(catalog)
    monkeypatch.setattr(Run, "go", lambda run: setattr(run.model.user, "reads_text", True))
    new = go_on(old, catalog, positives, recipe)
    vectors = old.embed_items(catalog)
    np.testing.assert_array_equal(new.embed_items(catalog), vectors)
    nobody = Histories(np.zeros(3, np.int64), np.empty(0, np.int64))
    asked = ["loud motors", "night music"]
    queries = [model.encode(nobody, model.memory(catalog, vectors), asked) for model in (old, new)]
    np.testing.assert_array_equal(*queries)
    began = old.item.text.state_dict()
    assert any(not value.equal(began[name]) for name, value in old.user.text.project.state_dict().items())
