"""What is chosen on validation data: the best of what is tried, and it is set in the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch.nn import functional as F

from towers.catalog import Catalog
from towers.history import Histories
from towers.ids import IdList
from towers.model import TwoTower
from towers.model_config import ModelConfig
from towers.text import TextConfig, TextEncoder
from towers.user import Memory, Reading
from training.choices import GATES, choose_gate, choose_weight, choose_words
from training.held_out import Asked
from training.measuring.splits import Questions

ITEMS, PEOPLE = 24, 30


@pytest.fixture
def catalog(own_cache: Path) -> Catalog:
    return Catalog.read(pl.DataFrame({"item_id": range(ITEMS), "title": [f"night {n}" for n in range(ITEMS)]}))


@pytest.fixture
def questions() -> Questions:
    rng = np.random.default_rng(0)
    items = np.stack([rng.permutation(ITEMS)[:5] for _ in range(PEOPLE)])
    past = Histories(np.arange(PEOPLE + 1) * 4, items[:, :4].reshape(-1))
    return Questions(np.arange(PEOPLE), past, Histories(np.arange(PEOPLE + 1), items[:, 4]))


def make(tiny_bert: Path, catalog: Catalog, text: Any) -> tuple[TwoTower, Memory]:
    torch.manual_seed(0)
    config = ModelConfig.model_validate({"user": {"text": text}, "item": {"dimension": 8, "hidden": 8}})
    encoder = TextEncoder.load(TextConfig(source=str(tiny_bert)))
    model = TwoTower(config=config, encoder=encoder, ids=IdList(range(ITEMS)), template="{title}").eval()
    return model, model.memory(catalog, model.embed_items(catalog))


def test_the_weight_is_the_one_that_ranks_best(
    tiny_bert: Path, catalog: Catalog, questions: Questions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told the answer, more weight is better; told its opposite, none is best."""
    model, memory = make(tiny_bert, catalog, False)
    queries = model.encode(questions.histories, memory)
    for sign, best in ((1.0, 4.0), (-1.0, 0.0)):

        def told(histories: Histories, memory: Any, rows: np.ndarray, sign: float = sign) -> np.ndarray:
            return sign * (rows == questions.targets.items[:, None]).astype(np.float32)

        monkeypatch.setattr(model, "rate", told)
        report = choose_weight(model, memory, questions, queries, questions.histories)
        assert report["weight"] == model.rating.weight.item() == best
        assert report["ndcg@20"][str(best)] == max(report["ndcg@20"].values())


def test_the_gate_is_the_one_that_ranks_best(
    tiny_bert: Path, catalog: Catalog, questions: Questions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text reader that knows the answer gets the largest gate, one that points away from it the smallest."""
    model, memory = make(tiny_bert, catalog, True)
    for sign, best in ((1.0, max(GATES)), (-1.0, min(GATES))):

        def read(histories: Histories, memory: Memory, sign: float = sign) -> tuple[Reading, Reading]:
            there = torch.ones(len(histories), dtype=torch.bool)
            noise = torch.randn(len(histories), 8, generator=torch.Generator().manual_seed(0))
            target = memory.vectors[questions.targets.items]
            return (F.normalize(noise, dim=1), there), (sign * target, there)

        monkeypatch.setattr(model.user, "read_together", read)
        queries, report = choose_gate(model, memory, questions)
        assert report is not None
        assert report["gate"] == best
        assert model.user.fusion.gate("text").item() == pytest.approx(best, rel=1e-5)
        assert report["ndcg@20"][str(best)] == max(report["ndcg@20"].values())
        (sequence, _), (text, _) = read(questions.histories, memory)
        np.testing.assert_allclose(queries, F.normalize(sequence + best * text, dim=1).numpy(), atol=1e-5)


def test_one_reader_needs_no_gate(tiny_bert: Path, catalog: Catalog, questions: Questions) -> None:
    model, memory = make(tiny_bert, catalog, False)
    queries, report = choose_gate(model, memory, questions)
    assert report is None
    np.testing.assert_allclose(queries, model.encode(questions.histories, memory), atol=1e-6)


def test_the_weight_of_words_is_the_one_that_finds_most(
    tiny_bert: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vectors that know the answer need no words; where they point away, as many as it takes."""
    model, _ = make(tiny_bert, catalog, True)
    asked = Asked(np.arange(ITEMS), [f"night {n} of the year" for n in range(ITEMS)])
    for sign, best in ((1.0, 0.0), (-1.0, 8.0)):

        def told(histories: Histories, memory: Memory, texts: list[str], sign: float = sign) -> np.ndarray:
            return sign * memory.vectors[[int(texts[0].split()[1])]].numpy()

        monkeypatch.setattr(model, "encode", told)
        report = choose_words(model, catalog, asked)
        assert report is not None
        assert report["weight"] == model.user.text.words.item() == best
        assert report["ndcg@20"][str(best)] == max(report["ndcg@20"].values())
        assert report["sentences"] == ITEMS


def test_without_sentences_words_keep_their_weight(tiny_bert: Path, catalog: Catalog) -> None:
    model, _ = make(tiny_bert, catalog, True)
    assert choose_words(model, catalog, Asked(np.empty(0, np.int64), [])) is None
    assert model.user.text.words.item() == 1.0
