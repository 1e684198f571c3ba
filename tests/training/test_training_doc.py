"""docs/training.md: its settings exist, its defaults are those of the recipe, and its objective can be learned."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from towers.contents import Contents
from towers.history import Histories
from towers.ids import IdList
from towers.model import TwoTower
from towers.model_config import ModelConfig
from towers.text import TextConfig, TextEncoder
from training import tasks
from training.config import Recipe, TrainConfig
from training.items import Items
from training.negatives import Known
from training.objective import Objective
from training.sampling import windows
from training.search import read_space

TEXT = (Path(__file__).parents[2] / "docs" / "training.md").read_text("utf-8")


def test_every_recipe_in_it_is_one_and_the_space_is_a_space(tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    *recipes, space = blocks
    assert len(recipes) == 11
    for number, block in enumerate(recipes):
        path = tmp_path / f"{number}.toml"
        path.write_text(block)
        Recipe.read(path)
    (tmp_path / "space.toml").write_text(space)
    assert list(read_space(tmp_path / "space.toml")) == ["train.rate", "item.dimension"]


@pytest.fixture
def apart() -> Callable[..., torch.Tensor | None]:
    """The objective that it writes, as if it stood in `training.tasks`."""
    (block,) = re.findall(r"```python\n(def apart.*?)```", TEXT, re.DOTALL)
    scope = dict(vars(tasks))
    exec(block, scope)
    return scope["apart"]


@pytest.mark.parametrize("user", [{"text": False}, {"text": False, "interests": 3}, {"sequence": False}])
def test_its_objective_is_one(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch, apart: Callable[..., torch.Tensor | None], user: dict[str, Any]
) -> None:
    """For one interest, for the nearest of several, and where the text reader alone has no anchor to read at."""
    monkeypatch.setitem(tasks.TASKS, "apart", apart)
    torch.manual_seed(0)
    past, encoder = Histories.of([[0, 2, 1], [3, 4]]), TextEncoder.load(TextConfig(source=str(tiny_bert)))
    config = ModelConfig.model_validate({"item": {"dimension": 8, "hidden": 8}, "user": user})
    model = TwoTower(config=config, encoder=encoder, ids=IdList(range(5)), template="{title}")
    texts = Contents({"text": torch.randn(5, encoder.dimension)}, {"text": torch.ones(5) > 0})
    items = Items(texts, torch.arange(5), torch.zeros(5) > 0)
    objective = Objective(model=model, items=items, known=Known(past, 5), negatives=None, config=TrainConfig()).eval()
    seen = windows(past, np.array([1, 0]), 5, np.random.default_rng(0))
    found = objective(seen, None, None, torch.Generator())
    if model.user.sequence is None:
        assert set(found) == {"loss"}
        return
    vectors = model.item(texts, torch.arange(5))
    asked = seen.inputs.mask
    queries = model.user.sequence(vectors, seen.inputs)[asked].view(3, -1, 8)
    distances = (queries - vectors[seen.targets[asked]][:, None]).square().sum(-1).min(1).values
    assert found["apart"].item() == pytest.approx(distances.mean().item(), rel=1e-5)
