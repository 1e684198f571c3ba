"""`TwoTower`: both towers and the rating head as one artefact."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from towers.artefact import artefact_writer, read_json, read_manifest, write_json
from towers.catalog import Catalog
from towers.contents import Contents, read_contents
from towers.embed import VectorCache
from towers.encoders.configs import VECTORS, MediaConfig
from towers.encoders.contract import Encoder, encoder_class
from towers.encoders.named import Named
from towers.errors import ArtefactError, InputError, MediaError
from towers.evaluating import evaluating
from towers.history import Histories
from towers.history_text import HistoryText
from towers.ids import IdList
from towers.item import ItemTower
from towers.media import media_of
from towers.model_config import ModelConfig
from towers.precision import autocast_for
from towers.rating import RatingHead
from towers.rejected import Rejected
from towers.trend import popularity_of_late
from towers.user import Memory, UserTower

KIND = "twotower/model"


class TwoTower(nn.Module):
    """An item tower, a user tower and a rating head over one text encoder, and encoders of pictures and sounds.

    Args:
        config: the shape.
        encoder: text encoder of the item side; stays frozen.
        ids: items that have vectors of their own, in the order of those vectors.
        template: text template of items, resolved.
        media: encoders of pictures and sounds, as far as `config` names any; they stay frozen.

    The buffer `trend_weight` says how much popularity of late counts, in logits (0: not at all), `trend_half_life` how
    fast it passes, in days; `level` what is added to items that nobody has met, in logits. All three are chosen on
    validation data.
    """

    trend_weight: Tensor
    trend_half_life: Tensor
    level: Tensor

    def __init__(
        self,
        *,
        config: ModelConfig,
        encoder: Encoder,
        ids: IdList,
        template: str,
        media: Mapping[str, Encoder] | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.ids = IdList(ids.to_list())  # an empty list forgets its type, as it does in JSON
        self.template = template
        self.encoder = encoder.requires_grad_(False)
        self.media = nn.ModuleDict({name: one.requires_grad_(False) for name, one in (media or {}).items()})
        self.item = ItemTower(
            config=config.item,
            contents={"text": encoder.dimension, **{name: self._length(name) for name in config.media}},
            ids=len(ids),
            named={name for name, one in config.media.items() if one.names},
            normalise={name: one.normalise for name, one in config.media.items()},
        )
        self.user = UserTower(
            sequence=config.user.sequence,
            text=config.user.text,
            encoder=encoder,
            hidden=config.item.hidden,
            dimension=config.item.dimension,
            interests=config.user.interests,
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

    def _length(self, name: str) -> int:
        """Length of a content vector of pictures or sounds."""
        if name in self.media:
            return self.encoder_of(name).dimension
        length = self.config.media[name].length
        assert length is not None
        return length

    def encoder_of(self, name: str) -> Encoder:
        """The encoder of a kind of content.

        Raises:
            InputError: this model reads none.
        """
        if name == "text":
            return self.encoder
        if name not in self.media:
            reads = ", ".join(["text", *self.media])
            raise InputError(f"this model has no encoder of {name} content; it has: {reads}")
        return self.media[name]  # type: ignore[return-value]

    def contents(self, catalog: Catalog, cache: VectorCache, *, progress: bool = False) -> tuple[Contents, Rejected]:
        """Frozen content vectors of a catalog, and the pictures, sounds and vectors that cannot be used."""
        encoders = {name: self.encoder_of(name) for name in ("text", *self.media)}
        return read_contents(catalog, self.raw(catalog, "text"), encoders, self.config.media, cache, progress=progress)

    def raw(self, catalog: Catalog, name: str) -> Sequence[Any]:
        """What an encoder reads of each item: its text, or a path or the bytes of its picture or sound; None: none."""
        if name == "text":
            return [text or None if self.config.item.text else None for text in catalog.texts(self.template)]
        return media_of(catalog, self.config.media[name].column)[0]

    def id_rows(self, catalog: Catalog) -> Int[Tensor, " n"]:
        """Row of each item's own vector; -1 where content alone must do."""
        return torch.from_numpy(self.ids.rows(catalog.ids.array))

    def follow_text_encoder(self) -> None:
        """Let all that was made of the item side's text encoder follow it, after it has been trained."""
        if self.user.text is not None:
            self.user.text.follow(self.encoder)
        for encoder in self.media.values():
            if isinstance(encoder, Named):
                encoder.read_by(self.encoder)

    @torch.inference_mode()
    def embed_items(
        self,
        catalog: Catalog,
        *,
        cache: VectorCache | None = None,
        by: str | None = None,
        progress: bool = False,
        unread: list[Rejected] | None = None,
    ) -> np.ndarray:
        """Item vectors float32 ``(N, D)`` of unit norm, in the catalog's order.

        An item of which nothing can be read has the zero vector.

        Args:
            catalog: N items.
            cache: where content vectors are kept; default: the cache folder.
            by: only this kind of content, such as ``"audio"``; default: all that is known.
            progress: show a bar on standard error.
            unread: is given the pictures, sounds and vectors that cannot be used.
        """
        contents, faults = self.contents(catalog, cache or VectorCache(), progress=progress)
        if unread is not None:
            unread.append(faults)
        return self.item_vectors(contents, self.id_rows(catalog), by=by)

    @torch.inference_mode()
    def item_vectors(self, contents: Contents, id_rows: Int[Tensor, " n"], *, by: str | None = None) -> np.ndarray:
        """Item vectors float32 ``(N, D)`` of what `contents` tells; see `embed_items`."""
        contents = contents.to(self.log_scale.device)
        with evaluating(self):
            if by is None:
                vectors = self.item(contents, id_rows.to(self.log_scale.device))
            else:
                vectors = self.item.alone(by, contents.vectors[by]) * contents.present[by][:, None]
        return vectors.float().cpu().numpy()

    @torch.inference_mode()
    def encode_media(self, media: Mapping[str, Path | bytes]) -> np.ndarray:
        """The item vector float32 ``(1, D)`` of something that looks or sounds like this.

        Args:
            media: a picture under ``"image"``, a sound under ``"audio"``, or both.

        Raises:
            InputError: a kind that this model does not read, or what cannot be read.
        """
        vectors, present = {}, {}
        for name, content in media.items():
            encoder = self.encoder_of(name)
            try:
                prepared = encoder.prepare(content)
            except MediaError as error:
                raise InputError(f"{content if isinstance(content, Path) else name} {error}") from error
            with autocast_for(encoder):
                vectors[name] = encoder.encode([prepared]).float()
            present[name] = torch.ones(1, dtype=torch.bool)
        return self.item_vectors(Contents(vectors, present), torch.tensor([-1]))

    def memory(self, catalog: Catalog, vectors: np.ndarray) -> Memory:
        """What the user tower needs to know of the catalog's items, `vectors` in its order."""
        text = None
        if self.user.text is not None:
            config = self.user.text.config.history
            items = catalog.texts(config.template or self.template)
            reads = self.user.text.encoder
            text = HistoryText(config=config, items=items, tokenize=reads.tokenize_plain, prefix=reads.config.prefix)
        device = self.log_scale.device
        own = torch.tensor(vectors, device=device)
        return Memory(own, self.id_rows(catalog).to(device), text)

    def encode(self, histories: Histories, memory: Memory, texts: Sequence[str | None] | None = None) -> np.ndarray:
        """Queries float32 ``(B, D)``, or ``(B, K, D)`` for K interests; see `UserTower.encode`."""
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
        answers = np.zeros(rows.shape, np.float32)
        with evaluating(self.rating):
            for person in range(len(histories)):
                real = rows[person] >= 0
                answers[person, real] = self._rate(histories.take([person]), memory, rows[person, real])
        return answers

    def _rate(self, one: Histories, memory: Memory, rows: np.ndarray) -> np.ndarray:
        """What `rate` says of one person and the items at `rows`, float32 ``(n,)``."""
        device = memory.vectors.device
        involved = torch.from_numpy(np.concatenate([one.items, rows])).to(device)
        count = len(one.items)
        past = torch.arange(count, device=device)[None]
        asked = torch.arange(count, len(involved), device=device)[None]
        clicks = self.config.rating.objective == "click"
        felt = torch.from_numpy(np.ones_like(one.ratings) if clicks else one.ratings)[None].to(device)
        there = torch.ones_like(past, dtype=torch.bool)
        predicted = self.rating(memory.vectors[involved], memory.id_rows[involved], past, felt, there, asked)
        return self.rating.to_unit(predicted)[0].cpu().numpy()

    def rerank_scores(self, retrieval: np.ndarray, ratings: np.ndarray) -> np.ndarray:
        """What re-ranking sorts by: ``scale * retrieval score + weight * rating``, in logits."""
        return float(self.scale.detach()) * retrieval + float(self.rating.weight) * ratings

    @property
    def space(self) -> str:
        """Fingerprint of all that fixes an item's vector; binds an index to this model."""
        facts = [self.encoder.fingerprint, self.ids.fingerprint, self.template, _settings(self.config.item)]
        facts += [f"{name} {_settings(config)}" for name, config in self.config.media.items()]
        facts += [f"{name} {self.encoder_of(name).fingerprint}" for name in self.config.media if name in self.media]
        return _fingerprint(facts, self.item.state_dict())

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the whole model."""
        return _fingerprint([self.space, _settings(self.config)], self.state_dict())

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
            for name in ("text", *self.media):
                (folder / name).mkdir()
                self.encoder_of(name).save_shape(folder / name)
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
            encoder = encoder_class("text", config.text.source).empty(config.text, path / "text")
            media = {
                name: _empty(name, one, path / name) for name, one in config.media.items() if one.source != VECTORS
            }
            model = cls(
                config=config, encoder=encoder, ids=IdList(items["ids"]), template=items["template"], media=media
            )
            missing, extra = model.load_state_dict(load_file(path / "model.safetensors"), strict=False)
        except (ValidationError, SafetensorError, RuntimeError, KeyError, OSError, ValueError) as error:
            raise ArtefactError(f"{path} holds no model that this version can read: {error}") from error
        if extra or set(missing) - model._shared_names():
            raise ArtefactError(
                f"{path} lacks weights or has some too many, as a model that another version trained may: "
                f"{', '.join([*missing, *extra][:3])}; train it again with this one"
            )
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


def _empty(name: str, config: MediaConfig, folder: Path) -> Encoder:
    """An encoder of pictures or sounds as `save` left it, its weights not loaded yet."""
    encoder = encoder_class(name, config.source).empty(config, folder)
    return Named.around(encoder, folder) if config.names else encoder


def _settings(config: BaseModel) -> str:
    """Settings as a fingerprint counts them: one that a later version adds changes nothing where it is not used.

    A default that changes would change the fingerprints of models that have the old one: it needs a new format.
    """
    return config.model_dump_json(exclude_defaults=True)


def _fingerprint(facts: list[str], state: dict[str, Tensor]) -> str:
    digest = hashlib.sha256("\n".join(facts).encode())
    for name, value in sorted(state.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
