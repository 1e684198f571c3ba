"""The loop: steps, validation through the index that will serve, early stopping, the best weights kept."""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor

from indexing.build import readable
from indexing.index import ItemIndex
from towers.catalog import Catalog
from towers.contents import Contents
from towers.embed import VectorCache
from towers.errors import InputError
from towers.history import Histories
from towers.media import told_of
from towers.model import TwoTower
from towers.precision import bf16_is_fast
from training.checkpoint import Checkpoints, Snapshot, digest
from training.config import Recipe, TrainConfig
from training.failed_step import refuse_no_number
from training.feed import Feed
from training.gradients import gradient_norms
from training.items import Items
from training.measuring.evaluate import evaluate
from training.measuring.splits import Questions
from training.mining import HardNegatives
from training.negatives import Known, Memory, Negatives
from training.objective import Objective
from training.optimizer import parameter_groups, rate_at
from training.progress import TrainingProgress
from training.ranker import IndexRanker
from training.ranks import Ranks, process_state
from training.report import Report
from training.sampling import Windows
from training.sharding import average_gradients, refuse_unusable, split, start_alike
from training.state import Place, State

FULL_SOFTMAX_UP_TO = 10_000  # items; 2,000 positions cost 0.1 s there, 0.6 s at 40,000 (benchmarks/softmax.py)
METRIC = "ndcg@20"
Watch = Callable[[int, Mapping[str, float]], None]  # epoch and metrics of a validation
OTHER_VECTORS = (
    "the content vectors were computed anew and differ from those before, if only in their last bits: training goes "
    "on, but will not end with the very same weights"
)


class Run:
    """One training run; `go` does it.

    Args: as in `fit`; `counts` are the training events of each item, `trackers` have begun. Without `validation`
        nothing is chosen, and each phase ends at the epoch of `until`. With `checkpoints` it goes on from the newest,
        and writes more. `watch` is told epoch and metrics of each validation, and may end the training by an exception.
        `goes_on`: the towers have learned already, so nothing of them begins anew.
    """

    def __init__(
        self,
        model: TwoTower,
        catalog: Catalog,
        past: Histories,
        validation: Questions | None,
        counts: np.ndarray,
        recipe: Recipe,
        progress: bool,
        trackers: Sequence[GeneralTracker] = (),
        until: Sequence[int] = (),
        checkpoints: Checkpoints | None = None,
        watch: Watch | None = None,
        goes_on: bool = False,
    ) -> None:
        refuse_unlearnable(validation, past, recipe)
        self.model, self.catalog, self.validation, self.recipe = model, catalog, validation, recipe
        self.past, self.counts = past, counts
        self.until, self.checkpoints, self.watch, self.goes_on = until, checkpoints, watch, goes_on
        found = checkpoints.newest() if checkpoints is not None else None  # refuses before the work begins
        self.config: TrainConfig = recipe.train
        self.accelerator, self.ranks = _accelerator(trackers), Ranks.current()
        model.to(self.accelerator.device)
        self.end_tuning = model.user.text.let_train() if model.user.text is not None else lambda: None
        progress, rng = progress and self.ranks.leads, np.random.default_rng(self.config.seed)
        self._read_data(rng, progress)
        negatives = {"": _negatives(self.config, self.feed.targets)}
        negatives["anchors/"] = _negatives(self.config, self.feed.anchor_targets)
        self.hard = HardNegatives(len(past), self.config.hard_negatives) if self.config.hard_negatives else None
        self.objective = self._objective(*negatives.values())
        self.end_split = self._split() if self.ranks.splits else lambda: None
        self._optimize(rng, memories={name: one.memory for name, one in negatives.items() if one})
        self.report, self.started = Report(), time.perf_counter()
        self.validated: list[int] = []  # epochs of this phase after which validation questions are asked
        self.show = TrainingProgress(self.config.epochs, self.per_epoch, progress)
        if found is not None:
            self._resume(found)

    def _read_data(self, rng: np.random.Generator, progress: bool) -> None:
        """Items, and people in batches."""
        with self.accelerator.main_process_first():  # whose vectors the others then find in the cache
            self.items = _items(self.model, self.catalog, self.counts, progress)
        if not self.goes_on:
            _begin(self.model, self.items.contents)
        if self.validation is not None:
            self._index()  # what cannot be indexed is refused now, not at the first validation
        pooled = self._text_from > 1
        with self.accelerator.main_process_first():
            self.feed = Feed(
                self.model,
                self.catalog,
                self.past,
                self.recipe,
                rng,
                ranks=self.ranks,
                pooled=pooled,
                progress=progress,
            )
        self.per_epoch = math.ceil(len(self.feed.people) / self.config.batch_people)
        vectors = [*self.items.contents.vectors.values(), self.feed.pool_vectors]
        self.content_vectors = digest(*(part.cpu().numpy() for part in vectors))

    def _objective(self, negatives: Negatives | None, anchor_negatives: Negatives | None) -> Objective:
        return Objective(
            model=self.model,
            items=self.items,
            known=Known(self.past, len(self.catalog)),
            negatives=negatives,
            anchor_negatives=anchor_negatives,
            hard=self.hard,
            config=self.config,
            ranks=self.ranks,
        )

    def _optimize(self, rng: np.random.Generator, memories: dict[str, Memory]) -> None:
        """Optimizer, schedule, and all that a checkpoint must hold."""
        self.place, generator = Place(), torch.Generator().manual_seed(self.config.seed)
        optimizer = torch.optim.AdamW(parameter_groups(self.objective, self.config), betas=(0.9, 0.98))
        self.schedule = torch.optim.lr_scheduler.LambdaLR(  # accelerate's would take a step for each process
            optimizer, [self._text_rate if group["reads_text"] else self._rate for group in optimizer.param_groups]
        )
        self.state = State(
            self.objective, optimizer, self.schedule, rng, generator, self.place, memories=memories, hard=self.hard
        )
        self.step_module, self.optimizer = self.objective, optimizer
        if not self.ranks.splits:
            self.step_module, self.optimizer = self.accelerator.prepare(self.objective, optimizer)

    def _split(self) -> Callable[[], None]:
        """Let this process hold its part of the text encoder; returns what ends it."""
        refuse_unusable(self.recipe)
        assert self.model.user.text is not None
        device, half = self.accelerator.device, self.accelerator.mixed_precision == "bf16"
        with self.ranks.together():
            start_alike(self.objective.to(device))
            return split(self.model.user.text.encoder, device, half=half)

    def go(self) -> Report:
        """Train until the epochs or the patience end; the model then has its best weights.

        Two readers are trained in two phases: the sequence reader until it is at its best, then both for a fixed
        number of epochs, whose end counts.
        """
        first, end, every = self._text_from, self.config.epochs + 1, self.config.evaluate_every
        phases = [(range(1, first), every), (range(first, end), end - 1)] if first > 1 else [(range(1, end), every)]
        with self.show, self.ranks.told():
            for epochs, often in phases[len(self.report.best_epochs) :]:
                if self.place.epoch < first == epochs.start:
                    self._join()
                self._phase(epochs, often)
        self.end_split()
        self.end_tuning()
        self.model.user.reads_text = self.model.user.text is not None
        return self.report

    def _phase(self, epochs: range, every: int) -> None:
        """Train, validate every few epochs and at the end, stop early, go back to the best weights."""
        place = self.place
        if self.validation is None:
            epochs = range(epochs.start, self.until[len(self.report.best_epochs)] + 1)
        if place.epoch < epochs.start:
            place.begin_phase(epochs[-1])
        self.validated = [] if self.validation is None else [n for n in epochs if n % every == 0 or n == epochs[-1]]
        for epoch in range(max(place.epoch, epochs.start), epochs.stop):
            losses = self._epoch(epoch)
            if self.validation is None or epoch not in self.validated:
                self.accelerator.log(losses, step=epoch)
                continue
            with self.ranks.together():
                metrics = self.ranks.agree(self.validate(self.validation) if self._takes_part else {})
            seconds = round(time.perf_counter() - self.started, 1)
            self.report.epochs.append({"epoch": epoch, "seconds": seconds, **losses, **metrics})
            mining = {} if self.hard is None else {"mining_seconds": self.report.mining_seconds}
            self.accelerator.log({**losses, **metrics, **mining}, step=epoch)
            self.show.validated(metrics[METRIC])
            if self.watch is not None:
                self.watch(epoch, metrics)
            if place.validated(metrics[METRIC]):
                place.best = {name: weight.detach().clone() for name, weight in self.state.weights(self._reads).items()}
            if place.waited >= self.config.patience:
                break
        self.report.best_epochs.append(place.best_epoch)
        if place.best is not None:
            self.objective.load_state_dict(place.best, strict=False)

    def _join(self) -> None:
        """The text reader begins as a copy of the item side; the schedule skips what an early stop left out."""
        if self.model.user.text is not None and not self.goes_on:
            self.model.user.text.start_from(self.model.item.text)
        step = self.state.schedule.last_epoch
        self.place.skipped = self.per_epoch * (self._text_from - 1) - step
        for group, factor in zip(self.optimizer.param_groups, self.schedule.lr_lambdas, strict=True):
            group["lr"] = group["initial_lr"] * factor(step)  # set before anything was skipped

    def _resume(self, found: Snapshot) -> None:
        """Stand where the snapshot was taken."""
        assert self.checkpoints is not None
        self.state.restore(found, found.values["place"]["epoch"] >= self._text_from)
        self.report, self.started = Report(**found.values["report"]), self.started - found.values["report"]["seconds"]
        if found.values["content_vectors"] != self.content_vectors:
            warnings.warn(OTHER_VECTORS, UserWarning, stacklevel=2)
        done = f"step {self.place.done} of {self.per_epoch}"
        if self.ranks.leads:
            print(f"going on from epoch {self.place.epoch}, {done} ({self.checkpoints.folder})", file=sys.stderr)
        self.show.skip(self.per_epoch * (self.place.epoch - 1) + self.place.done)

    def _checkpoint(self) -> None:
        """Write one if it is time."""
        if self.checkpoints is None or not self._takes_part:
            return
        due = self.ranks.agree(self.checkpoints.due) if self.ranks.splits else self.checkpoints.due
        if not due:
            return
        report = {**asdict(self.report), "seconds": time.perf_counter() - self.started}
        more = {"report": report, "content_vectors": self.content_vectors}
        snapshot = self.state.capture(self._reads, keep=self.ranks.leads, **more)
        if self.ranks.leads:
            self.checkpoints.write(snapshot)

    def validate(self, questions: Questions) -> dict[str, float]:
        """Recall@20 and NDCG@20 on validation questions, through the index that will serve."""
        ranker = IndexRanker(self.model, self._index(), self.catalog, together=True)
        result = evaluate(ranker, questions, counts=self.counts, ks=(20,), depth=20)
        return {name: round(float(result.metrics[name][0]), 6) for name in ("recall@20", METRIC)}  # type: ignore[index]

    def _index(self) -> ItemIndex:
        vectors = self.model.item_vectors(self.items.contents, self.items.id_rows)
        ids, vectors = readable(self.catalog, vectors)
        return ItemIndex.from_arrays(ids, vectors, kind=self.recipe.index, space=self.model.space)

    @property
    def _takes_part(self) -> bool:
        """Whether it takes this process to use or to keep the model: the first alone, or all, if each has a part."""
        return self.ranks.leads or self.ranks.splits

    @property
    def _text_from(self) -> int:
        """First epoch in which the text reader trains; 0 where there is none."""
        if self.model.user.text is None:
            return 0
        if self.model.user.sequence is None:
            return 1
        return max(1, self.config.epochs - self.config.text_epochs + 1)

    @property
    def _reads(self) -> bool:
        """Whether the text reader trains in the current epoch."""
        return self.model.user.text is not None and self.place.epoch >= self._text_from

    def _epoch(self, epoch: int) -> dict[str, float]:
        """What is left of an epoch; its mean losses."""
        place = self.place
        if place.epoch < epoch:
            self._mine(epoch)
            place.begin_epoch(epoch, self.feed.order())
        self.step_module.train()
        self.model.user.reads_text = self._reads
        while place.done < self.per_epoch:
            people = place.order[place.done * self.config.batch_people :][: self.config.batch_people]
            with self.ranks.together():
                losses = self._step(people)
            place.stepped(losses)
            self.show.stepped(epoch, losses["loss"], len(people))
            with self.ranks.together():
                self._checkpoint()
        figures = {**place.losses, **place.norms, **self.objective.weighting.figures(place.losses)}
        return {name: round(value, 5) for name, value in figures.items()}

    def _mine(self, epoch: int) -> None:
        """Find the hard negatives anew if it is time; what the first epoch learns from is drawn alone."""
        if self.hard is not None and epoch > 1 and (epoch - 2) % self.config.mine_every == 0:
            started = time.perf_counter()
            if self._takes_part:
                ranker = IndexRanker(self.model, self._index(), self.catalog, together=True)
                self.hard.mine(ranker, self.past, self.items.unmet)
            self.hard.lists = self.ranks.agree(self.hard.lists)
            self.report.mining_seconds += time.perf_counter() - started

    def _step(self, people: np.ndarray) -> dict[str, float]:
        batch = self.feed.batch(people, self._reads, self.accelerator.device)
        self.ranks.seed(self.config.seed, self.state.schedule.last_epoch)
        with self.accelerator.autocast():
            losses: dict[str, Tensor] = self.step_module(
                batch.windows, batch.anchors, batch.sentences, self.state.generator
            )
        found = self._mean_over_processes(losses)
        self._refuse_no_number("loss", found, batch.windows)
        first = self.place.done == 0 and self.place.epoch in self.validated  # a whole batch, as the last may not be
        if first and not self.ranks.splits:  # the gradients of split weights are known after the backward pass alone
            mean = partial(self.accelerator.reduce, reduction="mean") if self.ranks.count > 1 else None
            self.place.norms = gradient_norms(losses, self.objective, mean)
        self.optimizer.zero_grad()
        self.accelerator.backward(losses["loss"])
        if self.ranks.splits:
            average_gradients(self.objective)
        norm = self.accelerator.clip_grad_norm_(self.step_module.parameters(), self.config.clip)
        self._refuse_no_number("gradient", {**found, "gradient": float(norm)}, batch.windows)
        self.optimizer.step()
        self.schedule.step()
        return {**found, "gradient": float(norm)}

    def _mean_over_processes(self, losses: dict[str, Tensor]) -> dict[str, float]:
        values = torch.stack([value.detach().double() for value in losses.values()])
        return dict(zip(losses, self.accelerator.reduce(values, "mean").tolist(), strict=True))

    def _refuse_no_number(self, name: str, values: Mapping[str, float], windows: Windows) -> None:
        """Stop while the weights are as they were, and keep what the step looked at beside the checkpoints."""
        folder = self.checkpoints.folder if self.checkpoints is not None and self.ranks.leads else None
        step = self.state.schedule.last_epoch
        refuse_no_number(name, values, step, windows, self.past, self.catalog.ids, folder)

    def _rate(self, step: int) -> float:
        return rate_at(step + self.place.skipped, self.per_epoch * self.config.epochs, self.config.warmup)

    def _text_rate(self, step: int) -> float:
        """The text reader has a schedule of its own, from the epoch in which it begins."""
        before = self.per_epoch * (self._text_from - 1)
        total = self.per_epoch * self.config.epochs
        return rate_at(step + self.place.skipped - before, total - before, self.config.warmup)


def refuse_unlearnable(validation: Questions | None, past: Histories, recipe: Recipe) -> None:
    """Raise `InputError` where nobody could be asked, or a loss is wanted that no event is for."""
    if validation is not None and not len(validation):
        raise InputError("validation needs a person whose last event is an item that is new to them, none is")
    if recipe.train.rating_weight and np.isnan(past.ratings).all():
        raise InputError("train.rating_weight is above 0, but no training event has a rating: set it to 0")


def _accelerator(trackers: Sequence[GeneralTracker]) -> Accelerator:
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)  # before the text reader trains
    accelerator = Accelerator(
        kwargs_handlers=[unused],
        mixed_precision="bf16" if bf16_is_fast(process_state().device) else "no",
    )
    accelerator.trackers = list(trackers)  # which have begun, unlike those that accelerate is made with
    return accelerator


def _items(model: TwoTower, catalog: Catalog, counts: np.ndarray, progress: bool) -> Items:
    """What the item tower reads of the catalog."""
    device = model.log_scale.device
    contents, unread = model.contents(catalog, VectorCache(), progress=progress)
    if unread.count:
        warnings.warn(told_of(unread), UserWarning, stacklevel=5)
    return Items(contents.to(device), model.id_rows(catalog).to(device), torch.from_numpy(counts == 0).to(device))


def _begin(model: TwoTower, contents: Contents) -> None:
    """Let each projection know the mean of what it reads, and the text reader begin where the item side is."""
    for name, vectors in contents.vectors.items():
        model.item.project(name).fit_centre(vectors, contents.present[name])
    if model.user.text is not None:
        model.user.text.start_from(model.item.text)


def _negatives(config: TrainConfig, counts: np.ndarray) -> Negatives | None:
    small = len(counts) <= FULL_SOFTMAX_UP_TO and not config.wants_sample
    if config.softmax == "full" or config.reconstruction_weight or (config.softmax == "auto" and small):
        return None
    return Negatives(counts, config.uniform_negatives, popular=config.popular_negatives, memory=config.memory_negatives)
