"""CLAP: sounds and texts in one space (Wu et al., "Large-scale contrastive language-audio pretraining", 2023)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import ClapConfig, ClapModel, ClapProcessor
from transformers.utils import logging as transformers_logging

from towers.encoders.contract import Encoder, Modality
from towers.encoders.windows import joined, mean_over_windows, windows
from towers.errors import WeightsError
from towers.sounds import sound_blocks
from towers.weights import resolve

CHUNK = 4  # windows at once on a CPU, about 100 MB


class Clap(Encoder):
    """Sounds to vectors in the space of CLAP's texts: the mean of the unit vectors of windows of 10 s.

    The last window is moved back to end with the sound; a shorter sound is filled as CLAP's own processor does.

    Args:
        model: the model of `transformers`.
        processor: the processor that belongs to it.
    """

    modality: ClassVar[Modality] = "audio"

    def __init__(self, *, model: ClapModel, processor: Any) -> None:
        super().__init__()
        self.model = model
        self.processor = processor

    @classmethod
    def load(cls, config: Any, *, weights: Path | None = None) -> Self:
        """A pretrained encoder.

        Args:
            config: its `source` is ``clap:`` and a hub id or a folder.
            weights: folder to look in before anything is downloaded.

        Raises:
            WeightsError: the source cannot be found or read, or is no CLAP model.
        """
        source = resolve(config.source.partition(":")[2], folder=weights)
        transformers_logging.disable_progress_bar()
        try:
            model = ClapModel.from_pretrained(source, dtype=torch.float32)
            processor = ClapProcessor.from_pretrained(source)
        except (OSError, ValueError, TypeError) as error:
            raise WeightsError(f"no CLAP model could be loaded from {source!r}: {error}") from error
        return cls(model=model, processor=processor).eval()

    @classmethod
    def empty(cls, config: Any, folder: Path) -> Self:
        """The architecture and processor that `save_shape` wrote, weights not loaded yet."""
        model = ClapModel(ClapConfig.from_pretrained(folder))
        return cls(model=model, processor=ClapProcessor.from_pretrained(folder)).eval()

    def save_shape(self, folder: Path) -> None:
        """Write architecture and processor (not the weights) into `folder`."""
        self.model.config.save_pretrained(folder)
        self.processor.save_pretrained(folder)

    @property
    def dimension(self) -> int:
        """Length D of a vector."""
        return int(self.model.config.projection_dim)

    def prepare(self, content: Path | bytes) -> Float[Tensor, "windows channels frames bands"]:
        """The log-mel windows of a sound; raises MediaError."""
        extractor = self.processor.feature_extractor
        rate = extractor.sampling_rate
        parts = windows(sound_blocks(content, rate), int(extractor.nb_max_samples))
        return joined(torch.from_numpy(self._features(part, rate)) for part in parts)

    def _features(self, part: Tensor, rate: int) -> Any:
        """As the processor makes them."""
        return self.processor.feature_extractor(part.numpy(), sampling_rate=rate, return_tensors="np")["input_features"]

    def encode(self, prepared: Sequence[Float[Tensor, "_ channels frames bands"]]) -> Float[Tensor, "b d"]:
        """The vectors of B prepared sounds."""
        device = next(self.parameters()).device
        return mean_over_windows(prepared, self, dimension=self.dimension, device=device, chunk=CHUNK)

    def forward(self, features: Float[Tensor, "n channels frames bands"]) -> Float[Tensor, "n d"]:
        """The unit vectors of windows."""
        # No window is longer than the model reads. The processor calls one of a batch longer, at random, for training.
        longer = torch.zeros(len(features), 1, dtype=torch.bool, device=features.device)
        return self.model.get_audio_features(input_features=features, is_longer=longer).pooler_output

    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "b d"]:
        """Unit vectors of B texts, comparable with those of sounds."""
        device = next(self.parameters()).device
        tokens = self.processor.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt").to(device)
        return self.model.get_text_features(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        ).pooler_output.float()

    @property
    def blocks(self) -> list[nn.Module]:
        """The patches' embedding, the stages of the sound's transformer, and the projection."""
        encoder = self.model.audio_model.audio_encoder
        return [encoder.patch_embed, *encoder.layers, self.model.audio_projection]

    @property
    def reading(self) -> str:
        """All beside the weights that fixes a vector."""
        facts = {"extractor": self.processor.feature_extractor.to_dict(), "model": self.model.config.to_dict()}
        for names in facts.values():
            for name in ("transformers_version", "_name_or_path", "processor_class"):
                names.pop(name, None)
        return f"clap 1: {json.dumps(facts, sort_keys=True, default=str)}; mean over windows, the last moved back"
