"""A check-up of a trained run: what is examined, and what an examination says. No torch until a model is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from indexing.excluded import Excluded
from indexing.index import ItemIndex
from indexing.interests import search_interests
from towers.catalog import ITEM_ID, Catalog
from towers.history import Histories
from towers.ids import IdList
from towers.interactions import USER_ID, Interactions, Positive

if TYPE_CHECKING:
    from towers.model import Memory, TwoTower

PEOPLE = 500  # whose queries are looked at: enough to tell a share to within 0.05, few enough for seconds
LIST = 20  # length of the lists that are compared
CANDIDATES = 100  # that are retrieved for a list, as a retriever does: popularity of late is seen among these
LIST_SHARE = 10  # one item in so many, at most, stands in a list: longer ones overlap by chance
SEED = 0


@dataclass(frozen=True)
class Finding:
    """What one examination says.

    Args:
        name: what was looked at.
        figure: what was measured.
        threshold: what it should be, in words.
        ok: whether it is.
        about: how it was measured, and what else was seen.
        remedy: what to do where it is not ok, in one sentence.
    """

    name: str
    figure: float | int | str
    threshold: str
    ok: bool
    about: str
    remedy: str

    @property
    def status(self) -> str:
        """``"ok"`` or ``"warn"``."""
        return "ok" if self.ok else "warn"

    def to_json(self) -> dict[str, Any]:
        """Plain values; ``status`` says what `ok` does."""
        return {"status": self.status, **{name: value for name, value in asdict(self).items() if name != "ok"}}


def at_most(name: str, figure: float, limit: float, about: str, remedy: str) -> Finding:
    """A figure that should not be above `limit`."""
    return Finding(name, figure, f"at most {limit:.3g}", figure <= limit, about, remedy)


def at_least(name: str, figure: float, limit: float, about: str, remedy: str) -> Finding:
    """A figure that should not be below `limit`."""
    return Finding(name, figure, f"at least {limit:.3g}", figure >= limit, about, remedy)


def attempt(name: str, examine: Callable[[], list[Finding]]) -> list[Finding]:
    """What an examination finds; one that fails is a finding too, so that it takes no other with it."""
    try:
        return examine()
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        return [Finding(name, "failed", "can be examined", False, said, "mend what the sentence names, and look again")]


class Case:
    """One run, and what several examinations need of it, worked out once.

    Rows are those of the catalog unless said otherwise.

    Args:
        model: both towers.
        index: index of N' items, perhaps others than the catalog's.
        catalog: N items.
        log: what people did.
    """

    def __init__(self, model: TwoTower, index: ItemIndex, catalog: Catalog, log: Interactions) -> None:
        self.model, self.index, self.catalog, self.log = model, index, catalog, log

    @cached_property
    def index_rows(self) -> np.ndarray:
        """int64 ``(N,)`` where each item of the catalog stands in the index, -1 for nowhere."""
        return self.index.ids.rows(self.catalog.ids.array)

    @cached_property
    def catalog_rows(self) -> np.ndarray:
        """int64 ``(N',)`` where each item of the index stands in the catalog, -1 for nowhere."""
        return self.catalog.rows(self.index.ids.array)

    @cached_property
    def memory(self) -> Memory:
        """What the user tower needs to know of the items, as the index has them."""
        known = self.index_rows >= 0
        return self.model.memory(
            self.catalog, np.where(known[:, None], self.index.vectors[self.index_rows], np.float32(0))
        )

    @cached_property
    def people(self) -> int:
        """How many people the log names."""
        return int(pc.count_distinct(self.log.table[USER_ID]).as_py())

    @cached_property
    def events(self) -> Histories:
        """All that people did with items of the catalog; people who did nothing with any are not there."""
        return self._histories(None)

    @cached_property
    def positives(self) -> Histories:
        """The events among them that speak for a person, for the same people."""
        return self._histories(self.model.config.data)

    @cached_property
    def readable(self) -> Histories:
        """The positives whose item has a vector, for the same people."""
        return self.positives.keep(self.index_rows[self.positives.items] >= 0)

    @cached_property
    def asked(self) -> np.ndarray:
        """int64 ``(B,)`` people, drawn from those with a readable event, at most `PEOPLE`."""
        return sample(np.flatnonzero(self.readable.lengths), PEOPLE)

    @cached_property
    def queries(self) -> np.ndarray:
        """float32 ``(B, D)`` of the people asked, or ``(B, K, D)`` for K interests."""
        return self.model.encode(self.readable.take(self.asked), self.memory)

    @property
    def query_vectors(self) -> np.ndarray:
        """The same one below the other, whosever interest each is."""
        return self.queries.reshape(-1, self.queries.shape[-1])

    @cached_property
    def width(self) -> int:
        """How long a list is: `LIST`, less in a small catalog."""
        return max(1, min(LIST, len(self.catalog) // LIST_SHARE))

    @cached_property
    def lists(self) -> np.ndarray:
        """int64 ``(B, width)`` what the people asked are given, popularity of late counted in; -1 at the end."""
        met = self.events.take(self.asked)
        gone = np.flatnonzero(self.catalog_rows < 0)
        query = np.concatenate([met.people, np.repeat(np.arange(len(met)), len(gone))])
        row = np.concatenate([self.index_rows[met.items], np.tile(gone, len(met))])
        trend = self.model.standing(self.positives, len(self.catalog))
        bonus = None if trend is None else np.where(self.catalog_rows < 0, np.float32(0), trend[self.catalog_rows])
        depth = max(self.width, min(CANDIDATES, len(self.index)))
        hits = search_interests(self.index, self.queries, depth, exclude=Excluded(query, row), bonus=bonus)
        rows = hits.rows[:, : self.width]
        return np.where(rows < 0, -1, self.catalog_rows[rows])

    @cached_property
    def popular_lists(self) -> np.ndarray:
        """int64 ``(B, width)`` the items with most events that each of the people asked has not met."""
        met = self.events.take(self.asked)
        order = np.argsort(-np.bincount(self.events.items, minlength=len(self.catalog)), kind="stable")
        order = order[: self.width + int(met.lengths.max(initial=0))]
        lists = np.full((len(met), self.width), -1, np.int64)
        for person, own in enumerate(np.split(met.items, met.offsets[1:-1])):
            new = order[~np.isin(order, own)][: self.width]
            lists[person, : len(new)] = new
        return lists

    def _histories(self, positive: Positive | None) -> Histories:
        if (self.catalog.rows(self.log.table[ITEM_ID]) < 0).all():
            return Histories.of([])
        return self.log.known(self.catalog).histories(self.catalog, positive=positive)[1]


def sample(rows: np.ndarray, count: int) -> np.ndarray:
    """`count` of int64 ``(n,)`` rows drawn without repeats, all where there are no more; always the same ones."""
    return rows if len(rows) <= count else np.sort(np.random.default_rng(SEED).choice(rows, count, replace=False))


def some(ids: IdList, rows: np.ndarray, count: int = 3) -> str:
    """The first few ids, for a person."""
    return ", ".join(map(str, ids.take(rows[:count]))) + (", …" if len(rows) > count else "")
