"""YAMNet: its front end by hand, its network against the published graph, real sounds by their names."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torchaudio", reason="needs the extra media")
onnx = pytest.importorskip("onnx", reason="needs the extra media")

import soundfile  # noqa: E402
import torch  # noqa: E402

from towers.encoders.yamnet import ARCHIVE, YamNet, log_mel, stored_weights  # noqa: E402
from towers.sounds import read_sound  # noqa: E402
from towers.weights import fetch  # noqa: E402


@pytest.fixture(scope="module")
def folder() -> Path:
    return fetch("yamnet")


def wav(samples: np.ndarray) -> bytes:
    """A file of samples at 16 kHz."""
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format="WAV", subtype="FLOAT")
    return file.getvalue()


@pytest.fixture(scope="module")
def encoder(folder: Path) -> YamNet:
    return YamNet.load(SimpleNamespace(source="yamnet"))


def signals() -> dict[str, np.ndarray]:
    """Three seconds each of what can be made here, at 16 kHz."""
    t = np.arange(48_000) / 16_000
    noise = np.random.default_rng(0).standard_normal(48_000)
    return {
        "noise": 0.1 * noise,
        "dial tone": 0.2 * (np.sin(2 * np.pi * 350 * t) + np.sin(2 * np.pi * 440 * t)),
        "sweep": 0.4 * np.sin(2 * np.pi * (100 + 1_000 * t) * t),
        "bursts": 0.3 * noise * (t % 0.5 < 0.03),
        "chord": 0.1 * sum(np.sin(2 * np.pi * f * k * t) / k for f in (220, 277.2, 329.6) for k in range(1, 8)),
    }


def mel_by_hand(samples: np.ndarray) -> np.ndarray:
    """The published front end in numpy: frames of 25 ms each 10 ms, triangles between 66 points of the HTK scale."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    starts = range(0, len(samples) - 400 + 1, 160)
    magnitude = np.abs(np.fft.rfft([samples[start : start + 400] * hann for start in starts], 512))
    low, high = (2595 * np.log10(1 + hertz / 700) for hertz in (125, 7500))
    corners = 700 * (10 ** (np.linspace(low, high, 66) / 2595) - 1)
    bins = np.arange(257) * 16_000 / 512
    bands = [np.interp(bins, corners[n : n + 3], [0, 1, 0], 0, 0) for n in range(64)]
    return np.log(magnitude @ np.array(bands).T + 0.001)


def assert_same_strength(got: np.ndarray, want: np.ndarray) -> None:
    """Compared before the logarithm, which makes rounding in the quietest bands large."""
    np.testing.assert_allclose(np.exp(got), np.exp(want), atol=1e-5, rtol=1e-4)


def test_front_end_is_the_published_one() -> None:
    samples = signals()["sweep"].astype(np.float32)
    want = mel_by_hand(samples.astype(np.float64))
    assert_same_strength(log_mel(torch.from_numpy(samples)).numpy(), want)


def test_windows_overlap_by_half_and_the_last_is_filled_with_silence(encoder: YamNet) -> None:
    """3 s are 48,000 samples: windows of 15,600 each 7,680 need 54,000."""
    samples = signals()["sweep"].astype(np.float32)
    patches = encoder.prepare(wav(samples))
    want = mel_by_hand(np.pad(samples.astype(np.float64), (0, 6_000)))
    assert patches.shape == (6, 96, 64)
    for number, patch in enumerate(patches.numpy()):
        assert_same_strength(patch, want[48 * number : 48 * number + 96])


@pytest.mark.parametrize(("count", "windows"), [(800, 1), (15_600, 1), (15_601, 2), (23_280, 2), (23_281, 3)])
def test_number_of_windows(encoder: YamNet, count: int, windows: int) -> None:
    assert encoder.prepare(wav(signals()["noise"][:count])).shape == (windows, 96, 64)


def test_network_is_the_published_graph(encoder: YamNet, folder: Path, tmp_path: Path) -> None:
    """The graph rounds to 8 bits at every layer; about a sound it says 0.98 and more of the same."""
    runtime = pytest.importorskip("onnxruntime", reason="the published graph needs onnxruntime to run")
    with zipfile.ZipFile(folder / ARCHIVE) as archive:
        archive.extractall(tmp_path)
    path = next(tmp_path.rglob("model.onnx"))
    graph = onnx.load(path, load_external_data=False).graph
    at = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if tensor.name.startswith(("audio_", "class_scores_"))
    }
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    weight, bias = stored_weights(folder)[-1]
    for name, samples in signals().items():
        patches = encoder.prepare(wav(samples))
        with torch.inference_mode():
            ours = (encoder(patches) @ weight.T + bias).numpy()
        rounded = np.clip(np.round(patches.numpy() / at["audio_scale"]) + at["audio_zero_point"], 0, 255)
        theirs = np.concatenate([session.run(None, {"audio": one[None, None]})[0] for one in rounded.astype(np.uint8)])
        theirs = (theirs.astype(np.float32) - at["class_scores_zero_point"]) * at["class_scores_scale"]
        assert cosine(ours.mean(0), theirs.mean(0)) > 0.98, name
        assert min(map(cosine, ours, theirs)) > 0.97, name


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_convolutions_are_padded_as_published(encoder: YamNet) -> None:
    """One layer by hand: with stride 2 the border lies below and to the right only."""
    patch = torch.randn(96, 64, generator=torch.Generator().manual_seed(0))
    convolution = next(module for module in encoder.modules() if isinstance(module, torch.nn.Conv2d))
    with torch.inference_mode():
        got = encoder.layers[0](patch[None, None])[0]
        padded = torch.nn.functional.pad(patch, (0, 1, 0, 1))
        for row, column in [(0, 0), (47, 31), (20, 7)]:
            part = padded[2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
            want = ((convolution.weight[:, 0] * part).sum((1, 2)) + convolution.bias).relu()
            torch.testing.assert_close(got[:, row, column], want, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("dog bark", "Dog"),
        ("rooster", "Fowl"),
        ("rain", "Rain"),
        ("sea waves", "Ocean"),
        ("baby cry", "Crying, sobbing"),
        ("person sneeze", "Sneeze"),
        ("chainsaw", "Chainsaw"),
    ],
)
def test_real_sounds_are_named_right(encoder: YamNet, folder: Path, data_dir: Path, label: str, name: str) -> None:
    """The name is among the three likeliest of 520 for at least three of four clips.

    As published, the windows' probabilities are averaged. Silence, of which many clips are full, is no answer.
    """
    names, weight, bias, exclusive = encoder.classes()
    assert (len(names), names[0], names[520], exclusive) == (521, "Speech", "Field recording", False)
    pl = pytest.importorskip("polars")
    clips = pl.read_parquet(data_dir / "esc10" / "clips.parquet").filter(pl.col("label") == label)["audio"].to_list()
    right = 0
    for clip in clips[::10]:
        with torch.inference_mode():
            scores = encoder(encoder.prepare(data_dir / "esc10" / clip)) @ weight.T + bias
        likely = scores.sigmoid().mean(0)
        likely[names.index("Silence")] = 0
        right += names.index(name) in likely.topk(3).indices.tolist()
    assert right >= 3


def test_what_is_read_is_what_soundfile_gives(encoder: YamNet, data_dir: Path) -> None:
    clip = data_dir / "esc10" / "audio" / "1-100032-A.ogg"
    samples = torch.nn.functional.pad(read_sound(clip, 16_000), (0, 15_600))
    patches = encoder.prepare(clip)
    torch.testing.assert_close(patches[:9, :48].flatten(0, 1), log_mel(samples)[: 9 * 48], atol=1e-4, rtol=0)
