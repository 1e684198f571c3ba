"""`Oracle`: what listeners truly want, and how well that can be known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from twotower.studio.settings import CLASSES, PARTS, StudioSettings


@dataclass(frozen=True)
class Oracle:
    """The truth behind the shop; no method that is measured may read it.

    Args:
        classes: int64 ``(3, N)`` class of each track in each part, by `PARTS`.
        tastes: float32 ``(3, U, CLASSES)`` what each class adds to a listener's utility.
        popularity: float32 ``(N,)`` what each track adds for everybody.
    """

    classes: np.ndarray
    tastes: np.ndarray
    popularity: np.ndarray

    def part(self, name: str) -> np.ndarray:
        """float32 ``(U, N)`` what one part (``text``, ``image`` or ``audio``) adds to the utility."""
        number = PARTS.index(name)
        return self.tastes[number][:, self.classes[number]]

    def utilities(self, parts: Sequence[str] = PARTS) -> np.ndarray:
        """float32 ``(U, N)`` popularity and these parts, without noise; all parts by default."""
        return sum((self.part(name) for name in parts), np.tile(self.popularity, (self.tastes.shape[1], 1)))


def draw_oracle(rng: np.random.Generator, settings: StudioSettings) -> Oracle:
    """Tracks and tastes whose parts are independent of each other.

    In each part the classes have equally many tracks, and every listener has one favourite class, half of them
    (`StudioSettings.second`) a second one that counts .4 to .9 as much; the others hardly differ.
    """
    tracks, listeners = settings.tracks, settings.listeners
    classes = np.stack([rng.permutation(np.arange(tracks) % CLASSES) for _ in PARTS])
    matters = len(PARTS) * rng.dirichlet([settings.evenness] * len(PARTS), listeners).T
    affinity = rng.normal(0, 0.1, (len(PARTS), listeners, CLASSES))
    for part in affinity:
        first, second = rng.permuted(np.tile(np.arange(CLASSES), (listeners, 1)), axis=1).T[:2]
        part[np.arange(listeners), first] += 1
        has_second = rng.random(listeners) < settings.second
        part[np.arange(listeners), second] += has_second * rng.uniform(0.4, 0.9, listeners)
    tastes = settings.strength * matters[:, :, None] * affinity
    popularity = rng.normal(0, settings.popularity, tracks)
    return Oracle(classes, tastes.astype(np.float32), popularity.astype(np.float32))


def subsets() -> Iterator[tuple[str, ...]]:
    """No part, each part, each two, all three."""
    for count in range(len(PARTS) + 1):
        yield from combinations(PARTS, count)


def recall(utilities: np.ndarray, seen: np.ndarray, targets: np.ndarray, k: int = 20) -> float:
    """Mean share of a listener's targets among the first k tracks by utility, those seen left out.

    Args:
        utilities: float ``(U, N)``.
        seen: bool ``(U, N)`` tracks that are not ranked.
        targets: bool ``(U, N)``; listeners without any do not count.
        k: 1 to N.
    """
    ranked = np.argsort(np.where(seen, np.inf, -utilities), axis=1, kind="stable")[:, :k]
    found, wanted = np.take_along_axis(targets, ranked, axis=1).sum(axis=1), targets.sum(axis=1)
    return float((found[wanted > 0] / wanted[wanted > 0]).mean())
