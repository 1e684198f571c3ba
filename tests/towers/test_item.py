"""The item tower: content and own vectors, either of which may be missing."""

from __future__ import annotations

import pytest
import torch

from towers.fusion import unit
from towers.item import ItemConfig, ItemTower

CONFIG = ItemConfig(dimension=6, hidden=8, id_dropout=0.5)
COUNT = 400


@pytest.fixture
def tower() -> ItemTower:
    torch.manual_seed(0)
    return ItemTower(config=CONFIG, content_dimension=5, ids=3).eval()


def test_each_mix_of_parts(tower: ItemTower) -> None:
    content = torch.randn(4, 5)
    vectors = tower(content, torch.tensor([True, True, False, False]), torch.tensor([0, -1, 2, -1]))
    text, own = tower.text(content), tower.id.weight
    torch.testing.assert_close(vectors[0], unit(text[0] + own[0]))
    torch.testing.assert_close(vectors[1], unit(text[1]))
    torch.testing.assert_close(vectors[2], unit(own[2]))
    assert vectors[3].tolist() == [0] * 6
    torch.testing.assert_close(vectors.norm(dim=1), torch.tensor([1.0, 1, 1, 0]))


def test_content_that_is_not_there_is_not_looked_at(tower: ItemTower) -> None:
    content = torch.full((1, 5), float("nan"))
    torch.testing.assert_close(tower(content, torch.tensor([False]), torch.tensor([1]))[0], unit(tower.id.weight[1]))


def test_own_vectors_are_dropped_only_where_there_is_text(tower: ItemTower) -> None:
    tower.train()
    tower.text.eval()
    content, has_text = torch.randn(1, 5).expand(COUNT, 5), torch.arange(COUNT) % 2 == 0
    rows = torch.zeros(COUNT, dtype=torch.long)
    alone = unit(tower.text(content[:1]))
    vectors = tower(content, has_text, rows)
    dropped = torch.isclose(vectors, alone, atol=1e-6).all(1)
    torch.testing.assert_close(vectors[1::2], unit(tower.id.weight[:1]).expand(COUNT // 2, 6))
    assert 70 <= dropped[::2].sum().item() <= 130  # half of two hundred, more than four standard deviations
    tower.eval()
    assert not torch.isclose(tower(content, has_text, rows), alone, atol=1e-6).all(1).any()


def test_a_tower_without_own_vectors() -> None:
    tower = ItemTower(config=CONFIG, content_dimension=5, ids=0)
    content = torch.randn(2, 5)
    tower.eval()
    vectors = tower(content, torch.tensor([True, False]), torch.tensor([-1, -1]))
    torch.testing.assert_close(vectors[0], unit(tower.text(content[:1]))[0])
    assert vectors[1].tolist() == [0] * 6
