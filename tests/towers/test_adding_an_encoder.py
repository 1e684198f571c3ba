"""The encoder that CONTRIBUTING.md writes out, put where it says, is found, trained with, saved, read and asked."""

from __future__ import annotations

import ast
import io
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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
from towers.errors import InputError, MissingExtraError
from towers.interactions import Interactions
from towers.model import TwoTower
from training.trainer import train

GUIDE = (Path(__file__).resolve().parents[2] / "CONTRIBUTING.md").read_text("utf-8")
MODULE, LINE = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
RED, BLUE = (204, 0, 51), (0, 51, 255)

LETTERS = '''
"""Letters: how often a text has each of a to z."""

import torch
from torch import nn

from towers.encoders.contract import Encoder


class Letters(Encoder):
    modality = "text"

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(26))

    @classmethod
    def load(cls, config, *, weights=None):
        return cls().eval()

    @property
    def dimension(self):
        return 26

    def prepare(self, content):
        return torch.tensor([float(content.lower().count(chr(97 + n))) for n in range(26)])

    def encode(self, prepared):
        return torch.stack(list(prepared)).to(self.device) * self.weight

    @property
    def blocks(self):
        return []

    @property
    def reading(self):
        return "letters 1"
'''


@contextmanager
def added(folder: Path, monkeypatch: pytest.MonkeyPatch, module: str, line: tuple[Any, str, str]) -> Iterator[None]:
    """A file in the package, its line in the registry before the one that takes what is left of its kind."""
    name = line[1]
    (folder / "encoders").mkdir()
    (folder / "encoders" / f"{name}.py").write_text(module, "utf-8")
    monkeypatch.setattr(towers.encoders, "__path__", [*towers.encoders.__path__, str(folder / "encoders")])
    monkeypatch.setattr(towers.encoders, name, None, raising=False)  # is gone again afterwards
    rest = next(place for place, (kind, known, _) in enumerate(REGISTRY) if (kind, known) == (line[0], "*"))
    monkeypatch.setattr("towers.encoders.contract.REGISTRY", [*REGISTRY[:rest], line, *REGISTRY[rest:]])
    yield
    sys.modules.pop(f"towers.encoders.{name}", None)


@pytest.fixture
def colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The guide's encoder, as the guide says."""
    with added(tmp_path, monkeypatch, MODULE, ast.literal_eval(LINE)):
        yield


@pytest.fixture
def letters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An encoder of texts that is no transformer."""
    with added(tmp_path, monkeypatch, LETTERS, ("text", "letters", "towers.encoders.letters:Letters")):
        yield


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


def recipe_of(source: str, **values: Any) -> dict[str, Any]:
    return {
        "text": {"source": source},
        "item": {"dimension": 8, "hidden": 16},
        "user": {"text": False},
        "train": {"epochs": 2, "evaluate_every": 1, "batch_people": 8},
        **values,
    }


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
    recipe = recipe_of(str(tiny_bert), image={"source": "colours"})
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


@pytest.mark.usefixtures("letters")
def test_texts_are_read_by_an_encoder_that_is_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path / "cache"))
    titles = ["live", "evil", "piano", "Evil!", None]
    pl.DataFrame({"item_id": list("abcde"), "title": titles}).write_parquet(tmp_path / "few.parquet")
    catalog, log = shop(tmp_path)
    model = train(catalog, log, recipe=recipe_of("letters", image=False), out=tmp_path / "model", progress=False)
    again = TwoTower.load(tmp_path / "model")
    assert type(again.encoder_of("text")).__name__ == "Letters"
    assert again.fingerprint == model.fingerprint
    few = again.embed_items(Catalog.read(tmp_path / "few.parquet"))
    np.testing.assert_allclose(few[[1, 3]], few[[0, 0]], atol=1e-6)  # the same letters
    assert few[0] @ few[2] < 0.99
    assert not few[4].any()
    with torch.no_grad():
        again.encoder_of("text").weight.fill_(0.5)  # type: ignore[arg-type,union-attr]
    assert again.space != model.space


@pytest.mark.usefixtures("letters")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"user": {"text": True}}, r"Letters has no layers of a transformer for it: set user.text = false"),
        ({"pretrain": {"epochs": 1}}, r"pretrain.epochs is above 0, but Letters guesses no words: set it to 0"),
    ],
)
def test_what_needs_a_transformer_says_so(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    catalog, log = shop(tmp_path)
    with pytest.raises(InputError, match=message):
        train(catalog, log, recipe=recipe_of("letters", image=False, **changes), progress=False)


@pytest.mark.parametrize(
    ("module", "error", "message"),
    [
        ("import nowhere\n", MissingExtraError, "texts need nowhere: pip install nowhere"),
        (None, ModuleNotFoundError, "towers.encoders.letters"),
    ],
)
def test_what_an_encoder_of_texts_lacks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str | None, error: type[Exception], message: str
) -> None:
    line = ("text", "letters", "towers.encoders.letters:Letters")
    with added(tmp_path, monkeypatch, module or "", line):
        if module is None:
            (tmp_path / "encoders" / "letters.py").unlink()
        with pytest.raises(error, match=message):
            encoder_class("text", "letters")
