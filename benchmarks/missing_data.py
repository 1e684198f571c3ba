"""What the benchmark of missing content learns from: the generated music shop, and films with posters and trailers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import movies
from benchmarks.movies_data import movies_100k
from benchmarks.settings import merged
from benchmarks.studio_jobs import content_recipe
from towers.catalog import Catalog
from towers.interactions import Positive
from training.measuring.comparison import split_log
from training.measuring.splits import Split
from twotower.studio.exam import make_exam
from twotower.studio.settings import PARTS
from twotower.studio.shop import read_shop

EPOCHS = 20  # of the 60 of the recipe that ships
WHOLE = movies.recipe_of(movies.ALL).model_dump(mode="json", exclude_unset=True)
FILMS = merged(WHOLE, {"item": {"ids": False}, "train": {"epochs": EPOCHS}})
SHOP = content_recipe(PARTS, 0).model_dump(mode="json", exclude_unset=True)


class Data(NamedTuple):
    """Items of which three kinds of content are known, and questions about people.

    Args:
        catalog: N items.
        split: of a log; not refitted.
        settings: of the recipe that reads all kinds, and nothing else of an item.
    """

    catalog: Catalog
    split: Split
    settings: dict[str, Any]


def shop(folder: Path) -> Data:
    """A generated shop, all of whose tracks have a text, a cover and a sound."""
    one = read_shop(folder)
    return Data(one.catalog, make_exam(one).split, SHOP)


def films(data_dir: Path) -> Data:
    """MovieLens-100K, leave-one-out: titles and descriptions as texts, posters and trailers where a film has them."""
    catalog, log = movies_100k(data_dir)
    return Data(catalog, split_log("leave-one-out", log.known(catalog), catalog, Positive())[1], FILMS)
