"""The loop: steps, validation through the index that will serve, early stopping, the best weights kept."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from indexing.index import ItemIndex
from towers.catalog import Catalog
from towers.embed import TextCache
from towers.errors import InputError, TwoTowerError
from towers.history import Histories
from towers.model import TwoTower
from towers.precision import bf16_is_fast
from towers.template import columns_of
from training.anchors import Anchors
from training.config import Recipe, TrainConfig
from training.evaluate import evaluate
from training.metrics import popularity_groups
from training.objective import Items, Objective, Sentences, SentenceVectors
from training.optimizer import parameter_groups, rate_at
from training.progress import TrainingProgress
from training.protocols import Questions
from training.ranker import IndexRanker
from training.sampling import Known, Negatives, batches, windows
from training.sentences import SentencePool, SentenceSampler

FULL_SOFTMAX_UP_TO = 10_000  # items; 2,000 positions cost 0.4 s there, 1.4 s at 20,000 (benchmarks/softmax.py)
METRIC = "ndcg@20"
SENTENCES_EACH = 8  # of an item, in the pool that the frozen encoder reads


@dataclass
class Report:
    """What happened in a run.

    Args:
        epochs: one entry for each validation: epoch, losses, metrics, seconds so far.
        best_epochs: epoch whose weights were kept, of each phase.
        seconds: of the whole training.
        fusion: how much the text reader counts beside the sequence reader, and what was tried.
        words: how much a sentence's words count beside its query, and what was tried; None where it is the default.
        rating_error: error of the rating head on a held-out tenth of the ratings, None without ratings.
        reranking: the weight of the rating head in re-ranking, and what was tried.
    """

    epochs: list[dict[str, Any]] = field(default_factory=list)
    best_epochs: list[int] = field(default_factory=list)
    seconds: float = 0.0
    fusion: dict[str, Any] | None = None
    words: dict[str, Any] | None = None
    rating_error: float | None = None
    reranking: dict[str, Any] | None = None

    @property
    def best_epoch(self) -> int:
        """Epoch of the weights that were kept at the end."""
        return self.best_epochs[-1]


class Run:
    """One training run; `go` does it.

    Args: as in `fit`; `counts` are the training events of each item. Without `validation` nothing is chosen, and
        each phase ends at the epoch of `until`.
    """

    def __init__(
        self,
        model: TwoTower,
        catalog: Catalog,
        past: Histories,
        validation: Questions | None,
        counts: np.ndarray,
        recipe: Recipe,
        out: Path | None,
        progress: bool,
        until: Sequence[int] = (),
    ) -> None:
        self.model, self.catalog, self.past, self.validation, self.recipe = model, catalog, past, validation, recipe
        self.until = until
        self.config: TrainConfig = recipe.train
        self.skipped = 0  # steps that an early stop of the first phase left out
        self.people = np.flatnonzero(past.lengths >= 2)
        if not len(self.people):
            raise InputError("training needs people with at least 2 events before the validation event, none has them")
        self.rng = np.random.default_rng(self.config.seed)
        self.generator = torch.Generator().manual_seed(self.config.seed)
        self.groups = popularity_groups(counts)
        self.accelerator = _accelerator(out)
        device = self.accelerator.device
        content, has_text = model.content(catalog, TextCache(), progress=progress)
        model.item.text.fit_centre(content, has_text)
        if model.user.text is not None:
            model.user.text.start_from(model.item.text)
        items = Items(content.to(device), has_text.to(device), model.id_rows(catalog).to(device))
        self.objective = Objective(
            model=model,
            items=items,
            known=Known(past, len(catalog)),
            negatives=_negatives(self.config, target_counts(past, len(catalog))),
            config=self.config,
        )
        self.per_epoch = math.ceil(len(self.people) / self.config.batch_people)
        optimizer = torch.optim.AdamW(parameter_groups(model, self.config), betas=(0.9, 0.98))
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, [self._text_rate if group["reads_text"] else self._rate for group in optimizer.param_groups]
        )
        prepared = self.accelerator.prepare(self.objective, optimizer, schedule)
        self.step_module, self.optimizer, self.schedule = prepared
        self.anchors = self._anchors() if model.user.text is not None else None
        self.sampler = SentenceSampler(_columns(catalog, model.template)) if self.anchors else None
        self.pool = self._pool(progress)
        self.started = time.perf_counter()
        self.show = TrainingProgress(self.config.epochs, self.per_epoch, progress)

    def go(self) -> Report:
        """Train until the epochs or the patience end; the model then has its best weights.

        Two readers are trained in two phases: the sequence reader until it is at its best, then both for a fixed
        number of epochs, whose end counts.
        """
        report, epochs, every = Report(), self.config.epochs, self.config.evaluate_every
        with self.show:
            if self._text_from > 1:
                self._phase(range(1, self._text_from), every, report)
                self._join()
                self._phase(range(self._text_from, epochs + 1), epochs, report)
            else:
                self._phase(range(1, epochs + 1), every, report)
        self.accelerator.end_training()
        self.model.user.reads_text = self.model.user.text is not None
        return report

    def _phase(self, epochs: range, every: int, report: Report) -> None:
        """Train, validate every few epochs and at the end, stop early, go back to the best weights."""
        if self.validation is None:
            epochs = range(epochs.start, self.until[len(report.best_epochs)] + 1)
        best, best_epoch, best_value, waited = None, epochs[-1], -1.0, 0
        for epoch in epochs:
            losses = self._epoch(epoch)
            if self.validation is None or (epoch % every and epoch != epochs[-1]):
                continue
            metrics = self.validate(self.validation)
            seconds = round(time.perf_counter() - self.started, 1)
            report.epochs.append({"epoch": epoch, "seconds": seconds, **losses, **metrics})
            self.accelerator.log({**losses, **metrics}, step=epoch)
            self.show.validated(metrics[METRIC])
            waited += 1
            if metrics[METRIC] > best_value:
                best_value, waited = metrics[METRIC], 0
                best, best_epoch = trained_state(self.model), epoch
            if waited >= self.config.patience:
                break
        report.best_epochs.append(best_epoch)
        if best is not None:
            self.model.load_state_dict(best, strict=False)

    def _join(self) -> None:
        """The text reader begins as a copy of the item side; the schedule skips what an early stop left out."""
        assert self.model.user.text is not None
        self.model.user.text.start_from(self.model.item.text)
        self.skipped = self.per_epoch * (self._text_from - 1) - self.schedule.scheduler.last_epoch

    def validate(self, questions: Questions) -> dict[str, float]:
        """Recall@20 and NDCG@20 on validation questions, through the index that will serve."""
        vectors = self.model.embed_items(self.catalog)
        index = ItemIndex.from_arrays(self.catalog.ids, vectors, kind=self.recipe.index, space=self.model.space)
        ranker = IndexRanker(self.model, index, self.catalog)
        result = evaluate(ranker, questions, groups=self.groups, ks=(20,), depth=20)
        return {name: round(float(result.metrics[name][0]), 6) for name in ("recall@20", METRIC)}  # type: ignore[index]

    @property
    def _text_from(self) -> int:
        """First epoch in which the text reader trains; 0 where there is none."""
        if self.model.user.text is None:
            return 0
        if self.model.user.sequence is None:
            return 1
        return max(1, self.config.epochs - self.config.text_epochs + 1)

    def _epoch(self, epoch: int) -> dict[str, float]:
        self.step_module.train()
        reads = self.anchors is not None and epoch >= self._text_from
        self.model.user.reads_text = reads
        sums: dict[str, float] = {}
        for people in batches(self.people, self.config.batch_people, self.rng):
            losses = self._step(people, reads)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value / self.per_epoch
            self.show.stepped(epoch, losses["loss"], len(people))
        return {name: round(value, 5) for name, value in sums.items()}

    def _step(self, people: np.ndarray, reads: bool) -> dict[str, float]:
        device = self.accelerator.device
        length = self.recipe.user.sequence.length if self.recipe.user.sequence else 100
        seen = windows(self.past, people, length, self.rng).to(device)
        anchors = (
            self.anchors.texts(seen, self.config.anchors_per_step, self.rng, device) if reads and self.anchors else None
        )
        sentences = self._sentences(device, reads) if self.sampler is not None and self.config.sentences else None
        losses: dict[str, Tensor] = self.step_module(seen, anchors, sentences, self.generator)
        if not torch.isfinite(losses["loss"]):
            step = self.schedule.scheduler.last_epoch
            raise TwoTowerError(f"the loss became {losses['loss'].item()} at step {step}: lower train.rate")
        self.optimizer.zero_grad()
        self.accelerator.backward(losses["loss"])
        self.accelerator.clip_grad_norm_(self.step_module.parameters(), self.config.clip)
        self.optimizer.step()
        self.schedule.step()
        return {name: float(value.detach()) for name, value in losses.items()}

    def _sentences(self, device: torch.device, reads: bool) -> Sentences | SentenceVectors | None:
        """Sentences of random items: new ones for the text reader, vectors from the pool before it trains."""
        if not reads:
            if self.pool is None or not len(self.pool.items):
                return None
            rows = self.rng.integers(len(self.pool.items), size=self.config.sentences)
            return SentenceVectors(
                self.pool_vectors[rows].to(device), torch.from_numpy(self.pool.items[rows]).to(device)
            )
        assert self.sampler is not None
        drawn = self.rng.integers(len(self.catalog), size=self.config.sentences)
        pairs = [(row, text) for row in drawn if (text := self.sampler(int(row), self.rng))]
        if not pairs:
            return None
        ids, mask = self.model.encoder.pad(self.model.encoder.tokenize([text for _, text in pairs]))
        return Sentences(ids.to(device), mask.to(device), torch.tensor([int(row) for row, _ in pairs], device=device))

    def _pool(self, progress: bool) -> SentencePool | None:
        """Sentences for the epochs before the text reader joins."""
        if self.sampler is None or self._text_from <= 1 or not self.recipe.item.text or not self.config.sentences:
            return None
        pool = SentencePool(self.sampler, len(self.catalog), SENTENCES_EACH)
        self.pool_vectors = torch.from_numpy(TextCache().embed(self.model.encoder, pool.texts, progress=progress))
        return pool

    def _anchors(self) -> Anchors:
        assert self.model.user.text is not None
        memory = self.model.memory(
            self.catalog, np.zeros((len(self.catalog), self.model.config.item.dimension), np.float32)
        )
        assert memory.text is not None
        return Anchors(
            histories=self.past,
            reader=self.model.user.text,
            text=memory.text,
            each=self.config.anchors,
            budget=self.config.cache_bytes,
            rng=self.rng,
        )

    def _rate(self, step: int) -> float:
        return rate_at(step + self.skipped, self.per_epoch * self.config.epochs, self.config.warmup)

    def _text_rate(self, step: int) -> float:
        """The text reader has a schedule of its own, from the epoch in which it begins."""
        before = self.per_epoch * (self._text_from - 1)
        total = self.per_epoch * self.config.epochs
        return rate_at(step + self.skipped - before, total - before, self.config.warmup)


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all weights that training may change."""
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {name: copy.deepcopy(value) for name, value in model.state_dict().items() if name in names}


def _accelerator(out: Path | None) -> Accelerator:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    accelerator = Accelerator(
        mixed_precision="bf16" if bf16_is_fast(device) else "no",
        log_with="tensorboard" if out is not None else None,
        project_dir=str(out.parent) if out is not None else None,
    )
    if out is not None:
        accelerator.init_trackers("tensorboard")
    return accelerator


def target_counts(past: Histories, items: int) -> np.ndarray:
    """How often each item is a target: every event but a person's first."""
    later = np.ones(len(past.items), bool)
    later[past.offsets[:-1][past.lengths > 0]] = False
    return np.bincount(past.items[later], minlength=items)


def _negatives(config: TrainConfig, counts: np.ndarray) -> Negatives | None:
    if config.softmax == "full" or (config.softmax == "auto" and len(counts) <= FULL_SOFTMAX_UP_TO):
        return None
    return Negatives(counts, config.uniform_negatives)


def _columns(catalog: Catalog, template: str) -> dict[str, list[str]]:
    """The columns that the template names, each as text."""
    return {name: catalog.texts(f"[{{{name}}}]") for name in columns_of(template)}
