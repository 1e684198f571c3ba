"""Steps of re-ranking for one question: those of the service, what its lists say, and what somebody wishes."""

from __future__ import annotations

from collections.abc import Sequence

from serving.rerank.contract import Step
from serving.rerank.diversity import Mmr
from serving.rerank.rules import Block, Pin
from serving.rerank.scores import Novelty
from serving.store.lists import Lists


def steps_of(own: Sequence[Step], diversity: float, novelty: float, lists: Lists) -> tuple[Step, ...]:
    """The steps that answer a question.

    Args:
        own: those of the service.
        diversity: in [0, 1]; above 0 it takes the place of what the service does for diversity.
        novelty: in [0, 1]; the same.
        lists: of items that are blocked or pinned.
    """
    steps = list(own)
    for wish, step in ((diversity, Mmr), (novelty, Novelty)):
        if wish:
            steps = [one for one in steps if one.name != step.name] + [step(weight=wish)]
    blocked, pinned = lists.blocked(), lists.pinned()
    if blocked:
        steps.append(Block(items=tuple(blocked)))
    if pinned:
        steps.append(Pin(places=dict(enumerate(pinned, start=1))))
    return tuple(steps)
