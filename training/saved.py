"""A trained model on disk: how it came about stands beside it, and what it may be asked follows from that."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from towers.artefact import MANIFEST, read_manifest
from towers.errors import ArtefactError, InputError
from towers.history import Histories
from towers.model import KIND, TwoTower
from training.checkpoint import checkpoint_folder
from training.config import Recipe
from training.measuring.splits import Split
from training.report import Report


def save(model: TwoTower, report: Report, recipe: Recipe, past: Histories, out: Path) -> None:
    """Write a model with its recipe, what happened in training, and the fingerprint of the events it learned from.

    Raises:
        ArtefactError: it cannot be written; an earlier model at `out` and the checkpoints beside it stay.
    """
    facts = {"recipe": recipe.model_dump(mode="json"), "training": asdict(report), "events": past.fingerprint}
    try:
        model.save(out, about=facts)
    except ArtefactError as error:
        kept = checkpoint_folder(out)
        going_on = f"; the same training goes on from its last checkpoint, in {kept}, once that is put right"
        raise ArtefactError(str(error) + (going_on if any(kept.rglob(MANIFEST)) else "")) from error


def refuse_other_events(folder: Path, split: Split, protocol: str) -> None:
    """Refuse to ask a model what it may have been trained on.

    Raises:
        InputError: the model in `folder` was trained on other events than those that `split` gives it.
        ArtefactError: `folder` holds no model.
    """
    if read_manifest(folder, KIND).get("events") != split.refit.fingerprint:
        raise InputError(
            f"the model in {folder} was trained on other events than {protocol} allows, perhaps on those that it would "
            f"be asked about: train it with `twotower train --protocol {protocol}` on this catalog and log"
        )
