"""The rating head: trained after the towers."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from towers.history import Histories
from towers.model import TwoTower
from towers.sequence_reader import SequenceBatch
from towers.user import Memory
from training.sampling import batches

EPOCHS = 30
BATCH = 64
RATE = 5e-3
DECAY = 0.05
MOST_EVENTS = 500  # of one person in a step


def fit_ratings(model: TwoTower, memory: Memory, rated: Histories, seed: int) -> float | None:
    """Train the head on `rated`.

    In each step a random part of every person's ratings is asked for and the rest is their past, so that
    nobody is predicted from the answer. A tenth of the ratings decides which epoch is kept.

    Args:
        model: towers that are trained; they do not change.
        memory: items.
        rated: events of everybody; those without rating are passed over, unless the objective is a click.
        seed: of the held-out tenth, the order and the parts.

    Returns:
        The root mean squared error of the held-out tenth, in [0, 1] (cross-entropy for clicks); None where the log
        has no ratings, which leaves the head untrained.
    """
    clicks = model.config.rating.objective == "click"
    usable = rated.keep(np.ones(len(rated.items), bool) if clicks else ~np.isnan(rated.ratings))
    if len(usable.items) < 2:
        return None
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    held = rng.random(len(usable.items)) < 0.1
    held[rng.integers(len(held))] = True  # at least one, also in a small log
    _start_at_mean(model, usable, clicks)
    error = _train_head(model, memory, usable, held, clicks, rng)
    model.eval()
    return error


def _start_at_mean(model: TwoTower, usable: Histories, clicks: bool) -> None:
    mean = 0.5 if clicks else float(usable.ratings.mean())
    model.rating.mean.data.fill_(math.log(mean / (1 - mean)) if clicks else mean)


def _train_head(
    model: TwoTower, memory: Memory, usable: Histories, held: np.ndarray, clicks: bool, rng: np.random.Generator
) -> float:
    """Train with the held-out events as a check; returns their root mean squared error."""
    head = model.rating
    decayed = [p for p in head.parameters() if p.ndim >= 2]
    plain = [p for p in head.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": DECAY}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE)
    learned = usable.keep(~held)
    people = np.flatnonzero(learned.lengths >= 2)
    best, kept = math.inf, {name: value.clone() for name, value in head.state_dict().items()}
    for epoch in range(EPOCHS):
        head.train()
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 - epoch / EPOCHS)
        for chosen in batches(people, BATCH, rng):
            loss = _loss(model, memory, learned.take(chosen), clicks, rng)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        head.eval()
        error = _check(model, memory, usable, held, clicks, rng)
        if error < best:
            best, kept = error, {name: value.clone() for name, value in head.state_dict().items()}
    head.load_state_dict(kept)
    return best


def _loss(model: TwoTower, memory: Memory, some: Histories, clicks: bool, rng: np.random.Generator) -> Tensor:
    batch = SequenceBatch.of(some, MOST_EVENTS).to(memory.vectors.device)
    share = torch.from_numpy(rng.random((len(some), 1)) * 0.5)
    asked = batch.mask & (torch.from_numpy(rng.random(tuple(batch.items.shape))) < share).to(batch.mask.device)
    return _error(model, memory, batch, asked, clicks, rng)


@torch.inference_mode()
def _check(
    model: TwoTower, memory: Memory, usable: Histories, held: np.ndarray, clicks: bool, rng: np.random.Generator
) -> float:
    """Root mean squared error on the held-out events; cross-entropy where the objective is a click."""
    total, count = 0.0, 0
    for start in range(0, len(usable), BATCH):
        people = np.arange(start, min(start + BATCH, len(usable)))
        some = usable.take(people)
        mask = held[usable.offsets[people[0]] : usable.offsets[people[-1] + 1]].astype(np.float32)
        marks = SequenceBatch.of(Histories(some.offsets, some.items, ratings=mask), MOST_EVENTS).ratings
        batch = SequenceBatch.of(some, MOST_EVENTS).to(memory.vectors.device)
        asked = batch.mask & (marks == 1).to(batch.mask.device)
        if asked.any():
            total += float(_error(model, memory, batch, asked, clicks, rng)) * int(asked.sum())
            count += int(asked.sum())
    mean = total / max(count, 1)
    return mean if clicks else math.sqrt(mean)


def _error(
    model: TwoTower, memory: Memory, batch: SequenceBatch, asked: Tensor, clicks: bool, rng: np.random.Generator
) -> Tensor:
    """Mean loss of predicting the asked events from the others."""
    head = model.rating
    ratings = torch.ones_like(batch.ratings) if clicks else batch.ratings
    past = batch.mask & ~asked
    if not clicks:
        predicted = head(memory.vectors, memory.id_rows, batch.items, ratings, past, batch.items)
        return ((predicted - ratings)[asked] ** 2).sum() / asked.sum().clamp(min=1)
    others = torch.from_numpy(rng.integers(len(memory.vectors), size=tuple(batch.items.shape))).to(asked.device)
    both = torch.cat([batch.items, others], 1)
    logits = head(memory.vectors, memory.id_rows, batch.items, ratings, past, both)
    truth = torch.cat([torch.ones_like(ratings), torch.zeros_like(ratings)], 1)
    counted = torch.cat([asked, asked], 1)
    return F.binary_cross_entropy_with_logits(logits[counted], truth[counted])
