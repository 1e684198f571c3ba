"""The model that a recipe makes of a catalog, before it has learned anything."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from towers.catalog import Catalog
from towers.encoders.configs import VECTORS, AudioConfig, ImageConfig, MediaConfig
from towers.encoders.contract import Encoder, encoder_class
from towers.encoders.named import Named
from towers.ids import IdList
from towers.media import column_of_files, vectors_of
from towers.model import TwoTower
from training.config import Recipe


def new_model(catalog: Catalog, counts: np.ndarray, recipe: Recipe, weights: Path | None = None) -> TwoTower:
    """An untrained model whose frequent items have vectors of their own, and which reads the media that there are."""
    frequent = np.flatnonzero(counts >= recipe.item.id_min_events) if recipe.item.ids else np.empty(0, np.int64)
    template = recipe.item.template or catalog.default_template()
    ids = IdList(catalog.ids.array.take(frequent))
    config = recipe.model().model_copy(update={"data": recipe.data, **_media(recipe, catalog)})
    encoder = encoder_class("text", config.text.source).load(config.text, weights=weights)
    media = {name: _loaded(name, one, encoder, weights) for name, one in config.media.items() if one.source != VECTORS}
    return TwoTower(config=config, encoder=encoder, ids=ids, template=template, media=media)


def _loaded(name: str, config: MediaConfig, reader: Encoder, weights: Path | None) -> Encoder:
    """A pretrained encoder of pictures or sounds."""
    encoder = encoder_class(name, config.source).load(config, weights=weights)
    return Named.of(encoder, reader, weights=weights) if config.names else encoder


def _media(recipe: Recipe, catalog: Catalog) -> dict[str, MediaConfig | None]:
    """How pictures and sounds are read: as the recipe says, else by default where the catalog has a column of them.

    Raises:
        InputError: no such column, or one of another type.
    """
    found: dict[str, MediaConfig | None] = {}
    defaults: dict[str, type[MediaConfig]] = {"image": ImageConfig, "audio": AudioConfig}
    for name, default in defaults.items():
        config = getattr(recipe, name)
        if name not in recipe.model_fields_set and name in catalog.table.column_names:
            config = default()  # type: ignore[call-arg]
        if config is not None and config.source == VECTORS:
            vectors, _, _ = vectors_of(catalog, config.column, config.length)
            config = config.model_copy(update={"length": vectors.shape[1]})
        elif config is not None:
            column_of_files(catalog, config.column)  # before encoders are loaded, which may mean a download
        found[name] = config
    return found
