"""What one training step looks at: who is asked what, with which item vectors, and what the readers say."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from towers.model import TwoTower
from towers.sequence_reader import SequenceBatch
from training.anchors import AnchorTexts
from training.config import TrainConfig
from training.contrast import Asked, Contrast
from training.items import Items, ItemVectors
from training.mining import HardNegatives
from training.negatives import Candidates, Known, Negatives
from training.parts import in_as_many_parts, in_parts
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


@dataclass(frozen=True)
class Ground:
    """What all steps of a training have in common.

    Args:
        items: the training catalog.
        known: what each person is known to like.
        negatives: sampler, or None for the full softmax.
        anchor_negatives: the same for the text reader, whose targets are those of anchors.
        hard: negatives of each person's own, or None.
        config: weights and sizes.
        ranks: which part of a step this process reads.
    """

    items: Items
    known: Known
    negatives: Negatives | None
    anchor_negatives: Negatives | None
    hard: HardNegatives | None
    config: TrainConfig
    ranks: Ranks


class Step:
    """One step: what is drawn for it, and what several tasks need of the model, computed once when first wanted.

    Args:
        model: both towers.
        ground: what all steps have in common.
        windows: pasts of B people.
        anchors: events after which the text reader reads, None where it does not train.
        sentences: sentence → item pairs, or None.
        generator: of all that is drawn, on the CPU; the same in every process.

    `asked` is what the sequence reader is asked for, `read` the text reader, each None where that reader has nothing to
    do; `alone` are the items to look for by one kind of their content; `vectors` those of all items looked at.
    """

    def __init__(
        self,
        model: TwoTower,
        ground: Ground,
        windows: Windows,
        anchors: AnchorTexts | None,
        sentences: Sentences | SentenceVectors | None,
        generator: torch.Generator,
    ) -> None:
        self._model, self._ground = model, ground
        self.config, self.ranks, self.items, self.known = ground.config, ground.ranks, ground.items, ground.known
        self.windows, self.anchors, self.sentences, self.generator = windows, anchors, sentences, generator
        self.own = self.ranks.share(len(windows.people))
        self.asked = self._ask() if model.user.sequence is not None else None
        self.read = self._ask_anchors(anchors) if anchors is not None else None
        self.alone = self._draw_alone() if self.config.alone_weight else {}
        self.vectors = self._item_vectors()
        self.contrast = Contrast(ground.items, ground.known, ground.hard, ground.config, ground.ranks)

    @cached_property
    def sequences(self) -> Float[Tensor, "own t ..."]:
        """What the sequence reader says after each event of this process's people."""
        return self.read_sequences(self.windows.inputs.take(self.own))

    @cached_property
    def texts(self) -> Float[Tensor, "r d"]:
        """What the text reader says at this process's anchors."""
        assert self.anchors is not None
        return self._read_texts(self.anchors)

    @cached_property
    def queries(self) -> tuple[Float[Tensor, "own ..."], Asked] | None:
        """This process's queries and all that was asked: of the reader of every event or, without it, of the other."""
        if self.asked is not None:
            return self.sequences[self.windows.inputs.mask[self.own]], self.asked
        return (self.texts, self.read) if self.read is not None else None

    @property
    def ratings(self) -> Float[Tensor, " p"]:
        """In [0, 1], of what `queries` asks for, NaN where there is none."""
        if self.asked is not None or self.anchors is None:
            return self.windows.ratings[self.windows.inputs.mask]
        return self.windows.ratings[self.anchors.rows, self.anchors.columns]

    @cached_property
    def sequences_at_anchors(self) -> Float[Tensor, "r ..."] | None:
        """What the sequence reader says where the text reader reads; None where there is none."""
        if self.asked is None or self.anchors is None:
            return None
        own = self.anchors.own
        return self.sequences[self.anchors.rows[own] - self.own.start, self.anchors.columns[own]]

    def vectors_of(self, items: Int[Tensor, " p"]) -> Float[Tensor, "p d"]:
        """The vectors of any catalog rows, also of those that the step does not look at else."""
        if self.vectors.rows is None or torch.isin(items, self.vectors.rows).all():
            return self.vectors.of(items)
        return ItemVectors(self._model.item, self.items, [items]).of(items)

    def read_sequences(self, inputs: SequenceBatch) -> Float[Tensor, "b t ..."]:
        """What the sequence reader says after each event of some pasts."""
        reader = self._model.user.sequence
        assert reader is not None

        def read(*parts: Tensor) -> Tensor:
            return reader(self.vectors.values, SequenceBatch(*parts))

        places = self.vectors.place(inputs.items)
        if not len(places):
            return self.vectors.values.new_empty(*places.shape, *reader.shape)
        hidden = () if inputs.hidden is None else (inputs.hidden,)
        return in_parts(read, places, inputs.ratings, inputs.times, inputs.mask, *hidden, size=self.config.part)

    def remember(self) -> None:
        """The memories keep the step's targets and their vectors."""
        for negatives, asked in ((self._ground.negatives, self.asked), (self._ground.anchor_negatives, self.read)):
            if negatives is not None and asked is not None:
                negatives.memory.keep(asked.targets, self.vectors.of(asked.targets))

    def _ask(self) -> Asked:
        """Every event of the windows asks for the one after it."""
        mask = self.windows.inputs.mask
        owner = torch.arange(len(self.windows.people), device=mask.device)[:, None].expand_as(mask)[mask]
        targets = self.windows.targets[mask]
        ends = mask.sum(1).cumsum(0).tolist()
        own = slice(*(ends[row - 1] if row else 0 for row in (self.own.start, self.own.stop)))
        sample = self._draw(self._ground.negatives, targets)
        return Asked(targets, self.windows.people, owner, self.windows.weights[mask], sample, own)

    def _ask_anchors(self, anchors: AnchorTexts) -> Asked:
        places = anchors.rows, anchors.columns
        targets, weights = self.windows.targets[places], self.windows.weights[places]
        sample = self._draw(self._ground.anchor_negatives, targets)
        return Asked(targets, self.windows.people, anchors.rows, weights, sample, anchors.own)

    def _draw(self, negatives: Negatives | None, targets: Tensor) -> Candidates | None:
        return None if negatives is None else negatives.draw(targets, len(self.windows.people), self.generator)

    def _draw_alone(self) -> dict[str, Int[Tensor, " a"]]:
        """Items to look for by one kind of their content, where there is more than one kind."""
        present = self.items.contents.present
        drawn = {}
        for name, there in present.items() if len(present) > 1 else ():
            rows = there.nonzero()[:, 0]
            if len(rows):
                chosen = torch.randint(len(rows), (self.config.alone,), generator=self.generator)
                drawn[name] = rows[chosen.to(rows.device)]
        return drawn

    def _item_vectors(self) -> ItemVectors:
        if self._ground.negatives is None:
            return ItemVectors(self._model.item, self.items, None)
        wanted = [self.windows.inputs.items, *self.alone.values()]
        for one in (self.asked, self.read):
            if one is not None:
                assert one.sample is not None
                wanted += [one.targets, one.sample.items[one.sample.fresh].to(one.targets.device)]
        if self.sentences is not None:
            wanted.append(self.sentences.items)
        if self._ground.hard is not None:
            own = self._ground.hard.of(self.windows.people)
            wanted.append(own.to(self.windows.targets.device).clamp(min=0))
        return ItemVectors(self._model.item, self.items, wanted)

    def _read_texts(self, anchors: AnchorTexts) -> Float[Tensor, "r d"]:
        reader = self._model.user.text
        assert reader is not None

        def read(content: Tensor, mask: Tensor) -> Tensor:
            if anchors.start is None:
                return reader(content, mask)
            return reader.read_hidden(content.float(), mask, anchors.start)

        if self.ranks.splits:  # all must run the encoder equally often
            most = self.ranks.most(anchors.rows, len(self.windows.people))
            return in_as_many_parts(read, anchors.content, anchors.mask, count=-(-most // self.config.part))
        if not len(anchors.mask):
            return self._model.log_scale.new_empty(0, self._model.config.item.dimension)
        return in_parts(read, anchors.content, anchors.mask, size=self.config.part)
