"""Recipes: what is written is checked, documented, and can be read back."""

from __future__ import annotations

import ast
import inspect
import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from towers.errors import InputError
from towers.model_config import ModelConfig
from training.config import Recipe


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"train": {"epoch": 3}}, "unknown key 'train.epoch', did you mean 'train.epochs'"),
        ({"itme": {}}, "unknown key 'itme', did you mean 'item'"),
        ({"data": {"min_ratin": 0.5}}, "unknown key 'data.min_ratin', did you mean 'data.min_rating'"),
        ({"user": {"sequence": {"lenght": 9}}}, "did you mean 'user.sequence.length'"),
        ({"user": {"text": {"history": {"bugdet": 9}}}}, "did you mean 'user.text.history.budget'"),
        ({"train": {"epochs": 0}}, "train.epochs: Input should be greater than or equal to 1, got 0"),
        ({"item": {"dropout": 1.0}}, "item.dropout: Input should be less than 1, got 1.0"),
        (
            {"image": {"source": " "}},
            "image.source: got ' ', expected the name of an encoder, or 'vectors': leave it out for the default",
        ),
        ({"audio": {"source": ""}}, "audio.source: got '', expected the name of an encoder"),
        ({"train": {"seed": 2**32}}, "train.seed: Input should be less than 4294967296, got 4294967296"),
        (
            {"train": {"softmax": "full", "hard_negatives": 4}},
            "the recipe: train: softmax is 'full', which has every item as a negative once and needs no correction",
        ),
        (
            {"train": {"contrastive_weight": 0}},
            "contrastive_weight, rating_weight, click_weight and reconstruction_weight are all 0, so that nothing "
            "would bring people and items together: set one of them above 0",
        ),
        ({"train": {"rating_weight": -1}}, "train.rating_weight: Input should be greater than or equal to 0, got -1"),
        ({"train": {"weighting": "even"}}, "train.weighting: Input should be 'fixed' or 'uncertainty', got 'even'"),
        (
            {"train": {"epochs": 8, "text_epochs": 9}},
            "text_epochs is 9, but the run has 8 epochs: lower it, or raise epochs",
        ),
        ({"train": {"epochs": 8, "evaluate_every": 20}}, "evaluate_every is 20, but the run has 8 epochs"),
        ({"train": {"epochs": 8, "mine_every": 9}}, "mine_every is 9, but the run has 8 epochs"),
        (
            {"train": {"epochs": 3, "text_epochs": 5}},
            "text_epochs is 5, but the run has 3 epochs: lower it, or raise epochs",
        ),
        ({"train": {"softmax": "full", "uniform_negatives": 64}}, "leave out uniform_negatives, popular_negatives, "),
        (
            {"train": {"epochs": 1, "hard_negatives": 4}},
            "hard_negatives is 4, but they are found after the first epoch, and the run has no other: leave it out",
        ),
        (
            {"train": {"contrastive_weight": 0, "click_weight": 1, "memory_negatives": 4}},
            "memory_negatives is above 0, but contrastive_weight is 0: leave out one of them",
        ),
        (
            {"train": {"memory_negatives": 64, "correction": "none"}},
            "memory_negatives is 64, but correction is 'none', and without one rare items, which the memory alone has "
            "in most steps, are hardly pushed away: leave out one of them",
        ),
        (
            {"user": {"sequence": False}, "train": {"views_weight": 0.5}},
            "the recipe: train.views_weight is 0.5, but only the sequence reader reads views of a past: turn on",
        ),
        (
            {"user": {"sequence": False}, "train": {"reconstruction_weight": 1}},
            "train.reconstruction_weight is 1.0, but only the sequence reader reads a half of a past: turn on",
        ),
        (
            {"user": {"text": False, "interests": 2}, "train": {"reconstruction_weight": 1}},
            "train.reconstruction_weight is 1.0 and user.interests 2, but what is reconstructed is told by one query",
        ),
        (
            {"train": {"reconstruction_weight": 1, "softmax": "sampled"}},
            "reconstruction_weight is 1.0, and reconstruction looks at the whole catalog: leave it out, or",
        ),
        (
            {"user": {"text": False, "sequence": {"ordered": False, "blocks": 3, "ratings": False}}},
            "ordered is false, and a set is read as the mean of its items, for which blocks, ratings mean nothing: "
            "leave out blocks, ratings",
        ),
        (
            {"user": {"text": False, "interests": 2, "sequence": {"ordered": False}}},
            "interests is 2, but sequence.ordered is false, and a set is read as one mean: leave out interests",
        ),
        ({"train": {"clip": math.inf}}, "train.clip: Input should be a finite number, got inf"),
        ({"rating": {"range": (1, math.nan)}}, "rating.range.1: Input should be a finite number, got nan"),
        ({"train": {"warmup": 1.5}}, "train.warmup: Input should be less than or equal to 1, got 1.5"),
        ({"index": "", "train": {"hard_negatives": 4}}, "index: String should have at least 1 character, got ''"),
        ({"train": {"softmax": "half"}}, "train.softmax: Input should be 'auto', 'full' or 'sampled', got 'half'"),
        ({"data": {"min_rating": 5}}, "min_rating must lie in [0, 1]"),
        ({"user": {"sequence": 3}}, "user.sequence"),
        ({"user": {"interests": 0}}, "user.interests: Input should be greater than or equal to 1, got 0"),
        (
            {"user": {"interests": 2, "sequence": False}},
            "interests is 2, but only the sequence reader tells interests apart: turn on [user.sequence]",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        Recipe.read(values)
    assert message in str(caught.value)
    assert str(caught.value).startswith("the recipe: ")
    assert "\n" not in str(caught.value)
    assert "{" not in str(caught.value)  # what was got is a value, not all that stands around it


def test_every_mistake_is_named_at_once() -> None:
    with pytest.raises(InputError, match=r"item\.dimension: .*; train\.epochs: "):
        Recipe.read({"train": {"epochs": 0}, "item": {"dimension": 1}})


def test_toml(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text('[user]\nsequence = false\ntext = true\n[train]\nepochs = 7\n[item]\ntemplate = "{title}"\n')
    recipe = Recipe.read(file)
    assert recipe.user.sequence is None
    assert recipe.user.text == Recipe().user.text
    assert (recipe.train.epochs, recipe.item.template) == (7, "{title}")
    shape = recipe.model().model_dump()
    assert shape == {name: value for name, value in recipe.model_dump().items() if name in ModelConfig.model_fields}


@pytest.mark.parametrize("content", [b"epochs = ", b"\xff\xfe", None])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "recipe.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=r"recipe\.toml cannot be read"):
        Recipe.read(file)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"user": {"sequence": False}, "data": {"min_rating": 0.5, "events": ["buy"]}},
        {"user": {"text": {"tune": "all"}}, "train": {"seed": 5}, "text": {"pooling": "cls"}},
    ],
)
def test_a_resolved_recipe_reads_back(values: dict[str, Any]) -> None:
    recipe = Recipe.read(values)
    assert Recipe.read(recipe.model_dump(mode="json")) == recipe
    assert (recipe == Recipe()) == (not values)


def test_uniform_negatives_that_are_asked_for_are_drawn_from_a_small_catalog_too() -> None:
    assert not Recipe.read({}).train.wants_sample
    assert Recipe.read({"train": {"uniform_negatives": 64}}).train.wants_sample


def test_values_as_they_are() -> None:
    recipe = Recipe.read({"user": {"text": {"tune": 1}}, "index": "HNSW32"})
    assert recipe.user.text is not None
    assert (recipe.user.text.tune, recipe.index) == (1, "HNSW32")
    assert Recipe.read(recipe) is recipe
    assert Recipe.read(None) == Recipe()


def test_sets_have_no_history_text() -> None:
    with pytest.raises(InputError, match="history text tells a past in its order"):
        Recipe.read({"user": {"sequence": {"ordered": False}}})
    assert not Recipe.read({"user": {"sequence": {"ordered": False}, "text": False}}).user.sequence.ordered


def models(kind: type[BaseModel]) -> set[type[BaseModel]]:
    """A recipe's model and all inside it."""
    found = {kind}
    for field in kind.model_fields.values():
        for inner in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                found |= models(inner)
    return found


@pytest.mark.parametrize("kind", sorted(models(Recipe), key=lambda kind: kind.__name__))
def test_every_field_is_documented_by_a_string_under_it(kind: type[BaseModel]) -> None:
    body = ast.parse(inspect.getsource(kind)).body[0].body  # type: ignore[attr-defined]
    assert kind.model_config["extra"] == "forbid"
    fields = 0
    for statement, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign):
            fields += 1
            documented = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            assert documented, f"{kind.__name__}.{ast.unparse(statement.target)} has no string under it"
    assert fields == len(kind.__annotations__)


def test_all_sections_are_checked() -> None:
    assert {kind.__name__ for kind in models(Recipe)} >= {
        "Recipe", "TrainConfig", "TextConfig", "ItemConfig", "UserConfig", "SequenceConfig", "TextReaderConfig",
        "HistoryTextConfig", "RatingConfig",
    }  # fmt: skip
