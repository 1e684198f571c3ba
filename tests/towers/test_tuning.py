"""What is trained of an encoder: counted, moved by a step, merged and frozen again, for each kind of encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import ClapFeatureExtractor

pytest.importorskip("open_clip", reason="needs the extra media")
pytest.importorskip("peft", reason="needs the extra lora")

from tests.towers.test_clap import small_model
from tests.towers.test_pipelines import BUNDLES
from towers.encoders.clap import Clap
from towers.encoders.contract import Encoder
from towers.encoders.musicnn import MusicNN
from towers.encoders.openclip import OpenClip, _visual_of
from towers.encoders.pipelines import SpeechModel
from towers.encoders.yamnet import YamNet
from towers.errors import InputError
from towers.text import TextConfig, TextEncoder
from towers.text_reader import TextReader, TextReaderConfig
from towers.tuning import let_train

VIT: dict[str, Any] = {
    "embed_dim": 24,
    "quick_gelu": False,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "head_width": 16, "layers": 3},
}
LITE = {**VIT, "vision_cfg": {"timm_model_name": "test_efficientnet", "image_size": 64, "timm_pool": "avg"}}
PREPROCESS = {"size": 32, "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"}


def random_weights(encoder: Any) -> Any:
    for weight in encoder.parameters():
        nn.init.normal_(weight, std=0.1) if weight.ndim > 1 else nn.init.uniform_(weight, 0.5, 1.5)
    return encoder.eval()


@pytest.fixture(params=["bert", "vit", "efficientnet", "yamnet", "musicnn", "clap", *BUNDLES])
def case(request: pytest.FixtureRequest, tiny_bert: Path) -> tuple[Encoder, list[Any]]:
    """An encoder with random weights, and three contents as it reads them."""
    torch.manual_seed(0)
    if request.param == "bert":
        encoder = TextEncoder.load(TextConfig(source=str(tiny_bert)))
        return encoder, encoder.tokenize(["quiet piano", "a fast motor race", "night music"])
    if request.param in ("vit", "efficientnet"):
        model, size = (VIT, 32) if request.param == "vit" else (LITE, 64)
        shape = {"model": model, "preprocess": {**PREPROCESS, "size": size}}
        pictures = OpenClip(config=None, visual=_visual_of(model), shape=shape)
        return random_weights(pictures), list(torch.randn(3, 3, size, size))
    if request.param == "clap":
        model = small_model(100, fused=False)
        return Clap(config=None, model=model, extractor=ClapFeatureExtractor()), list(torch.randn(3, 1, 1, 1001, 64))
    if request.param in BUNDLES:
        return SpeechModel(BUNDLES[request.param]).eval(), list(torch.randn(3, 1, 4_000))
    sounds = YamNet() if request.param == "yamnet" else MusicNN()
    windows = (96, 64) if request.param == "yamnet" else (187, 96)
    return random_weights(sounds), list(torch.randn(3, 1, *windows))


def trained(encoder: nn.Module) -> set[str]:
    return {name for name, weight in encoder.named_parameters() if weight.requires_grad}


def step(encoder: Encoder, contents: list[Any]) -> torch.Tensor:
    """One step of training, and the vectors after it."""
    optimizer = torch.optim.SGD([weight for weight in encoder.parameters() if weight.requires_grad], lr=0.01)
    goal = torch.randn(3, encoder.dimension)
    for _ in range(2):  # the second factor of a low-rank addition starts at zero, so the first moves in the second step
        loss = (torch.nn.functional.normalize(encoder.encode(contents), dim=-1) * goal).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    moving = {name for name, weight in encoder.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert moving == trained(encoder)
    with torch.inference_mode():
        return encoder.encode(contents)


def test_nothing_the_top_or_all(case: tuple[Encoder, list[Any]]) -> None:
    encoder, _ = case
    everything = {name for name, _ in encoder.named_parameters()}
    let_train(encoder, 0)
    assert trained(encoder) == set()
    let_train(encoder, "all")
    assert trained(encoder) == everything
    let_train(encoder, 1)
    top = {id(weight) for weight in encoder.blocks[-1].parameters()}
    assert trained(encoder) == {name for name, weight in encoder.named_parameters() if id(weight) in top}
    assert 0 < len(trained(encoder)) < len(everything)


def test_a_step_moves_what_is_trained_alone(case: tuple[Encoder, list[Any]]) -> None:
    encoder, contents = case
    before = {name: weight.clone() for name, weight in encoder.state_dict().items()}
    end = let_train(encoder, 1)
    names = trained(encoder)
    step(encoder, contents)
    end()
    moved = {name for name, weight in encoder.state_dict().items() if not torch.equal(weight, before[name])}
    assert moved
    assert moved <= names
    assert trained(encoder) == set()


def test_low_rank_additions_change_nothing_learn_and_are_merged(case: tuple[Encoder, list[Any]]) -> None:
    encoder, contents = case
    names, before = set(encoder.state_dict()), encoder.fingerprint
    with torch.inference_mode():
        first = encoder.encode(contents)
    end = let_train(encoder, "lora")
    assert trained(encoder)
    assert all("lora_" in name for name in trained(encoder))
    with torch.inference_mode():
        torch.testing.assert_close(encoder.encode(contents), first)
    after = step(encoder, contents)
    scale = first.abs().max()
    assert (after - first).abs().max() > 1e-5 * scale
    end()
    assert set(encoder.state_dict()) == names
    assert trained(encoder) == set()
    assert encoder.fingerprint != before
    with torch.inference_mode():
        torch.testing.assert_close(encoder.encode(contents), after, rtol=1e-4, atol=float(1e-5 * scale))


def test_more_blocks_than_there_are(case: tuple[Encoder, list[Any]]) -> None:
    encoder, _ = case
    count = len(encoder.blocks)
    with pytest.raises(InputError, match=f"has {count} blocks, {count + 1} cannot be fine-tuned"):
        let_train(encoder, count + 1)


def test_the_text_reader_shares_only_word_vectors_where_it_is_tuned_by_low_rank(tiny_bert: Path) -> None:
    encoder = TextEncoder.load(TextConfig(source=str(tiny_bert))).requires_grad_(False)
    reader = TextReader(config=TextReaderConfig(tune="lora"), encoder=encoder, hidden=8, dimension=8).eval()
    tokens = encoder.tokenize(["quiet piano", "a fast motor race", "night music"])
    with torch.inference_mode():
        before = encoder.encode(tokens)
    end = reader.let_train()
    assert reader.encoder.frozen_layers == 0
    assert encoder.frozen_layers == 2
    after = step(reader.encoder, tokens)
    end()
    with torch.inference_mode():
        torch.testing.assert_close(encoder.encode(tokens), before)
        torch.testing.assert_close(reader.encoder.encode(tokens), after)
    assert not torch.equal(after, before)
    assert set(reader.encoder.state_dict()) == set(encoder.state_dict())
