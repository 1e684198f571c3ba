"""What a training step looks at: people, windows of their past, anchors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from towers.history import Histories
from towers.sequence_reader import SequenceBatch


@dataclass(frozen=True)
class Windows:
    """A window of the past of each of B people, and the item that followed each event in it.

    Args:
        people: int64 ``(B,)`` rows of the training histories.
        inputs: events but the last, left-padded ``(B, T)``.
        targets: int64 ``(B, T)`` the next item after each event.
        ratings: float32 ``(B, T)`` what those were rated, in [0, 1], NaN where there is no rating.
        weights: float32 ``(B, T)`` how much those count, 1 unless the log says otherwise.
        events: int64 ``(B, T)`` position of each input event in the flat arrays of the histories.
    """

    people: np.ndarray
    inputs: SequenceBatch
    targets: Int[Tensor, "b t"]
    ratings: Float[Tensor, "b t"]
    weights: Float[Tensor, "b t"]
    events: Int[Tensor, "b t"]

    def to(self, device: torch.device) -> Windows:
        """The same windows on another device."""
        rest = (tensor.to(device) for tensor in (self.targets, self.ratings, self.weights, self.events))
        return Windows(self.people, self.inputs.to(device), *rest)


def windows(histories: Histories, people: np.ndarray, length: int, rng: np.random.Generator) -> Windows:
    """A window of at most ``length + 1`` events of each person.

    Longer pasts give their newest window half of the time and a random one otherwise, so that old events
    are learned from too. What somebody met before is asked for again where they came back to it.
    """
    starts, ends = histories.offsets[people], histories.offsets[people + 1]
    spare = np.maximum(ends - starts - (length + 1), 0)
    back = np.where(rng.random(len(people)) < 0.5, rng.integers(0, spare + 1), 0)
    ends = ends - back
    starts = np.maximum(starts, ends - (length + 1))
    past = histories.cut(people, starts, ends - 1)
    inputs = SequenceBatch.of(past, length)
    width = inputs.items.shape[1]
    events = torch.from_numpy((ends - 1)[:, None] - width + np.arange(width))
    events = torch.where(inputs.mask, events, 0)
    targets = torch.where(inputs.mask, torch.from_numpy(histories.items)[events + 1], 0)
    ratings = torch.where(inputs.mask, torch.from_numpy(histories.ratings)[events + 1], torch.nan)
    weights = torch.ones_like(ratings)
    if histories.weights is not None:
        weights = torch.where(inputs.mask, torch.from_numpy(histories.weights)[events + 1], 0.0)
    return Windows(people, inputs, targets, ratings, weights, events)


def set_windows(histories: Histories, people: np.ndarray, length: int, rng: np.random.Generator) -> Windows:
    """A window of at most ``length + 1`` items of each person, drawn at random and in random order.

    Each event then asks for one that might as well have been the next: a reader learns from sets of every size. An item
    that was met several times is there once, by one of its events at random: what is asked for is new. The positions
    that `Windows.events` speaks of are those in this order, which no other has.
    """
    past = _each_item_once(histories.take(people), rng)
    order = np.lexsort((rng.random(len(past.items)), past.people))
    weights = None if past.weights is None else past.weights[order]
    shuffled = Histories(past.offsets, past.items[order], ratings=past.ratings[order], weights=weights)
    return replace(windows(shuffled, np.arange(len(people)), length, rng), people=people)


def _each_item_once(histories: Histories, rng: np.random.Generator) -> Histories:
    """One event for each item of a person, at random; drawn before the order, which else would begin with repeats."""
    order = rng.permutation(len(histories.items))
    kept = np.zeros(len(order), bool)
    kept[order[np.unique(_pairs(histories)[order], return_index=True)[1]]] = True
    return histories.keep(kept)


def _pairs(histories: Histories) -> np.ndarray:
    """A number for each event, int64 ``(E,)``, the same where person and item are."""
    return histories.people * (histories.items.max(initial=0) + 1) + histories.items


def batches(people: np.ndarray, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """People in random order, `size` at a time; the last batch may be smaller."""
    order = rng.permutation(people)
    return (order[start : start + size] for start in range(0, len(order), size))


def draw_anchors(histories: Histories, each: int, rng: np.random.Generator) -> np.ndarray:
    """Events after which the text reader reads: int64 ``(A,)`` sorted positions in the flat arrays.

    Each person gives at most `each` of the events that have a successor, the last of them always, since
    that is where people will be asked.
    """
    order = rng.random(len(histories.items))
    last = histories.offsets[1:] - 2
    has = histories.lengths >= 2
    order[last[has]] = -1.0
    order[(histories.offsets[1:] - 1)[histories.lengths >= 1]] = np.inf
    people = histories.people
    ranked = np.lexsort((order, people))
    rank = np.arange(len(ranked)) - histories.offsets[people]  # `ranked` groups by person, like the flat arrays
    chosen = ranked[(rank < each) & np.isfinite(order[ranked])]
    return np.sort(chosen)


def target_chances(
    histories: Histories, length: int, *, chosen: np.ndarray | None = None, most: int | None = None
) -> np.ndarray:
    """How likely each event is a target in an epoch, as `windows` draws them: float64 ``(E,)``.

    A past that is longer than a window lends each of its events less often, the newest ones most. Of what is corrected
    by logQ this is what was sampled.

    Args:
        histories, length: as in `windows`; who has two events or more is drawn once.
        chosen: bool ``(E,)`` events that may be targets; default: all but a person's first.
        most: how many of those in a window are, at random; default: all.
    """
    people, events = histories.people, np.arange(len(histories.items))
    first, end = histories.offsets[:-1][people], histories.offsets[1:][people]
    able = events > first if chosen is None else chosen
    spare, back = np.maximum(end - first - (length + 1), 0), end - 1 - events
    ends = np.where(back <= spare, 0.5 / (spare + 1), 0) + 0.5 * (back == 0)  # how likely a window ends with it
    if most is not None:
        before = np.append(0, able.cumsum())
        inside = before[events + 1] - before[np.maximum(first, events - length) + 1]
        ends *= np.minimum(most / np.maximum(inside, 1), 1)
    up_to = np.append(0, ends.cumsum())
    return able * (up_to[np.minimum(events + length, end)] - up_to[events])


def set_target_chances(histories: Histories, length: int) -> np.ndarray:
    """The same as `set_windows` draws them: all items of a person are equally likely, and so are an item's events."""
    _, first, pair, often = np.unique(_pairs(histories), return_index=True, return_inverse=True, return_counts=True)
    sizes = np.bincount(histories.people[first], minlength=len(histories))[histories.people]
    return np.minimum(length, sizes - 1) / sizes / often[pair]


def shares_of_others(histories: Histories, chances: np.ndarray, *, people: int, items: int) -> np.ndarray:
    """What share of others' targets each item is expected to be, to somebody who does not know it: float64 ``(N,)``.

    Who does not know an item is never asked for it. So however often it is asked for, the others are, and they have all
    targets but one person's.

    Args:
        histories: of the people.
        chances: float64 ``(E,)`` how likely each event is a target in an epoch.
        people: how many are drawn in an epoch, each once.
        items: number of items N.
    """
    counts = np.bincount(histories.items, weights=chances, minlength=items)
    return counts / (counts.sum() or 1) * (people / max(people - 1, 1))
