"""What every encoder of sounds must do, and the two whose weights come from elsewhere against the libraries' own."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torchaudio = pytest.importorskip("torchaudio", reason="needs the extra media")
soundfile = pytest.importorskip("soundfile", reason="needs the extra media")
pytest.importorskip("onnx", reason="needs the extra media")

import safetensors.torch  # noqa: E402
import torch  # noqa: E402
from torchaudio.models import wav2vec2_model, wavlm_model  # noqa: E402
from torchaudio.pipelines import Wav2Vec2Bundle  # noqa: E402
from transformers import (  # noqa: E402
    AutoTokenizer,
    ClapAudioConfig,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapProcessor,
    ClapTextConfig,
)

from towers.encoders import pipelines  # noqa: E402
from towers.encoders.clap import Clap  # noqa: E402
from towers.encoders.contract import Encoder, encoder_class  # noqa: E402
from towers.encoders.pipelines import Pipeline, spread  # noqa: E402
from towers.errors import InputError, MediaError, WeightsError  # noqa: E402
from towers.sounds import read_sound  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "extractor_mode": "group_norm",
    "extractor_conv_layer_config": [(8, 10, 5), (8, 3, 2), (8, 4, 4), (8, 4, 4)],
    "extractor_conv_bias": False,
    "encoder_embed_dim": 16,
    "encoder_projection_dropout": 0.1,
    "encoder_pos_conv_kernel": 8,
    "encoder_pos_conv_groups": 2,
    "encoder_num_layers": 2,
    "encoder_num_heads": 2,
    "encoder_attention_dropout": 0.1,
    "encoder_ff_interm_features": 32,
    "encoder_ff_interm_dropout": 0.1,
    "encoder_dropout": 0.1,
    "encoder_layer_norm_first": False,
    "encoder_layer_drop": 0.1,
}
BUNDLES = {
    "TINY_BASE": ("Wav2Vec2", {**TINY, "aux_num_out": None}, False),
    "TINY_LARGE": (
        "Wav2Vec2",
        {**TINY, "extractor_mode": "layer_norm", "encoder_layer_norm_first": True, "aux_num_out": None},
        True,
    ),
    "TINY_SPOKEN": ("Wav2Vec2", {**TINY, "aux_num_out": 5}, False),
    "TINY_WAVLM": (
        "WavLM",
        {**TINY, "encoder_num_buckets": 16, "encoder_max_distance": 32, "aux_num_out": None},
        False,
    ),
}
KINDS = ["yamnet", "musicnn", "TINY_BASE", "TINY_LARGE", "TINY_SPOKEN", "TINY_WAVLM", "clap", "clap-fused"]


def wav(seconds: float, seed: int = 0, rate: int = 22_050, strength: float = 0.3) -> bytes:
    """Noise of its own colour and loudness, for each seed another."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(round(seconds * rate))
    colour = np.convolve(noise, rng.standard_normal(16), mode="same")
    tone = np.sin(2 * np.pi * rng.uniform(100, 3_000) * np.arange(len(noise)) / rate)
    file = io.BytesIO()
    soundfile.write(file, strength * (0.1 * colour + tone), rate, format="WAV", subtype="FLOAT")
    return file.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Path:
    """Random weights: `NAME.pth` of the tiny bundles, and the folders `clap` and `clap-fused`."""
    folder = tmp_path_factory.mktemp("audio")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name, (kind, params, _) in BUNDLES.items():
            model = {"Wav2Vec2": wav2vec2_model, "WavLM": wavlm_model}[kind](**params)
            torch.save(model.state_dict(), folder / f"{name}.pth")
        safetensors.torch.save_file(
            torch.load(folder / "TINY_BASE.pth", weights_only=True), folder / "TINY_BASE.safetensors"
        )
        for name in ("clap", "clap-fused"):
            save_clap(folder / name, tiny_bert, fused=name == "clap-fused")
    return folder


def save_clap(folder: Path, tiny_bert: Path, *, fused: bool) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert, model_max_length=32)
    size = {"hidden_size": 32, "projection_dim": 24}
    text = ClapTextConfig(
        **size, vocab_size=len(tokenizer), num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    audio = ClapAudioConfig(
        **size,
        patch_embeds_hidden_size=16,
        depths=[1, 1],
        num_attention_heads=[2, 2],
        enable_fusion=fused,
        fusion_type="channel_map" if fused else None,
        num_hidden_layers=2,
    )
    config = ClapConfig(text_config=text.to_dict(), audio_config=audio.to_dict(), projection_dim=24)
    ClapModel(config).eval().save_pretrained(folder)
    extractor = ClapFeatureExtractor(truncation="fusion" if fused else "rand_trunc")
    ClapProcessor(extractor, tokenizer).save_pretrained(folder)


@pytest.fixture(autouse=True)
def bundles(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchaudio knows some tiny models more, whose weights lie where nobody answers."""
    for name, (kind, params, normalize) in BUNDLES.items():
        bundle = Wav2Vec2Bundle(f"https://127.0.0.1:9/{name}.pth", params, 16_000, normalize, kind)
        monkeypatch.setattr(torchaudio.pipelines, name, bundle, raising=False)


def source_of(kind: str, folder: Path) -> str:
    if kind in BUNDLES:
        return f"torchaudio:{kind}:{folder / kind}.pth"
    return f"clap:{folder / kind}" if kind.startswith("clap") else kind


def load(kind: str, folder: Path) -> Encoder:
    source = source_of(kind, folder)
    return encoder_class("audio", source).load(SimpleNamespace(source=source))


def vectors(encoder: Encoder, *contents: Path | bytes) -> torch.Tensor:
    with torch.inference_mode():
        return encoder.encode([encoder.prepare(content) for content in contents])


@pytest.fixture(scope="module")
def loaded() -> dict[str, Encoder]:
    return {}


@pytest.fixture(params=KINDS)
def encoder(request: pytest.FixtureRequest, folder: Path, loaded: dict[str, Encoder]) -> Encoder:
    """One of each kind, loaded once."""
    if request.param not in loaded:
        loaded[request.param] = load(request.param, folder)
    return loaded[request.param]


def test_a_vector_does_not_depend_on_its_batch(encoder: Encoder) -> None:
    contents = [wav(seconds, seed) for seed, seconds in enumerate((2.0, 0.05, 0.7, 11.3, 2.0))]
    alone = torch.cat([vectors(encoder, content) for content in contents])
    together = vectors(encoder, *contents)
    assert alone.shape == (5, encoder.dimension)
    assert alone.dtype == torch.float32
    assert bool(alone.isfinite().all())
    scale = alone.abs().max().item()
    torch.testing.assert_close(together, alone, atol=1e-5 * max(scale, 1), rtol=0)
    gaps = torch.cdist(alone, alone) + torch.eye(5) * scale
    assert gaps.min() > 1e-3 * scale  # they are not all one


def test_no_sound_no_vector(encoder: Encoder) -> None:
    assert vectors(encoder).shape == (0, encoder.dimension)


def test_path_and_bytes_and_threads_give_the_same(encoder: Encoder, tmp_path: Path) -> None:
    contents = [wav(0.5, seed) for seed in range(4)]
    for number, content in enumerate(contents):
        (tmp_path / f"{number}.wav").write_bytes(content)
    with ThreadPoolExecutor(4) as pool:
        prepared = list(pool.map(encoder.prepare, [tmp_path / f"{number}.wav" for number in range(4)] * 3))
    for number, one in enumerate(prepared):
        assert torch.equal(one, encoder.prepare(contents[number % 4]))
        assert one.device.type == "cpu"


def test_saved_and_read_again(encoder: Encoder, tmp_path: Path) -> None:
    encoder.save_shape(tmp_path)
    safetensors.torch.save_file(encoder.state_dict(), tmp_path / "model.safetensors")
    assert {path.suffix for path in tmp_path.iterdir()} <= {".json", ".safetensors", ".txt"}
    again = type(encoder).empty(SimpleNamespace(source="elsewhere"), tmp_path)
    assert again.fingerprint != encoder.fingerprint
    again.load_state_dict(safetensors.torch.load_file(tmp_path / "model.safetensors"))
    assert not again.training
    assert again.fingerprint == encoder.fingerprint
    assert torch.equal(vectors(again, wav(1.5)), vectors(encoder, wav(1.5)))


def test_blocks_go_from_the_input_upward(encoder: Encoder) -> None:
    """Each block has weights of its own, and those of all reach the vector."""
    prepared = [encoder.prepare(wav(0.5))]
    encoder.zero_grad()
    encoder.encode(prepared).square().sum().backward()
    seen: set[int] = set()
    for block in encoder.blocks:
        own = {id(weight) for weight in block.parameters()}
        assert own
        assert not own & seen
        assert any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in block.parameters())
        seen |= own
    encoder.zero_grad()


def test_a_weight_changes_the_fingerprint(encoder: Encoder) -> None:
    before = encoder.fingerprint
    weight = next(encoder.blocks[-1].parameters())
    with torch.no_grad():
        weight += 1e-3
        changed = encoder.fingerprint
        weight -= 1e-3
    assert changed != before


def test_bad_sounds_are_refused(encoder: Encoder, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="is no sound"):
        encoder.prepare(b"a quiet piano piece")
    with pytest.raises(MediaError, match="is missing"):
        encoder.prepare(tmp_path / "none.wav")
    with pytest.raises(MediaError, match="is cut off"):
        encoder.prepare(wav(1.0)[:20_000])
    with pytest.raises(MediaError, match="is silent"):
        encoder.prepare(wav(1.0, strength=0.0))


def test_half_precision_is_close(encoder: Encoder) -> None:
    plain = vectors(encoder, wav(1.0), wav(1.0, 1))
    with torch.autocast("cpu", torch.bfloat16):
        half = vectors(encoder, wav(1.0), wav(1.0, 1))  # `prepare`, too, is inside
    assert half.dtype == torch.float32
    assert torch.cosine_similarity(plain, half).min() > 0.99


def test_the_end_of_a_long_sound_counts(encoder: Encoder) -> None:
    """Two sounds in a row lie between the two."""
    ends = [np.frombuffer(wav(60.0, seed, 16_000)[-60 * 64_000 :], np.float32) for seed in (1, 2)]
    file = io.BytesIO()
    soundfile.write(file, np.concatenate(ends), 16_000, format="WAV", subtype="FLOAT")
    first, second, both = vectors(encoder, wav(60.0, 1, 16_000), wav(60.0, 2, 16_000), file.getvalue())
    gap = (first - second).norm()
    assert (both - (first + second) / 2).norm() < 0.05 * gap


def test_unknown_encoder() -> None:
    with pytest.raises(InputError, match="known are yamnet, musicnn, torchaudio, clap"):
        encoder_class("audio", "yamnett")


# torchaudio's pipelines


@pytest.mark.parametrize("kind", BUNDLES)
def test_pipeline_is_torchaudios_own(folder: Path, kind: str) -> None:
    """The mean over time of what the library's own model gives for the whole sound."""
    family, params, normalize = BUNDLES[kind]
    model = {"Wav2Vec2": wav2vec2_model, "WavLM": wavlm_model}[family](**params).eval()
    model.load_state_dict(torch.load(folder / f"{kind}.pth", weights_only=True))
    model.aux = None
    for seconds in (0.4, 3.0):
        samples = read_sound(wav(seconds), 16_000)[None]
        if normalize:
            samples = (samples - samples.mean()) / (samples.var(unbiased=False) + 1e-5).sqrt()
        with torch.inference_mode():
            want = model(samples)[0].mean(1)
        torch.testing.assert_close(vectors(load(kind, folder), wav(seconds)), want, atol=1e-5, rtol=0)


def test_pipeline_of_more_than_one_window(folder: Path) -> None:
    """25 s: windows from 0, 10 and 15 s."""
    encoder = load("TINY_BASE", folder)
    samples = read_sound(wav(25.0, rate=16_000), 16_000)
    (prepared,) = [encoder.prepare(wav(25.0, rate=16_000))]
    want = torch.stack([samples[start : start + 160_000] for start in (0, 160_000, 240_000)])
    assert torch.equal(prepared, want)
    with torch.inference_mode():
        torch.testing.assert_close(encoder.encode([prepared])[0], encoder(want).mean(0), atol=1e-5, rtol=0)


def test_windows_of_a_very_long_sound_are_spread_over_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = [part.item() for part in spread((torch.tensor(n) for n in range(19)), 5)]
    assert numbers == [0, 4, 8, 12, 16]
    assert [part.item() for part in spread((torch.tensor(n) for n in range(5)), 5)] == [0, 1, 2, 3, 4]
    monkeypatch.setattr(pipelines, "MOST", 3)
    sound = wav(70.0, rate=16_000)
    samples = read_sound(sound, 16_000)
    want = torch.stack([samples[start * 160_000 :][:160_000] for start in (0, 4)])
    assert torch.equal(load("TINY_BASE", folder).prepare(sound), want)


def test_weights_of_a_pipeline_come_from_a_file(folder: Path) -> None:
    usual = load("TINY_BASE", folder)
    config = SimpleNamespace(source=f"torchaudio:TINY_BASE:{folder / 'TINY_BASE.safetensors'}")
    assert Pipeline.load(config).fingerprint == usual.fingerprint
    config = SimpleNamespace(source="torchaudio:TINY_BASE")
    assert Pipeline.load(config, weights=folder).fingerprint == usual.fingerprint


@pytest.mark.parametrize(
    ("source", "error", "text"),
    [
        ("torchaudio:TINY_BASE", WeightsError, "could not be downloaded .* give torchaudio:TINY_BASE:PATH"),
        ("torchaudio:WAV2VEC3", InputError, "no speech model 'WAV2VEC3', known are .*WAV2VEC2_BASE"),
        ("torchaudio:HDEMUCS_HIGH_MUSDB", InputError, "no speech model 'HDEMUCS_HIGH_MUSDB'"),
        ("torchaudio", InputError, "no speech model ''"),
        ("torchaudio:TINY_BASE:{folder}/none.pth", WeightsError, "could not be read: .*No such file"),
        ("torchaudio:TINY_BASE:{folder}/text.pth", WeightsError, "could not be read"),
        ("torchaudio:TINY_BASE:{folder}/text.safetensors", WeightsError, "could not be read"),
        ("torchaudio:TINY_BASE:{folder}/list.pth", WeightsError, "holds no state dict"),
        ("torchaudio:TINY_BASE:{folder}/TINY_WAVLM.pth", WeightsError, "do not fit TINY_BASE"),
    ],
)
def test_pipelines_that_cannot_be_had(
    folder: Path, tmp_path: Path, source: str, error: type[Exception], text: str
) -> None:
    for name in ("text.pth", "text.safetensors"):
        (tmp_path / name).write_text("these are no weights")
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "TINY_WAVLM.pth").write_bytes((folder / "TINY_WAVLM.pth").read_bytes())
    with pytest.raises(error, match=text) as caught:
        Pipeline.load(SimpleNamespace(source=source.format(folder=tmp_path)))
    assert "\n" not in str(caught.value)


def test_code_in_a_file_of_weights_does_not_run(tmp_path: Path) -> None:
    torch.save({"weight": SimpleNamespace(a=1)}, tmp_path / "code.pth")
    with pytest.raises(WeightsError, match="could not be read"):
        Pipeline.load(SimpleNamespace(source=f"torchaudio:TINY_BASE:{tmp_path / 'code.pth'}"))


# CLAP


def test_clap_is_the_librarys_own(folder: Path) -> None:
    model, processor = ClapModel.from_pretrained(folder / "clap").eval(), ClapProcessor.from_pretrained(folder / "clap")
    for seconds in (0.4, 3.0, 10.0):
        sound = wav(seconds, rate=48_000)
        features = processor.feature_extractor(
            read_sound(sound, 48_000).numpy(), sampling_rate=48_000, return_tensors="pt"
        )
        with torch.inference_mode():
            want = model.get_audio_features(**features).pooler_output
        torch.testing.assert_close(vectors(load("clap", folder), sound), want, atol=1e-5, rtol=0)


def test_clap_of_more_than_one_window(folder: Path) -> None:
    encoder = load("clap", folder)
    samples = read_sound(wav(13.0, rate=48_000), 48_000)
    halves = []
    for start in (0, 3):
        file = io.BytesIO()
        soundfile.write(file, samples[start * 48_000 :][:480_000].numpy(), 48_000, format="WAV", subtype="FLOAT")
        halves.append(file.getvalue())
    want = vectors(encoder, *halves).mean(0)
    torch.testing.assert_close(vectors(encoder, wav(13.0, rate=48_000))[0], want, atol=1e-5, rtol=0)


def test_fused_clap_takes_no_window_for_a_longer_sound(folder: Path) -> None:
    """Four equal spectrograms, and no fusion with what is no global view."""
    encoder = load("clap-fused", folder)
    prepared = encoder.prepare(wav(2.0))
    assert prepared.shape[:2] == (1, 4)
    model = ClapModel.from_pretrained(folder / "clap-fused").eval()
    with torch.inference_mode():
        want = model.get_audio_features(input_features=prepared, is_longer=torch.tensor([[False]])).pooler_output
        torch.testing.assert_close(encoder.encode([prepared]), want, atol=1e-5, rtol=0)


def test_clap_reads_texts_into_the_same_space(folder: Path) -> None:
    encoder = load("clap", folder)
    assert isinstance(encoder, Clap)
    model, tokenizer = ClapModel.from_pretrained(folder / "clap").eval(), AutoTokenizer.from_pretrained(folder / "clap")
    texts = ["quiet piano", "a motor race in the rain at night", ""]
    with torch.inference_mode():
        got = encoder.encode_texts(texts)
        alone = torch.cat([model.get_text_features(**tokenizer(t, return_tensors="pt")).pooler_output for t in texts])
        assert encoder.encode_texts(["piano " * 100]).isfinite().all()
        assert encoder.encode_texts([]).shape == (0, encoder.dimension)
    torch.testing.assert_close(got, alone, atol=1e-5, rtol=0)
    assert got.shape == (3, encoder.dimension)
    torch.testing.assert_close(got.norm(dim=1), torch.ones(3))


def test_no_clap(tmp_path: Path, tiny_bert: Path) -> None:
    with pytest.raises(WeightsError, match="no CLAP model could be loaded"):
        Clap.load(SimpleNamespace(source=f"clap:{tmp_path}"))
    with pytest.raises(WeightsError, match="no CLAP model could be loaded"):
        Clap.load(SimpleNamespace(source=f"clap:{tiny_bert}"))
    with pytest.raises(InputError, match="is not a folder"):
        Clap.load(SimpleNamespace(source=f"clap:{tmp_path}/none"))


# Memory

MEASURE = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
import numpy as np, soundfile, torch
from towers.encoders.contract import encoder_class

def status(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key)) / 1024

torch.set_num_threads(1)
name, path, minutes = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
rng = np.random.default_rng(0)
with soundfile.SoundFile(path, "w", 48_000, 2, "PCM_16") as file:
    for _ in range(6 * minutes):
        file.write(rng.uniform(-0.5, 0.5, (480_000, 2)))
encoder = encoder_class("audio", name).load(SimpleNamespace(source=name))
start = status("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
with torch.inference_mode():
    vector = encoder.encode([encoder.prepare(path)])
print(json.dumps({"megabytes": status("VmHWM") - start, "finite": bool(vector.isfinite().all())}))
"""


def megabytes(name: str, folder: Path, minutes: int) -> float:
    """Peak of resident memory over `prepare` and `encode`, above what the loaded encoder takes."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("needs Linux to measure memory")
    command = [sys.executable, "-c", MEASURE, name, str(folder / "long.wav"), str(minutes)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["finite"]
    return result["megabytes"]


def test_memory_of_a_few_minutes(tmp_path: Path) -> None:
    """What 2 minutes take beside working space: 3 MB of features; decoded at once they would take 46."""
    assert megabytes("yamnet", tmp_path, 2) < 90


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yamnet", "musicnn"])
def test_memory_of_an_hour(tmp_path: Path, name: str) -> None:
    assert megabytes(name, tmp_path, 60) < 300
