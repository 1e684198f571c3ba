"""CLAP: small random models against what `transformers` itself makes of the same sounds and texts."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

soundfile = pytest.importorskip("soundfile", reason="needs the extra media")

import safetensors.torch  # noqa: E402
import torch  # noqa: E402
from transformers import (  # noqa: E402
    AutoTokenizer,
    ClapAudioConfig,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapProcessor,
    ClapTextConfig,
)

from towers.encoders.clap import Clap  # noqa: E402
from towers.encoders.contract import encoder_class  # noqa: E402
from towers.errors import InputError, MediaError, WeightsError  # noqa: E402
from towers.sounds import read_sound  # noqa: E402

RATE = 48_000
TEXTS = ["quiet piano", "a motor race in the rain at night", "rain"]


def small_model(vocabulary: int, *, fused: bool) -> ClapModel:
    """Random weights; statistics and biases, too, so that nothing is left out unnoticed."""
    text = ClapTextConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
        pad_token_id=0,
    )
    audio = ClapAudioConfig(
        hidden_size=32,
        patch_embeds_hidden_size=16,
        depths=[1, 1],
        num_attention_heads=[2, 2],
        num_hidden_layers=2,
        enable_fusion=fused,
        fusion_type="aff_2d" if fused else None,
    )
    model = ClapModel(ClapConfig(text_config=text.to_dict(), audio_config=audio.to_dict(), projection_dim=24)).eval()
    with torch.no_grad():
        for value in (*model.parameters(), model.audio_model.audio_encoder.batch_norm.running_mean):
            value += 0.1 * torch.randn(value.shape)
    return model


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> dict[str, Path]:
    """One without fusion, its parts saved one by one, and one with, saved with its processor."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    plain, fused = tmp_path_factory.mktemp("plain"), tmp_path_factory.mktemp("fused")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for folder in (plain, fused):
            small_model(len(tokenizer), fused=folder is fused).save_pretrained(folder)
    ClapFeatureExtractor(truncation="rand_trunc").save_pretrained(plain)
    tokenizer.save_pretrained(plain)
    ClapProcessor(ClapFeatureExtractor(truncation="fusion"), tokenizer).save_pretrained(fused)
    return {"plain": plain, "fused": fused}


def load(folder: Path) -> Clap:
    source = f"clap:{folder}"
    return encoder_class("audio", source).load(SimpleNamespace(source=source))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def encoder(folders: dict[str, Path]) -> Clap:
    return load(folders["plain"])


@pytest.fixture(scope="module")
def model(folders: dict[str, Path]) -> ClapModel:
    return ClapModel.from_pretrained(folders["plain"]).eval()


def noise(seconds: float, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """A tone in coloured noise, for each seed another."""
    rng = np.random.default_rng(seed)
    colour = np.convolve(rng.standard_normal(round(seconds * rate)), rng.standard_normal(16), mode="same")
    tone = np.sin(2 * np.pi * rng.uniform(100, 3_000) * np.arange(len(colour)) / rate)
    return (0.03 * colour + 0.3 * tone).astype(np.float32)


def wav(samples: np.ndarray, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="FLOAT")
    return file.getvalue()


def vectors(encoder: Clap, *contents: bytes | Path) -> torch.Tensor:
    with torch.inference_mode():
        return encoder.encode([encoder.prepare(content) for content in contents])


def own(model: ClapModel, extractor: ClapFeatureExtractor, samples: np.ndarray) -> torch.Tensor:
    """What the library gives for one sound of at most 10 s."""
    features = extractor(samples, sampling_rate=RATE, return_tensors="pt")
    with torch.inference_mode():
        return model.get_audio_features(**features).pooler_output


def assert_same(got: torch.Tensor, want: torch.Tensor) -> None:
    torch.testing.assert_close(got, want, atol=1e-5, rtol=0)


@pytest.mark.parametrize("seconds", [0.1, 3.0, 10.0])
def test_a_short_sound_is_read_as_the_library_reads_it(
    encoder: Clap, model: ClapModel, folders: dict[str, Path], seconds: float
) -> None:
    extractor = ClapFeatureExtractor.from_pretrained(folders["plain"])
    got = vectors(encoder, wav(noise(seconds)))
    assert got.shape == (1, 24)
    assert_same(got, own(model, extractor, noise(seconds)))
    assert (got - vectors(encoder, wav(noise(seconds, 1)))).norm() > 0.01  # not all sounds are one


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_any_rate_and_two_channels(encoder: Clap, model: ClapModel, rate: int) -> None:
    both = np.stack([noise(2.0, 1, rate), noise(2.0, 2, rate)], axis=1)
    samples = read_sound(wav(both, rate), RATE).numpy()
    assert len(samples) == pytest.approx(2 * RATE, abs=200)
    assert_same(vectors(encoder, wav(both, rate)), own(model, encoder.extractor, samples))
    assert_same(vectors(encoder, wav(both, rate)), vectors(encoder, wav(both.mean(axis=1), rate)))


@pytest.mark.parametrize(("seconds", "starts"), [(13.0, (0, 3)), (17.5, (0, 7.5)), (25.0, (0, 7.5, 15))])
def test_a_longer_sound_is_the_mean_of_its_windows(
    encoder: Clap, model: ClapModel, seconds: float, starts: tuple[float, ...]
) -> None:
    samples = noise(seconds)
    parts = [own(model, encoder.extractor, samples[int(start * RATE) :][: 10 * RATE]) for start in starts]
    assert_same(vectors(encoder, wav(samples)), torch.cat(parts).mean(0, keepdim=True))
    assert_same(vectors(encoder, wav(samples)), vectors(encoder, wav(samples)))  # nothing is drawn at random


def test_a_model_that_fuses_takes_no_window_for_a_longer_sound(folders: dict[str, Path]) -> None:
    fused = load(folders["fused"])
    model = ClapModel.from_pretrained(folders["fused"]).eval()
    features = fused.extractor(noise(2.0), sampling_rate=RATE, return_tensors="pt")["input_features"]
    assert features.shape[1] == 4
    with torch.inference_mode():
        want = model.get_audio_features(input_features=features, is_longer=torch.tensor([[False]])).pooler_output
    assert_same(vectors(fused, wav(noise(2.0))), want)
    assert_same(vectors(fused, wav(noise(2.0)), wav(noise(25.0, 1)))[:1], want)


def test_texts_are_read_as_the_library_reads_them(encoder: Clap, model: ClapModel, folders: dict[str, Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folders["plain"])
    with torch.inference_mode():
        got = encoder.encode_texts(TEXTS)
        tokens = [tokenizer(text, return_tensors="pt") for text in TEXTS]
        want = [model.get_text_features(one["input_ids"], one["attention_mask"]).pooler_output for one in tokens]
        assert_same(got, torch.cat(want))
        # 40 positions less the one of padding: 37 words between the two special tokens.
        assert_same(encoder.encode_texts(["piano " * 100]), encoder.encode_texts(["piano " * 37]))
        assert not torch.equal(encoder.encode_texts(["piano " * 37]), encoder.encode_texts(["piano " * 36]))
    assert not any("text" in name for name in encoder.state_dict())


def test_sounds_together_are_sounds_alone(encoder: Clap) -> None:
    contents = [wav(noise(seconds, n)) for n, seconds in enumerate((2.0, 11.0, 0.05, 2.0, 31.0))]
    assert_same(vectors(encoder, *contents), torch.cat([vectors(encoder, content) for content in contents]))
    assert vectors(encoder).shape == (0, 24)


def test_path_and_bytes_give_the_same(encoder: Clap, tmp_path: Path) -> None:
    (tmp_path / "sound").write_bytes(wav(noise(1.0)))
    assert torch.equal(encoder.prepare(tmp_path / "sound"), encoder.prepare(wav(noise(1.0))))


def test_bad_sounds_are_refused(encoder: Clap, tmp_path: Path) -> None:
    broken = noise(1.0)
    broken[500] = np.nan
    for content, message in [
        (wav(noise(1.0)[:1]), "is shorter than 50 ms"),
        (wav(np.zeros(RATE, np.float32)), "is silent"),
        (wav(broken), "no numbers"),
        (b"a quiet piano piece", "is no sound"),
        (tmp_path / "none.wav", "is missing"),
    ]:
        with pytest.raises(MediaError, match=message):
            encoder.prepare(content)


def test_a_silent_window_gives_a_vector(encoder: Clap) -> None:
    samples = np.concatenate([np.zeros(10 * RATE, np.float32), noise(7.5)])
    silence = own(ClapModel.from_pretrained(encoder.config.source[5:]).eval(), encoder.extractor, samples[: 10 * RATE])
    both = vectors(encoder, wav(samples), wav(samples[-10 * RATE :]))
    assert bool(both.isfinite().all())
    assert_same(both[0], (silence[0] + both[1]) / 2)


@pytest.mark.parametrize("kind", ["plain", "fused"])
def test_saved_and_read_again(folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    encoder = load(folders[kind])
    encoder.save_shape(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json"}
    safetensors.torch.save_file(encoder.state_dict(), tmp_path / "model.safetensors")
    again = Clap.empty(encoder.config, tmp_path)
    assert again.fingerprint != encoder.fingerprint
    again.load_state_dict(safetensors.torch.load_file(tmp_path / "model.safetensors"))
    assert again.reading == encoder.reading
    assert again.fingerprint == encoder.fingerprint
    assert not again.training
    assert torch.equal(vectors(again, wav(noise(12.0))), vectors(encoder, wav(noise(12.0))))
    assert torch.equal(again.encode_texts(TEXTS), encoder.encode_texts(TEXTS))


def test_what_changes_a_vector_changes_the_fingerprint(folders: dict[str, Path]) -> None:
    encoder = load(folders["plain"])
    assert encoder.fingerprint == load(folders["plain"]).fingerprint
    seen = {encoder.fingerprint}
    encoder.extractor.padding = "pad"
    seen.add(encoder.fingerprint)
    with torch.no_grad():
        next(encoder.blocks[-1].parameters()).add_(1e-3)
    seen.add(encoder.fingerprint)
    assert len(seen) == 3


def test_blocks_go_from_the_input_upward(folders: dict[str, Path]) -> None:
    encoder = load(folders["plain"])
    names = {id(module): name for name, module in encoder.named_modules()}
    stem = "tower.audio_encoder"
    assert [names[id(block)] for block in encoder.blocks] == [
        f"{stem}.patch_embed",
        f"{stem}.layers.0",
        f"{stem}.layers.1",
        "projection",
    ]
    encoder.encode([encoder.prepare(wav(noise(0.5)))])[0, 0].backward()
    for block in encoder.blocks:
        assert any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in block.parameters())


def test_frozen_weights_drop_nothing_out_in_training(folders: dict[str, Path]) -> None:
    encoder = load(folders["plain"])
    want = vectors(encoder, wav(noise(1.0)))
    encoder.requires_grad_(False).train()
    assert not any(part.training for part in encoder.modules())
    assert torch.equal(vectors(encoder, wav(noise(1.0))), want)
    encoder.blocks[-1].requires_grad_(True)
    encoder.train()
    assert [block.training for block in encoder.blocks] == [False, False, False, True]
    encoder.requires_grad_(True).train()
    assert all(block.training for block in encoder.blocks)
    before = {name: value.clone() for name, value in encoder.named_buffers()}
    encoder.encode([encoder.prepare(wav(noise(1.0)))] * 2)
    assert all(torch.equal(value, before[name]) for name, value in encoder.named_buffers())
    assert not any(part.training for part in encoder.eval().modules())


def test_bfloat16_is_near(encoder: Clap) -> None:
    exact = vectors(encoder, wav(noise(1.0)), wav(noise(11.0, 1)))
    with torch.autocast("cpu", torch.bfloat16):
        rough = vectors(encoder, wav(noise(1.0)), wav(noise(11.0, 1)))
    assert rough.dtype == torch.float32
    assert torch.cosine_similarity(exact, rough).min() > 0.99


def test_without_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        WeightsError, match=r"from 'clap:nobody/nothing' .* hub can be reached, or give clap:FOLDER"
    ) as e:
        Clap.load(SimpleNamespace(source="clap:nobody/nothing"))
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("no model", "no CLAP model could be loaded"),
        ("another model", "is a model of type 'bert'"),
        ("no extractor", "no CLAP model could be loaded"),
        ("no weights", "no CLAP model could be loaded"),
        ("cut off", "no CLAP model could be loaded"),
        ("other sizes", "no CLAP model could be loaded"),
        ("a weight too few", "lacks weights of a CLAP model, such as audio_projection.linear1.bias"),
    ],
)
def test_what_is_no_clap_model(
    folders: dict[str, Path], tiny_bert: Path, tmp_path: Path, damage: str, message: str
) -> None:
    for file in (tiny_bert if damage == "another model" else folders["plain"]).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    match damage:
        case "no model":
            config.unlink()
        case "no extractor":
            (tmp_path / "preprocessor_config.json").unlink()
        case "no weights":
            weights.unlink()
        case "cut off":
            weights.write_bytes(weights.read_bytes()[:-100])
        case "other sizes":
            config.write_text(config.read_text().replace('"projection_dim": 24', '"projection_dim": 20'))
        case "a weight too few":
            stored = safetensors.torch.load_file(weights)
            del stored["audio_projection.linear1.bias"]
            safetensors.torch.save_file(stored, weights, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=message) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none is not a folder"):
        load(tmp_path / "none")
