"""Training that goes on: a model learns from more events, beginning with the weights that it has."""

from __future__ import annotations

import copy

import numpy as np
import pyarrow as pa
import torch
from accelerate.utils import set_seed
from torch import Tensor

from towers.catalog import Catalog
from towers.history import Histories
from towers.ids import IdList
from towers.model import TwoTower
from training.config import Recipe
from training.loop import Run
from training.ratings import fit_ratings

SLOWER = 0.25  # of the recipe's learning rates: what is learned already is to be changed, not begun


def go_on(
    model: TwoTower,
    catalog: Catalog,
    past: Histories,
    recipe: Recipe,
    *,
    epochs: int = 2,
    rated: Histories | None = None,
    progress: bool = False,
) -> TwoTower:
    """Train a copy of a model a little longer, on all events there are by now.

    What validation chose for the model (gates, weights, how popularity counts) stays. Items that have become frequent
    enough get vectors of their own, which begin at zero, so that nothing changes before it is learned.

    Args:
        model: where to begin; it stays as it is.
        catalog: N items, new ones among them.
        past: positive events, old and new.
        recipe: the one that the model was trained by.
        epochs: passes over all people, at least 1, with a fourth of the recipe's learning rates.
        rated: events with ratings that the rating head learns from; default: `past`.
        progress: show a bar on standard error.

    Returns:
        The new model, in evaluation mode.
    """
    set_seed(recipe.train.seed)
    counts = np.bincount(past.items, minlength=len(catalog))
    grown = with_ids(model, catalog, np.flatnonzero(counts >= recipe.item.id_min_events) if recipe.item.ids else [])
    slower = {name: SLOWER * getattr(recipe.train, name) for name in ("rate", "rate_pretrained")}
    train = recipe.train.model_copy(update={"epochs": epochs, "text_epochs": epochs, **slower})
    recipe = recipe.model_copy(update={"train": train})
    Run(grown, catalog, past, None, counts, recipe, progress, until=[epochs], goes_on=True).go()
    grown.eval()
    if model.rating.fitted:
        memory = grown.memory(catalog, grown.embed_items(catalog))
        fit_ratings(grown, memory, past if rated is None else rated, recipe.train.seed)
    return grown


def with_ids(model: TwoTower, catalog: Catalog, frequent: np.ndarray | list[int]) -> TwoTower:
    """A copy of a model in which further items have vectors, levels and factors of their own, all of them zero.

    Args:
        model: the model.
        catalog: N items.
        frequent: int64 rows of items that are to have them; those that have them already keep theirs.
    """
    wanted = catalog.ids.array.take(np.asarray(frequent, np.int64))
    new = wanted.filter(pa.array(model.ids.rows(wanted) < 0))
    ids = IdList([*model.ids.to_list(), *new.to_pylist()])
    grown = TwoTower(
        config=model.config,
        encoder=copy.deepcopy(model.encoder),
        ids=ids,
        template=model.template,
        media={name: copy.deepcopy(model.encoder_of(name)) for name in model.media},
    )
    grown.to(model.log_scale.device)
    old, state = model.state_dict(), grown.state_dict()
    grown.load_state_dict({name: _carried(name, old.get(name), value) for name, value in state.items()})
    return grown


def _carried(name: str, old: Tensor | None, new: Tensor) -> Tensor:
    """The old weights; rows of a table that are new are zero, and the last row of the rating head's stays the last."""
    if old is not None and old.shape == new.shape:
        return old
    table = torch.zeros_like(new)
    if old is not None:
        table[: len(old) - name.startswith("rating.")] = old[: len(old) - name.startswith("rating.")]
    return table
