"""Models that a benchmark trained are kept: a run that was stopped goes on, and a second one only asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from towers.artefact import read_manifest
from towers.catalog import Catalog
from towers.errors import InputError
from towers.model import KIND, TwoTower
from training.config import Recipe
from training.measuring.splits import Split
from training.trainer import fit_split


def trained(folder: Path, catalog: Catalog, split: Split, recipe: Recipe) -> tuple[TwoTower, dict[str, Any]]:
    """Train, or go on, or take what was trained.

    Args:
        folder: of the model.
        catalog: N items.
        split: a log's.
        recipe: how.

    Returns:
        The model, and what its training chose.

    Raises:
        InputError: the folder holds a model of another recipe, or of other events.
    """
    if not (folder / "manifest.json").exists():
        fit_split(catalog, split, recipe, out=folder, progress=False)
    manifest = read_manifest(folder, KIND)
    if Recipe.read(manifest["recipe"]) != recipe:
        raise InputError(f"{folder} was trained by another recipe: remove it, or give another --out")
    if manifest["events"] != split.refit.fingerprint:
        raise InputError(f"{folder} was trained on other events: remove it, or give another --out")
    return TwoTower.load(folder), manifest["training"]
