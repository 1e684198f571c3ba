"""An encoder that names what it reads: by hand, through a projection, in a model that is saved and loaded."""

from __future__ import annotations

import io
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("open_clip", reason="needs the extra media")

import polars as pl
import torch
from PIL import Image
from torch import nn

from towers.catalog import Catalog
from towers.embed import VectorCache
from towers.encoders.configs import ImageConfig
from towers.encoders.contract import Classes, Encoder
from towers.encoders.named import Named
from towers.encoders.openclip import OpenClip
from towers.errors import InputError
from towers.fusion import unit
from towers.item import ItemConfig, ItemTower
from towers.model import TwoTower
from towers.projection import ContentProjection, NamedProjection
from towers.text import TextConfig, TextEncoder
from training.trainer import train

NAMES = ["cat", "dog", "tree"]
WEIGHT, BIAS = [[2.0, 0.0], [0.0, 1.0], [-1.0, -1.0]], [0.5, 0.0, 0.25]


class Pairs(Encoder):
    """Reads two numbers as they are."""

    modality = "image"

    def __init__(self, classes: Classes | None = None) -> None:
        super().__init__()
        self.known = classes
        self.factor = nn.Parameter(torch.ones(1))

    @classmethod
    def load(cls, config: Any, *, weights: Path | None = None) -> Encoder:
        return cls()

    def classes(self, *, weights: Path | None = None) -> Classes | None:
        return self.known

    @property
    def dimension(self) -> int:
        return 2

    def prepare(self, content: Any) -> Any:
        return torch.tensor(content)

    def encode(self, prepared: Any) -> Any:
        return torch.stack(list(prepared)) * self.factor

    @property
    def blocks(self) -> list[nn.Module]:
        return []

    @property
    def reading(self) -> str:
        return "pairs"


def classes(exclusive: bool) -> Classes:
    return Classes(NAMES, torch.tensor(WEIGHT), torch.tensor(BIAS), exclusive)


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("likeliest", [10, 2])
def test_names_by_hand(tiny_bert: Path, exclusive: bool, likeliest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("towers.encoders.named.LIKELIEST", likeliest)
    reader = TextEncoder.load(TextConfig(source=str(tiny_bert)))
    named = Named.of(Pairs(classes(exclusive)), reader)
    pairs = [[3.0, 4.0], [-1.0, 0.5]]
    with torch.no_grad():
        got = named.encode([named.prepare(pair) for pair in pairs]).numpy().astype(np.float64)
        texts = VectorCache().embed(reader, NAMES).vectors.numpy().astype(np.float64)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    for pair, vector in zip(np.array(pairs), got, strict=True):
        scores = np.array(WEIGHT) @ pair + BIAS
        likely = np.exp(scores) / np.exp(scores).sum() if exclusive else 1 / (1 + np.exp(-scores))
        likely[np.argsort(-likely)[likeliest:]] = 0
        said = likely @ texts
        want = np.concatenate([pair / np.linalg.norm(pair), said / np.linalg.norm(said)])
        np.testing.assert_allclose(vector, want, atol=1e-6)
    assert named.dimension == got.shape[1] == 2 + reader.dimension
    assert named.fingerprint != Named.of(Pairs(classes(not exclusive)), reader).fingerprint


def test_an_encoder_of_no_classes_is_refused(tiny_bert: Path) -> None:
    reader = TextEncoder.load(TextConfig(source=str(tiny_bert)))
    with pytest.raises(InputError, match=r"^image\.names is true, but its encoder tells no classes"):
        Named.of(Pairs(), reader)
    with pytest.raises(ValueError, match="vectors have no encoder that names them"):
        ImageConfig(source="vectors", names=True)


def test_names_go_through_the_layers_of_texts() -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden": 8, "dimension": 4, "dropout": 0.0}
    texts = ContentProjection(content=5, **sizes)
    projection = NamedProjection(content=3 + 5, texts=texts, **sizes)
    contents, present = torch.randn(20, 8) + 1, torch.arange(20) < 15
    projection.fit_centre(contents, present)
    own, names = unit(contents[:, :3]), unit(contents[:, 3:])
    own, names = own - own[present].mean(0), names - names[present].mean(0)
    own = own * 3**0.5 / own[present].norm(dim=1).mean()
    names = names * 5**0.5 / names[present].norm(dim=1).mean()
    torch.testing.assert_close(projection(contents), projection.layers(own) + texts.layers(names))
    projection(contents).square().sum().backward()
    assert texts.layers[0].weight.grad.norm() > 0
    assert sum(weight.numel() for weight in projection.parameters()) == 3 * 8 + 8 + 8 * 4 + 4
    assert not texts.centre.any()  # of texts themselves nothing was learned


def test_a_kind_of_names_shares_the_texts_own_projection() -> None:
    config = ItemConfig(dimension=4, hidden=8)
    tower = ItemTower(config=config, contents={"text": 5, "image": 8}, ids=0, named={"image"})
    assert isinstance(tower.project("image"), NamedProjection)
    assert tower.project("image")._texts == (tower.text,)
    assert not any("_texts" in name for name in tower.state_dict())


def test_a_copy_is_read_by_its_own_texts_layers() -> None:
    config = ItemConfig(dimension=4, hidden=8)
    tower = ItemTower(config=config, contents={"text": 5, "image": 8}, ids=0, named={"image"})
    other, vectors = deepcopy(tower).eval(), torch.randn(3, 8)
    before = other.alone("image", vectors)
    with torch.no_grad():
        tower.text.layers[0].weight.zero_()
    torch.testing.assert_close(other.alone("image", vectors), before, rtol=0, atol=0)
    with torch.no_grad():
        other.text.layers[0].weight.zero_()
    assert (other.alone("image", vectors) - before).abs().max() > 1e-3


def picture(colour: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def shop() -> Catalog:
    rng = np.random.default_rng(0)
    rows = {
        "item_id": [f"i{n:02}" for n in range(24)],
        "title": ["quiet piano", "fast engine", "night race", "evening rain"] * 6,
        "image": [picture(tuple(rng.integers(0, 255, 3))) for _ in range(24)],  # type: ignore[arg-type]
    }
    return Catalog.read(pl.DataFrame(rows))


def test_a_model_of_names_is_saved_and_answers_pictures(tiny_bert: Path, shop: Catalog, tmp_path: Path) -> None:
    recipe = {
        "text": {"source": str(tiny_bert)},
        "image": {"names": True},
        "item": {"dimension": 8, "hidden": 8, "template": "{title}"},
        "user": {"text": {"tune": 0}},
        "align": {"epochs": 2},
    }
    model, cache = train(shop, recipe=recipe, progress=False), VectorCache(tmp_path / "vectors")
    vectors = model.embed_items(shop, cache=cache, by="image")
    asked = model.encode_media({"image": shop.table["image"][5].as_py()})
    np.testing.assert_allclose(asked[0], vectors[5], atol=1e-5)
    model.save(tmp_path / "model")
    loaded = TwoTower.load(tmp_path / "model")
    assert (loaded.space, loaded.fingerprint) == (model.space, model.fingerprint)
    assert np.array_equal(loaded.embed_items(shop, cache=cache, by="image"), vectors)
    again = loaded.encode_media({"image": shop.table["image"][5].as_py()})
    np.testing.assert_allclose(again, asked, atol=1e-5)


@pytest.mark.parametrize("trained", [{"pretrain": {"epochs": 1}}, {"text_tune": 1}])
def test_names_follow_the_encoder_of_texts(tiny_bert: Path, shop: Catalog, trained: dict[str, Any]) -> None:
    """Where that is trained, names are read by what it has become, not by what it was."""
    tune = trained.pop("text_tune", 0)
    recipe = {
        "text": {"source": str(tiny_bert), "tune": tune},
        "image": {"names": True},
        "item": {"dimension": 8, "hidden": 8, "template": "{title}"},
        "user": {"text": {"tune": 0}},
        "align": {"epochs": 1},
        **trained,
    }
    model = train(shop, recipe=recipe, progress=False)
    named = model.encoder_of("image")
    assert isinstance(named, Named)
    untrained = TextEncoder.load(TextConfig(source=str(tiny_bert)))
    names = ["hen", "tiger", "garbage truck"]
    rows = [named.names.index(name) for name in names]
    now, before = (VectorCache().embed(one, names).vectors for one in (model.encoder, untrained))
    torch.testing.assert_close(named.texts[rows], now, atol=0.02, rtol=0.02)  # in bfloat16, in other company
    assert (named.texts[rows] - before).abs().max() > 1e-3


def test_pictures_have_the_right_names(data_dir: Path) -> None:
    """What ImageNet calls them, by the name that comes first there."""
    encoder = OpenClip.load(SimpleNamespace(source="efficientnet-lite0"))
    known = encoder.classes()
    assert known is not None
    called = {
        "animals-mammals-cats-tiger": "tiger",
        "animals-mammals-apes-gorilla": "gorilla",
        "animals-birds-hen": "hen",
        "vehicles-garbagetruck": "garbage truck",
    }
    with torch.inference_mode():
        files = [encoder.prepare(data_dir / "stamps" / "images" / f"{name}.jpg") for name in called]
        found = (encoder.encode(files) @ known.weight.T + known.bias).argmax(1)
    assert [known.names[row] for row in found.tolist()] == list(called.values())
    assert (len(known.names), known.exclusive) == (1000, True)
