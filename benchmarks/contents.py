"""What a recipe's model reads of a catalog, before any training."""

from __future__ import annotations

import numpy as np

from towers.catalog import Catalog
from towers.contents import Contents
from towers.embed import VectorCache
from training.config import Recipe
from training.untrained import new_model


def contents_of(catalog: Catalog, recipe: Recipe, *, progress: bool = False) -> Contents:
    """Frozen content vectors, which lie in the cache from then on, so that no job side by side waits for them."""
    nobody = np.zeros(len(catalog), np.int64)
    model = new_model(catalog, nobody, recipe)
    return model.contents(catalog, VectorCache(), progress=progress)[0]
