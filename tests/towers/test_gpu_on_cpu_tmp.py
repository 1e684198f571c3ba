"""On a graphics card: every encoder gives the vectors that it gives on the CPU, and a training learns."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from towers.embed import VectorCache
from towers.encoders.contract import Encoder
from towers.text import TextConfig, TextEncoder

pytest.importorskip("open_clip", reason="needs the extra media")
soundfile = pytest.importorskip("soundfile", reason="needs the extra media")

from PIL import Image  # noqa: E402

from towers.encoders.musicnn import MusicNN  # noqa: E402
from towers.encoders.openclip import STAND_IN_SHAPE, OpenClip, _visual_of  # noqa: E402
from towers.encoders.yamnet import YamNet  # noqa: E402

pytestmark: list = []
CARD = torch.device("cpu")
TEXTS = ["quiet piano", "fast engine in the night", "", "motor race, evening, rain " * 5]
TRANSFORMER = {
    "model": {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "head_width": 16, "layers": 3},
    },
    "preprocess": {"size": 32},
}


def _pictures(shape: dict[str, Any]) -> OpenClip:
    return OpenClip(config=SimpleNamespace(source="random"), visual=_visual_of(shape["model"]), shape=shape)


ENCODERS: dict[str, Callable[[Path], Encoder]] = {
    "text": lambda tiny_bert: TextEncoder.load(TextConfig(source=str(tiny_bert))),
    "transformer of pictures": lambda _: _pictures(TRANSFORMER),
    "convolutions of pictures": lambda _: _pictures(STAND_IN_SHAPE),
    "yamnet": lambda _: YamNet(),
    "musicnn": lambda _: MusicNN(),
}


@pytest.fixture(params=ENCODERS)
def encoder(request: pytest.FixtureRequest, tiny_bert: Path) -> Encoder:
    """Random weights, on the CPU."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ENCODERS[request.param](tiny_bert).eval()


def contents(encoder: Encoder) -> list[Any]:
    """Texts, pictures or sounds that differ from each other."""
    if encoder.modality == "text":
        return TEXTS
    rng = np.random.default_rng(0)
    if encoder.modality == "image":
        return [_png(rng.integers(0, 256, (40, 50 + n, 3)).astype(np.uint8) // (n + 1)) for n in range(4)]
    return [_wav(rng.normal(0, 0.1, 16_000 * seconds)) for seconds in (1, 3, 4, 7)]


def test_vectors_are_those_of_the_cpu(encoder: Encoder) -> None:
    prepared = [encoder.prepare(content) for content in contents(encoder)]
    with torch.inference_mode():
        here = encoder.encode(prepared).float()
        there = encoder.to(CARD).encode(prepared).float()
    assert there.device.type == CARD.type
    assert F.cosine_similarity(here, there.cpu()).min() > 0.9999
    torch.testing.assert_close(there.cpu().norm(dim=1), here.norm(dim=1), rtol=0.01, atol=0)


def test_the_cache_computes_on_the_card(encoder: Encoder, tmp_path: Path) -> None:
    """In bfloat16 where the card is fast at it."""
    with torch.inference_mode():
        exact = encoder.encode([encoder.prepare(content) for content in contents(encoder)]).float()
    found = VectorCache(tmp_path).embed(encoder.to(CARD), contents(encoder))
    assert found.present.all()
    assert found.vectors.device.type == "cpu"
    assert F.cosine_similarity(found.vectors, exact).min() > 0.998


def test_a_training_on_the_card_learns_and_its_model_answers_on_the_cpu(
    tiny_run: Any, tiny_bert: Path, tmp_path: Path
) -> None:
    """The small world has two topics; the nearest of an item share its own."""
    from towers.model import TwoTower
    from training.trainer import train

    recipe = {
        "text": {"source": str(tiny_bert)},
        "item": {"dimension": 16, "hidden": 32},
        "user": {"sequence": {"blocks": 1}, "text": {"tune": 1, "history": {"budget": 48}}},
        "train": {"epochs": 20, "text_epochs": 1, "rate": 0.03, "batch_people": 12, "sentences": 8},
    }
    trained = train(tiny_run.catalog, tiny_run.log, recipe=recipe, out=tmp_path / "model", progress=False)
    assert next(trained.parameters()).device.type == CARD.type
    loaded = TwoTower.load(tmp_path / "model")
    there, here = (torch.from_numpy(model.embed_items(tiny_run.catalog)) for model in (trained, loaded))
    assert F.cosine_similarity(here, there).min() > 0.99
    topic = np.arange(len(here)) % 2
    nearest = (here @ here.T).fill_diagonal_(-1).argmax(1).numpy()
    assert (topic[nearest] == topic).mean() > 0.9


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _wav(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format="WAV", subtype="FLOAT")
    return file.getvalue()
