"""What a step teaches: each task is a function of the model and the step to a loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from towers.fusion import unit
from towers.model import TwoTower
from towers.precision import at_least_single
from training.augment import augmented, views_loss
from training.config import TrainConfig
from training.items import ItemVectors
from training.losses import contrastive
from training.parts import in_as_many_parts, in_parts
from training.step import SentenceVectors, Step

Task = Callable[[TwoTower, Step], Tensor | None]  # None where the step has nothing to learn it from


def views(model: TwoTower, step: Step) -> Float[Tensor, ""] | None:
    """Two views of each past should read alike."""
    if step.asked is None:
        return None
    inputs, generator = step.windows.inputs, step.generator
    first, second = (step.read_sequences(augmented(inputs, generator))[:, -1] for _ in range(2))
    interests = model.config.user.interests  # two pasts are as alike as the mean of theirs, one by one
    return views_loss(first.flatten(1), second.flatten(1), model.scale / interests)


def sequence(model: TwoTower, step: Step) -> Float[Tensor, ""] | None:
    """After every event the sequence reader should find the next item."""
    if step.asked is None:
        return None
    own = step.windows.inputs.mask[step.own]
    return step.contrast(step.sequences[own], step.vectors, step.asked, model.scale)


def reconstruction(model: TwoTower, step: Step) -> Float[Tensor, ""] | None:
    """The first half of each window should tell the other: squared error of unit vectors over the catalog.

    One is of the cosines of all items with the query, those below 0 and what else the person has left out, the other of
    what is to be told. For sets, whose halves are random, this is ELSA's loss (RecSys 2022) with half of the inputs
    dropped and no item telling itself.
    """
    if step.asked is None:
        return None
    own, windows = step.own, step.windows
    people, targets, weights = windows.people[own], windows.targets[own], windows.weights[own]
    mask = windows.inputs.mask[own]
    told = mask & (mask.cumsum(1) > mask.sum(1, keepdim=True) // 2)
    rows = torch.arange(len(mask), device=mask.device)

    def errors(queries: Tensor, row: Tensor) -> Tensor:
        half = told[row]
        wanted = queries.new_zeros(len(row), len(step.items.id_rows))
        places = half.nonzero()[:, 0], targets[row][half]
        wanted = wanted.index_put(places, weights[row][half].to(wanted), accumulate=True)
        known = step.known.of_catalog(people[row.cpu().numpy()]).to(mask.device)
        scores = at_least_single(queries @ step.vectors.values.T).relu()
        scores = scores.masked_fill((known & (wanted == 0)) | step.items.unmet, 0)
        return ((unit(scores) - unit(wanted)) ** 2).sum(1)

    queries = step.sequences[rows, told.int().argmax(1)]
    return step.ranks.mean(in_parts(errors, queries, rows, size=step.config.part), len(windows.people))


def text(model: TwoTower, step: Step) -> Float[Tensor, ""] | None:
    """At its anchors the text reader should find the next item."""
    if step.read is None:
        return None
    return step.contrast(step.texts, _vectors_at_anchors(step), step.read, model.scale)


def fused(model: TwoTower, step: Step) -> Float[Tensor, ""] | None:
    """And both readers fused, where there are two."""
    past = step.sequences_at_anchors
    if step.read is None or past is None:
        return None
    queries = model.user.fuse((past.detach(), None), (step.texts, None))
    return step.contrast(queries, _vectors_at_anchors(step), step.read, model.scale)


def _vectors_at_anchors(step: Step) -> ItemVectors:
    """Beside a sequence reader, which sees every event, the text reader sees a few: it then learns to read into the
    space that the sequence reader shapes and moves neither that reader nor the items."""
    return step.vectors if step.asked is None else step.vectors.detached()


def sentence(model: TwoTower, step: Step) -> Float[Tensor, ""] | None:
    """Sentences against the whole catalog or the sentences' own items; other items are all negatives.

    Before the text reader trains, the item side reads them in its place: the reader begins as a copy of it.
    """
    sentences = step.sentences
    if sentences is None:
        return None
    own = step.ranks.share(len(sentences.items))
    if isinstance(sentences, SentenceVectors):
        queries = at_least_single(model.item.alone("text", sentences.vectors[own]))
    else:
        assert model.user.text is not None
        queries = in_as_many_parts(model.user.text, sentences.ids[own], sentences.mask[own], count=1)
    return _find(model, step, queries, sentences.items, own)


def alone(model: TwoTower, step: Step) -> Float[Tensor, ""] | None:
    """Items by one kind of their content against the catalog, so that a picture or a sound alone is a query."""
    losses = []
    for name, rows in step.alone.items():
        own = step.ranks.share(len(rows))
        queries = model.item.alone(name, step.items.contents.vectors[name][rows[own]])
        losses.append(_find(model, step, at_least_single(queries), rows, own))
    return torch.stack(losses).mean() if losses else None


def _find(
    model: TwoTower, step: Step, queries: Float[Tensor, "own d"], items: Int[Tensor, " a"], own: slice
) -> Float[Tensor, ""]:
    """Each query's own item against the whole catalog or, where that is sampled, against the others' items."""
    shared = items.unique() if step.vectors.rows is not None else step.items.rows
    left_out = shared == items[own, None]
    vectors = step.vectors
    losses = contrastive(queries, vectors.of(items[own]), vectors.of(shared), scale=model.scale, left_out=left_out)
    return step.ranks.mean(losses, len(items))


def nearest(queries: Float[Tensor, "p ..."], items: Float[Tensor, "p d"]) -> Float[Tensor, "p d"]:
    """Each query or, of several of one person ``(P, K, D)``, the one that lies nearest to the item."""
    if queries.ndim == 2:
        return queries
    best = torch.einsum("pkd,pd->pk", queries, items).argmax(1)
    return queries[torch.arange(len(best), device=best.device), best]


class Rating(nn.Module):
    """What the next item will be rated, in [0, 1], by squared error.

    ``sigmoid(<w * q, v> + <a, q> + <b, v>)`` of the query q and the vector v of an item: generalised matrix
    factorisation (arXiv 1708.05031) with a level for each side. It shapes the towers and is then left behind: what
    re-ranks is the rating head (`towers.rating`), which is fitted to the towers afterwards.

    Args:
        dimension: length D of vectors.
    """

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.product = nn.Parameter(torch.ones(dimension))
        self.of_query = nn.Linear(dimension, 1)
        self.of_item = nn.Linear(dimension, 1, bias=False)

    def predict(self, queries: Float[Tensor, "p ..."], items: Float[Tensor, "p d"]) -> Float[Tensor, " p"]:
        """Ratings in [0, 1] of P pairs."""
        queries = nearest(queries, items)
        product = (self.product * queries * items).sum(-1)
        return at_least_single(product + self.of_query(queries)[:, 0] + self.of_item(items)[:, 0]).sigmoid()

    def forward(self, model: TwoTower, step: Step) -> Float[Tensor, ""] | None:
        """Mean over the events whose next one is rated, those of all processes."""
        if step.queries is None:
            return None
        queries, asked = step.queries
        rated = ~step.ratings.isnan()
        if not rated.any():
            return None
        own = rated[asked.own]
        predicted = self.predict(queries[own], step.vectors_of(asked.targets[asked.own][own]))
        errors = (predicted - step.ratings[asked.own][own].to(predicted)) ** 2
        return step.ranks.mean(errors * asked.weights[asked.own][own].to(predicted), int(rated.sum()))


class Click(nn.Module):
    """Whether a person took an item, by cross-entropy.

    The next item is one that they took; beside each stands, and counts as much, one drawn uniformly from the catalog
    that they are not known to like, and that somebody has met. The logit is what retrieval ranks by, and a bias:
    ``scale * cosine + b``.

    Args:
        dimension: length D of vectors; any.
    """

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, model: TwoTower, step: Step) -> Float[Tensor, ""] | None:
        """Mean over what was taken and what was drawn, for all processes together."""
        if step.queries is None:
            return None
        queries, asked = step.queries
        drawn = torch.randint(len(step.items.id_rows), (len(asked.targets),), generator=step.generator)
        drawn = drawn.to(asked.targets.device)
        known = step.known.pairs(asked.people[asked.owner.cpu().numpy()], drawn).to(drawn.device)
        left_out = known | step.items.unmet[drawn] | (drawn == asked.targets)
        own = asked.own
        taken = F.softplus(-self._logits(model, queries, step.vectors_of(asked.targets[own])))
        others = F.softplus(self._logits(model, queries, step.vectors_of(drawn[own])))
        losses = torch.cat([asked.weighed(taken), asked.weighed(others)[~left_out[own]]])
        return step.ranks.mean(losses, len(drawn) + int((~left_out).sum()))

    def _logits(self, model: TwoTower, queries: Tensor, items: Tensor) -> Float[Tensor, " own"]:
        return at_least_single(model.scale * (nearest(queries, items) * items).sum(-1) + self.bias)


TASKS: dict[str, Task | type[nn.Module]] = {
    "views": views,
    "sequence": sequence,
    "reconstruction": reconstruction,
    "text": text,
    "fused": fused,
    "sentence": sentence,
    "alone": alone,
    "rating": Rating,
    "click": Click,
}
"""By name, in the order in which a step does them. One with weights of its own is a class that is made with the length
of vectors; the weights train and are kept in checkpoints, and are no part of the model."""

ALIKE = {"views"}
"""What every process computes for everybody, as each is compared with all; of the rest each computes its share."""

SQUARED = {"rating", "reconstruction"}
"""Losses that are squared errors; the others are cross-entropies."""


def tasks(config: TrainConfig, dimension: int) -> dict[str, Any]:
    """The tasks whose weight is not 0, by name."""
    wanted = {name: task for name, task in TASKS.items() if config.weights.get(name, 1.0)}
    return {name: task(dimension) if isinstance(task, type) else task for name, task in wanted.items()}
