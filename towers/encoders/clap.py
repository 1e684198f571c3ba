"""CLAP: sounds and texts in one space (Wu et al., "Large-scale contrastive language-audio pretraining", 2023)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoTokenizer,
    ClapAudioConfig,
    ClapAudioModelWithProjection,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
)
from transformers.utils import logging as transformers_logging

from towers.encoders.contract import Encoder, Modality
from towers.encoders.windows import OVERLAP, joined, mean_over_windows, windows
from towers.errors import WeightsError
from towers.sounds import sound_blocks
from towers.weights import resolve

CHUNK = 2  # windows at once on a CPU, about 50 MB; four take 180, and save a tenth of the time
NO_FACTS = ("_name_or_path", "dtype", "processor_class", "transformers_version")  # they fix no vector


class Clap(Encoder):
    """Sounds to vectors in the space of CLAP's texts: the mean of the unit vectors of windows of 10 s.

    What `prepare` gives is the log-mel windows ``(windows, 1, frames, bands)`` of a sound. The last is moved back to
    end with the sound; a shorter sound is filled as the model's own feature extractor does. The text tower is no part
    of it: `encode_texts` reads it when it is asked for.

    Args:
        config: its `source` is ``clap:`` and a hub id or a folder.
        model: holds the sound tower, `audio_model` and `audio_projection`.
        extractor: the feature extractor that belongs to it.
    """

    modality: ClassVar[Modality] = "audio"

    def __init__(self, *, config: Any, model: Any, extractor: ClapFeatureExtractor) -> None:
        super().__init__()
        self.config = config
        self.tower = model.audio_model
        self.projection = model.audio_projection
        self.extractor = extractor
        self._text_side: tuple[Any, Any] | None = None

    @classmethod
    def load(cls, config: Any, *, weights: Path | None = None) -> Self:
        """A pretrained encoder.

        Args:
            config: its `source` is ``clap:`` and a hub id or a folder.
            weights: not needed, a folder is a source of its own.

        Raises:
            InputError: the source is written like a path, and no folder is there.
            WeightsError: the source cannot be found or read, or is no CLAP model.
        """
        model, extractor = _read_model(config.source), _read(ClapFeatureExtractor, config.source)
        return cls(config=config, model=model, extractor=extractor).eval()

    @classmethod
    def empty(cls, config: Any, folder: Path) -> Self:
        """The architecture that `save_shape` wrote, its weights not loaded yet."""
        model = ClapAudioModelWithProjection(ClapAudioConfig.from_pretrained(folder))
        return cls(config=config, model=model, extractor=ClapFeatureExtractor.from_pretrained(folder)).eval()

    def save_shape(self, folder: Path) -> None:
        """Write the sound tower's architecture and its feature extractor into an existing `folder`."""
        self.tower.config.save_pretrained(folder)
        self.extractor.save_pretrained(folder)

    @property
    def dimension(self) -> int:
        """Length D of a vector."""
        return int(self.tower.config.projection_dim)

    def prepare(self, content: Path | bytes) -> Float[Tensor, "windows 1 frames bands"]:
        """The log-mel windows of a sound; raises MediaError."""
        samples = sound_blocks(content, self.extractor.sampling_rate)
        return joined(map(self._log_mel, windows(samples, int(self.extractor.nb_max_samples))))

    def _log_mel(self, window: Float[Tensor, " samples"]) -> Float[Tensor, "1 1 frames bands"]:
        """A window as the feature extractor makes it; where a model fuses views, the first of four equal ones."""
        rate = self.extractor.sampling_rate
        return self.extractor(window.numpy(), sampling_rate=rate, return_tensors="pt")["input_features"][:, :1]

    def encode(self, prepared: Sequence[Float[Tensor, "_ 1 frames bands"]]) -> Float[Tensor, "b d"]:
        """The vectors of B prepared sounds."""
        return mean_over_windows(prepared, self, dimension=self.dimension, device=self.device, chunk=CHUNK)

    def forward(self, features: Float[Tensor, "n 1 frames bands"]) -> Float[Tensor, "n d"]:
        """The unit vectors of windows."""
        # No window is longer than the model reads. The extractor calls one of a batch so, at random, as in training.
        longer = torch.zeros(len(features), 1, dtype=torch.bool, device=features.device)
        pooled = self.tower(input_features=features, is_longer=longer).pooler_output
        return F.normalize(self.projection(pooled), dim=-1)

    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "b d"]:
        """The unit vectors of B texts in the space of the sounds; what is too long for the model is cut.

        The first call reads the model's text tower from `config.source`; it is neither saved nor fine-tuned.

        Raises:
            WeightsError: the source cannot be found or read.
        """
        if self._text_side is None:
            model = _read_model(self.config.source).eval().requires_grad_(False)
            del model.audio_model, model.audio_projection
            self._text_side = model, _read(AutoTokenizer, self.config.source)
        model, tokenizer = self._text_side
        facts = model.config.text_config
        longest = facts.max_position_embeddings - facts.pad_token_id - 1  # RoBERTa counts positions from there
        tokens = tokenizer(list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt")
        ids, mask = tokens["input_ids"].to(self.device), tokens["attention_mask"].to(self.device)
        return model.to(self.device).get_text_features(input_ids=ids, attention_mask=mask).pooler_output

    @property
    def blocks(self) -> list[nn.Module]:
        """The patches, the stages of the transformer, and the projection."""
        encoder = self.tower.audio_encoder
        return [encoder.patch_embed, *encoder.layers, self.projection]

    @property
    def reading(self) -> str:
        """Feature extractor and architecture as JSON."""
        both = [self.extractor.to_dict(), self.tower.config.to_dict()]
        facts = [{name: value for name, value in one.items() if name not in NO_FACTS} for one in both]
        return f"clap 2: {json.dumps(facts, sort_keys=True)}; mean over windows, {OVERLAP}"


def _read_model(source: str) -> ClapModel:
    """The whole model, weights loaded."""
    transformers_logging.disable_progress_bar()
    config = _read(AutoConfig, source)
    if not isinstance(config, ClapConfig):
        raise WeightsError(f"{source!r} is a model of type {config.model_type!r}: give a CLAP model, of type 'clap'")
    model, told = _read(ClapModel, source, config=config, dtype=torch.float32, output_loading_info=True)
    if missing := sorted(told["missing_keys"]):
        raise WeightsError(f"{source!r} lacks weights of a CLAP model, such as {missing[0]}: download it again")
    return model


def _read(part: Any, source: str, **options: Any) -> Any:
    """One part of a pretrained model, from the hub id or folder after ``clap:``."""
    place = resolve(source.partition(":")[2])
    try:
        return part.from_pretrained(place, **options)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).partition("\n")[0].rstrip(".:")
        raise WeightsError(
            f"no CLAP model could be loaded from {source!r} ({reason}); check the name and the files, and that the "
            "model hub can be reached, or give clap:FOLDER with a downloaded model, or choose yamnet or musicnn"
        ) from error
