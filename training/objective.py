"""One training step: which vectors are compared, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from towers.model import TwoTower
from towers.precision import at_least_single
from towers.sequence_reader import SequenceBatch
from training.anchors import AnchorTexts
from training.augment import augmented, views_loss
from training.config import TrainConfig
from training.contrast import Asked, Contrast
from training.items import Items, ItemVectors
from training.losses import contrastive
from training.mining import HardNegatives
from training.negatives import Candidates, Known, Negatives
from training.parts import in_parts
from training.ranks import Ranks
from training.sampling import Windows


@dataclass(frozen=True)
class Sentences:
    """Sentences and the items that they speak of.

    Args:
        ids, mask: padded token ids ``(S, T)`` and where they are real.
        items: ``(S,)`` catalog rows.
    """

    ids: Int[Tensor, "s t"]
    mask: Bool[Tensor, "s t"]
    items: Int[Tensor, " s"]


@dataclass(frozen=True)
class SentenceVectors:
    """Sentences as the frozen encoder reads them.

    Args:
        vectors: ``(S, C)``.
        items: ``(S,)`` catalog rows.
    """

    vectors: Float[Tensor, "s c"]
    items: Int[Tensor, " s"]


class Objective(nn.Module):
    """The model with its losses, so that one forward pass is one training step.

    Args:
        model: both towers.
        items: the training catalog.
        known: what each person is known to like.
        negatives: sampler, or None for the full softmax.
        anchor_negatives: the same for the text reader, whose targets are those of anchors; default: `negatives`.
        hard: negatives of each person's own, or None.
        config: weights of the losses.
        ranks: which part of a step this process reads; default: all of it.
    """

    def __init__(
        self,
        *,
        model: TwoTower,
        items: Items,
        known: Known,
        negatives: Negatives | None,
        anchor_negatives: Negatives | None = None,
        hard: HardNegatives | None = None,
        config: TrainConfig,
        ranks: Ranks | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self._items = items
        self._negatives = negatives
        self._anchor_negatives = anchor_negatives or negatives
        self._hard = hard
        self._ranks = ranks or Ranks()
        self._contrast = Contrast(items, known, hard, config, self._ranks)
        self._config = config

    def forward(
        self,
        windows: Windows,
        anchors: AnchorTexts | None,
        sentences: Sentences | SentenceVectors | None,
        generator: torch.Generator,
    ) -> dict[str, Float[Tensor, ""]]:
        """Losses by name; ``"loss"`` is their weighted sum. Of several processes, the mean of theirs is the step's.

        Args:
            windows: pasts of B people.
            anchors: events after which the text reader reads, None where it does not train.
            sentences: sentence → item pairs, or None.
            generator: of the sampled negatives, on the CPU.
        """
        reads_sequence = self.model.user.sequence is not None
        asked = self._ask(windows, generator) if reads_sequence else None
        read = self._ask_anchors(windows, anchors, generator) if anchors is not None else None
        alone = self._draw_alone(generator)
        vectors = self._item_vectors(windows, [one for one in (asked, read) if one is not None], sentences, alone)
        own = self._ranks.share(len(windows.people))
        losses: dict[str, Tensor] = {}
        if self._config.views_weight and reads_sequence:
            losses["views"] = self._compare_views(vectors, windows.inputs, generator)
        if self._ranks.count > 1:
            self._ranks.part()
        sequence = None
        if asked is not None:
            sequence = self._read_sequences(vectors, windows.inputs.take(own))
            losses["sequence"] = self._contrast(sequence[windows.inputs.mask[own]], vectors, asked, self.model.scale)
            _remember(self._negatives, asked, vectors)
        if anchors is not None and read is not None:
            losses |= self._read_anchors(anchors, read, _at(sequence, anchors, own), vectors)
            _remember(self._anchor_negatives, read, vectors)
        if sentences is not None:
            losses["sentence"] = self._read_sentences(sentences, vectors)
        if alone:
            losses["alone"] = self._find_alone(alone, vectors)
        total = 0 * vectors.values.sum()  # windows of long pasts may hold no anchor at all
        for name, value in losses.items():
            total = total + self._config.weights.get(name, 1.0) * value
        return {"loss": total, **losses}

    def _ask(self, windows: Windows, generator: torch.Generator) -> Asked:
        """Every event of the windows asks for the one after it."""
        mask = windows.inputs.mask
        owner = torch.arange(len(windows.people), device=mask.device)[:, None].expand_as(mask)[mask]
        targets = windows.targets[mask]
        share = self._ranks.share(len(windows.people))
        ends = mask.sum(1).cumsum(0).tolist()
        own = slice(*(ends[row - 1] if row else 0 for row in (share.start, share.stop)))
        return Asked(targets, windows.people, owner, _draw(self._negatives, targets, generator), own)

    def _ask_anchors(self, windows: Windows, anchors: AnchorTexts, generator: torch.Generator) -> Asked:
        targets = windows.targets[anchors.rows, anchors.columns]
        sample = _draw(self._anchor_negatives, targets, generator)
        return Asked(targets, windows.people, anchors.rows, sample, anchors.own)

    def _draw_alone(self, generator: torch.Generator) -> dict[str, Int[Tensor, " a"]]:
        """Items to look for by one kind of their content, where there is more than one kind."""
        present = self._items.contents.present
        drawn = {}
        for name, there in present.items() if len(present) > 1 else ():
            rows = there.nonzero()[:, 0]
            if len(rows):
                chosen = torch.randint(len(rows), (self._config.alone,), generator=generator)
                drawn[name] = rows[chosen.to(rows.device)]
        return drawn

    def _item_vectors(
        self,
        windows: Windows,
        asked: list[Asked],
        sentences: Sentences | SentenceVectors | None,
        alone: dict[str, Tensor],
    ) -> ItemVectors:
        if self._negatives is None:
            return ItemVectors(self.model.item, self._items, None)
        wanted = [windows.inputs.items, *alone.values()]
        for one in asked:
            assert one.sample is not None
            wanted += [one.targets, one.sample.items[one.sample.fresh].to(one.targets.device)]
        if sentences is not None:
            wanted.append(sentences.items)
        if self._hard is not None:
            wanted.append(self._hard.of(windows.people).to(windows.targets.device).clamp(min=0))
        return ItemVectors(self.model.item, self._items, wanted)

    def _read_sequences(self, vectors: ItemVectors, inputs: SequenceBatch) -> Float[Tensor, "b t ..."]:
        reader = self.model.user.sequence
        assert reader is not None

        def read(items: Tensor, ratings: Tensor, times: Tensor, mask: Tensor) -> Tensor:
            return reader(vectors.values, SequenceBatch(items, ratings, times, mask))

        places = vectors.place(inputs.items)
        if not len(places):
            return vectors.values.new_empty(*places.shape, *reader.shape)
        return in_parts(read, places, inputs.ratings, inputs.times, inputs.mask, size=self._config.part)

    def _compare_views(
        self, vectors: ItemVectors, inputs: SequenceBatch, generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Two views of each past should read alike; every process reads all of them, as each is compared with all."""
        first, second = (self._read_sequences(vectors, augmented(inputs, generator))[:, -1] for _ in range(2))
        interests = self.model.config.user.interests  # two pasts are as alike as the mean of theirs, one by one
        return views_loss(first.flatten(1), second.flatten(1), self.model.scale / interests)

    def _read_texts(self, anchors: AnchorTexts) -> Float[Tensor, "a d"]:
        reader = self.model.user.text
        assert reader is not None

        def read(content: Tensor, mask: Tensor) -> Tensor:
            if anchors.start is None:
                return reader(content, mask)
            return reader.read_hidden(content.float(), mask, anchors.start)

        if not len(anchors.mask):
            return self.model.log_scale.new_empty(0, self.model.config.item.dimension)
        return in_parts(read, anchors.content, anchors.mask, size=self._config.part)

    def _read_anchors(
        self, anchors: AnchorTexts, asked: Asked, past: Tensor | None, vectors: ItemVectors
    ) -> dict[str, Tensor]:
        """The text reader alone and, where there are two readers, both fused.

        Beside a sequence reader, which sees every event, the text reader sees a few: it then learns to read into
        the space that the sequence reader shapes and moves neither that reader nor the items.
        """
        text, scale = self._read_texts(anchors), self.model.scale
        if past is None:
            return {"text": self._contrast(text, vectors, asked, scale)}
        vectors = vectors.detached()
        fused = self.model.user.fuse((past.detach(), None), (text, None))
        losses = {"text": text, "fused": fused}
        return {name: self._contrast(queries, vectors, asked, scale) for name, queries in losses.items()}

    def _read_sentences(self, sentences: Sentences | SentenceVectors, vectors: ItemVectors) -> Tensor:
        """Sentences against the whole catalog or the sentences' own items; other items are all negatives.

        Before the text reader trains, the item side reads them in its place: the reader begins as a copy of it.
        """
        own = self._ranks.share(len(sentences.items))
        if isinstance(sentences, SentenceVectors):
            queries = at_least_single(self.model.item.alone("text", sentences.vectors[own]))
        else:
            assert self.model.user.text is not None
            queries = self.model.user.text(sentences.ids[own], sentences.mask[own])
        return self._find(queries, sentences.items, own, vectors)

    def _find_alone(self, alone: dict[str, Tensor], vectors: ItemVectors) -> Tensor:
        """Items by one kind of their content against the catalog, so that a picture or a sound alone is a query."""
        losses = []
        for name, rows in alone.items():
            own = self._ranks.share(len(rows))
            queries = self.model.item.alone(name, self._items.contents.vectors[name][rows[own]])
            losses.append(self._find(at_least_single(queries), rows, own, vectors))
        return torch.stack(losses).mean()

    def _find(
        self, queries: Float[Tensor, "own d"], items: Int[Tensor, " a"], own: slice, vectors: ItemVectors
    ) -> Float[Tensor, ""]:
        """Each query's own item against the whole catalog or, where that is sampled, against the others' items."""
        shared = items.unique() if self._negatives is not None else self._items.rows
        left_out = shared == items[own, None]
        losses = contrastive(
            queries, vectors.of(items[own]), vectors.of(shared), scale=self.model.scale, left_out=left_out
        )
        return self._ranks.mean(losses, len(items))


def _draw(negatives: Negatives | None, targets: Tensor, generator: torch.Generator) -> Candidates | None:
    return None if negatives is None else negatives.draw(targets, generator)


def _at(sequence: Float[Tensor, "own t ..."] | None, anchors: AnchorTexts, own: slice) -> Float[Tensor, "r ..."] | None:
    """What the sequence reader says where the text reader reads."""
    if sequence is None:
        return None
    return sequence[anchors.rows[anchors.own] - own.start, anchors.columns[anchors.own]]


def _remember(negatives: Negatives | None, asked: Asked, vectors: ItemVectors) -> None:
    if negatives is not None:
        negatives.memory.keep(asked.targets, vectors.of(asked.targets))
