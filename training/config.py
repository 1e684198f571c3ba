"""A recipe: everything that a training run is told, read from TOML and checked."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from towers.errors import InputError
from towers.interactions import Positive
from towers.model_config import ModelConfig
from training.negatives import Correction
from training.trackers import Tracker


class OptimizerConfig(BaseModel):
    """AdamW with a learning rate that rises and falls."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    rate: float = Field(default=2e-3, gt=0)
    """Highest learning rate of new weights."""
    rate_pretrained: float = Field(default=1e-4, gt=0)
    """Highest learning rate of pretrained weights."""
    weight_decay: float = Field(default=0.05, ge=0)
    """AdamW's decay, not on biases and norms."""
    warmup: float = Field(default=0.1, ge=0, le=1)
    """Share of the steps over which the rate rises; then it falls along a cosine to a twentieth."""
    clip: float = Field(default=1.0, gt=0)
    """Largest gradient norm."""


class TrainConfig(OptimizerConfig):
    """How the towers are trained."""

    epochs: int = Field(default=60, ge=1)
    """Passes over all people."""
    text_epochs: int = Field(default=6, ge=1)
    """How many of them, the last ones, train the text reader too; before, the sequence reader shapes the item
    space alone. Without a sequence reader the text reader trains in all epochs."""
    batch_people: int = Field(default=64, ge=1)
    """People in a step."""
    part: int = Field(default=256, ge=1)
    """People, or texts, read at once; a larger step is read in parts, and each part again for its gradients, so
    that it needs little more memory."""
    anchors: int = Field(default=16, ge=1)
    """Events of each person after which the text reader may read; fixed, so that frozen layers are cached."""
    anchors_per_step: int = Field(default=2, ge=1)
    """How many of them are read in one step."""
    cache_bytes: int = Field(default=1_000_000_000, ge=0)
    """Most memory for the outputs of the text reader's frozen layers, of which each text takes as many as
    `user.text.history.budget` tokens have; what does not fit is written and computed again whenever it is read."""
    sentences: int = Field(default=128, ge=0)
    """Sentence → item pairs in a step; before the text reader joins, the frozen encoder reads them."""
    sentence_weight: float = Field(default=0.2, ge=0)
    """Weight of the sentence loss beside the contrastive loss of the readers."""
    alone: int = Field(default=64, ge=1)
    """Items of each kind of content that are looked for by that kind alone in a step, where items have more than one
    kind: a picture or a sound is then a query."""
    alone_weight: float = Field(default=0.2, ge=0)
    """Weight of the loss of these beside the contrastive loss of the readers."""
    views_weight: float = Field(default=0.0, ge=0)
    """Weight of the loss by which two views of a past (cropped, masked, reordered) read alike; 0: none."""
    contrastive_weight: float = Field(default=1.0, ge=0)
    """Weight of the readers' contrastive losses: finding the next item among others; 0: none."""
    rating_weight: float = Field(default=0.0, ge=0)
    """Weight of telling the next item's rating, in [0, 1], by squared error; 0: none."""
    click_weight: float = Field(default=0.0, ge=0)
    """Weight of telling the next item from one drawn at random, by cross-entropy; 0: none."""
    reconstruction_weight: float = Field(default=0.0, ge=0)
    """Weight of telling a half of a past from the other, by squared error over the whole catalog; 0: none."""
    weighting: Literal["fixed", "uncertainty"] = "fixed"
    """How losses are added up: with these weights, or by how uncertain each task is, which is learned
    (arXiv 1705.07115); the weights then only say, by being 0, which losses there are not."""
    softmax: Literal["auto", "full", "sampled"] = "auto"
    """Negatives: the whole catalog, a sample of it, or by its size and by whether anything is asked for that only one
    of them has: what stands below a sample, reconstruction the whole catalog."""
    uniform_negatives: int = Field(default=2048, ge=1)
    """Items drawn uniformly in each step, beside the batch's own, where the softmax is sampled."""
    popular_negatives: int = Field(default=0, ge=0)
    """Items drawn in each step by how often they were met, to the power of 0.75."""
    memory_negatives: int = Field(default=0, ge=0)
    """Items of the steps before that stay negatives, with the vectors that they had then. They need a correction:
    without one, rare items are hardly pushed away."""
    hard_negatives: int = Field(default=0, ge=0)
    """Each person's nearest items that they have not met, found with the index, which count beside the sample."""
    mine_every: int = Field(default=5, ge=1)
    """Epochs after which they are found anew; that takes about as long as a validation that asks everybody."""
    correction: Correction = "refined"
    """What makes up for how often an item is drawn: logQ on the negatives, whose gradient is the full softmax's in
    expectation; on negatives and positives, as was usual; or nothing, which costs popular items."""
    new_items: float = Field(default=1.5, ge=0)
    """How many times as often as nearest neighbours by content find them items without any event are to be found, where
    validation data can tell; more costs the others more (the report says how much), 0 leaves it as it comes."""
    evaluate_every: int = Field(default=5, ge=1)
    """Epochs between two validations."""
    patience: int = Field(default=4, ge=1)
    """Validations without a better result after which training stops, or the text reader joins."""
    checkpoint_seconds: float = Field(default=60, ge=0)
    """Least seconds between two checkpoints, which is about what a kill costs; more where writing one is slow, so that
    it takes at most a fiftieth of the time; 0: one after every step."""
    trackers: list[Tracker] = ["tensorboard"]
    """Where losses and the norm of the gradient of each epoch, and metrics of each validation go, beside the manifest:
    "tensorboard", "wandb" (Weights & Biases), "mlflow"."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Fixes initial weights, order, windows, dropout; below 2**32, as NumPy's seeds are."""

    @property
    def weights(self) -> dict[str, float]:
        """Of losses, by name."""
        names = ("sentence", "alone", "views", "rating", "click", "reconstruction")
        others = {name: getattr(self, f"{name}_weight") for name in names}
        return {**dict.fromkeys(("sequence", "text", "fused"), self.contrastive_weight), **others}

    @property
    def wants_sample(self) -> bool:
        """Whether anything is asked for that the full softmax, which has every item once, has no use for."""
        uniform = self.uniform_negatives != _default("uniform_negatives")
        sampled = uniform, self.popular_negatives, self.memory_negatives, self.hard_negatives
        return self.softmax == "sampled" or any(sampled) or self.correction != "refined"

    @model_validator(mode="after")
    def _one_softmax(self) -> TrainConfig:
        if self.softmax == "full" and self.wants_sample:
            raise ValueError(
                "softmax is 'full', which has every item as a negative once and needs no correction: leave out "
                "uniform_negatives, popular_negatives, memory_negatives, hard_negatives and correction, or set softmax "
                "to 'sampled'"
            )
        return self

    @model_validator(mode="after")
    def _reconstructs_the_catalog(self) -> TrainConfig:
        if self.reconstruction_weight and self.wants_sample:
            raise ValueError(
                f"reconstruction_weight is {self.reconstruction_weight}, and reconstruction looks at the whole "
                "catalog: leave it out, or leave out softmax = 'sampled', the numbers of negatives and correction"
            )
        return self

    @model_validator(mode="after")
    def _negatives_of_something(self) -> TrainConfig:
        if self.hard_negatives and self.epochs == 1:
            raise ValueError(
                f"hard_negatives is {self.hard_negatives}, but they are found after the first epoch, and the run has "
                "no other: leave it out, or raise epochs"
            )
        for name in ("popular_negatives", "memory_negatives", "hard_negatives"):
            if getattr(self, name) and not self.contrastive_weight:
                raise ValueError(f"{name} is above 0, but contrastive_weight is 0: leave out one of them")
        if self.memory_negatives and self.correction == "none":
            raise ValueError(
                f"memory_negatives is {self.memory_negatives}, but correction is 'none', and without one rare items, "
                "which the memory alone has in most steps, are hardly pushed away: leave out one of them"
            )
        return self

    @model_validator(mode="after")
    def _something_to_learn(self) -> TrainConfig:
        if not (self.contrastive_weight or self.rating_weight or self.click_weight or self.reconstruction_weight):
            raise ValueError(
                "contrastive_weight, rating_weight, click_weight and reconstruction_weight are all 0, so that nothing "
                "would bring people and items together: set one of them above 0"
            )
        return self

    @model_validator(mode="after")
    def _no_longer_than_the_run(self) -> TrainConfig:
        for name in ("text_epochs", "evaluate_every", "mine_every"):
            value = getattr(self, name)
            if value > self.epochs and value != _default(name):  # what ships is cut to a short run
                raise ValueError(f"{name} is {value}, but the run has {self.epochs} epochs: lower it, or raise epochs")
        return self


def _default(name: str) -> Any:
    return TrainConfig.model_fields[name].default


class AlignConfig(OptimizerConfig):
    """How kinds of content learn to find each other: without a log, or before the towers where encoders are tuned."""

    epochs: int = Field(default=100, ge=1)
    """Passes over all items; a few are enough where encoders are tuned."""
    items: int = Field(default=256, ge=2)
    """Items in a step."""
    rate: float = Field(default=1e-3, gt=0)
    """Highest learning rate of new weights."""
    rate_pretrained: float = Field(default=2e-5, gt=0)
    """Highest learning rate of pretrained weights."""
    weight_decay: float = Field(default=0.1, ge=0)
    """AdamW's decay, not on biases and norms."""


class PretrainConfig(OptimizerConfig):
    """How the text encoder goes on with masked-language pre-training on the catalog's texts, before all else."""

    epochs: int = Field(default=0, ge=0)
    """Passes over the distinct texts of the catalog's items; 0: none."""
    texts: int = Field(default=64, ge=1)
    """Texts in a step."""
    mask: float = Field(default=0.15, gt=0, lt=1)
    """Share of a text's tokens that are to be guessed, at least one."""
    rate: float = Field(default=1e-3, gt=0)
    """Highest learning rate of the head that guesses."""
    rate_pretrained: float = Field(default=2e-5, gt=0)
    """Highest learning rate of the encoder."""
    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW's decay, not on biases and norms."""


class Recipe(ModelConfig):
    """All that a training run is told."""

    data: Positive = Positive()
    """Which events are positives."""
    train: TrainConfig = TrainConfig()
    """How the towers are trained."""
    pretrain: PretrainConfig = PretrainConfig()
    """How the text encoder is pre-trained on the catalog's texts, where it is."""
    align: AlignConfig = AlignConfig()
    """How kinds of content are aligned, where they are."""
    index: str = Field(default="auto", min_length=1)
    """FAISS factory string of the index in which validation and hard negatives search, or "auto"; an index that is
    built of the model afterwards has its own, `twotower index build --kind`."""

    @model_validator(mode="after")
    def _of_past_items(self) -> Recipe:
        for name, what in {"views": "views of a past", "reconstruction": "a half of a past"}.items():
            if (weight := self.train.weights[name]) and self.user.sequence is None:
                raise ValueError(
                    f"train.{name}_weight is {weight}, but only the sequence reader reads {what}: turn on "
                    "[user.sequence], or leave it out"
                )
        if self.train.reconstruction_weight and self.user.interests > 1:
            raise ValueError(
                f"train.reconstruction_weight is {self.train.reconstruction_weight} and user.interests "
                f"{self.user.interests}, but what is reconstructed is told by one query: leave out one of them"
            )
        return self

    @classmethod
    def read(cls, source: str | Path | dict[str, Any] | Recipe | None) -> Recipe:
        """A recipe from a TOML file, from nested values, or the default one.

        Raises:
            InputError: the file cannot be read, a key is unknown (the nearest valid one is named) or a
                value is out of range.
        """
        if source is None:
            return cls()
        if isinstance(source, Recipe):
            return source
        name = "the recipe" if isinstance(source, dict) else str(source)
        values = source if isinstance(source, dict) else _read_toml(Path(source))
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise InputError(f"{name}: " + "; ".join(_explain(cls, e) for e in error.errors())) from error

    def model(self) -> ModelConfig:
        """The part that fixes the model's shape."""
        return ModelConfig(
            text=self.text, image=self.image, audio=self.audio, item=self.item, user=self.user, rating=self.rating
        )


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"the recipe {path} cannot be read: {error}") from error


def _explain(recipe: type[BaseModel], error: Any) -> str:
    where = [str(part) for part in error["loc"]]
    path = ".".join(where)
    if error["type"] == "value_error":  # a sentence of ours, which says what was got
        return f"{path}: {error['ctx']['error']}" if path else str(error["ctx"]["error"])
    if error["type"] not in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{path}: {error['msg']}, got {error['input']!r}"
    valid = _valid_keys(recipe)
    near = difflib.get_close_matches(path, valid, 1, 0.5)
    return f"unknown key {path!r}" + (f", did you mean {near[0]!r}?" if near else f"; valid are {', '.join(valid)}")


def _valid_keys(model: type[BaseModel], before: str = "") -> list[str]:
    keys = []
    for name, field in model.model_fields.items():
        keys.append(before + name)
        inner = [field.annotation, *getattr(field.annotation, "__args__", ())]
        for kind in inner:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                keys += _valid_keys(kind, f"{before}{name}.")
            elif dataclasses.is_dataclass(kind):
                keys += [f"{before}{name}.{part.name}" for part in dataclasses.fields(kind)]
    return keys
