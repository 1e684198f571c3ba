"""All methods on one split: the same questions, the same metrics, and differences on the same people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from indexing.hits import Hits
from towers.catalog import Catalog
from towers.errors import InputError
from towers.history import Histories
from towers.ids import IdList
from towers.interactions import Interactions, Positive
from towers.tables import missing_name
from training.measuring.baselines import baseline_grids, tune
from training.measuring.evaluate import PeopleRanker, Ranker, Result, evaluate, score
from training.measuring.leaks import PROTOCOLS, refuse_leaks
from training.measuring.metrics import paired_difference
from training.measuring.protocols import cold_items, given, leave_one_out, split_words, temporal
from training.measuring.splits import Questions, Split

OURS = "twotower"
DEPTH = 100  # candidates that a re-ranker sees
NEWCOMERS = "newcomers"
JUDGED_BY = ("recall@20", "ndcg@20", "recall@20/tail", "recall@20/cold")


def split_log(protocol: str, log: Interactions, catalog: Catalog, positive: Positive) -> tuple[IdList, Split]:
    """The people of a log, and its events split by a protocol of `docs/protocols.md`; leaks are refused.

    Args:
        protocol: ``leave-one-out``, ``temporal``, ``cold-items`` or ``given`` (by the column ``split``).
        log: events, all with items of the catalog (see `Interactions.known`).
        catalog: N items.
        positive: which events count.

    Raises:
        InputError: an unknown protocol, a log that it cannot split, or a leak.
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"evaluation {missing_name('protocol', protocol, PROTOCOLS)}")
    if protocol == "temporal" and "timestamp" not in log.table.column_names:
        raise InputError(f"a cut in time needs times, and {log.lacks('timestamp')}; or use leave-one-out")
    users, histories = log.histories(catalog, positive=positive)
    makers: dict[str, Callable[[], Split]] = {
        "leave-one-out": lambda: leave_one_out(histories),
        "temporal": lambda: temporal(histories),
        "cold-items": lambda: cold_items(histories, len(catalog)),
        "given": lambda: given(histories, split_words(log, catalog, positive=positive)),
    }
    split = makers[protocol]()
    refuse_leaks(split, protocol=protocol)
    return users, split


class StagedRanker(Protocol):
    """Ranks in two stages, as `training.ranker.IndexRanker` does."""

    def retrieve(self, histories: Histories, k: int) -> Hits:
        """The k candidates of each history."""

    def rerank(self, hits: Hits, histories: Histories) -> Hits:
        """The same candidates in another order."""


@dataclass
class Comparison:
    """A table that grows method by method.

    Args:
        split: what is evaluated.
        protocol: its name, which every row carries.
        items: size N of the catalog.
        rows: one for each method and set of questions, as in a benchmark's JSON.
        notes: of each method, such as the settings that were chosen.
    """

    split: Split
    protocol: str
    items: int
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._counts = np.bincount(self.split.refit.items, minlength=self.items)
        self._results: dict[tuple[str, int], Result] = {}

    def add(self, method: str, ranker: Ranker | PeopleRanker, *, seed: int = 0) -> None:
        """Ask a method the test questions, and those about newcomers where there are any."""
        for split, questions in self._questions().items():
            if split == self.protocol or not isinstance(ranker, PeopleRanker):
                self._add(method, split, seed, evaluate(ranker, questions, counts=self._counts, depth=DEPTH))

    def add_stages(self, method: str, ranker: StagedRanker, *, seed: int = 0) -> None:
        """Ask as `add` does, once for two rows: ``METHOD-retrieval`` in the order of retrieval, METHOD in the last."""
        for split, questions in self._questions().items():
            stages = _Stages(ranker)
            self._add(f"{method}-retrieval", split, seed, evaluate(stages, questions, counts=self._counts, depth=DEPTH))
            rows = np.concatenate(stages.reranked)
            self._add(method, split, seed, score(rows, questions, counts=self._counts, depth=DEPTH))

    def add_lists(self, method: str, rows: np.ndarray, *, seed: int = 0) -> None:
        """Score ranked lists of the test questions, int64 ``(M, K)`` catalog rows."""
        self._add(method, self.protocol, seed, score(rows, self.split.test, counts=self._counts, depth=DEPTH))

    def differences(self, seed: int = 0) -> list[dict[str, Any]]:
        """Ours less the best other method, paired, for each metric that decides."""
        ours = self._results.get((OURS, seed))
        others = {name: result for (name, _), result in self._results.items() if not name.startswith(OURS)}
        if ours is None or not others:
            return []
        found = []
        for metric in JUDGED_BY:
            known = {name: result for name, result in others.items() if metric in result.metrics}
            if metric not in ours.metrics or not known:
                continue
            best = max(known, key=lambda name: known[name].metrics[metric][0])  # type: ignore[index]
            difference = paired_difference(ours.per_person[metric], known[best].per_person[metric])
            names = {"metric": metric, "seed": seed, "split": self.protocol, "ours": OURS, "theirs": best}
            found.append({**names, "difference": [round(value, 6) for value in difference]})
        return found

    def _questions(self) -> dict[str, Questions]:
        """Those of the test, and those about newcomers where there are any, by the name that their rows carry."""
        newcomers = self.split.newcomers
        asked = {} if newcomers is None or not len(newcomers) else {f"{self.protocol}-{NEWCOMERS}": newcomers}
        return {self.protocol: self.split.test, **asked}

    def _add(self, method: str, split: str, seed: int, result: Result) -> None:
        if split == self.protocol:
            self._results[method, seed] = result
        self.rows.append(result.row(method=method, split=split, seed=seed))


class _Stages:
    """Ranks by the first stage, and keeps what the second makes of it: int64 ``(B, k)`` rows of each batch."""

    def __init__(self, ranker: StagedRanker) -> None:
        self._ranker = ranker
        self.reranked: list[np.ndarray] = []

    def rank(self, histories: Histories, k: int) -> Hits:
        hits = self._ranker.retrieve(histories, k)
        self.reranked.append(self._ranker.rerank(hits, histories).rows)
        return hits


def add_baselines(
    comparison: Comparison,
    *,
    names: tuple[str, ...] | None = None,
    content: np.ndarray | None = None,
    memory: float = np.inf,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Tune the baselines on validation data, refit them, and ask them.

    Args:
        comparison: the table to add to.
        names: which; default: all that the data allow.
        content: float ``(N, d)`` content of the items, for the nearest neighbours by content.
        memory: bytes that one may take; one that would need more is left out, and said before any starts.
        tell: is told what happens.

    Raises:
        InputError: an unknown name; raised before any starts.
    """
    split, items = comparison.split, comparison.items
    grids = baseline_grids(times=split.log.times is not None, content=content)
    wanted = names or tuple(grids)
    for name in wanted:
        if name not in grids:
            raise InputError(f"this log {missing_name('baseline', name, grids)}")
    needed = {name: memory_needed(name, split.refit, items) for name in wanted}
    for name, size in needed.items():
        if size > memory:
            figures = f"needs about {size / 2**30:,.1f} GiB, {memory / 2**30:,.1f} GiB may be used"
            comparison.notes[name] = {"left out": figures}
            tell(f"{name} is left out: it {figures}")
    for name in wanted:
        if needed[name] > memory:
            continue
        tell(f"{name}: {len(grids[name])} settings")
        tuned = tune(grids[name], split, items)
        comparison.notes[name] = {"chosen": tuned.settings, "tried": tuned.tried}
        comparison.add(name, tuned.ranker)


def memory_needed(name: str, train: Histories, items: int) -> float:
    """About how many bytes a baseline takes at its largest."""
    pairs = float((train.lengths.astype(np.float64) ** 2).sum())  # products of the co-occurrence matrix
    sizes: Mapping[str, float] = {
        "item-knn": 36 * min(pairs, float(items) ** 2),
        "ease": 3 * 8 * float(items) ** 2,
        "als": 4 * 128 * 3 * float(items + len(train)),
        "bpr": 4 * 64 * 3 * float(items + len(train)),
    }
    return sizes.get(name, 0.0) + 256 * items * 4 * 3  # scores of a batch


def sample_people(questions: Questions, most: int, seed: int = 0) -> Questions:
    """At most so many questions, drawn without looking at them."""
    if len(questions) <= most:
        return questions
    return questions.take(np.sort(np.random.default_rng(seed).permutation(len(questions))[:most]))
