"""What the benches of an index's life share: vectors that move on, and a model of an index in plain Python."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from indexing.store import Store
from indexing.vectors import unit

DIMENSION, CLOUDS = 32, 60


class World:
    """Unit vectors in clouds, as catalogs have genres; with each draw the clouds move on a little.

    Args:
        seed: of everything that is drawn.
        speed: how far a cloud moves in a thousand draws, its distance from the middle being about 5.7.
    """

    def __init__(self, seed: int, speed: float = 1.0) -> None:
        self.rng = np.random.default_rng(seed)
        self._clouds = self.rng.normal(size=(CLOUDS, DIMENSION))
        self._paths = self.rng.normal(size=(CLOUDS, DIMENSION))
        self._paths *= speed / 1000 / np.linalg.norm(self._paths, axis=1, keepdims=True)

    def draw(self, count: int) -> np.ndarray:
        """Vectors of now, float32 ``(count, 32)``."""
        self._clouds += count * self._paths
        own = self._clouds[self.rng.integers(CLOUDS, size=count)]
        return unit(own + 0.5 * self.rng.normal(size=own.shape))


@dataclass
class Plain:
    """What an index should hold: a vector and a number for each id, and the last vectors of what was removed."""

    items: dict[str, tuple[np.ndarray, int]] = field(default_factory=dict)
    removed: dict[str, np.ndarray] = field(default_factory=dict)

    def put(self, ids: list[str], vectors: np.ndarray, numbers: list[int]) -> None:
        """Add items, or replace them."""
        for one, vector, number in zip(ids, vectors, numbers, strict=True):
            self.items[one] = (vector, number)
            self.removed.pop(one, None)

    def remove(self, ids: list[str]) -> None:
        """Take items out."""
        for one in ids:
            self.removed[one] = self.items.pop(one)[0]

    def copy(self) -> Plain:
        """The same, which may change without the first."""
        return Plain(dict(self.items), dict(self.removed))

    def differences(self, index: Store) -> list[str]:
        """In what an index differs, in words: items lost, twice, too many or wrong."""
        items = list(index)
        found = [f"{one} is lost" for one in self.items.keys() - {item.id for item in items}]
        found += [f"{one} is duplicated" for one, times in Counter(item.id for item in items).items() if times > 1]
        for item in items:
            one = str(item.id)
            if one not in self.items:
                found.append(f"{one} is wrong: it should not be there")
            elif self.items[one][1] != item.attributes["number"] or not np.array_equal(self.items[one][0], item.vector):
                found.append(f"{one} is wrong: it has another vector or attribute")
        kept = dict(zip(index.removed.ids.to_list(), index.removed.vectors, strict=True))
        if kept.keys() != self.removed.keys() or any(not np.array_equal(kept[i], v) for i, v in self.removed.items()):
            found.append("the removed items are wrong")
        return found
