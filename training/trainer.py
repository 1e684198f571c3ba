"""Train a model on a catalog and a log."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.utils import set_seed

from towers.artefact import refuse_unwritable
from towers.catalog import Catalog
from towers.errors import InputError
from towers.history import Histories
from towers.ids import IdList
from towers.interactions import Interactions
from towers.model import KIND, TwoTower
from towers.template import columns_of
from towers.text import TextEncoder
from training.choices import choose_gate, choose_weight, choose_words
from training.config import Recipe
from training.held_out import Asked, hold_out_sentences
from training.loop import Report, Run
from training.protocols import Questions, last_event
from training.ratings import fit_ratings


def train(
    catalog: Catalog,
    log: Interactions,
    *,
    recipe: str | Path | dict[str, Any] | Recipe | None = None,
    out: str | Path | None = None,
    weights: str | Path | None = None,
    progress: bool = True,
) -> TwoTower:
    """Train a model on a catalog and a log.

    The last positive event of each person is kept for validation.

    Args:
        catalog: items.
        log: events; those with items that are not in the catalog are set aside.
        recipe: TOML file, nested values or a `Recipe`; default: the recipe that ships.
        out: folder to save the model in; curves for TensorBoard go into a folder beside it.
        weights: folder with pretrained weights, looked in before anything is downloaded.
        progress: show a bar on standard error.

    Raises:
        InputError: a recipe that cannot be used, or a log in which nobody has two positive events.
        ArtefactError: `out` is something else, or cannot be written; raised before training.
    """
    recipe = with_range(Recipe.read(recipe), log.rating_range)
    known = log.known(catalog)
    _, positives = known.histories(catalog, positive=recipe.data)
    _, everything = known.histories(catalog)
    past, validation = last_event(positives)
    model, _ = fit(
        catalog,
        past,
        validation,
        recipe,
        rated=without_targets(everything, validation),
        out=Path(out) if out is not None else None,
        weights=Path(weights) if weights is not None else None,
        progress=progress,
    )
    return model


def fit(
    catalog: Catalog,
    past: Histories,
    validation: Questions,
    recipe: Recipe,
    *,
    rated: Histories | None = None,
    out: Path | None = None,
    weights: Path | None = None,
    progress: bool = True,
) -> tuple[TwoTower, Report]:
    """Train on `past`, choose by `validation`.

    Args:
        catalog: N items.
        past: positive training events.
        validation: questions that decide when to stop, which weights are kept and the re-ranking weight.
        recipe: settings.
        rated: events with ratings that the rating head learns from; default: `past`.
        out, weights, progress: as in `train`.

    Returns:
        The model in evaluation mode, and what happened.
    """
    started = time.perf_counter()
    if out is not None:
        refuse_unwritable(out, KIND)
    set_seed(recipe.train.seed)
    encoder = TextEncoder.load(recipe.text, weights=weights)
    counts = np.bincount(past.items, minlength=len(catalog))
    model = new_model(catalog, counts, recipe, encoder)
    shown, asked = _hold_out(catalog, model, recipe)
    run = Run(model, shown, past, validation, counts, recipe, out, progress)
    report = run.go()
    model.eval()
    report.words = choose_words(model, shown, asked)
    memory = model.memory(catalog, model.embed_items(catalog))
    queries, report.fusion = choose_gate(model, memory, validation)
    report.rating_error = fit_ratings(model, memory, past if rated is None else rated, recipe.train.seed)
    if report.rating_error is not None:
        report.reranking = choose_weight(model, memory, validation, queries)
    report.seconds = time.perf_counter() - started
    if out is not None:
        model.save(out, about={"recipe": recipe.model_dump(mode="json"), "training": asdict(report)})
    return model, report


def refit(
    catalog: Catalog, past: Histories, recipe: Recipe, chosen: Report, *, rated: Histories | None = None
) -> TwoTower:
    """Train anew on more events, with all that an earlier `fit` chose: epochs, the gate and the re-ranking weight.

    Args:
        catalog, past, rated: as in `fit`, `past` usually with the validation events.
        recipe: the same as then.
        chosen: what `fit` reported.

    Returns:
        The model in evaluation mode.
    """
    set_seed(recipe.train.seed)
    counts = np.bincount(past.items, minlength=len(catalog))
    model = new_model(catalog, counts, recipe, TextEncoder.load(recipe.text))
    Run(model, catalog, past, None, counts, recipe, None, False, until=chosen.best_epochs).go()
    model.eval()
    if chosen.fusion is not None:
        model.user.fusion.set_gate("sequence", 1.0)
        model.user.fusion.set_gate("text", chosen.fusion["gate"])
    if chosen.words is not None and model.user.text is not None:
        model.user.text.words.fill_(chosen.words["weight"])
    if chosen.reranking is not None:
        memory = model.memory(catalog, model.embed_items(catalog))
        fit_ratings(model, memory, past if rated is None else rated, recipe.train.seed)
        model.rating.weight.fill_(chosen.reranking["weight"])
    return model


def new_model(catalog: Catalog, counts: np.ndarray, recipe: Recipe, encoder: TextEncoder) -> TwoTower:
    """An untrained model whose frequent items have vectors of their own."""
    frequent = np.flatnonzero(counts >= recipe.item.id_min_events) if recipe.item.ids else np.empty(0, np.int64)
    template = recipe.item.template or catalog.default_template()
    ids = IdList(catalog.ids.array.take(frequent))
    config = recipe.model().model_copy(update={"data": recipe.data})
    return TwoTower(config=config, encoder=encoder, ids=ids, template=template)


def _hold_out(catalog: Catalog, model: TwoTower, recipe: Recipe) -> tuple[Catalog, Asked]:
    """The catalog to train on, and sentences to choose by where the model reads them."""
    columns = columns_of(model.template) if model.user.text is not None and recipe.train.sentences else []
    return hold_out_sentences(catalog, columns, recipe.train.seed)


def with_range(recipe: Recipe, found: tuple[float, float] | None) -> Recipe:
    """The recipe with the range of ratings that the log was read with, so that the model knows it.

    Raises:
        InputError: the recipe names another one.
    """
    if found is None:
        return recipe
    wanted, found = recipe.rating.range, (float(found[0]), float(found[1]))
    if wanted not in (None, found):
        raise InputError(f"rating.range is {wanted} in the recipe, but the log was read with rating_range={found}")
    return recipe.model_copy(update={"rating": recipe.rating.model_copy(update={"range": found})})


def without_targets(everything: Histories, validation: Questions) -> Histories:
    """All events but those that validation asks for."""
    count = int(max(everything.items.max(initial=0), validation.targets.items.max(initial=0))) + 1
    asked = validation.people[validation.targets.people] * count + validation.targets.items
    return everything.keep(~np.isin(everything.people * count + everything.items, asked))
