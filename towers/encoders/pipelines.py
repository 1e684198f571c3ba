"""Speech models of `torchaudio.pipelines`: wav2vec 2.0, HuBERT, WavLM and what was fine-tuned from them."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import safetensors.torch
import torch
import torchaudio
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor, nn
from torchaudio.models import wav2vec2_model, wavlm_model

from towers.encoders.contract import Encoder, Modality
from towers.encoders.windows import mean_over_windows, windows
from towers.errors import InputError, WeightsError
from towers.sounds import sound_blocks

SECONDS = 10.0  # of a window
MOST = 90  # windows of a sound, 15 minutes
CHUNK = 1  # windows at once on a CPU: the first convolution of a base model alone takes 130 MB for 10 s
FILE = "pipeline.json"
FACTORIES = {"Wav2Vec2": wav2vec2_model, "WavLM": wavlm_model}


class Pipeline(Encoder):
    """Sounds to vectors: the last layer's mean over time, by windows of 10 s.

    The last window is moved back to end with the sound; a shorter sound is one window as it is. Windows are never
    padded, for these models read padding. Of a sound with more than `MOST` windows every second, fourth, … is read,
    so that the whole length counts and time and memory are bounded.

    Args:
        shape: `kind` ("Wav2Vec2" or "WavLM"), `params` of the model, `rate` in Hz, and `normalize`, whether a window
            is brought to mean 0 and variance 1.
    """

    modality: ClassVar[Modality] = "audio"

    def __init__(self, shape: dict[str, Any]) -> None:
        super().__init__()
        self.shape = shape
        self.model = FACTORIES[shape["kind"]](**shape["params"])

    @classmethod
    def load(cls, config: Any, *, weights: Path | None = None) -> Self:
        """A pretrained encoder.

        Args:
            config: its `source` is ``torchaudio:NAME``, which torchaudio downloads and keeps, or
                ``torchaudio:NAME:PATH`` with a state dict of your own (safetensors, or as torchaudio publishes it).
            weights: folder to look in for the published file before anything is downloaded.

        Raises:
            InputError: torchaudio has no such speech model.
            WeightsError: the weights cannot be had, or do not fit.
        """
        _, name, *path = config.source.split(":", 2)
        bundle = _bundle(name)
        encoder = cls(_shape_of(bundle)).eval()
        published = None if weights is None else weights / Path(bundle._path).name
        if path:
            state = _read(Path(path[0]).expanduser())
        elif published is not None and published.is_file():
            state = _read(published)
        else:
            state = _download(name, bundle)
        try:
            encoder.model.load_state_dict({key: state[key] for key in state if not key.startswith("aux.")})
        except (RuntimeError, AttributeError) as error:
            raise WeightsError(f"the weights for {config.source!r} do not fit {name}: {error}") from error
        return encoder

    @classmethod
    def empty(cls, config: Any, folder: Path) -> Self:
        """The architecture that `save_shape` wrote, its weights not loaded yet."""
        return cls(json.loads((folder / FILE).read_text("utf-8"))).eval()

    def save_shape(self, folder: Path) -> None:
        """Write all but the weights into `folder`."""
        (folder / FILE).write_text(json.dumps(self.shape, indent=2) + "\n", "utf-8")

    @property
    def dimension(self) -> int:
        """Length D of a vector."""
        return int(self.shape["params"]["encoder_embed_dim"])

    def prepare(self, content: Path | bytes) -> Float[Tensor, "windows samples"]:
        """The windows of a sound; raises MediaError."""
        rate = self.shape["rate"]
        return torch.stack(spread(windows(sound_blocks(content, rate), int(SECONDS * rate)), MOST))

    def encode(self, prepared: Sequence[Float[Tensor, "_ _"]]) -> Float[Tensor, "b d"]:
        """The vectors of B prepared sounds."""
        device = next(self.parameters()).device
        return mean_over_windows(prepared, self, dimension=self.dimension, device=device, chunk=CHUNK)

    def forward(self, samples: Float[Tensor, "n samples"]) -> Float[Tensor, "n d"]:
        """The vectors of windows of one length."""
        if self.shape["normalize"]:
            samples = nn.functional.layer_norm(samples, samples.shape[-1:])
        return self.model(samples)[0].mean(dim=1)

    @property
    def blocks(self) -> list[nn.Module]:
        """The convolutions, their projection, and the transformer's layers."""
        encoder = self.model.encoder
        return [self.model.feature_extractor, encoder.feature_projection, *encoder.transformer.layers]

    @property
    def reading(self) -> str:
        """All beside the weights that fixes a vector."""
        shape = json.dumps(self.shape, sort_keys=True)
        return f"torchaudio 1: {shape}; mean over windows of {SECONDS} s, the last moved back, {MOST} at most"


def spread(parts: Iterable[Tensor], most: int) -> list[Tensor]:
    """At most `most` of a stream of unknown length, evenly apart: all, every second, every fourth, …"""
    kept: list[Tensor] = []
    step = 1
    for number, part in enumerate(parts):
        if number % step == 0 and len(kept) == most:
            kept, step = kept[::2], 2 * step
        if number % step == 0:
            kept.append(part)
    return kept


def _bundle(name: str) -> Any:
    known = {key: value for key, value in vars(torchaudio.pipelines).items() if hasattr(value, "_model_type")}
    if name not in known:
        raise InputError(f"torchaudio has no speech model {name!r}, known are {', '.join(sorted(known))}")
    return known[name]


def _shape_of(bundle: Any) -> dict[str, Any]:
    """A bundle as JSON has it; the layer for transcription is left out."""
    params = {key: value for key, value in bundle._params.items() if key != "aux_num_out"}
    shape = {
        "kind": bundle._model_type,
        "params": {**params, "aux_num_out": None},
        "rate": int(bundle.sample_rate),
        "normalize": bundle._normalize_waveform,
    }
    return json.loads(json.dumps(shape))


def _download(name: str, bundle: Any) -> dict[str, Tensor]:
    try:
        return bundle._get_state_dict({"progress": False, "weights_only": True})
    except OSError as error:
        raise WeightsError(
            f"the weights of {name} could not be downloaded ({error}): fetch {Path(bundle._path).name} where there is "
            f"a network and give torchaudio:{name}:PATH"
        ) from error


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        reason = str(error).partition("\n")[0]
        raise WeightsError(f"the weights {path} could not be read: {reason}") from error
