"""Who trains, and what share of others' targets each item is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from towers.catalog import Catalog
from towers.errors import InputError
from towers.history import Histories
from towers.ids import IdList
from towers.model import TwoTower
from towers.text import TextEncoder
from training.config import Recipe
from training.feed import Feed
from training.ranks import Ranks

PAST = Histories.of([[0, 1, 0, 2], [3], [4, 4], [], [5, 0]])


def feed(tiny_bert: Path, past: Histories, *, ordered: bool) -> Feed:
    """Of a sequence reader alone."""
    values = {"text": {"source": str(tiny_bert)}, "item": {"dimension": 8, "hidden": 8}}
    recipe = Recipe.read({**values, "user": {"text": False, "sequence": {"ordered": ordered}}})
    catalog = Catalog.read(pl.DataFrame({"item_id": range(6), "title": list("abcdef")}))
    encoder = TextEncoder.load(recipe.text)
    model = TwoTower(config=recipe.model(), encoder=encoder, ids=IdList(range(6)), template="{title}")
    rng = np.random.default_rng(0)
    return Feed(model, catalog, past, recipe, rng, ranks=Ranks(), pooled=False, progress=False)


def test_who_trains_has_something_to_be_asked_for(tiny_bert: Path) -> None:
    """In order whoever has two events; of sets whoever has two items. All targets but one person's are others'."""
    in_order, of_sets = (feed(tiny_bert, PAST, ordered=ordered) for ordered in (True, False))
    assert in_order.people.tolist() == [0, 2, 4]
    assert in_order.targets.tolist() == pytest.approx([n / 5 * 3 / 2 for n in (2, 1, 1, 0, 1, 0)])
    assert of_sets.people.tolist() == [0, 4]
    assert of_sets.targets.tolist() == pytest.approx([n / 3 * 2 for n in (2 / 3 + 1 / 2, 2 / 3, 2 / 3, 0, 0, 1 / 2)])
    seen = of_sets.batch(of_sets.people, False, torch.device("cpu")).windows
    assert seen.inputs.mask.sum(1).tolist() == [2, 1]


def test_sets_of_one_item_each_are_refused(tiny_bert: Path) -> None:
    with pytest.raises(InputError, match="training needs people with at least 2 events before the validation event"):
        feed(tiny_bert, Histories.of([[4, 4], [3]]), ordered=False)
