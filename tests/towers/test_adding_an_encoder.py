"""The encoder that CONTRIBUTING.md writes out, put where it says, is found, trained with, saved, read and asked."""

from __future__ import annotations

import ast
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PIL", reason="needs the extra media")

import polars as pl
import torch
from PIL import Image

import towers.encoders
from towers.catalog import Catalog
from towers.embed import VectorCache
from towers.encoders.contract import REGISTRY, encoder_class
from towers.errors import MissingExtraError
from towers.interactions import Interactions
from towers.model import TwoTower
from training.trainer import train

GUIDE = (Path(__file__).resolve().parents[2] / "CONTRIBUTING.md").read_text("utf-8")
MODULE, LINE = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
RED, BLUE = (204, 0, 51), (0, 51, 255)


@pytest.fixture
def colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The guide's file in the package, its line in the registry before the one that takes what is left."""
    (tmp_path / "encoders").mkdir()
    (tmp_path / "encoders" / "colours.py").write_text(MODULE, "utf-8")
    monkeypatch.setattr(towers.encoders, "__path__", [*towers.encoders.__path__, str(tmp_path / "encoders")])
    monkeypatch.setattr(towers.encoders, "colours", None, raising=False)  # is gone again afterwards
    rest = next(place for place, (kind, known, _) in enumerate(REGISTRY) if (kind, known) == ("image", "*"))
    changed = [*REGISTRY[:rest], ast.literal_eval(LINE), *REGISTRY[rest:]]
    monkeypatch.setattr("towers.encoders.contract.REGISTRY", changed)
    yield
    sys.modules.pop("towers.encoders.colours", None)


def png(colour: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (5, 3), colour).save(file, "PNG")
    return file.getvalue()


def shop(folder: Path) -> tuple[Catalog, Interactions]:
    """Red items and blue ones, one without a picture and one with a broken one; people who like one of the two."""
    pictures: list[Any] = [png(BLUE if n % 2 else RED) for n in range(12)]
    pictures[10:] = [None, b"no picture"]
    titles = [f"{'piano' if n % 2 else 'engine'} {n}" for n in range(12)]
    pl.DataFrame({"item_id": [f"i{n:02}" for n in range(12)], "title": titles, "image": pictures}).write_parquet(
        folder / "items.parquet"
    )
    events = [(u, f"i{(u % 2 + 2 * (u + n)) % 12:02}", n) for u in range(16) for n in range(4)]
    log = pl.DataFrame(events, schema=["user_id", "item_id", "timestamp"], orient="row")
    return Catalog.read(folder / "items.parquet"), Interactions.read(log)


def test_without_its_line_no_encoder_has_the_name() -> None:
    assert encoder_class("image", "colours").__name__ == "OpenClip"
    assert "colours" not in [known for _, known, _ in REGISTRY]


@pytest.mark.usefixtures("colours")
def test_it_is_found_and_embeds(tmp_path: Path) -> None:
    encoder = encoder_class("image", "colours").load(SimpleNamespace(source="colours"))
    assert type(encoder).__name__ == "Colours"
    found = VectorCache(tmp_path / "cache").embed(encoder, [png(RED), None, b"no picture", png(BLUE)])
    np.testing.assert_allclose(found.vectors, [[0.8, 0, 0.2], [0, 0, 0], [0, 0, 0], [0, 0.2, 1]], atol=1e-3)
    assert found.present.tolist() == [True, False, False, True]
    assert found.faults == {2: "is no picture"}
    with torch.no_grad():
        encoder.weight.fill_(0.5)  # other weights, other vectors: none comes out of the cache
    again = VectorCache(tmp_path / "cache").embed(encoder, [png(RED)])
    np.testing.assert_allclose(again.vectors, [[0.4, 0, 0.1]], atol=1e-3)


@pytest.mark.usefixtures("colours")
def test_a_model_is_trained_with_it_saved_and_asked(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path / "cache"))
    catalog, log = shop(tmp_path)
    recipe = {
        "text": {"source": str(tiny_bert)},
        "image": {"source": "colours"},
        "item": {"dimension": 8, "hidden": 16},
        "user": {"text": False},
        "train": {"epochs": 2, "evaluate_every": 1, "batch_people": 8},
    }
    with pytest.warns(UserWarning, match="image is no picture"):
        model = train(catalog, log, recipe=recipe, out=tmp_path / "model", progress=False)
    again = TwoTower.load(tmp_path / "model")
    assert type(again.encoder_of("image")).__name__ == "Colours"
    assert again.fingerprint == model.fingerprint
    vectors = again.embed_items(catalog, by="image")
    assert np.array_equal(vectors, model.embed_items(catalog, by="image"))
    assert np.flatnonzero(~vectors.any(axis=1)).tolist() == [10, 11]
    np.testing.assert_allclose(vectors[:10:2], vectors[[0] * 5], atol=1e-6)
    np.testing.assert_allclose(vectors[1:10:2], vectors[[1] * 5], atol=1e-6)
    assert vectors[0] @ vectors[1] < 0.99
    asked = again.encode_media({"image": png(RED)})
    assert asked.shape == (1, 8)
    assert np.linalg.norm(asked) == pytest.approx(1, abs=1e-5)


@pytest.mark.usefixtures("colours")
def test_a_library_that_it_needs_and_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "towers.pictures", raising=False)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match=r"need PIL: pip install 'twotower\[media\]'"):
        encoder_class("image", "colours")
