"""docs/training.md: its settings exist, and its defaults are those of the recipe."""

from __future__ import annotations

import re
from pathlib import Path

from training.config import Recipe
from training.search import read_space

TEXT = (Path(__file__).parents[2] / "docs" / "training.md").read_text("utf-8")


def test_every_recipe_in_it_is_one_and_the_space_is_a_space(tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    *recipes, space = blocks
    assert len(recipes) == 10
    for number, block in enumerate(recipes):
        path = tmp_path / f"{number}.toml"
        path.write_text(block)
        Recipe.read(path)
    (tmp_path / "space.toml").write_text(space)
    assert list(read_space(tmp_path / "space.toml")) == ["train.rate", "item.dimension"]
