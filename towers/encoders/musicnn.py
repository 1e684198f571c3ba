"""musicnn: music, trained on 50 tags of MagnaTagATune (Pons and Serra, "musicnn", ISMIR late-breaking demo, 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.transforms import MelSpectrogram

from towers.encoders.contract import Classes, Encoder, Modality
from towers.encoders.tensor_bundle import read_checkpoint
from towers.encoders.windows import OVERLAP, frames, joined, mean_over_windows, windows
from towers.precision import at_least_single
from towers.sounds import sound_blocks
from towers.weights import fetch

RATE = 16_000
FFT, HOP = 512, 256  # samples
BANDS = 96  # Slaney's mel bands, 0 to 8000 Hz
PATCH = 187  # frames in a window, 3 s
CHUNK = 2  # windows at once on a CPU, about 60 MB; buffers above 32 MB the system would take back after each use
TAGS = [  # of the last layer, in its order
    "guitar", "classical", "slow", "techno", "strings", "drums", "electronic", "rock", "fast", "piano", "ambient",
    "beat", "violin", "vocal", "synth", "female", "indian", "opera", "male", "singing", "vocals", "no vocals",
    "harpsichord", "loud", "quiet", "flute", "woman", "male vocal", "no vocal", "pop", "soft", "sitar", "solo",
    "man", "classic", "choir", "voice", "new age", "dance", "male voice", "female vocal", "beats", "harp",
    "cello", "no voice", "weird", "country", "metal", "female voice", "choral"
]  # fmt: skip
EPSILON = 1e-3  # TensorFlow's batch normalisation

TIMBRE, RHYTHM, MIDDLE, DIMENSION = 204, 51, 64, 200  # channels
SHORT, TALL = 7, (38, 67)  # frames and bands that a timbral filter spans
LONG = (128, 64, 32)  # frames that a temporal filter spans
FRONT = len(TALL) * TIMBRE + len(LONG) * RHYTHM
ALL = FRONT + 3 * MIDDLE


class MusicNN(Encoder):
    """Sounds to vectors of length 200, the layer before the tags: the mean over windows of 3 s.

    What `prepare` gives is the log-mel windows ``(windows, 187, 96)`` of a sound. The last is moved back to end with
    the sound; a sound shorter than a window is repeated until it fills one, as in training.
    """

    modality: ClassVar[Modality] = "audio"

    def __init__(self) -> None:
        super().__init__()
        self.entry = Affine(1)
        self.timbre = nn.ModuleList([Timbre(tall) for tall in TALL])
        self.rhythm = nn.ModuleList([Rhythm(long) for long in LONG])
        self.middle = nn.ModuleList([Residual(FRONT), Residual(MIDDLE), Residual(MIDDLE)])
        self.pooled = Affine(2 * ALL)
        self.dense = nn.Linear(2 * ALL, DIMENSION)
        self.out = Affine(DIMENSION)

    @classmethod
    def load(cls, config: Any, *, weights: Path | None = None) -> Self:
        """The published weights (ISC); `config.source` is ``musicnn``."""
        encoder = cls().eval()
        stored = read_checkpoint(f"{fetch('musicnn', folder=weights)}/")
        # The checkpoint numbers its layers in the order of the published graph, which is that of the modules here.
        modules = list(encoder.modules())
        with torch.no_grad():
            for number, layer in enumerate(module.filters for module in modules if isinstance(module, FILTERS)):
                _copy_filters(layer, stored, _numbered("conv2d", number))
            for number, norm in enumerate(module for module in modules if isinstance(module, Affine)):
                _copy_norm(norm, stored, _numbered("batch_normalization", number))
            encoder.dense.weight.copy_(torch.from_numpy(stored["dense/kernel"].T.copy()))
            encoder.dense.bias.copy_(torch.from_numpy(stored["dense/bias"].copy()))
        return encoder

    @property
    def dimension(self) -> int:
        """Length D of a vector."""
        return DIMENSION

    def classes(self, *, weights: Path | None = None) -> Classes:
        """The 50 tags; music has many."""
        stored = read_checkpoint(f"{fetch('musicnn', folder=weights)}/")
        weight, bias = (torch.from_numpy(stored[f"dense_1/{part}"].T.copy()) for part in ("kernel", "bias"))
        return Classes(TAGS, weight, bias, exclusive=False)

    def prepare(self, content: Path | bytes) -> Float[Tensor, "windows 187 96"]:
        """The log-mel windows of a sound; raises MediaError."""
        border = torch.zeros(FFT // 2)  # the first and last frame are centred on the ends of the sound
        samples = chain([border], sound_blocks(content, RATE), [border])
        features = map(log_mel, frames(samples, FFT, HOP))
        return joined(_filled(window)[None] for window in windows(features, PATCH))

    def encode(self, prepared: Sequence[Float[Tensor, "_ 187 96"]]) -> Float[Tensor, "b d"]:
        """The vectors of B prepared sounds."""
        device = next(self.parameters()).device
        return mean_over_windows(prepared, self, dimension=DIMENSION, device=device, chunk=CHUNK)

    def forward(self, patches: Float[Tensor, "n 187 96"]) -> Float[Tensor, "n d"]:
        """The vectors of windows."""
        image = self.entry(patches[:, None])
        front = torch.cat([part(image) for part in (*self.timbre, *self.rhythm)], dim=1)
        first, second, third = self.middle
        low = first(front)
        middle = second(low) + low
        high = third(middle) + middle
        features = torch.cat([front, low, middle, high], dim=1)  # (n, ALL, frames)
        pooled = torch.stack([features.amax(-1), features.mean(-1)], dim=-1).flatten(1)
        return self.out(self.dense(self.pooled(pooled)).relu())

    @property
    def blocks(self) -> list[nn.Module]:
        """Front end, three middle layers, and what follows the pooling."""
        front = nn.ModuleList([self.entry, *self.timbre, *self.rhythm])
        return [front, *self.middle, nn.ModuleList([self.pooled, self.dense, self.out])]

    @property
    def reading(self) -> str:
        """All beside the weights that fixes a vector."""
        mel = f"{RATE} Hz, mono; power of {FFT}/{HOP}, {BANDS} Slaney mel bands; log10(10000 x + 1)"
        return f"musicnn 2: {mel}; mean over windows of {PATCH} frames, {OVERLAP}, a short one repeated"


class Affine(nn.Module):
    """A scale and a shift for each channel (axis 1): batch normalisation whose statistics are fixed."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, hidden: Tensor) -> Tensor:
        """The same shape."""
        shape = (-1, *[1] * (hidden.ndim - 2))
        return torch.addcmul(self.shift.view(shape), hidden, self.scale.view(shape))


class Timbre(nn.Module):
    """Filters over 7 frames and many bands, and their greatest answer over the bands; padded in time only.

    They are one matrix, which hardware multiplies faster than it convolves a single channel.
    """

    def __init__(self, tall: int) -> None:
        super().__init__()
        self.tall = tall
        self.filters = nn.Linear(SHORT * tall, TIMBRE)
        self.norm = Affine(TIMBRE)

    def forward(self, image: Float[Tensor, "n 1 frames bands"]) -> Float[Tensor, "n channels frames"]:
        """Answers over time."""
        seen = F.pad(image[:, 0], (0, 0, *_border(SHORT))).unfold(1, SHORT, 1).unfold(2, self.tall, 1)
        answers = self.filters(seen.flatten(-2))  # (n, frames, bands, channels)
        return _greatest(answers.amin(2).mT, answers.amax(2).mT, self.norm)


class Rhythm(nn.Module):
    """Filters over many frames of one band, and their greatest answer over the bands; padded in time only."""

    def __init__(self, long: int) -> None:
        super().__init__()
        self.long = long
        self.filters = nn.Conv2d(1, RHYTHM, (long, 1))
        self.norm = Affine(RHYTHM)

    def forward(self, image: Float[Tensor, "n 1 frames bands"]) -> Float[Tensor, "n channels frames"]:
        """Answers over time."""
        answers = at_least_single(self.filters(F.pad(image, (0, 0, *_border(self.long)))))  # extremes are found faster
        return _greatest(answers.amin(-1), answers.amax(-1), self.norm)


class Residual(nn.Module):
    """A layer over 7 frames."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.filters = nn.Conv1d(channels, MIDDLE, 7, padding=3)
        self.norm = Affine(MIDDLE)

    def forward(self, hidden: Float[Tensor, "n channels frames"]) -> Float[Tensor, "n middle frames"]:
        """What is added to the layer's input, where that is as wide."""
        return self.norm(self.filters(hidden).relu())


FILTERS = Timbre | Rhythm | Residual


def _border(frames: int) -> tuple[int, int]:
    """Frames before and after, so that there are as many answers as frames."""
    return (frames - 1) // 2, frames // 2


def _greatest(least: Tensor, most: Tensor, norm: Affine) -> Float[Tensor, "n channels frames"]:
    """The greatest ``norm(answer.relu())`` over the bands, out of the least and the greatest answer.

    It rises with the answers where the scale is positive and falls where it is negative, so the others cannot be it.
    """
    extreme = torch.where(norm.scale[:, None] < 0, least, most)
    return norm(extreme.to(norm.scale.dtype).relu())


def log_mel(samples: Float[Tensor, " samples"]) -> Float[Tensor, "frames 96"]:
    """Logarithm of the mel spectrogram that musicnn reads, at 16 kHz; frames start at multiples of 256 samples."""
    with torch.autocast("cpu", enabled=False):
        return (10_000 * _mel()(samples) + 1).log10().T


def _numbered(name: str, number: int) -> str:
    return f"{name}_{number}" if number else name


def _copy_filters(layer: nn.Module, stored: dict[str, np.ndarray], name: str) -> None:
    """TensorFlow orders a kernel (time, bands, in, out); in one dimension, its bands are the channels."""
    kernel, weight = torch.from_numpy(stored[f"{name}/kernel"].copy()), layer.get_parameter("weight")
    ordered = kernel[:, :, 0].permute(2, 1, 0) if weight.ndim == 3 else kernel.permute(3, 2, 0, 1)
    weight.copy_(ordered.reshape(weight.shape))
    layer.get_parameter("bias").copy_(torch.from_numpy(stored[f"{name}/bias"].copy()))


def _copy_norm(norm: Affine, stored: dict[str, np.ndarray], name: str) -> None:
    """Batch normalisation with its moving statistics as a scale and a shift."""
    scale = stored[f"{name}/gamma"] / np.sqrt(stored[f"{name}/moving_variance"] + EPSILON)
    norm.scale.copy_(torch.from_numpy(scale))
    norm.shift.copy_(torch.from_numpy(stored[f"{name}/beta"] - stored[f"{name}/moving_mean"] * scale))


def _filled(window: Tensor) -> Tensor:
    """A window of the full length; a shorter one is repeated."""
    return window if len(window) == PATCH else window[torch.arange(PATCH) % len(window)]


@lru_cache(maxsize=1)
def _mel() -> MelSpectrogram:
    return MelSpectrogram(
        sample_rate=RATE,
        n_fft=FFT,
        hop_length=HOP,
        n_mels=BANDS,
        power=2.0,
        center=False,
        norm="slaney",
        mel_scale="slaney",
    )
