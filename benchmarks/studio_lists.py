"""What the benchmarks on the generated shop ask a ranker, and how the lists that it gives are judged."""

from __future__ import annotations

import numpy as np
from scipy.stats import hypergeom

from towers.history import Histories
from training.measuring.evaluate import PeopleRanker, Ranker, ranked_rows
from training.measuring.metrics import Interval, matches, recall
from twotower.studio.exam import Exam, K, OracleRanker
from twotower.studio.shop import Shop

KNOWN, NEW_TRACKS, NEW_LISTENERS = "known", "new-tracks", "new-listeners"

PerPerson = dict[str, np.ndarray]


def among(shop: Shop) -> dict[str, str]:
    """The names of the two figures that can be compared: targets among as many new tracks, or known ones."""
    return {split: f"{split}-among-{shop.cold.sum()}" for split in (KNOWN, NEW_TRACKS)}


def examine(exam: Exam, ranker: Ranker | PeopleRanker, for_strangers: PeopleRanker | None = None) -> PerPerson:
    """Recall@20 of each person, float64, by set of questions.

    ``known``, ``new-tracks`` and ``new-listeners`` rank the whole catalog. Few choices are of new tracks, so that these
    have more rivals there than among themselves: ``new-tracks-among-n`` ranks the n new tracks only, and
    ``known-among-n`` the last choice among n known tracks that the listener has not met, itself and others at random:
    the mean over all draws of these others. Both have the same listeners, pasts and number of candidates.

    Args:
        exam: the questions.
        ranker: is asked once for each past, for the whole catalog in order.
        for_strangers: who is asked about new listeners, by default `ranker`.
    """
    size, cold = len(exam.shop.catalog), exam.shop.cold
    lists = ranked_rows(ranker, exam.split.test, size)
    strange = ranked_rows(for_strangers or ranker, exam.strangers, size)
    target, of_new = exam.split.test.targets, exam.of_new.targets
    return {
        KNOWN: _recall(lists, target),
        NEW_TRACKS: _recall(lists, of_new),
        among(exam.shop)[KNOWN]: recall_among(only(lists, ~cold), target, int(cold.sum())),
        among(exam.shop)[NEW_TRACKS]: _recall(only(lists, cold), of_new),
        NEW_LISTENERS: _recall(strange, exam.strangers.targets),
    }


def only(lists: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Ranked lists int64 ``(B, N)`` with only the items where bool ``(N,)`` `mask` holds, -1 behind them."""
    inside = (lists >= 0) & mask[lists]
    order = np.argsort(~inside, axis=1, kind="stable")
    return np.take_along_axis(np.where(inside, lists, -1), order, axis=1)


def recall_among(lists: np.ndarray, targets: Histories, count: int) -> np.ndarray:
    """How likely a person's one target is among the first 20 of `count` items: itself, and others drawn from the list.

    How many of the others that are drawn stand before the target is hypergeometric, so no draw is needed.

    Args:
        lists: int64 ``(B, N)`` ranked items, -1 where a list ends.
        targets: one for each of the B people.
        count: 1 or more.

    Returns:
        float64 ``(B,)``.
    """
    others = (lists >= 0).sum(axis=1) - 1
    found = matches(lists, targets)
    before = np.where(found.any(axis=1), found.argmax(axis=1), others)
    return hypergeom.cdf(K - 1, others, before, np.minimum(count - 1, others))


def _recall(lists: np.ndarray, targets: Histories) -> np.ndarray:
    return recall(matches(lists[:, :K], targets), targets.lengths, K)


def examine_oracle(exam: Exam) -> PerPerson:
    """What the true utilities reach; see `examine`."""
    utilities = exam.shop.oracle.utilities()
    return examine(exam, OracleRanker(utilities[exam.people]), OracleRanker(utilities[exam.strange_people]))


def quotient(part: np.ndarray, whole: np.ndarray, *, seed: int = 0, n: int = 2000) -> Interval:
    """The mean of `part` over the mean of `whole`, with its 95 % percentile bootstrap interval over people.

    Args:
        part, whole: float ``(P,)`` of the same people in the same order, none NaN.
        seed, n: as in `training.measuring.metrics.bootstrap`.
    """
    # Equal people are interchangeable: drawing how often each distinct one comes up is the same bootstrap.
    pairs, counts = np.unique(np.stack([part, whole], axis=1), axis=0, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(part), counts / len(part), n) @ pairs
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = np.percentile(drawn[:, 0] / drawn[:, 1], [2.5, 97.5])
    return Interval(float(part.mean() / whole.mean()), float(low), float(high))
