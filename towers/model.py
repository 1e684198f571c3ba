"""`TwoTower`: both towers and the rating head as one artefact."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from towers.artefact import artefact_writer, read_json, read_manifest, write_json
from towers.catalog import Catalog
from towers.embed import TextCache
from towers.errors import ArtefactError, InputError
from towers.history import Histories
from towers.history_text import HistoryText
from towers.ids import IdList
from towers.interactions import Positive
from towers.item import ItemConfig, ItemTower
from towers.rating import RatingConfig, RatingHead
from towers.sequence_reader import SequenceConfig
from towers.text import TextConfig, TextEncoder
from towers.text_reader import TextReaderConfig
from towers.trend import popularity_of_late
from towers.user import Memory, UserTower

KIND = "twotower/model"


class UserConfig(BaseModel):
    """The two readers of a person; `false` turns one off."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sequence: SequenceConfig | None = SequenceConfig()
    """The reader of past items in their order."""
    text: TextReaderConfig | None = TextReaderConfig()
    """The reader of history text and of free text."""

    @field_validator("*", mode="before")
    @classmethod
    def _false_is_off(cls, value: Any) -> Any:
        return None if value is False else {} if value is True else value


class ModelConfig(BaseModel):
    """All that fixes the shape of a model, and how it reads a log."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Positive = Positive()
    """Which events are positives: what the towers learn from, and what speaks for a person."""
    text: TextConfig = TextConfig()
    """The pretrained text encoder from which both sides start."""
    item: ItemConfig = ItemConfig()
    """The item tower."""
    user: UserConfig = UserConfig()
    """The user tower."""
    rating: RatingConfig = RatingConfig()
    """The rating head."""


class TwoTower(nn.Module):
    """An item tower, a user tower and a rating head over one text encoder.

    Args:
        config: the shape.
        encoder: text encoder of the item side; stays frozen.
        ids: items that have vectors of their own, in the order of those vectors.
        template: text template of items, resolved.

    The buffer `trend_weight` says how much popularity of late counts, in logits (0: not at all), `trend_half_life` how
    fast it passes, in days; `level` what is added to items that nobody has met, in logits. All three are chosen on
    validation data.
    """

    trend_weight: Tensor
    trend_half_life: Tensor
    level: Tensor

    def __init__(self, *, config: ModelConfig, encoder: TextEncoder, ids: IdList, template: str) -> None:
        super().__init__()
        self.config = config
        self.ids = IdList(ids.to_list())  # an empty list forgets its type, as it does in JSON
        self.template = template
        self.encoder = encoder.requires_grad_(False)
        self.item = ItemTower(config=config.item, content_dimension=encoder.dimension, ids=len(ids))
        self.user = UserTower(
            sequence=config.user.sequence,
            text=config.user.text,
            encoder=encoder,
            hidden=config.item.hidden,
            dimension=config.item.dimension,
        )
        self.rating = RatingHead(config=config.rating, item_dimension=config.item.dimension, ids=len(ids))
        self.log_scale = nn.Parameter(torch.tensor(2.7))
        self.register_buffer("trend_weight", torch.zeros(()))
        self.register_buffer("trend_half_life", torch.tensor(14.0))
        self.register_buffer("level", torch.zeros(()))

    @property
    def scale(self) -> Float[Tensor, ""]:
        """Inverse temperature: turns a cosine into a logit; at most 100, as in CLIP (arXiv 2103.00020)."""
        return self.log_scale.clamp(max=4.6).exp()

    def content(
        self, catalog: Catalog, cache: TextCache, *, progress: bool = False
    ) -> tuple[Float[Tensor, "n c"], Bool[Tensor, " n"]]:
        """Frozen content vectors of a catalog, and where there is any text."""
        texts = catalog.texts(self.template)
        has_text = torch.tensor([bool(text) for text in texts]) & self.config.item.text
        if not has_text.any():
            return torch.zeros(len(texts), self.encoder.dimension), has_text
        return torch.from_numpy(cache.embed(self.encoder, texts, progress=progress)), has_text

    def id_rows(self, catalog: Catalog) -> Int[Tensor, " n"]:
        """Row of each item's own vector; -1 where content alone must do."""
        return torch.from_numpy(self.ids.rows(catalog.ids.array))

    @torch.inference_mode()
    def embed_items(self, catalog: Catalog, *, cache: TextCache | None = None, progress: bool = False) -> np.ndarray:
        """Item vectors float32 ``(N, D)`` of unit norm, in the catalog's order.

        Raises:
            InputError: an item with neither text nor a vector of its own.
        """
        was_training = self.training
        self.eval()
        content, has_text = self.content(catalog, cache or TextCache(), progress=progress)
        device = self.log_scale.device
        vectors = self.item(content.to(device), has_text.to(device), self.id_rows(catalog).to(device)).cpu().numpy()
        self.train(was_training)
        empty = np.flatnonzero(np.linalg.norm(vectors, axis=1) < 0.5)
        if len(empty):
            raise InputError(
                f"{len(empty)} items have neither text nor history and cannot become vectors, "
                f"the first is {catalog.ids[empty[0]]!r}: leave them out of the catalog or give them text"
            )
        return vectors

    def memory(self, catalog: Catalog, vectors: np.ndarray) -> Memory:
        """What the user tower needs to know of the catalog's items, `vectors` in its order."""
        text = None
        if self.user.text is not None:
            config = self.user.text.config.history
            items = catalog.texts(config.template or self.template)
            text = HistoryText(
                config=config, items=items, tokenize=self.encoder.tokenize_plain, prefix=self.encoder.config.prefix
            )
        device = self.log_scale.device
        own = torch.tensor(vectors, device=device)
        return Memory(own, self.id_rows(catalog).to(device), text)

    def encode(self, histories: Histories, memory: Memory, texts: Sequence[str | None] | None = None) -> np.ndarray:
        """Queries float32 ``(B, D)``; see `UserTower.encode`."""
        return self.user.encode(histories, memory, texts)

    def standing(self, log: Histories, items: int) -> np.ndarray | None:
        """What is added to the cosine of each item, whoever asks: popularity of late, or the level of what is new.

        Args:
            log: all that people did, up to now.
            items: size N of the catalog.

        Returns:
            float32 ``(N,)``, 0 or more; None where nothing is added.
        """
        if not self.trend_weight and not self.level:
            return None
        late = float(self.trend_weight) * popularity_of_late(log, items, float(self.trend_half_life))
        unmet = np.bincount(log.items, minlength=items) == 0
        return ((late + float(self.level) * unmet) / float(self.scale.detach())).astype(np.float32)

    @torch.inference_mode()
    def rate(self, histories: Histories, memory: Memory, rows: np.ndarray) -> np.ndarray:
        """Predicted ratings in [0, 1] (or click probabilities), float32 ``(B, K)``, each person alone.

        Args:
            histories: B rated pasts.
            memory: items that they speak of.
            rows: int64 ``(B, K)`` catalog rows that are asked about; where -1 the answer is 0.
        """
        self.eval()
        device = memory.vectors.device
        answers = np.zeros(rows.shape, np.float32)
        for person in range(len(histories)):
            one, real = histories.take([person]), rows[person] >= 0
            involved = torch.from_numpy(np.concatenate([one.items, rows[person, real]])).to(device)
            count = len(one.items)
            past = torch.arange(count, device=device)[None]
            asked = torch.arange(count, len(involved), device=device)[None]
            clicks = self.config.rating.objective == "click"
            felt = torch.from_numpy(np.ones_like(one.ratings) if clicks else one.ratings)[None].to(device)
            predicted = self.rating(
                memory.vectors[involved],
                memory.id_rows[involved],
                past,
                felt,
                torch.ones_like(past, dtype=torch.bool),
                asked,
            )
            answers[person, real] = self.rating.to_unit(predicted)[0].cpu().numpy()
        return answers

    def rerank_scores(self, retrieval: np.ndarray, ratings: np.ndarray) -> np.ndarray:
        """What re-ranking sorts by: ``scale * retrieval score + weight * rating``, in logits."""
        return float(self.scale.detach()) * retrieval + float(self.rating.weight) * ratings

    @property
    def space(self) -> str:
        """Fingerprint of all that fixes an item's vector; binds an index to this model."""
        facts = [self.encoder.fingerprint, self.ids.fingerprint, self.template, self.config.item.model_dump_json()]
        return _fingerprint(facts, self.item.state_dict())

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the whole model."""
        return _fingerprint([self.space, self.config.model_dump_json()], self.state_dict())

    def save(self, path: str | Path, *, about: dict[str, Any] | None = None) -> None:
        """Write the model as an artefact folder, whole or not at all.

        Args:
            path: folder.
            about: further JSON values for the manifest, such as the recipe.

        Raises:
            ArtefactError: `path` is something else, or cannot be written.
        """
        facts = {"space": self.space, "model": self.fingerprint, **(about or {})}
        with artefact_writer(Path(path), KIND, facts) as folder:
            write_json(folder / "config.json", self.config.model_dump(mode="json"))
            write_json(folder / "items.json", {"template": self.template, "ids": self.ids.to_list()})
            self.encoder.save_shape(folder / "text")
            try:
                save_file(self._own_state(), folder / "model.safetensors")
            except SafetensorError as error:  # how a full disk is told
                raise ArtefactError(f"cannot write {path}: {error}") from error

    @classmethod
    def load(cls, path: str | Path, *, device: str | torch.device = "cpu") -> TwoTower:
        """Read a model that `save` wrote.

        Raises:
            ArtefactError: not a model, damaged, or of a newer format.
        """
        path = Path(path)
        manifest = read_manifest(path, KIND)
        items = read_json(path / "items.json")
        try:
            config = ModelConfig.model_validate(read_json(path / "config.json"))
            encoder = TextEncoder.empty(config.text, path / "text")
            model = cls(config=config, encoder=encoder, ids=IdList(items["ids"]), template=items["template"])
            missing, extra = model.load_state_dict(load_file(path / "model.safetensors"), strict=False)
        except (ValidationError, SafetensorError, RuntimeError, KeyError, OSError, ValueError) as error:
            raise ArtefactError(f"{path} holds no model that this version can read: {error}") from error
        if extra or set(missing) - model._shared_names():
            raise ArtefactError(f"{path} lacks weights or has some too many: {[*missing, *extra][:3]}")
        model = model.to(device).eval()
        if model.space != manifest["space"]:
            raise ArtefactError(f"{path} does not have the weights that its manifest names")
        return model

    def _shared_names(self) -> set[str]:
        """Names under which the user side holds what is the item side's own."""
        own = {value.data_ptr() for name, value in self.state_dict().items() if name.startswith("encoder.")}
        return {
            name
            for name, value in self.state_dict().items()
            if name.startswith("user.text.encoder.") and value.data_ptr() in own
        }

    def _own_state(self) -> dict[str, Tensor]:
        shared = self._shared_names()
        return {name: value.contiguous() for name, value in self.state_dict().items() if name not in shared}


def _fingerprint(facts: list[str], state: dict[str, Tensor]) -> str:
    digest = hashlib.sha256("\n".join(facts).encode())
    for name, value in state.items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
