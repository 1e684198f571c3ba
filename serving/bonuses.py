"""What speaks for an item beside its vector: popularity of late, a sentence's very words, what answers lean to."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from serving.people import Person
from towers.catalog import Catalog
from towers.history import Histories
from towers.model import TwoTower
from towers.words import Words


class Bonuses:
    """Of each of N items, in units of the cosine.

    Args:
        model: which says how much each counts.
        catalog: N items.
        met: what people met, for popularity; None where there is no log.
    """

    def __init__(self, model: TwoTower, catalog: Catalog, met: Histories | None) -> None:
        self._model, self._catalog, self._met = model, catalog, met

    def of(self, text: str | None, person: Person) -> np.ndarray | None:
        """float32 ``(N,)`` for one question; None where nothing does."""
        found = [] if self._trend is None else [self._trend]
        if person.leaning is not None:
            found.append(person.leaning.bonus / float(self._model.scale.detach()))
        if text is not None:
            found.append(self._shares(text))
        return sum(found[1:], start=found[0]) if found else None

    def parts(self, row: int, text: str | None) -> dict[str, float]:
        """What popularity and words add for one item, by name."""
        found = {} if self._trend is None else {"popularity": float(self._trend[row])}
        return found if text is None else found | {"words": float(self._shares(text)[row])}

    def _shares(self, text: str) -> np.ndarray:
        assert self._model.user.text is not None
        return float(self._model.user.text.words) * self._words.shares(text)

    @cached_property
    def _trend(self) -> np.ndarray | None:
        return None if self._met is None else self._model.standing(self._met, len(self._catalog))

    @cached_property
    def _words(self) -> Words:
        """Of what the items' texts say; made when first asked for."""
        return Words(self._catalog.texts(self._model.template))
