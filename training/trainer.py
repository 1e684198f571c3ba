"""Train a model on a catalog and a log."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.utils import set_seed

from towers.artefact import refuse_unwritable
from towers.catalog import Catalog
from towers.embed import VectorCache
from towers.errors import InputError
from towers.history import Histories
from towers.interactions import Interactions
from towers.media import told_of
from towers.model import KIND, TwoTower
from towers.tables import refuse_unread
from towers.template import columns_of
from training.alignment import align, is_tuned
from training.checkpoint import Checkpoints, checkpoint_folder, identity, remove_checkpoints
from training.choices import choose_gate, choose_weight, choose_words
from training.config import Recipe
from training.held_out import Asked, hold_out_sentences
from training.loop import Run, Watch, refuse_unlearnable
from training.measuring.comparison import split_log
from training.measuring.protocols import last_event
from training.measuring.splits import Questions, Split
from training.pretraining import pretrain
from training.ranks import Ranks
from training.ratings import fit_ratings
from training.report import Report
from training.saved import save
from training.sharding import refuse_unusable
from training.standing import choose_level, choose_new_weights, choose_trend
from training.trackers import begun, flat
from training.untrained import new_model
from training.usage import usage


def train(
    catalog: Catalog,
    log: Interactions | None = None,
    *,
    recipe: str | Path | dict[str, Any] | Recipe | None = None,
    protocol: str | None = None,
    out: str | Path | None = None,
    weights: str | Path | None = None,
    progress: bool = True,
) -> TwoTower:
    """Train a model on a catalog and a log.

    The last positive event of each person is kept for validation; with a `protocol`, what it keeps for validation and
    test, so that `twotower evaluate` can ask the model. With `out`, a training that was killed goes on from
    its last checkpoint when it is started again with the same catalog, log and recipe, and ends with the same weights
    (on a CPU with as many threads, to the bit).

    Args:
        catalog: items.
        log: events; those with items that are not in the catalog are set aside. Without one, the kinds of content of
            an item learn to find each other (`training.alignment`), and people are read by text alone; this takes no
            checkpoints.
        recipe: TOML file, nested values or a `Recipe`; default: the recipe that ships.
        protocol: one of `training.measuring.leaks.PROTOCOLS`: choose on its validation questions, then train anew on
            all that it gives the model to be reported. Default: train on everything but each person's last event.
        out: folder to save the model in; beside it curves of the training that validation chooses by go into
            ``tensorboard/NAME`` with its name, until the training is done checkpoints into ``OUT.checkpoint``, and what
            cannot be used, rows, pictures, sounds and vectors, into ``OUT.rejected.jsonl``.
        weights: folder with pretrained weights, looked in before anything is downloaded.
        progress: show a bar on standard error.

    Raises:
        InputError: what is no `Catalog` or `Interactions`, a recipe that cannot be used, a log in which nobody has two
            positive events, checkpoints of another recipe or other data beside `out`, or a tracker that cannot begin;
            without a log, items with but one kind of content, or a protocol.
        ArtefactError: `out` is something else, or cannot be written, or no checkpoint beside it can be read; raised
            before training.

    Warns:
        UserWarning: pictures, sounds or vectors cannot be read, items have nothing at all, a checkpoint is damaged and
            an older one is used, or none can be written.
    """
    out, weights = _path(out), _path(weights)
    settings = Recipe.read(recipe)
    refuse_unread(catalog, Catalog)
    if log is not None:
        refuse_unread(log, Interactions)
    if log is None and protocol is not None:
        raise InputError(f"the protocol {protocol!r} needs a log")
    known = None if log is None else log.known(catalog)
    rejected = catalog.rejected if known is None else catalog.rejected + known.rejected
    aside = out.with_name(f"{out.name}.rejected.jsonl") if out is not None and Ranks.current().leads else None
    if aside is not None:
        rejected.write(aside)
    if known is None:
        model = fit_catalog(catalog, settings, out=out, weights=weights, progress=progress)
    else:
        settings = with_range(settings, known.rating_range)
        model = _fit_log(catalog, known, settings, protocol, out=out, weights=weights, progress=progress)
    if aside is not None:
        (rejected + model.contents(catalog, VectorCache())[1]).write(aside)
    return model


def _fit_log(
    catalog: Catalog,
    known: Interactions,
    recipe: Recipe,
    protocol: str | None,
    *,
    out: Path | None,
    weights: Path | None,
    progress: bool,
) -> TwoTower:
    """Train on a log of the catalog's items; see `train`."""
    if protocol is not None:
        _, split = split_log(protocol, known, catalog, recipe.data)
        model, _ = fit_split(catalog, split, recipe, out=out, weights=weights, progress=progress)
        return model
    _, positives = known.histories(catalog, positive=recipe.data)
    _, everything = known.histories(catalog)
    past, validation = last_event(positives)
    rated = without_targets(everything, validation)
    model, _ = fit(catalog, past, validation, recipe, rated=rated, out=out, weights=weights, progress=progress)
    return model


def fit_catalog(
    catalog: Catalog, recipe: Recipe, *, out: Path | None = None, weights: Path | None = None, progress: bool = True
) -> TwoTower:
    """Train on a catalog without a log; see `train`."""
    if out is not None:
        refuse_unwritable(out, KIND)
    if Ranks.current().splits:
        raise InputError("FSDP splits what is trained by a log, and there is none: launch without FSDP")
    set_seed(recipe.train.seed)
    nobody = {"sequence": None, "interests": 1}  # no past items are there to learn from
    user = recipe.user.model_copy(update=nobody)
    recipe = recipe.model_copy(update={"user": user, "train": recipe.train.model_copy(update={"views_weight": 0.0})})
    model = new_model(catalog, np.zeros(len(catalog), np.int64), recipe, weights)
    pretraining = pretrain(model, catalog, recipe.pretrain, seed=recipe.train.seed, progress=progress)
    loss = align(model, catalog, recipe.align, progress=progress)
    model.eval()
    _, unread = model.contents(catalog, VectorCache())
    if unread.count:
        warnings.warn(told_of(unread), UserWarning, stacklevel=3)
    if out is not None and Ranks.current().leads:
        training = {"pretraining": pretraining, "alignment": loss}
        model.save(out, about={"recipe": recipe.model_dump(mode="json"), "training": training})
    return model


def fit_split(
    catalog: Catalog,
    split: Split,
    recipe: Recipe,
    *,
    out: Path | None = None,
    weights: Path | None = None,
    progress: bool = True,
) -> tuple[TwoTower, Report]:
    """The model that a split's test questions are for: chosen on its validation questions, then refitted.

    Args:
        catalog: N items.
        split: of a log of positive events.
        recipe, out, weights, progress: as in `train`; what is saved names the events that it was trained on.

    Returns:
        The model in evaluation mode, and what was chosen.
    """
    train, validation = split.train, split.validation
    if split.refit is train:
        return fit(catalog, train, validation, recipe, out=out, weights=weights, progress=progress)
    kept = again = None
    if out is not None:
        refuse_unwritable(out, KIND)
        kept, again = checkpoint_folder(out), checkpoint_folder(out) / "refit"
    _, report = fit(
        catalog, train, validation, recipe, curves=out, checkpoints=kept, weights=weights, progress=progress
    )
    model = refit(catalog, split.refit, recipe, report, checkpoints=again, weights=weights, progress=progress)
    if out is not None and Ranks.current().leads:
        save(model, report, recipe, split.refit, out)
        remove_checkpoints(checkpoint_folder(out) / "refit")
        remove_checkpoints(checkpoint_folder(out))
    return model, report


def fit(
    catalog: Catalog,
    past: Histories,
    validation: Questions,
    recipe: Recipe,
    *,
    rated: Histories | None = None,
    out: Path | None = None,
    curves: Path | None = None,
    checkpoints: Path | None = None,
    weights: Path | None = None,
    progress: bool = True,
    watch: Watch | None = None,
) -> tuple[TwoTower, Report]:
    """Train on `past`, choose by `validation`.

    Args:
        catalog: N items.
        past: positive training events.
        validation: questions that decide when to stop, which weights are kept and the re-ranking weight.
        recipe: settings.
        rated: events with ratings that the rating head learns from; default: `past`.
        curves: the model that curves are of, beside which they go; default: `out`.
        checkpoints: folder for them, which the caller removes; default: one beside `out`, gone once that is written.
        out, weights, progress: as in `train`.
        watch: is told epoch and metrics of each validation, and may end the training by an exception.

    Returns:
        The model in evaluation mode, and what happened.
    """
    started = time.perf_counter()
    if out is not None:
        refuse_unwritable(out, KIND)
    if Ranks.current().splits:
        refuse_unusable(recipe)
    refuse_unlearnable(validation, past, recipe)
    set_seed(recipe.train.seed)
    counts = np.bincount(past.items, minlength=len(catalog))
    model = new_model(catalog, counts, recipe, weights)
    shown, asked = _hold_out(catalog, model, recipe)
    rated = past if rated is None else rated
    if checkpoints is None and out is not None:
        checkpoints = checkpoint_folder(out)
    kept = _checkpoints(checkpoints, recipe, catalog, past, validation, rated, model.encoder)
    if kept is not None and (recipe.pretrain.epochs or is_tuned(model)):
        kept.newest()  # refuses those of another training before what takes long
    settings = flat(recipe.model_dump(mode="json"))
    with begun(recipe.train.trackers, out if curves is None else curves, settings) as trackers:
        pretraining = pretrain(model, shown, recipe.pretrain, seed=recipe.train.seed, progress=progress)
        alignment = _tune_encoders(model, shown, past, recipe, progress)
        run = Run(model, shown, past, validation, counts, recipe, progress, trackers, checkpoints=kept, watch=watch)
        if pretraining:
            run.accelerator.log({"pretraining": pretraining[-1]}, step=0)  # before the first epoch, as trackers want it
        report = run.go()
    model.eval()
    report.pretraining, report.alignment = pretraining, alignment
    report.words = choose_words(model, shown, asked)
    _choose(report, model, catalog, past, validation, rated, recipe)
    report.seconds += time.perf_counter() - started
    if out is not None and Ranks.current().leads:
        save(model, report, recipe, past, out)
        remove_checkpoints(checkpoint_folder(out))
    return model, report


def _choose(
    report: Report,
    model: TwoTower,
    catalog: Catalog,
    past: Histories,
    validation: Questions,
    rated: Histories,
    recipe: Recipe,
) -> None:
    """What validation decides once the towers have learned; the model is told, and the report."""
    memory = model.memory(catalog, model.embed_items(catalog))
    queries, report.fusion = choose_gate(model, memory, validation)
    report.trend = choose_trend(model, memory, validation, queries, past)
    contents, _ = model.contents(catalog, VectorCache())
    report.new_weights = choose_new_weights(model, contents, model.id_rows(catalog), validation, queries, past)
    if report.new_weights is not None:
        memory = model.memory(catalog, model.embed_items(catalog))
    report.level = choose_level(
        model, memory, validation, queries, past, content=contents.frozen(), margin=recipe.train.new_items
    )
    report.rating_error = fit_ratings(model, memory, rated, recipe.train.seed)
    if report.rating_error is not None:
        report.reranking = choose_weight(model, memory, validation, queries, past)


def refit(
    catalog: Catalog,
    past: Histories,
    recipe: Recipe,
    chosen: Report,
    *,
    rated: Histories | None = None,
    checkpoints: Path | None = None,
    weights: Path | None = None,
    progress: bool = False,
) -> TwoTower:
    """Train anew on more events, with all that an earlier `fit` chose: epochs, gates and weights.

    Args:
        catalog, past, rated: as in `fit`, `past` usually with the validation events.
        recipe: the same as then.
        chosen: what `fit` reported.
        checkpoints: folder for them, which the caller removes; default: none are written.
        weights, progress: as in `train`.

    Returns:
        The model in evaluation mode.
    """
    set_seed(recipe.train.seed)
    counts = np.bincount(past.items, minlength=len(catalog))
    model = new_model(catalog, counts, recipe, weights)
    rated = past if rated is None else rated
    epochs = chosen.best_epochs
    kept = _checkpoints(checkpoints, recipe, catalog, past, epochs, rated, model.encoder)
    pretrain(model, catalog, recipe.pretrain, seed=recipe.train.seed, progress=progress)
    _tune_encoders(model, catalog, past, recipe, progress)
    Run(model, catalog, past, None, counts, recipe, progress, until=epochs, checkpoints=kept).go()
    model.eval()
    chosen.settle(model)
    if chosen.reranking is not None:
        memory = model.memory(catalog, model.embed_items(catalog))
        fit_ratings(model, memory, rated, recipe.train.seed)
        model.rating.weight.fill_(chosen.reranking["weight"])
    return model


def _tune_encoders(model: TwoTower, catalog: Catalog, past: Histories, recipe: Recipe, progress: bool) -> float | None:
    """Fine-tune the item side's encoders where the recipe says so; the last loss."""
    if not is_tuned(model):
        return None
    return align(model, catalog, recipe.align, use=usage(past, len(catalog)), progress=progress)


def _hold_out(catalog: Catalog, model: TwoTower, recipe: Recipe) -> tuple[Catalog, Asked]:
    """The catalog to train on, and sentences to choose by where the model reads them."""
    columns = columns_of(model.template) if model.user.text is not None and recipe.train.sentences else []
    return hold_out_sentences(catalog, columns, recipe.train.seed)


def _checkpoints(folder: Path | None, recipe: Recipe, *facts: Any) -> Checkpoints | None:
    """The checkpoints in `folder`, for a training of this recipe and these further facts of its `identity`."""
    if folder is None:
        return None
    return Checkpoints(folder, identity(recipe, *facts), recipe.train.checkpoint_seconds)


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)


def with_range(recipe: Recipe, found: tuple[float, float] | None) -> Recipe:
    """The recipe with the range of ratings that the log was read with, so that the model knows it.

    Raises:
        InputError: the recipe names another one.

    Warns:
        UserWarning: all ratings are the same, which is no range; the recipe then stays without one.
    """
    if found is None:
        return recipe
    wanted, found = recipe.rating.range, (float(found[0]), float(found[1]))
    if wanted not in (None, found):
        raise InputError(f"rating.range is {wanted} in the recipe, but the log was read with rating_range={found}")
    if found[0] == found[1]:
        said = f"all ratings are {found[0]:g}, which says that people liked an item, not how much"
        warnings.warn(f"{said}: give the scale as rating_range if there is one", UserWarning, stacklevel=3)
        return recipe
    return recipe.model_copy(update={"rating": recipe.rating.model_copy(update={"range": found})})


def without_targets(everything: Histories, validation: Questions) -> Histories:
    """All events but those that validation asks for."""
    count = int(max(everything.items.max(initial=0), validation.targets.items.max(initial=0))) + 1
    asked = validation.people[validation.targets.people] * count + validation.targets.items
    return everything.keep(~np.isin(everything.people * count + everything.items, asked))
