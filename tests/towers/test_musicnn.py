"""musicnn: its front end by hand, its checkpoint, its layers by hand, music by its tags."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torchaudio", reason="needs the extra media")

import soundfile
import torch
from torch import nn

from towers.encoders.musicnn import PATCH, MusicNN
from towers.encoders.tensor_bundle import read_checkpoint
from towers.errors import WeightsError
from towers.weights import fetch

TAGS = ("guitar", "classical", "slow", "techno", "strings", "drums", "electronic", "rock", "fast", "piano", "ambient")


@pytest.fixture(scope="module")
def stored() -> dict[str, np.ndarray]:
    return read_checkpoint(f"{fetch('musicnn')}/")


def wav(samples: np.ndarray) -> bytes:
    """A file of samples at 16 kHz."""
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format="WAV", subtype="FLOAT")
    return file.getvalue()


@pytest.fixture(scope="module")
def encoder() -> MusicNN:
    return MusicNN.load(SimpleNamespace(source="musicnn"))


def slaney(hertz: np.ndarray) -> np.ndarray:
    """Slaney's mel scale: linear below 1 kHz, logarithmic above."""
    return np.where(hertz < 1000, hertz * 3 / 200, 15 + 27 * np.log(np.maximum(hertz, 1000) / 1000) / np.log(6.4))


def mel_by_hand(samples: np.ndarray) -> np.ndarray:
    """The published front end in numpy: frames centred on multiples of 256, triangles of equal area."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    padded = np.pad(samples, 256)
    power = np.abs(np.fft.rfft([padded[n : n + 512] * hann for n in range(0, len(padded) - 511, 256)])) ** 2
    grid = np.linspace(0, 8000, 800_001)
    corners = np.interp(np.linspace(0, slaney(np.array(8000.0)), 98), slaney(grid), grid)
    bins = np.arange(257) * 16_000 / 512
    bands = [np.interp(bins, corners[n : n + 3], [0, 2 / (corners[n + 2] - corners[n]), 0], 0, 0) for n in range(96)]
    return np.log10(10_000 * power @ np.array(bands).T + 1)


def notes() -> np.ndarray:
    """Struck strings, one note each 0.45 s."""
    t, rng = np.arange(144_000) / 16_000, np.random.default_rng(0)
    sound = np.zeros_like(t)
    for number in range(18):
        since = np.maximum(t - 0.45 * number, 0)
        pitch = 220 * 2 ** (rng.choice([0, 3, 5, 7, 10, 12]) / 12)
        for k in range(1, 7):
            sound += 0.2 * np.exp(-3 * since) * np.sin(2 * np.pi * pitch * k * since * (1 + 2e-4 * k * k)) / k**1.5
    return sound


def beats() -> np.ndarray:
    """A bass drum, a hi-hat and a sawtooth."""
    t, rng = np.arange(144_000) / 16_000, np.random.default_rng(0)
    kick = np.exp(-18 * (t % 0.47)) * np.sin(2 * np.pi * 50 * (t % 0.47))
    hat = 0.3 * rng.standard_normal(len(t)) * np.exp(-60 * (t % 0.235))
    saw = t * 110 * 2 ** (np.floor(t / 0.235) % 4 / 4) % 1 - 0.5
    return 0.6 * kick + hat + 0.15 * saw


def test_front_end_is_the_published_one(encoder: MusicNN) -> None:
    samples = notes()[:100_000].astype(np.float32)
    want = mel_by_hand(samples.astype(np.float64))
    patches = encoder.prepare(wav(samples)).numpy()
    assert want.shape == (391, 96)
    assert patches.shape == (3, 187, 96)
    for start, patch in zip((0, 141, 391 - 187), patches, strict=True):
        np.testing.assert_allclose(patch, want[start : start + 187], atol=2e-3)


def test_a_short_sound_is_repeated(encoder: MusicNN) -> None:
    samples = notes()[:8_000].astype(np.float32)
    want = mel_by_hand(samples.astype(np.float64))
    (patch,) = encoder.prepare(wav(samples)).numpy()
    assert want.shape == (32, 96)
    np.testing.assert_allclose(patch, np.tile(want, (6, 1))[:PATCH], atol=2e-3)


def test_checkpoint(stored: dict[str, np.ndarray]) -> None:
    weights = {name: value for name, value in stored.items() if "/" in name and "Adam" not in name}
    assert sum(value.size for value in weights.values()) == sum(
        (
            *(204 * (7 * 38 + 1), 204 * (7 * 67 + 1), 51 * (128 + 64 + 32 + 3)),  # front end
            *(64 * (7 * 561 + 1), 2 * 64 * (7 * 64 + 1)),  # middle
            *(1506 * 200 + 200, 200 * 50 + 50),  # dense layers
            4 * (1 + 2 * 204 + 3 * 51 + 3 * 64 + 1506 + 200),  # batch normalisation
        )
    )
    assert stored["conv2d_5/kernel"].shape == (7, 561, 1, 64)
    assert stored["batch_normalization/moving_mean"].item() == pytest.approx(1.5939890)
    assert all(np.isfinite(value).all() for value in weights.values())
    assert all((value >= 0).all() for name, value in weights.items() if name.endswith("variance"))


@pytest.mark.parametrize("damage", ["missing", "short", "no table", "other bytes"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, damage: str) -> None:
    for name in (".index", ".data-00000-of-00001"):
        (tmp_path / name).write_bytes((fetch("musicnn") / name).read_bytes())
    index = tmp_path / ".index"
    match damage:
        case "missing":
            index.unlink()
        case "short":
            index.write_bytes(index.read_bytes()[-60:])
        case "no table":
            index.write_bytes(b"no table" * 100)
        case "other bytes":
            index.write_bytes(b"\xff" * 4_000 + index.read_bytes()[4_000:])
    with pytest.raises(WeightsError, match=r"the checkpoint .* could not be read"):
        read_checkpoint(f"{tmp_path}/")


def norm(hidden: torch.Tensor, stored: dict[str, np.ndarray], number: int, axis: int) -> torch.Tensor:
    """Batch normalisation over the channels at `axis`, written out."""
    name = f"batch_normalization_{number}" if number else "batch_normalization"
    gamma, beta, mean, variance = (
        torch.tensor(stored[f"{name}/{part}"]).view(-1, *[1] * (hidden.ndim - 1 - axis))
        for part in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    return gamma * (hidden - mean) / (variance + 0.001).sqrt() + beta


def test_network_is_the_published_graph(encoder: MusicNN, stored: dict[str, np.ndarray]) -> None:
    """The graph in its own order: (time, features) throughout, kernels as they are stored, by sums over shifts."""
    patch = torch.rand(PATCH, 96, generator=torch.Generator().manual_seed(0)) * 3
    image = norm(patch, stored, 0, 1)

    def shifted(rows: torch.Tensor, length: int) -> torch.Tensor:
        """(time, length, …): what a filter of `length` sees, centred as TensorFlow does."""
        padded = nn.functional.pad(rows.T, ((length - 1) // 2, length // 2)).T
        return padded.unfold(0, length, 1).movedim(-1, 1)

    front = []
    for number in range(5):
        name = f"conv2d_{number}" if number else "conv2d"
        kernel, bias = torch.tensor(stored[f"{name}/kernel"])[:, :, 0], torch.tensor(stored[f"{name}/bias"])
        seen = shifted(image, kernel.shape[0]).unfold(2, kernel.shape[1], 1)  # (time, length, place, bands)
        hidden = torch.einsum("tlpb,lbc->tpc", seen, kernel) + bias
        front.append(norm(hidden.relu(), stored, number + 1, 2).amax(1))
    layers = [torch.cat(front, dim=1)]
    for number in range(5, 8):
        kernel, bias = (torch.tensor(stored[f"conv2d_{number}/{part}"]) for part in ("kernel", "bias"))
        hidden = torch.einsum("tlf,lfc->tc", shifted(layers[-1], 7), kernel[:, :, 0]) + bias
        hidden = norm(hidden.relu(), stored, number + 1, 1)
        layers.append(hidden if number == 5 else hidden + layers[-1])
    features = torch.cat(layers, dim=1)
    pooled = norm(torch.stack([features.amax(0), features.mean(0)], dim=1).flatten(), stored, 9, 0)
    dense = pooled @ torch.tensor(stored["dense/kernel"]) + torch.tensor(stored["dense/bias"])
    want = norm(dense.relu(), stored, 10, 0)
    with torch.inference_mode():
        torch.testing.assert_close(encoder(patch[None])[0], want, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize(("make", "tag"), [(notes, "piano"), (beats, "techno")])
def test_music_has_the_right_tag(encoder: MusicNN, stored: dict[str, np.ndarray], make, tag: str) -> None:
    with torch.inference_mode():
        vector = encoder.encode([encoder.prepare(wav(make()))])[0].numpy()
    scores = vector @ stored["dense_1/kernel"] + stored["dense_1/bias"]
    assert scores.argmax() == TAGS.index(tag)
    classes = encoder.classes()
    np.testing.assert_allclose(classes.weight.numpy() @ vector + classes.bias.numpy(), scores, atol=1e-5)
    assert (tuple(classes.names[: len(TAGS)]), len(classes.names), classes.exclusive) == (TAGS, 50, False)


def test_training_mode_changes_nothing(encoder: MusicNN) -> None:
    """Normalisation is fixed: nothing depends on the batch."""
    patches = torch.rand(2, PATCH, 96, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        want = encoder(patches)
        torch.testing.assert_close(encoder.train()(patches), want)
    encoder.eval()
