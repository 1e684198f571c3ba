"""Speech models of torchaudio: its own architectures with random weights against what it makes of the same sounds.

Only the download is replaced. WAV2VEC2_BASE is there as torchaudio has it; bundles of a few thousand weights stand for
the other kinds.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torchaudio = pytest.importorskip("torchaudio", reason="needs the extra media")
soundfile = pytest.importorskip("soundfile", reason="needs the extra media")

import safetensors.torch  # noqa: E402
import torch  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torchaudio.pipelines import Wav2Vec2ASRBundle, Wav2Vec2Bundle  # noqa: E402

from towers.encoders import pipelines  # noqa: E402
from towers.encoders.contract import encoder_class  # noqa: E402
from towers.encoders.pipelines import FACTORIES, SpeechModel, spread  # noqa: E402
from towers.errors import InputError, MediaError, WeightsError  # noqa: E402
from towers.sounds import read_sound  # noqa: E402

RATE = 16_000
SMALL = {
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
    "encoder_layer_drop": 0.5,
    "aux_num_out": None,
}
LARGE = {**SMALL, "extractor_mode": "layer_norm", "encoder_layer_norm_first": True}
WAVLM = {**SMALL, "encoder_num_buckets": 16, "encoder_max_distance": 32}
BUNDLES = {
    "SMALL": Wav2Vec2Bundle("small.pth", SMALL, RATE, False, "Wav2Vec2"),
    "SMALL_LARGE": Wav2Vec2Bundle("large.pth", LARGE, RATE, True, "Wav2Vec2"),
    "SMALL_WAVLM": Wav2Vec2Bundle("wavlm.pth", WAVLM, RATE, False, "WavLM"),
    "SMALL_ASR": Wav2Vec2ASRBundle(
        "asr.pth", {**SMALL, "aux_num_out": 5}, RATE, False, "Wav2Vec2", _labels=tuple("abcd")
    ),
}
URL = "https://download.pytorch.org/torchaudio/models/"


@pytest.fixture(scope="module")
def published() -> dict[str, Callable[[], dict[str, torch.Tensor]]]:
    """What lies behind each address: random weights of the architecture, the same each time."""

    def weights(bundle: Wav2Vec2Bundle) -> dict[str, torch.Tensor]:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            state = FACTORIES[bundle._model_type](**bundle._params).state_dict()
        if isinstance(bundle, Wav2Vec2ASRBundle):  # as published, with three labels that stand for nothing
            state |= {name: state[name][[0, 0, 0, 0, *range(1, 5)]] for name in ("aux.weight", "aux.bias")}
        return state

    bundles = [*BUNDLES.values(), torchaudio.pipelines.WAV2VEC2_BASE]
    return {URL + bundle._path: lambda bundle=bundle: weights(bundle) for bundle in bundles}


@pytest.fixture(autouse=True)
def download(published: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The options of each download; torchaudio knows some small models more."""
    asked = []

    def answer(url: str, **options: Any) -> dict[str, torch.Tensor]:
        asked.append(options)
        return published[url]()

    monkeypatch.setattr("torchaudio.pipelines._wav2vec2.utils.load_state_dict_from_url", answer)
    for name, bundle in BUNDLES.items():
        monkeypatch.setattr(torchaudio.pipelines, name, bundle, raising=False)
    return asked


def load(name: str) -> SpeechModel:
    source = f"pipelines:{name}"
    return encoder_class("audio", source).load(SimpleNamespace(source=source))  # type: ignore[return-value]


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


def vectors(encoder: SpeechModel, *contents: bytes | Path) -> torch.Tensor:
    with torch.inference_mode():
        return encoder.encode([encoder.prepare(content) for content in contents])


def own(name: str, samples: np.ndarray) -> torch.Tensor:
    """What the library's own model gives for one sound: its last layer, before any transcription, as a mean."""
    model = getattr(torchaudio.pipelines, name).get_model()
    getattr(model, "model", model).aux = None
    with torch.inference_mode():
        return model(torch.from_numpy(samples)[None])[0].mean(1)


def assert_same(got: torch.Tensor, want: torch.Tensor) -> None:
    torch.testing.assert_close(got, want, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", BUNDLES)
def test_a_short_sound_is_read_as_the_library_reads_it(name: str) -> None:
    encoder = load(name)
    for seconds in (0.05, 3.0, 5.0):
        got = vectors(encoder, wav(noise(seconds)))
        assert got.shape == (1, 16)
        assert_same(got, own(name, noise(seconds)))
    assert (got - vectors(encoder, wav(noise(5.0, 1)))).norm() > 0.01  # not all sounds are one


def test_a_base_model() -> None:
    """As torchaudio has it, 94 million weights: a short sound, a longer one, and bfloat16."""
    encoder = load("WAV2VEC2_BASE")
    assert encoder.dimension == 768
    assert len(encoder.blocks) == 14
    samples = noise(6.0)
    with torch.inference_mode():
        windows = torch.from_numpy(np.stack([samples[: 5 * RATE], samples[RATE:]]))
        parts = [encoder.model(window)[0].mean(1) for window in windows.split(1)]
    got = vectors(encoder, wav(noise(0.5)), wav(samples))
    assert_same(got[:1], own("WAV2VEC2_BASE", noise(0.5)))
    assert_same(got[1:], torch.cat(parts).mean(0, keepdim=True))
    with torch.autocast("cpu", torch.bfloat16):
        rough = vectors(encoder, wav(noise(0.5)))
    assert rough.dtype == torch.float32
    assert F.cosine_similarity(got[:1], rough).min() > 0.999


@pytest.mark.parametrize("name", ["SMALL", "SMALL_LARGE"])
@pytest.mark.parametrize(("seconds", "starts"), [(6.5, (0, 1.5)), (8.75, (0, 3.75)), (12.5, (0, 3.75, 7.5))])
def test_a_longer_sound_is_the_mean_of_its_windows(name: str, seconds: float, starts: tuple[float, ...]) -> None:
    samples = noise(seconds)
    parts = [own(name, samples[int(start * RATE) :][: 5 * RATE]) for start in starts]
    assert_same(vectors(load(name), wav(samples)), torch.cat(parts).mean(0, keepdim=True))


def test_windows_of_a_very_long_sound_are_spread_over_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for count, kept in [(19, [0, 4, 8, 12, 16]), (10, [0, 2, 4, 6, 8]), (6, [0, 2, 4]), (5, [0, 1, 2, 3, 4])]:
        assert [part.item() for part in spread((torch.tensor(n) for n in range(count)), 5)] == kept
    monkeypatch.setattr(pipelines, "MOST", 3)
    samples = noise(35.0)
    want = torch.from_numpy(np.stack([samples[start : start + 5 * RATE] for start in (0, 15 * RATE, 30 * RATE)]))
    assert torch.equal(load("SMALL").prepare(wav(samples)), want)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_any_rate_and_two_channels(rate: int) -> None:
    encoder = load("SMALL")
    both = np.stack([noise(2.0, 1, rate), noise(2.0, 2, rate)], axis=1)
    samples = read_sound(wav(both, rate), RATE).numpy()
    assert len(samples) == pytest.approx(2 * RATE, abs=100)
    assert_same(vectors(encoder, wav(both, rate)), own("SMALL", samples))
    assert_same(vectors(encoder, wav(both, rate)), vectors(encoder, wav(both.mean(axis=1), rate)))


@pytest.mark.parametrize("name", BUNDLES)
def test_sounds_together_are_sounds_alone(name: str, tmp_path: Path) -> None:
    encoder = load(name)
    contents: list[Any] = [wav(noise(seconds, n)) for n, seconds in enumerate((2.0, 11.0, 0.05, 2.0, 31.0))]
    (tmp_path / "sound").write_bytes(contents[0])
    alone = torch.cat([vectors(encoder, content) for content in contents])
    assert_same(vectors(encoder, *contents, tmp_path / "sound"), torch.cat([alone, alone[:1]]))
    assert vectors(encoder).shape == (0, 16)


def test_bad_sounds_are_refused(tmp_path: Path) -> None:
    encoder = load("SMALL")
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


@pytest.mark.parametrize("name", ["SMALL", "SMALL_LARGE"])
def test_a_silent_window_gives_a_vector(name: str) -> None:
    encoder = load(name)
    silence = np.zeros(5 * RATE, np.float32)
    samples = np.concatenate([silence, noise(3.75)])
    both = vectors(encoder, wav(samples), wav(samples[-5 * RATE :]))
    assert bool(both.isfinite().all())
    assert_same(both[0], (own(name, silence)[0] + both[1]) / 2)


@pytest.mark.parametrize("name", BUNDLES)
def test_saved_and_read_again(name: str, tmp_path: Path, download: list[Any]) -> None:
    encoder = load(name)
    encoder.save_shape(tmp_path)
    safetensors.torch.save_file(encoder.state_dict(), tmp_path / "model.safetensors")
    download.clear()
    again = SpeechModel.empty(SimpleNamespace(source=f"pipelines:{name}"), tmp_path)
    assert again.fingerprint != encoder.fingerprint
    again.load_state_dict(safetensors.torch.load_file(tmp_path / "model.safetensors"))
    assert again.fingerprint == encoder.fingerprint
    assert not again.training
    assert torch.equal(vectors(again, wav(noise(12.0))), vectors(encoder, wav(noise(12.0))))
    assert download == []


def test_what_changes_a_vector_changes_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = load("SMALL")
    seen = {encoder.fingerprint}
    assert load("SMALL").fingerprint in seen
    with torch.no_grad():
        next(encoder.blocks[-1].parameters()).add_(1e-3)
    seen.add(encoder.fingerprint)
    monkeypatch.setattr(pipelines, "MOST", 10)
    seen.add(encoder.fingerprint)
    assert len(seen) == 3


@pytest.mark.parametrize("name", BUNDLES)
def test_blocks_go_from_the_input_upward(name: str) -> None:
    encoder = load(name)
    names = {id(module): name for name, module in encoder.named_modules()}
    assert [names[id(block)] for block in encoder.blocks] == [
        "model.feature_extractor",
        "model.encoder.feature_projection",
        "model.encoder.transformer.layers.0",
        "model.encoder.transformer.layers.1",
    ]
    encoder.encode([encoder.prepare(wav(noise(0.5)))])[0, 0].backward()
    for block in encoder.blocks:
        assert any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in block.parameters())


def test_frozen_weights_drop_nothing_out_in_training() -> None:
    encoder = load("SMALL")
    want = vectors(encoder, wav(noise(1.0)))
    encoder.requires_grad_(False).train()
    assert not any(part.training for part in encoder.modules())
    assert torch.equal(vectors(encoder, wav(noise(1.0))), want)
    encoder.blocks[-1].requires_grad_(True)
    for _ in range(5):  # half of all layers would be left out at random
        encoder.train()
        assert [block.training for block in encoder.blocks] == [False, False, False, True]
        encoder.blocks[-1].eval()
        assert torch.equal(vectors(encoder, wav(noise(1.0))), want)
    assert not any(part.training for part in encoder.eval().modules())


def test_a_folder_is_looked_in_before_anything_is_downloaded(tmp_path: Path, download: list[dict[str, Any]]) -> None:
    config = SimpleNamespace(source="pipelines:SMALL")
    SpeechModel.load(config, weights=tmp_path)
    (tmp_path / "small.pth").write_bytes(b"")
    SpeechModel.load(config, weights=tmp_path)
    assert [options.get("model_dir") for options in download] == [None, str(tmp_path)]
    assert all(options["weights_only"] is True for options in download)


def test_a_download_is_told_of_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, published: dict[str, Any], capsys: pytest.CaptureFixture
) -> None:
    def telling(url: str, **options: Any) -> dict[str, torch.Tensor]:
        sys.stdout.write("Downloading\n")
        return published[url]()

    monkeypatch.setattr("torchaudio.pipelines._wav2vec2.utils.load_state_dict_from_url", telling)
    load("SMALL")
    assert tuple(capsys.readouterr()) == ("", "Downloading\n")


def test_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """torch's own download, from where nobody answers."""
    monkeypatch.undo()
    monkeypatch.setattr(torchaudio.pipelines, "SMALL", BUNDLES["SMALL"], raising=False)
    monkeypatch.setattr(BUNDLES["SMALL"], "_path", "https://127.0.0.1:9/small.pth")
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    with pytest.raises(
        WeightsError, match=r"get_model\(\)` downloads small.pth; put that file into .*hub/ch"
    ) as caught:
        load("SMALL")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["text", "cut off", "code", "another model"])
def test_files_that_hold_no_weights(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Read by torch itself; code in a file does not run."""
    monkeypatch.undo()
    monkeypatch.setattr(torchaudio.pipelines, "SMALL", BUNDLES["SMALL"], raising=False)
    path = tmp_path / "small.pth"
    torch.save(FACTORIES["WavLM"](**WAVLM).state_dict() if kind == "another model" else SimpleNamespace(a=1), path)
    if kind == "text":
        path.write_text("these are no weights")
    elif kind == "cut off":
        path.write_bytes(path.read_bytes()[:-100])
    message = "do not fit 'pipelines:SMALL'" if kind == "another model" else "'pipelines:SMALL' could not be had"
    with pytest.raises(WeightsError, match=message) as caught:
        SpeechModel.load(SimpleNamespace(source="pipelines:SMALL"), weights=tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("pipelines:WAV2VEC2_BAES", "no pipeline 'WAV2VEC2_BAES', near are WAV2VEC2_BASE.*: give pipelines:NAME"),
        ("pipelines", "no pipeline '': give pipelines:NAME with the name of a speech model, such as WAV2VEC2_BASE"),
        ("pipelines:Wav2Vec2Bundle", "no pipeline 'Wav2Vec2Bundle'"),
        ("pipelines:HDEMUCS_HIGH_MUSDB", "HDEMUCS_HIGH_MUSDB is a SourceSeparationBundle, which gives no vectors"),
        ("pipelines:TACOTRON2_WAVERNN_CHAR_LJSPEECH", "is a _Tacotron2WaveRNNCharBundle, which gives no ve"),
        ("pipelines:SQUIM_OBJECTIVE", "SQUIM_OBJECTIVE is a SquimObjectiveBundle, which gives no vectors"),
    ],
)
def test_what_is_no_speech_model(source: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        encoder_class("audio", source).load(SimpleNamespace(source=source))
