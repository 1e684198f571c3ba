"""Alignment: the kinds of content of an item learn to find each other, and encoders are fine-tuned on the way.

It is all that can be learned from a catalog without a log. With a log, where encoders are to be fine-tuned, it comes
before the towers, and how people use an item is one more kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import torch
from jaxtyping import Bool, Float, Int
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from towers.catalog import Catalog
from towers.contents import Contents
from towers.embed import Content, VectorCache
from towers.encoders.contract import Encoder
from towers.errors import InputError
from towers.fusion import unit
from towers.model import TwoTower
from towers.precision import autocast_for
from towers.projection import ContentProjection
from towers.tuning import Tune, let_train
from training.config import AlignConfig
from training.optimizer import Descent

USE = "use"  # the kind that is no content: how people use an item


def align(
    model: TwoTower,
    catalog: Catalog,
    config: AlignConfig,
    *,
    use: Float[Tensor, "n f"] | None = None,
    progress: bool = False,
) -> float:
    """Train the projections of the item tower, and of its encoders what their `tune` says; in place.

    In each step the items of a batch are looked for by one kind of content among those of another, for all pairs of
    kinds and both ways; that is CLIP's loss (arXiv 2103.00020), with equal contents left out of the negatives.

    Args:
        model: its encoders are frozen again at the end, and the text reader begins as a copy of the item side.
        catalog: N items.
        config: settings.
        use: how people use each item ``(N, F)``, zero where that is not known.
        progress: show a bar on standard error.

    Returns:
        The mean loss of the last epoch.

    Raises:
        InputError: no two kinds are there on two items, or more blocks are to be tuned than an encoder has.
        TwoTowerError: the loss is no number any more.
    """
    device = model.log_scale.device
    contents, _ = model.contents(catalog, VectorCache(), progress=progress)
    contents = contents.to(device)
    aligner = Aligner(model, contents, None if use is None else use.to(device))
    if not any(aligner.shared(a, b).sum() > 1 for a, b in combinations(aligner.present, 2)):
        raise InputError("to align kinds of content, items need two of them, such as a text and a picture; none have")
    tuned = {name: _tune(model, name) for name in contents.vectors if _tune(model, name)}
    ends = [let_train(model.encoder_of(name), tune) for name, tune in tuned.items()]
    aligner.live = {name: Live(model.encoder_of(name), model.raw(catalog, name)) for name in tuned}
    loss = _train(aligner, config, len(catalog), progress)
    for end in ends:
        end()
    if "text" in tuned:
        model.follow_text_encoder()
    if model.user.text is not None:
        model.user.text.start_from(model.item.text)
    return loss


def is_tuned(model: TwoTower) -> bool:
    """Whether any encoder of the item side is to be fine-tuned."""
    return any(_tune(model, name) for name in ("text", *model.media))


class Live:
    """Contents that are encoded anew in each step, since their encoder is trained.

    Args:
        encoder: what reads them.
        contents: N of them.
    """

    def __init__(self, encoder: Encoder, contents: Sequence[Content | None]) -> None:
        self.encoder, self._contents = encoder, contents

    def encode(self, rows: Sequence[int]) -> Float[Tensor, "b c"]:
        """Vectors of B contents that are there and can be read."""
        with ThreadPoolExecutor() as pool:
            prepared = list(pool.map(lambda row: self.encoder.prepare(self._contents[row]), rows))
        with autocast_for(self.encoder):
            return self.encoder.encode(prepared).float()


class Aligner(nn.Module):
    """What is trained: all kinds of content through their projections, and how people use an item through another.

    Args:
        model: whose item tower it is.
        contents: of N items; their mean is removed from now on.
        use: ``(N, F)`` or None.

    `present` says for each kind where it is there, `live` which kinds are encoded anew in each step.
    """

    def __init__(self, model: TwoTower, contents: Contents, use: Tensor | None) -> None:
        super().__init__()
        self.model = model
        self.vectors, self.present = dict(contents.vectors), dict(contents.present)
        self.live: dict[str, Live] = {}
        projections = {name: model.item.project(name) for name in contents.vectors}
        if use is not None:
            item = model.config.item
            self.vectors[USE], self.present[USE] = use, use.any(1)
            projections[USE] = ContentProjection(
                content=use.shape[1], hidden=item.hidden, dimension=item.dimension, dropout=item.dropout
            ).to(use.device)
        self.projections = nn.ModuleDict(projections)
        for name, projection in projections.items():
            projection.fit_centre(self.vectors[name], self.present[name])
        self._same = {name: vectors.unique(dim=0, return_inverse=True)[1] for name, vectors in self.vectors.items()}

    def shared(self, first: str, second: str) -> Bool[Tensor, " n"]:
        """Items that have both kinds."""
        return self.present[first] & self.present[second]

    def forward(self, rows: Int[Tensor, " b"]) -> Float[Tensor, ""]:
        """The loss of a batch of items: the mean over pairs of kinds that two of them have."""
        read = {name: self._read(name, rows) for name in self.present}
        losses = []
        for a, b in combinations(read, 2):
            both = self.shared(a, b)[rows]
            if both.sum() > 1:
                kept = rows[both]
                losses.append(
                    find_each_other(
                        read[a][both], read[b][both], self._same[a][kept], self._same[b][kept], self.model.scale
                    )
                )
        return torch.stack(losses).mean() if losses else 0 * self.model.log_scale

    def _read(self, name: str, rows: Tensor) -> Float[Tensor, "b d"]:
        """Unit vectors by one kind; what stands where it is missing is not looked at."""
        vectors = self.vectors[name][rows]
        there = self.present[name][rows]
        if name in self.live and there.any():
            vectors = vectors.index_put((there.nonzero()[:, 0],), self.live[name].encode(rows[there].tolist()))
        return unit(self.projections[name](vectors))


def find_each_other(
    first: Float[Tensor, "b d"],
    second: Float[Tensor, "b d"],
    same_first: Int[Tensor, " b"],
    same_second: Int[Tensor, " b"],
    scale: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Cross-entropy of finding each item by one kind among those of the other, mean of both ways.

    Args:
        first, second: unit vectors of B items by two kinds.
        same_first, same_second: equal numbers for equal contents: an item whose content in either kind is another's
            is no negative of it.
        scale: inverse temperature.
    """
    logits = scale * first @ second.T
    same = (same_first[:, None] == same_first) | (same_second[:, None] == same_second)
    same.fill_diagonal_(False)
    logits = logits.masked_fill(same, -torch.inf)
    targets = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


def _tune(model: TwoTower, name: str) -> Tune:
    if name == "text":
        return model.config.text.tune
    return model.config.media[name].tune if name in model.media else 0


def _train(aligner: Aligner, config: AlignConfig, items: int, progress: bool) -> float:
    """AdamW over batches of items in random order; the mean loss of the last epoch."""
    starts = range(0, items, config.items)
    descent = Descent(aligner, config, config.epochs * len(starts), name="aligning", setting="align.rate")
    losses = torch.zeros(len(starts))
    screen = Console(stderr=True)
    aligner.train()
    for _ in track(range(config.epochs), "aligning kinds of content", console=screen, disable=not progress):
        order = torch.randperm(items).to(aligner.model.log_scale.device)
        for number, start in enumerate(starts):
            loss = aligner(order[start : start + config.items])
            descent.step(loss)
            losses[number] = loss.detach()
    aligner.eval()
    aligner.zero_grad()  # or what is left of them would count in later clipping
    return float(losses.mean())
