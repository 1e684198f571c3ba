"""Training of the rating head: it learns what is there to learn, and never from the answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from towers.catalog import Catalog
from towers.history import Histories
from towers.ids import IdList
from towers.model import TwoTower
from towers.model_config import ModelConfig
from towers.text import TextConfig, TextEncoder
from towers.user import Memory
from training import ratings
from training.measuring.splits import Questions
from training.ratings import fit_ratings

ITEMS, PEOPLE, EACH = 24, 80, 12


@pytest.fixture
def catalog(own_cache: Path) -> Catalog:
    return Catalog.read(pl.DataFrame({"item_id": range(ITEMS), "title": [f"night {n}" for n in range(ITEMS)]}))


def make(tiny_bert: Path, **rating: Any) -> TwoTower:
    torch.manual_seed(0)
    config = ModelConfig.model_validate(
        {"user": {"text": False}, "item": {"dimension": 8, "hidden": 8}, "rating": {"dimension": 4, **rating}}
    )
    encoder = TextEncoder.load(TextConfig(source=str(tiny_bert)))
    return TwoTower(config=config, encoder=encoder, ids=IdList(range(ITEMS)), template="{title}").eval()


def remembered(model: TwoTower, catalog: Catalog) -> Memory:
    return model.memory(catalog, model.embed_items(catalog))


def log(rating_of: Any) -> tuple[Histories, Questions]:
    """Each person rates some items; the next one, unrated as yet, is asked for."""
    rng = np.random.default_rng(0)
    items = np.stack([rng.permutation(ITEMS)[: EACH + 1] for _ in range(PEOPLE)])
    past = items[:, :-1].reshape(-1)
    people = np.repeat(np.arange(PEOPLE), EACH)
    ratings = rating_of(rng, people, past).astype(np.float32)
    histories = Histories(np.arange(PEOPLE + 1) * EACH, past, ratings=ratings)
    targets = Histories(np.arange(PEOPLE + 1), items[:, -1])
    return histories, Questions(np.arange(PEOPLE), histories, targets)


def additive(rng: np.random.Generator, people: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Item levels from 0.3 to 0.7, and a person says up to 0.3 more or less."""
    return np.linspace(0.3, 0.7, ITEMS)[items] + np.linspace(-0.3, 0.3, PEOPLE)[people]


def noise(rng: np.random.Generator, people: np.ndarray, items: np.ndarray) -> np.ndarray:
    return rng.random(len(items))


def test_it_learns_items_and_people(tiny_bert: Path, catalog: Catalog) -> None:
    model = make(tiny_bert)
    histories, _ = log(additive)
    memory = remembered(model, catalog)
    error = fit_ratings(model, memory, histories, 0)
    assert error is not None
    assert error < 0.06  # item levels alone leave 0.17, the mean 0.21
    rows = np.tile(np.arange(ITEMS), (PEOPLE, 1))
    predicted = model.rate(histories, memory, rows)
    truth = additive(np.random.default_rng(), np.arange(PEOPLE)[:, None], rows)
    new = np.ones_like(rows, bool)
    new[histories.people, histories.items] = False
    assert np.sqrt(np.mean((predicted - truth)[new] ** 2)) < 0.06


def test_nobody_is_predicted_from_the_answer(
    tiny_bert: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of pure noise (its deviation is 0.289) nothing can be learned but its mean."""
    monkeypatch.setattr(ratings, "RATE", 0.1)  # fast enough to find a leak
    model = make(tiny_bert, dropout=0.0)
    error = fit_ratings(model, remembered(model, catalog), log(noise)[0], 0)
    assert error is not None
    assert 0.275 < error < 0.35  # with a leak it is 0.25


def test_a_log_without_ratings_leaves_the_head_out(tiny_bert: Path, catalog: Catalog) -> None:
    model = make(tiny_bert)
    before = model.fingerprint
    unrated, _ = log(lambda rng, people, items: np.full(len(items), np.nan))
    assert fit_ratings(model, remembered(model, catalog), unrated, 0) is None
    assert model.fingerprint == before
    assert model.rating.weight == 0


def test_the_towers_stay_as_they_are(tiny_bert: Path, catalog: Catalog) -> None:
    model = make(tiny_bert)
    before = {name: value.clone() for name, value in model.state_dict().items() if not name.startswith("rating.")}
    fit_ratings(model, remembered(model, catalog), log(additive)[0], 0)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())


def test_clicks_find_what_people_take(tiny_bert: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two crowds, each with its half of the catalog; no ratings are needed."""
    monkeypatch.setattr(ratings, "RATE", 0.05)  # so few people make only sixty steps
    rng = np.random.default_rng(0)
    crowd = np.arange(PEOPLE) % 2
    own = np.stack([rng.permutation(ITEMS // 2) + ITEMS // 2 * side for side in crowd])
    past = Histories(np.arange(PEOPLE + 1) * 6, own[:, :6].reshape(-1))
    model = make(tiny_bert, objective="click")
    memory = remembered(model, catalog)
    fit_ratings(model, memory, past, 0)
    said = model.rate(past, memory, np.stack([own[:, 6], (own[:, 6] + ITEMS // 2) % ITEMS], 1))
    assert np.isfinite(said).all()
    assert (said[:, 0] > said[:, 1]).mean() > 0.95
