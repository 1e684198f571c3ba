"""Choose index kind and search parameters by measurement, with the questions that people will ask.

People's vectors lie elsewhere than the items': an index tuned on item vectors keeps what it promises to items, not to
people. What that would have cost is measured, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from numbers import Real
from time import perf_counter
from typing import Any

import numpy as np

from indexing import approximate
from indexing.exact import exact_search
from indexing.hits import Hits
from indexing.index import ItemIndex
from indexing.nearest import FLAT
from towers.errors import InputError

GROUPS = ("head", "torso", "tail", "cold")
BEHIND = 0.01  # how far the tail's recall may lie behind the head's
LEAST = 20  # targets of a group below which its recall says nothing
ALIKE = 1.1  # times that differ by less are the same to a clock, so that recall decides
ROUNDS = 3  # searches of all queries at each setting, of which the median counts
ALONE = 200  # queries that are asked one by one where each is to be quick
ITEMS_ASKED = 1_000  # items whose vectors show what tuning on item vectors would have cost


@dataclass(frozen=True)
class Setting:
    """An index kind with search parameters, and what was measured of it.

    Args:
        kind: FAISS factory string.
        parameters: FAISS search parameters.
        recall: share of the k nearest that was found.
        groups: the same for targets in head, torso and tail, and for cold ones; those that have enough targets.
        latency_ms: of a query: its part of a batch of all, or where a limit was set, the median of queries alone.
        bytes_per_item: of the FAISS index; the exact vectors beside it come on top.
        build_s: seconds.
    """

    kind: str
    parameters: str
    recall: float
    groups: dict[str, float]
    latency_ms: float
    bytes_per_item: float
    build_s: float

    @property
    def is_fair(self) -> bool:
        """Whether the tail is found as well as the head, to a point."""
        return not {"head", "tail"} <= set(self.groups) or self.groups["tail"] >= self.groups["head"] - BEHIND


def frontier(settings: Sequence[Setting]) -> list[Setting]:
    """Those that no other beats in both recall and time, the fastest first."""
    best, found = -1.0, []
    for one in sorted(settings, key=lambda one: (one.latency_ms, -one.recall)):
        if one.recall > best:
            best = one.recall
            found.append(one)
    return found


@dataclass(frozen=True)
class Tuned:
    """What `tune` found.

    Args:
        index: a new index of the same items, of the chosen kind, with the choice in `ItemIndex.tuned`.
        chosen: the choice.
        settings: all that were measured.
        on_items: what the same wish would have chosen with items' vectors as queries, and what it does for people.
    """

    index: ItemIndex
    chosen: Setting
    settings: list[Setting]
    on_items: dict[str, Any]


def tune(
    index: ItemIndex,
    queries: np.ndarray,
    *,
    recall: float | None = None,
    latency_ms: float | None = None,
    memory_bytes: int | None = None,
    k: int = 10,
    counts: np.ndarray | None = None,
    kinds: Iterable[str] | None = None,
) -> Tuned:
    """The fastest index with enough recall; or, where only a limit is given, the one with most recall within it.

    Args:
        index: the items, in whatever kind.
        queries: float32 ``(B, D)`` people's vectors, unit norm.
        recall: share of the k nearest that must be found, in (0, 1]; 0.95 where no wish is given.
        latency_ms: most that a query alone may take, a median; batches are quicker. None has queries measured in one
            batch.
        memory_bytes: most the FAISS index may take.
        k: how many are asked for.
        counts: ``(N,)`` events of each item, for recall in head, torso and tail.
        kinds: FAISS factory strings to try, or one; None for `grid`.

    Raises:
        InputError: no items, no queries, no kinds, a wish that is no number above 0, or one that nothing fulfils, with
            what comes nearest.
    """
    check_wishes(recall, latency_ms, memory_bytes)
    if not len(index):
        raise InputError("this index has no items, so there is nothing to measure: add some first")
    tried = grid(len(index), index.dimension) if kinds is None else [kinds] if isinstance(kinds, str) else list(kinds)
    if not tried:
        raise InputError("tuning needs kinds to try, got none; leave kinds out to have some chosen")
    if not len(queries):
        raise InputError("tuning needs people's vectors as queries, got none")
    if recall is None and latency_ms is None and memory_bytes is None:
        recall = 0.95
    groups = None if counts is None else _groups(np.asarray(counts), len(index))
    asked = np.random.default_rng(0).permutation(len(index))[:ITEMS_ASKED]
    alone = latency_ms is not None
    people = _Exam.of(index, queries, k, groups, alone)
    items = _Exam.of(index, index.vectors[asked], k, None, alone)
    built, settings, on_items = _measured(index, tried, people, items)
    within = [
        one
        for one in settings
        if (latency_ms is None or one.latency_ms <= latency_ms)
        and (memory_bytes is None or one.bytes_per_item * len(index) <= memory_bytes)
    ]
    chosen = _choose(within, recall)
    if chosen is None:
        raise InputError(_nothing(settings, within))
    best = built[chosen.kind]
    best.set_parameters(chosen.parameters)
    found = _cost_of_items(settings, on_items, recall, chosen)
    wish = {"recall": recall, "latency_ms": latency_ms, "memory_bytes": memory_bytes}
    best.tuned = {
        **asdict(chosen),
        "k": k,
        "wish": {name: value for name, value in wish.items() if value is not None},
        "queries": len(queries),
        "too few targets": people.few,
        "settings": len(settings),
        "why": "about the fastest with enough recall" if recall is not None else "the most recall within the limits",
        "how": f"against exact search, {people.how}",
        "on_items": found,
    }
    return Tuned(best, chosen, settings, found)


def _measured(
    index: ItemIndex, kinds: Iterable[str], people: _Exam, items: _Exam
) -> tuple[dict[str, ItemIndex], list[Setting], list[Setting]]:
    """An index of each kind, and what it is worth at each of its parameters, asked by people and by items."""
    built, settings, on_items = {}, [], []
    for kind in dict.fromkeys(kinds):
        started = perf_counter()
        built[kind] = other = _of_kind(index, kind)
        seconds = perf_counter() - started
        size = approximate.size(other.faiss) / len(other)
        for parameters in approximate.ladder(other.faiss):
            other.set_parameters(parameters)
            settings.append(people.mark(other, size, seconds))
            on_items.append(items.mark(other, size, seconds))
    return built, settings, on_items


def grid(count: int, dimension: int) -> list[str]:
    """Kinds worth trying for this many vectors."""
    kinds = [FLAT]
    if count >= 1_000:
        lists = approximate.square_root(count)
        finenesses = [dimension // 2, dimension] if dimension % 2 == 0 else [dimension]
        kinds += ["HNSW32", f"IVF{lists},Flat", *(f"IVF{lists},PQ{codes}x4fsr,RFlat" for codes in finenesses)]
        kinds += [kind for kind in [approximate.automatic_kind(count, dimension)] if kind != FLAT]
    return kinds


@dataclass(frozen=True)
class _Exam:
    """Queries and their true answers."""

    queries: np.ndarray
    truth: Hits
    groups: dict[str, np.ndarray]  # bool (B, K): which targets belong to a group
    few: dict[str, int]  # groups with too few targets to say anything of them
    alone: bool  # whether queries are timed one by one

    @classmethod
    def of(
        cls, index: ItemIndex, queries: np.ndarray, k: int, groups: dict[str, np.ndarray] | None, alone: bool
    ) -> _Exam:
        truth = exact_search(queries, index.vectors, min(k, len(index)))
        targets = {name: rows[truth.rows] for name, rows in (groups or {}).items() if rows.any()}
        few = {name: int(them.sum()) for name, them in targets.items() if them.sum() < LEAST}
        return cls(queries, truth, {name: them for name, them in targets.items() if name not in few}, few, alone)

    @property
    def how(self) -> str:
        """What the time of a query is, in words."""
        if self.alone:
            return f"the time is the median of {min(ALONE, len(self.queries))} queries, each asked alone"
        return f"all queries in one batch, median of {ROUNDS} rounds"

    def mark(self, index: ItemIndex, size: float, build_s: float) -> Setting:
        """What an index is worth, as it is set now."""
        rounds = [self._timed(index, self.queries) for _ in range(1 if self.alone else ROUNDS)]
        hits, asked = rounds[0][0], len(self.queries)
        if self.alone:
            spread = self.queries[:: max(1, asked // ALONE)][:ALONE]
            rounds, asked = [self._timed(index, one[None]) for one in spread], 1
        found = np.stack([np.isin(true, mine) for true, mine in zip(self.truth.rows, hits.rows, strict=True)])
        # An equal of the k-th is as good as the k-th.
        found |= self.truth.scores <= hits.scores[:, -1:]
        return Setting(
            index.kind,
            index.parameters,
            float(found.mean()),
            {name: float(found[them].mean()) for name, them in self.groups.items()},
            1e3 * float(np.median([seconds for _, seconds in rounds])) / asked,
            size,
            build_s,
        )

    def _timed(self, index: ItemIndex, queries: np.ndarray) -> tuple[Hits, float]:
        started = perf_counter()
        hits = index.search(queries, self.truth.k)
        return hits, perf_counter() - started


def _choose(settings: Sequence[Setting], recall: float | None) -> Setting | None:
    """Of the fair ones, about the fastest with this recall, or without one that which has the most."""
    fair = [one for one in settings if one.is_fair]
    if recall is None:
        return max(fair, key=lambda one: (one.recall, -one.latency_ms), default=None)
    enough = [one for one in fair if one.recall >= recall]
    fastest = min((one.latency_ms for one in enough), default=0.0)
    return max((one for one in enough if one.latency_ms <= ALIKE * fastest), key=lambda one: one.recall, default=None)


def _cost_of_items(
    people: Sequence[Setting], items: Sequence[Setting], recall: float | None, chosen: Setting
) -> dict[str, Any]:
    """What would have been chosen on items' vectors for the same kind, and its recall for items and for people."""
    here = [number for number, one in enumerate(people) if one.kind == chosen.kind]
    choice = _choose([items[number] for number in here], recall)
    if choice is None:
        return {}
    number = next(number for number in here if items[number] is choice)
    return {
        "parameters": choice.parameters,
        "recall of items": choice.recall,
        "recall of people": people[number].recall,
        "lost": chosen.recall - people[number].recall,
    }


def _of_kind(index: ItemIndex, kind: str) -> ItemIndex:
    other = ItemIndex.from_arrays(index.ids, index.vectors, index.attributes, kind=kind, space=index.space)
    other.removed = index.removed
    other.version, other.folder = index.version, index.folder
    return other


def _groups(counts: np.ndarray, count: int) -> dict[str, np.ndarray]:
    """bool ``(N,)`` of each group: head and torso take the first 20 and 80 % of the events, cold items have none."""
    if counts.shape != (count,) or not np.isfinite(counts).all() or counts.min() < 0:
        raise InputError(f"counts must be {count} numbers of events from 0 on, got the shape {counts.shape}")
    order = np.argsort(-counts, kind="stable")
    before = np.empty(count)
    before[order] = np.cumsum(counts[order]) - counts[order]
    share = before / max(1, counts.sum())
    head, rest = share < 0.2, share < 0.8
    masks = (head & (counts > 0), rest & ~head & (counts > 0), ~rest | (counts == 0), counts == 0)
    return dict(zip(GROUPS, masks, strict=True))


def check_wishes(*wishes: float | None) -> None:
    """Raise `InputError` where recall, latency or memory, in this order, cannot be had of any index."""
    said = [wish for wish in wishes if wish is not None]
    if any(isinstance(wish, bool) or not isinstance(wish, Real) or not wish > 0 for wish in said) or (
        wishes[0] is not None and wishes[0] > 1
    ):
        raise InputError(f"recall must be in (0, 1], latency and memory above 0; got {wishes}")


def _nothing(settings: Sequence[Setting], within: Sequence[Setting]) -> str:
    fair = [one for one in within if one.is_fair]
    if not within:
        fastest = min(settings, key=lambda one: one.latency_ms)
        smallest = min(settings, key=lambda one: one.bytes_per_item)
        return (
            f"nothing lies within the limits: the fastest takes {fastest.latency_ms:.3g} ms a query ({fastest.kind}), "
            f"the smallest {smallest.bytes_per_item:.0f} bytes an item ({smallest.kind})"
        )
    nearest = max(fair or within, key=lambda one: one.recall)
    return (
        f"nothing reaches that recall with the tail as well found as the head; the nearest is {nearest.kind} with "
        f"{nearest.parameters or 'no parameters'}: {nearest.recall:.3f}"
    )
