"""Speech models of `torchaudio.pipelines`: wav2vec 2.0, HuBERT, WavLM and what was fine-tuned from them."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import torchaudio
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.models import wav2vec2_model, wavlm_model
from torchaudio.pipelines import Wav2Vec2Bundle

from towers.encoders.contract import Encoder, Modality
from towers.encoders.windows import OVERLAP, mean_over_windows, windows
from towers.errors import InputError, WeightsError
from towers.sounds import sound_blocks

SECONDS = 5  # of a window
MOST = 180  # windows of a sound, 58 MB
CHUNK = 1  # windows at once on a CPU: the first convolution of a base model alone takes 65 MB
FACTORIES = {"Wav2Vec2": wav2vec2_model, "WavLM": wavlm_model}
FORMS = "pipelines:NAME with the name of a speech model, such as WAV2VEC2_BASE, HUBERT_BASE or WAVLM_BASE"


class SpeechModel(Encoder):
    """Sounds to vectors: the mean over time of the last layer's output, by windows of 5 s.

    What `prepare` gives is the windows ``(windows, samples)`` of a sound, each with the last quarter of the one before;
    a shorter sound is one window as it is, for these models read padding. Of a sound of more than `MOST`
    windows every second, fourth, … is read, so that all of its length counts while time and memory are bounded.

    Args:
        bundle: names the architecture; its weights are not loaded yet.
    """

    modality: ClassVar[Modality] = "audio"

    def __init__(self, bundle: Wav2Vec2Bundle) -> None:
        super().__init__()
        self.bundle = bundle
        self.model = FACTORIES[bundle._model_type](**_shape_of(bundle))

    @classmethod
    def load(cls, config: Any, *, weights: Path | None = None) -> Self:
        """The published weights, which torchaudio downloads and keeps.

        Args:
            config: its `source` is ``pipelines:`` and the name of a bundle.
            weights: folder to look in for the published file before anything is downloaded.

        Raises:
            InputError: torchaudio has no speech model of this name.
            WeightsError: the weights cannot be had, or do not fit.
        """
        encoder = cls(_bundle(config.source)).eval()
        state = _published(config.source, encoder.bundle, weights)
        try:
            encoder.model.load_state_dict({name: state[name] for name in state if not name.startswith("aux.")})
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]
            raise WeightsError(f"the weights found do not fit {config.source!r}: {reason}") from error
        return encoder

    @classmethod
    def empty(cls, config: Any, folder: Path) -> Self:
        """The architecture that the source names, its weights not loaded yet."""
        return cls(_bundle(config.source)).eval()

    @property
    def dimension(self) -> int:
        """Length D of a vector."""
        return int(self.bundle._params["encoder_embed_dim"])

    def prepare(self, content: Path | bytes) -> Float[Tensor, "windows samples"]:
        """The windows of a sound; raises MediaError."""
        rate = int(self.bundle.sample_rate)
        return torch.stack(spread(windows(sound_blocks(content, rate), SECONDS * rate), MOST))

    def encode(self, prepared: Sequence[Float[Tensor, "_ _"]]) -> Float[Tensor, "b d"]:
        """The vectors of B prepared sounds."""
        return mean_over_windows(prepared, self, dimension=self.dimension, device=self.device, chunk=CHUNK)

    def forward(self, samples: Float[Tensor, "n samples"]) -> Float[Tensor, "n d"]:
        """The vectors of windows of one length."""
        if self.bundle._normalize_waveform:
            samples = F.layer_norm(samples, samples.shape[-1:])
        return self.model(samples)[0].mean(dim=1)

    @property
    def blocks(self) -> list[nn.Module]:
        """The convolutions, their projection, and the layers of the transformer."""
        encoder = self.model.encoder
        return [self.model.feature_extractor, encoder.feature_projection, *encoder.transformer.layers]

    @property
    def reading(self) -> str:
        """All beside the weights that fixes a vector."""
        bundle = self.bundle
        facts = [bundle._model_type, _shape_of(bundle), int(bundle.sample_rate), bundle._normalize_waveform]
        windows = f"mean over windows of {SECONDS} s, {OVERLAP}, {MOST} at most"
        return f"torchaudio 2: {json.dumps(facts, sort_keys=True)}; {windows}"


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


def _bundle(source: str) -> Wav2Vec2Bundle:
    """The bundle that a source names."""
    name = source.partition(":")[2]
    there = {key: value for key, value in vars(torchaudio.pipelines).items() if key.isupper()}
    if isinstance(bundle := there.get(name), Wav2Vec2Bundle):
        return bundle
    if bundle is not None:
        kind = type(bundle).__name__
        raise InputError(f"torchaudio's {name} is a {kind}, which gives no vectors of sounds: give {FORMS}")
    near = difflib.get_close_matches(name, there, n=3)
    hint = f", near are {', '.join(near)}" if near else ""
    raise InputError(f"torchaudio has no pipeline {name!r}{hint}: give {FORMS}")


def _shape_of(bundle: Wav2Vec2Bundle) -> dict[str, Any]:
    """What builds a bundle's model, without the layer for transcription."""
    return {**bundle._params, "aux_num_out": None}


def _published(source: str, bundle: Wav2Vec2Bundle, weights: Path | None) -> dict[str, Tensor]:
    """The published weights, out of a folder where the file lies there."""
    file = Path(bundle._path).name
    options: dict[str, Any] = {"progress": False, "weights_only": True, "map_location": "cpu"}
    if weights is not None and (weights / file).is_file():
        options["model_dir"] = str(weights)
    try:
        with redirect_stdout(sys.stderr):  # where torch tells of a download; standard output belongs to results
            return bundle._get_state_dict(options)
    except Exception as error:  # the network, zip archives and torch's reader of them each raise their own
        reason = str(error).partition("\n")[0].rstrip(".:")
        raise WeightsError(
            f"the weights of {source!r} could not be had ({reason}): where there is a network, "
            f"`torchaudio.pipelines.{source.partition(':')[2]}.get_model()` downloads {file}; put that file into "
            f"{torch.hub.get_dir()}/checkpoints or into the folder given as --weights, or choose yamnet or musicnn"
        ) from error
