"""The data side of a step: windows of people's pasts, anchors in them, sentences about items."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from towers.catalog import Catalog
from towers.embed import VectorCache
from towers.errors import InputError
from towers.history import Histories
from towers.model import TwoTower
from towers.template import columns_of
from training.anchors import Anchors, AnchorTexts
from training.config import Recipe
from training.ranks import Ranks
from training.sampling import Windows, set_target_chances, set_windows, shares_of_others, target_chances, windows
from training.sentences import SentencePool, SentenceSampler
from training.step import Sentences, SentenceVectors

SENTENCES_EACH = 8  # of an item, in the pool that the frozen encoder reads
MOST_EVENTS = 100  # in a window, where no sequence reader says how many


@dataclass(frozen=True)
class Batch:
    """What one step learns from; see `Objective.forward`."""

    windows: Windows
    anchors: AnchorTexts | None
    sentences: Sentences | SentenceVectors | None


class Feed:
    """Draws what a step learns from.

    `people` are int64 ``(P,)`` those who train, `anchors` the events after which the text reader reads (None without
    one), `pool_vectors` float32 ``(S, C)`` sentences as the frozen encoder reads them.

    Args:
        model: whose readers and encoder read it.
        catalog, past, recipe: as in `training.trainer.fit`.
        rng: every draw comes from it.
        ranks: which part of a batch this process reads.
        pooled: whether there are epochs in which the frozen encoder reads the sentences.
        progress: show a bar on standard error while those sentences are embedded.

    Raises:
        InputError: nobody has two events (of sets: two items), or none of weight above 0 after another.
    """

    def __init__(
        self,
        model: TwoTower,
        catalog: Catalog,
        past: Histories,
        recipe: Recipe,
        rng: np.random.Generator,
        *,
        ranks: Ranks,
        pooled: bool,
        progress: bool,
    ) -> None:
        self._reader, self._rng, self._config = model.user.text, rng, recipe.train
        self._ranks = ranks
        self._length = recipe.user.sequence.length if recipe.user.sequence else MOST_EVENTS
        self._windows = windows if recipe.user.sequence is None or recipe.user.sequence.ordered else set_windows
        chances = self._chances(past)
        self.people = np.unique(past.people[chances > 0])
        if not len(self.people):
            raise InputError("training needs people with at least 2 events before the validation event, none has them")
        self._past = _one_on_average(past, chances)
        self._items = len(catalog)
        self.anchors = _anchors(model, catalog, past, recipe, rng) if model.user.text is not None else None
        self._sampler = self._pool = None
        self.pool_vectors = torch.empty(0, model.encoder.dimension)
        if self.anchors is not None and recipe.train.sentences:
            self._sampler = SentenceSampler(
                {name: catalog.texts(f"[{{{name}}}]") for name in columns_of(model.template)}
            )
            if pooled and recipe.item.text:
                self._pool = SentencePool(self._sampler, self._items, SENTENCES_EACH)
                pool = VectorCache().embed(model.encoder, self._pool.texts, progress=progress)
                self.pool_vectors = pool.vectors

    @property
    def targets(self) -> np.ndarray:
        """What share of others' targets each item is expected to be, float64 ``(N,)``."""
        return self._of_others(self._chances(self._past))

    @property
    def anchor_targets(self) -> np.ndarray:
        """The same of what follows the anchors that are read."""
        follows = np.zeros(len(self._past.items), bool)
        if self.anchors is not None:
            follows[self.anchors.events + 1] = True
        most = self._config.anchors_per_step
        return self._of_others(target_chances(self._past, self._length, chosen=follows, most=most))

    def order(self) -> np.ndarray:
        """Everybody who trains, int64 ``(P,)``, in random order."""
        return self._rng.permutation(self.people)

    def batch(self, people: np.ndarray, reads_text: bool, device: torch.device) -> Batch:
        """What a step learns from int64 ``(B,)`` `people`, on `device`."""
        seen = self._windows(self._past, people, self._length, self._rng).to(device)
        anchors = None
        if reads_text and self.anchors is not None:
            own = self._ranks.share(len(people))
            anchors = self.anchors.texts(seen, self._config.anchors_per_step, self._rng, device, own)
        return Batch(seen, anchors, self._new_sentences(device) if reads_text else self._pooled_sentences(device))

    def _chances(self, past: Histories) -> np.ndarray:
        """How likely each event is a target in an epoch, float64 ``(E,)``."""
        return (target_chances if self._windows is windows else set_target_chances)(past, self._length)

    def _of_others(self, chances: np.ndarray) -> np.ndarray:
        return shares_of_others(self._past, chances, people=len(self.people), items=self._items)

    def _pooled_sentences(self, device: torch.device) -> SentenceVectors | None:
        """Sentences of random items as the frozen encoder reads them."""
        if self._pool is None or not len(self._pool.items):
            return None
        rows = self._rng.integers(len(self._pool.items), size=self._config.sentences)
        return SentenceVectors(self.pool_vectors[rows].to(device), torch.from_numpy(self._pool.items[rows]).to(device))

    def _new_sentences(self, device: torch.device) -> Sentences | None:
        """Sentences of random items for the text reader."""
        if self._sampler is None or self._reader is None:
            return None
        drawn = self._rng.integers(self._items, size=self._config.sentences)
        pairs = [(row, text) for row in drawn if (text := self._sampler(int(row), self._rng))]
        if not pairs:
            return None
        encoder = self._reader.encoder
        ids, mask = encoder.pad(encoder.tokenize([text for _, text in pairs]))
        return Sentences(ids.to(device), mask.to(device), torch.tensor([int(row) for row, _ in pairs], device=device))


def _one_on_average(past: Histories, chances: np.ndarray) -> Histories:
    """Weights that change which events are learned from, and not how fast: the mean of all that is asked for is 1."""
    if past.weights is None:
        return past
    mean = (past.weights * chances).sum() / chances.sum()
    if mean == 0:
        raise InputError("no training event that follows another has a weight above 0: there is nothing to learn from")
    return replace(past, weights=past.weights / mean)


def _anchors(model: TwoTower, catalog: Catalog, past: Histories, recipe: Recipe, rng: np.random.Generator) -> Anchors:
    assert model.user.text is not None
    memory = model.memory(catalog, np.zeros((len(catalog), model.config.item.dimension), np.float32))
    assert memory.text is not None
    return Anchors(
        histories=past,
        reader=model.user.text,
        text=memory.text,
        each=recipe.train.anchors,
        budget=recipe.train.cache_bytes,
        rng=rng,
    )
