"""YAMNet: sounds of all kinds, trained on 521 classes of AudioSet (Plakal and Ellis, `tensorflow/models`, 2019)."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import onnx
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchaudio.transforms import MelSpectrogram

from towers.encoders.contract import Classes, Encoder, Modality
from towers.encoders.windows import frames, joined, mean_over_windows
from towers.errors import WeightsError
from towers.sounds import sound_blocks
from towers.weights import fetch

RATE = 16_000
FRAME, HOP, FFT = 400, 160, 512  # samples: 25 ms every 10 ms
BANDS, LOWEST, HIGHEST = 64, 125.0, 7500.0  # mel bands and their range in Hz
OFFSET = 0.001  # added before the logarithm
PATCH, PATCH_HOP = 96, 48  # frames in a window, and from one to the next
CHUNK = 32  # windows at once on a CPU, about 35 MB
ARCHIVE = "YamNet_w8a8.onnx.zip"

# Channels and stride of each layer (Howard et al., MobileNets, 2017, table 1, at a depth of 13 separable layers).
LAYERS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))


class YamNet(Encoder):
    """Sounds to vectors of length 1024: the mean over windows of 0.96 s every 0.48 s.

    What `prepare` gives is the log-mel windows ``(windows, 96, 64)`` of a sound, as views of its frames; silence is
    added at the end to fill the last, as published.
    """

    modality: ClassVar[Modality] = "audio"

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([_convolution(1, 32, 3, 2)])
        width = 32
        for channels, stride in LAYERS:
            depthwise = _convolution(width, width, 3, stride, groups=width)
            self.layers.append(nn.Sequential(depthwise, _convolution(width, channels, 1, 1)))
            width = channels

    @classmethod
    def load(cls, config: Any, *, weights: Path | None = None) -> Self:
        """The published weights (Apache-2.0); `config.source` is ``yamnet``."""
        encoder = cls().eval()
        tensors = stored_weights(fetch("yamnet", folder=weights))
        convolutions = [module for module in encoder.modules() if isinstance(module, nn.Conv2d)]
        with torch.no_grad():
            for convolution, (weight, bias) in zip(convolutions, tensors[:-1], strict=True):
                convolution.weight.copy_(weight)
                convolution.get_parameter("bias").copy_(bias)
        return encoder

    @property
    def dimension(self) -> int:
        """Length D of a vector."""
        return LAYERS[-1][0]

    def classes(self, *, weights: Path | None = None) -> Classes:
        """The 521 of AudioSet; a sound may be of many."""
        folder = fetch("yamnet", folder=weights)
        with (folder / "yamnet_class_map.csv").open(encoding="utf-8") as file:
            names = [row["display_name"] for row in csv.DictReader(file)]
        return Classes(names, *stored_weights(folder)[-1], exclusive=False)

    def prepare(self, content: Path | bytes) -> Float[Tensor, "windows 96 64"]:
        """The log-mel windows of a sound; raises MediaError."""
        patch, hop = (PATCH - 1) * HOP + FRAME, PATCH_HOP * HOP
        samples = _filled(sound_blocks(content, RATE), patch, hop)
        features = joined(log_mel(block) for block in frames(samples, FRAME, HOP))
        return features.unfold(0, PATCH, PATCH_HOP).mT

    def encode(self, prepared: Sequence[Float[Tensor, "_ 96 64"]]) -> Float[Tensor, "b d"]:
        """The vectors of B prepared sounds."""
        device = next(self.parameters()).device
        return mean_over_windows(prepared, self, dimension=self.dimension, device=device, chunk=CHUNK)

    def forward(self, patches: Float[Tensor, "n 96 64"]) -> Float[Tensor, "n d"]:
        """The vectors of windows."""
        first, *layers = self.layers
        hidden = first(patches[:, None]).contiguous(memory_format=torch.channels_last)  # the faster order
        for layer in layers:
            hidden = layer(hidden)
        return hidden.mean(dim=(2, 3))

    @property
    def blocks(self) -> list[nn.Module]:
        """The 14 layers, from the input upward."""
        return list(self.layers)

    @property
    def reading(self) -> str:
        """All beside the weights that fixes a vector."""
        mel = f"{RATE} Hz, mono; magnitude of {FRAME}/{HOP}/{FFT}, {BANDS} HTK mel bands {LOWEST} to {HIGHEST} Hz"
        return f"yamnet 1: {mel}; log(x + {OFFSET}); mean over windows of {PATCH} frames every {PATCH_HOP}"


def log_mel(samples: Float[Tensor, " samples"]) -> Float[Tensor, "frames 64"]:
    """Logarithm of the mel spectrogram that YAMNet reads, at 16 kHz; frames start at multiples of 160 samples."""
    with torch.autocast("cpu", enabled=False):
        return (_mel()(samples) + OFFSET).log().T


def stored_weights(folder: Path) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias of each of the 27 convolutions in order, then of the classifier ``(521, 1024)``, float32.

    The file holds a graph that rounds to 8 bits as it runs, but the weights in it are as they were before rounding,
    batch normalisation folded in.
    """
    try:
        with zipfile.ZipFile(folder / ARCHIVE) as archive:
            member = {Path(name).name: name for name in archive.namelist()}
            graph = onnx.load_model_from_string(archive.read(member["model.onnx"])).graph
            data = archive.read(member["model.data"])
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{folder / ARCHIVE} could not be read: {error}") from error
    stored = {tensor.name: tensor for tensor in graph.initializer}
    names = [node.input[1:3] for node in graph.node if node.op_type in ("Conv", "Gemm")]
    return [(_tensor(stored[w.removesuffix("_qdq")], data), _tensor(stored[b], data)) for w, b in names]


def _tensor(stored: onnx.TensorProto, data: bytes) -> Tensor:
    """One tensor, out of the file beside the graph where it lies there."""
    if stored.data_location != onnx.TensorProto.EXTERNAL:
        return torch.from_numpy(onnx.numpy_helper.to_array(stored).copy())
    place = {entry.key: entry.value for entry in stored.external_data}
    start = int(place["offset"])
    values = np.frombuffer(data[start : start + int(place["length"])], np.float32)
    return torch.from_numpy(values.reshape(tuple(stored.dims)).copy())


def _convolution(old: int, new: int, kernel: int, stride: int, groups: int = 1) -> nn.Sequential:
    """Padded as TensorFlow does: with stride 2, only below and to the right."""
    parts: list[nn.Module] = [nn.ZeroPad2d((0, 1, 0, 1))] if stride == 2 else []
    padding = kernel // 2 if stride == 1 else 0
    parts += [nn.Conv2d(old, new, kernel, stride, padding, groups=groups), nn.ReLU(inplace=True)]
    return nn.Sequential(*parts)


def _filled(blocks: Iterable[Tensor], size: int, hop: int) -> Iterator[Tensor]:
    """Blocks and, at the end, the silence that fills the last window of `size` every `hop`."""
    count = 0
    for block in blocks:
        count += len(block)
        yield block
    whole = size + -(-max(count - size, 0) // hop) * hop
    yield torch.zeros(whole - count)


@lru_cache(maxsize=1)
def _mel() -> MelSpectrogram:
    """A frame is the middle 400 of the 512 samples transformed, hence the padding by half the difference."""
    return MelSpectrogram(
        sample_rate=RATE,
        n_fft=FFT,
        win_length=FRAME,
        hop_length=HOP,
        f_min=LOWEST,
        f_max=HIGHEST,
        pad=(FFT - FRAME) // 2,
        n_mels=BANDS,
        power=1.0,
        center=False,
        norm=None,
        mel_scale="htk",
    )
