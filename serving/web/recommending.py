"""`Recommending`: many questions to one offer, each with the steps that the service, its lists and the asker want."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from indexing.filters import Filter
from serving.recommendations import Recommendations
from serving.rerank.contract import Step, Wishes
from serving.rerank.diversity import Dpp, MaxSum, Mmr
from serving.rerank.exploration import EpsilonGreedy, Thompson
from serving.rerank.rules import Block, Pin
from serving.rerank.scores import Novelty
from serving.store.lists import Lists
from serving.web.offer import Offer
from towers.errors import TwoTowerError

DIVERSE, LOTS = (Mmr, Dpp, MaxSum), (EpsilonGreedy, Thompson)


class Wish(NamedTuple):
    """What somebody asks for.

    Args:
        asked: arguments of `serving.retriever.Retriever.recommend`, but for `steps`.
        diversity: in [0, 1]; above 0 it takes the place of what the service does for diversity.
        novelty: in [0, 1]; the same.
    """

    asked: dict[str, Any]
    diversity: float
    novelty: float


@dataclass(frozen=True)
class Recommending:
    """Answers wishes. Two of one offer are equal, so that a desk has what came for both computed together.

    Args:
        offer: what there is.
        steps: how the service re-ranks.
        lists: of items that are blocked or pinned; read once for all wishes that are answered together.
    """

    offer: Offer
    steps: tuple[Step, ...]
    lists: Lists

    def __call__(self, wishes: Sequence[Wish]) -> list[Recommendations | TwoTowerError]:
        """What each of them is answered, or why it is not.

        Raises:
            StoreError: the lists cannot be read.
        """
        blocked = self.lists.blocked()
        pinned = self._shown_first(self.lists.pinned(), blocked)
        asked = [one.asked | {"steps": steps_of(self.steps, one, blocked, pinned)} for one in wishes]
        return self.offer.retriever.recommend_many(asked)

    def _shown_first(self, pinned: Sequence[str], blocked: Sequence[str]) -> list[str]:
        """Pinned items but for those that are gone or blocked, whose places the next ones have."""
        rows, barred = self.offer.catalog.rows(pinned).tolist(), set(blocked)
        return [item for item, row in zip(pinned, rows, strict=True) if row >= 0 and item not in barred]


def steps_of(own: Sequence[Step], wish: Wish, blocked: Sequence[str], pinned: Sequence[str]) -> tuple[Step, ...]:
    """The steps that answer a wish: those of the service, what is wished for, and what people in charge want."""
    steps = list(own)
    if wish.diversity:
        steps = [one for one in steps if not isinstance(one, DIVERSE)] + [Mmr(weight=wish.diversity)]
    if wish.novelty:
        steps = [one for one in steps if not isinstance(one, Novelty)] + [Novelty(weight=wish.novelty)]
    if blocked:
        steps.append(Block(items=tuple(blocked)))
    if pinned:  # no lots are drawn for their places, nor for those that `keep` kept, which come behind them
        steps = [replace(one, keep=one.keep + len(pinned)) if isinstance(one, LOTS) else one for one in steps]
        steps.append(Pin(places=dict(enumerate(pinned, start=1))))
    return tuple(steps)


def never_shown(own: Sequence[Step], blocked: Sequence[str]) -> Wishes:
    """What nobody is shown, not only in recommendations: by the steps of the service and the block list.

    Args:
        own: steps of the service.
        blocked: ids of the block list.

    Returns:
        All ids, as text, and what must hold of whatever is shown.
    """
    wishes = [one.wishes() for one in own]
    conditions = [Filter.read(one.where).condition for one in wishes if one.where is not None]
    without = (*blocked, *(str(item) for one in wishes for item in one.without))
    return Wishes(without=without, where={"and": conditions} if conditions else None)
