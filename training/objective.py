"""One training step: which vectors are compared, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from towers.contents import Contents
from towers.model import TwoTower
from towers.sequence_reader import SequenceBatch
from training.anchors import AnchorTexts
from training.config import TrainConfig
from training.losses import full_softmax, sampled_softmax
from training.parts import in_parts
from training.sampling import Known, Negatives, Windows


@dataclass(frozen=True)
class Items:
    """What the item tower reads of the training catalog, by row.

    Args:
        contents: frozen content vectors.
        id_rows: ``(N,)`` row of each item's own vector, -1 for none.
        unmet: ``(N,)`` items that nobody has met in training. They are nobody's negatives: as such they would all be
            pushed away from everybody, and a new item could never be found.
    """

    contents: Contents
    id_rows: Int[Tensor, " n"]
    unmet: Bool[Tensor, " n"]


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
        config: weights of the losses.
    """

    def __init__(
        self,
        *,
        model: TwoTower,
        items: Items,
        known: Known,
        negatives: Negatives | None,
        anchor_negatives: Negatives | None = None,
        config: TrainConfig,
    ) -> None:
        super().__init__()
        self.model = model
        self._items = items
        self._known = known
        self._negatives = negatives
        self._anchor_negatives = anchor_negatives or negatives
        self._config = config

    def forward(
        self,
        windows: Windows,
        anchors: AnchorTexts | None,
        sentences: Sentences | SentenceVectors | None,
        generator: torch.Generator,
    ) -> dict[str, Float[Tensor, ""]]:
        """Losses by name; ``"loss"`` is their weighted sum.

        Args:
            windows: pasts of B people.
            anchors: events after which the text reader reads, None where it does not train.
            sentences: sentence → item pairs, or None.
            generator: of the sampled negatives, on the CPU.
        """
        vectors = self.model.item(self._items.contents, self._items.id_rows)
        losses: dict[str, Tensor] = {}
        sequence = None
        if self.model.user.sequence is not None:
            sequence = self._read_sequences(vectors, windows.inputs)
            mask = windows.inputs.mask
            people = torch.arange(len(windows.people), device=mask.device)[:, None].expand_as(mask)[mask]
            losses["sequence"] = self._contrast(
                sequence[mask], vectors, windows.targets[mask], windows.people, people, self._negatives, generator
            )
        if anchors is not None:
            losses |= self._read_anchors(windows, anchors, sequence, vectors, generator)
        total = 0 * vectors.sum()  # windows of long pasts may hold no anchor at all
        for value in losses.values():
            total = total + value
        if sentences is not None:
            losses["sentence"] = self._read_sentences(sentences, vectors)
            total = total + self._config.sentence_weight * losses["sentence"]
        if len(self._items.contents.vectors) > 1:
            losses["alone"] = self._find_alone(vectors, generator)
            total = total + self._config.alone_weight * losses["alone"]
        return {"loss": total, **losses}

    def _read_sequences(self, vectors: Tensor, inputs: SequenceBatch) -> Float[Tensor, "b t d"]:
        reader = self.model.user.sequence
        assert reader is not None

        def read(items: Tensor, ratings: Tensor, times: Tensor, mask: Tensor) -> Tensor:
            return reader(vectors, SequenceBatch(items, ratings, times, mask))

        return in_parts(read, inputs.items, inputs.ratings, inputs.times, inputs.mask, size=self._config.part)

    def _read_texts(self, anchors: AnchorTexts) -> Float[Tensor, "a d"]:
        reader = self.model.user.text
        assert reader is not None

        def read(content: Tensor, mask: Tensor) -> Tensor:
            if anchors.start is None:
                return reader(content, mask)
            return reader.read_hidden(content.float(), mask, anchors.start)

        return in_parts(read, anchors.content, anchors.mask, size=self._config.part)

    def _read_anchors(
        self,
        windows: Windows,
        anchors: AnchorTexts,
        sequence: Tensor | None,
        vectors: Tensor,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """The text reader alone and, where there are two readers, both fused.

        Beside a sequence reader, which sees every event, the text reader sees a few: it then learns to read into
        the space that the sequence reader shapes and moves neither that reader nor the items.
        """
        assert self.model.user.text is not None
        text = self._read_texts(anchors)
        targets = windows.targets[anchors.rows, anchors.columns]
        if sequence is not None:
            sequence, vectors = sequence.detach(), vectors.detach()
        rest = vectors, targets, windows.people, anchors.rows, self._anchor_negatives, generator
        losses = {"text": self._contrast(text, *rest)}
        if sequence is not None:
            fused = self.model.user.fuse((sequence[anchors.rows, anchors.columns], None), (text, None))
            losses["fused"] = self._contrast(fused, *rest)
        return losses

    def _read_sentences(self, sentences: Sentences | SentenceVectors, vectors: Tensor) -> Tensor:
        """Sentences against the whole catalog or the sentences' own items; other items are all negatives.

        Before the text reader trains, the item side reads them in its place: the reader begins as a copy of it.
        """
        if isinstance(sentences, SentenceVectors):
            queries = self.model.item.alone("text", sentences.vectors).float()
        else:
            assert self.model.user.text is not None
            queries = self.model.user.text(sentences.ids, sentences.mask)
        return self._find(queries, sentences.items, vectors)

    def _find_alone(self, vectors: Tensor, generator: torch.Generator) -> Tensor:
        """Items by one kind of their content against the catalog, so that a picture or a sound alone is a query."""
        losses = []
        for name, present in self._items.contents.present.items():
            there = present.nonzero()[:, 0]
            if len(there):
                drawn = torch.randint(len(there), (self._config.alone,), generator=generator)
                rows = there[drawn.to(there.device)]
                queries = self.model.item.alone(name, self._items.contents.vectors[name][rows]).float()
                losses.append(self._find(queries, rows, vectors))
        return torch.stack(losses).mean()

    def _find(self, queries: Tensor, items: Tensor, vectors: Tensor) -> Tensor:
        """Each query's own item against the whole catalog or, where that is sampled, against the others' items."""
        scale = self.model.scale
        if self._negatives is None:
            nothing = torch.zeros(len(queries), len(vectors), dtype=torch.bool, device=vectors.device)
            return full_softmax(queries, vectors, items, scale=scale, known=nothing).mean()
        candidates = items.unique()
        nothing = torch.zeros(len(queries), len(candidates), dtype=torch.bool, device=vectors.device)
        weight = torch.zeros(len(candidates), device=vectors.device)
        return sampled_softmax(
            queries, vectors, items, scale=scale, candidates=candidates, log_weight=weight, known=nothing
        ).mean()

    def _contrast(
        self,
        queries: Float[Tensor, "p d"],
        vectors: Float[Tensor, "n d"],
        targets: Int[Tensor, " p"],
        people: np.ndarray,
        owner: Int[Tensor, " p"],
        negatives: Negatives | None,
        generator: torch.Generator,
    ) -> Float[Tensor, ""]:
        """`owner` is the row in `people` of each query."""
        scale, device = self.model.scale, vectors.device
        if negatives is None:
            candidates = log_weight = None
            known = self._known.of_catalog(people).to(device) | self._items.unmet
        else:
            candidates, log_weight = (drawn.to(device) for drawn in negatives.draw(targets, generator))
            known = self._known.of(people, candidates).to(device) | self._items.unmet[candidates]

        def losses(queries: Tensor, targets: Tensor, owner: Tensor) -> Tensor:
            if candidates is None or log_weight is None:
                return full_softmax(queries, vectors, targets, scale=scale, known=known[owner])
            sample = {"candidates": candidates, "log_weight": log_weight, "known": known[owner]}
            return sampled_softmax(queries, vectors, targets, scale=scale, **sample)

        size = self._config.part * -(-len(queries) // len(people))  # rows of as many people as a part has
        return in_parts(losses, queries, targets, owner, size=size).mean()
