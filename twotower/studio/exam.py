"""What listeners of the generated shop are asked for, and how often methods find it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from indexing.hits import Hits
from indexing.index import ItemIndex
from towers.catalog import ITEM_ID
from towers.history import Histories
from towers.ids import IdList
from towers.interactions import USER_ID
from towers.model import TwoTower
from training.evaluate import Ranker, ranked_rows, score
from training.popularity import MostPopular
from training.protocols import leave_one_out
from training.ranker import IndexRanker
from training.splits import Questions, Split
from twotower.studio.shop import Shop

K = 20
METRIC = f"recall@{K}"
KNOWN, NEW = "known tracks", "new tracks"
TRUTH = "true tastes"
NAMES = {"text": "text", "image": "cover", "audio": "sound"}
"""What the kinds of content are called where people read of them."""


@dataclass(frozen=True)
class Exam:
    """What listeners are asked for.

    Args:
        shop: theirs.
        users: the listeners, in the order of the questions' people.
        split: their choices; the test asks for the last one.
        of_new: the same pasts, followed by what each chooses of the new tracks.
    """

    shop: Shop
    users: IdList
    split: Split
    of_new: Questions

    @property
    def questions(self) -> dict[str, Questions]:
        """By name, with the same pasts; all tracks compete that the listener has not chosen before."""
        return {KNOWN: self.split.test, NEW: self.of_new}


def make_exam(shop: Shop) -> Exam:
    """The listeners who are trained on, each choice but the last two for training."""
    users, histories = shop.log.histories(shop.catalog)
    split = leave_one_out(histories)
    chosen: list[list[int]] = [[] for _ in range(len(users))]
    owners = users.rows(shop.new_tracks[USER_ID])
    for owner, track in zip(owners, shop.catalog.rows(shop.new_tracks[ITEM_ID]), strict=True):
        if owner >= 0:
            chosen[owner].append(int(track))
    targets = Histories.of(chosen).take(split.test.people)
    return Exam(shop, users, split, Questions(split.test.people, split.test.histories, targets))


def measure(exam: Exam, model: TwoTower, index: ItemIndex, seed: int) -> list[dict[str, Any]]:
    """How often what a listener chooses is among the first 20, by most popular, ours, and the true tastes.

    Ours once more for each kind of content, read alone of all tracks, those of the histories too.
    """
    shop, train = exam.shop, exam.split.train
    counts = np.bincount(train.items, minlength=len(shop.catalog))
    rankers: dict[str, Ranker] = {
        "most popular": MostPopular().fit(train, len(shop.catalog)),
        "twotower": IndexRanker(model, index, shop.catalog),
    }
    for kind, name in NAMES.items():
        alone = ItemIndex.from_arrays(
            shop.catalog.ids, model.embed_items(shop.catalog, by=kind), kind="Flat", space=model.space
        )
        rankers[f"twotower, {name} only"] = IndexRanker(model, alone, shop.catalog)
    lists = {name: ranked_rows(ranker, exam.split.test, K) for name, ranker in rankers.items()}
    lists[TRUTH] = _truth(exam)
    return [
        score(ranked, asked, counts=counts, ks=(K,), depth=K, seed=seed).row(method=name, split=split, seed=seed)
        for split, asked in exam.questions.items()
        for name, ranked in lists.items()
    ]


def _truth(exam: Exam) -> np.ndarray:
    """int64 ``(M, K)`` what each listener really likes best, the past left out: the ceiling."""
    asked = exam.split.test
    utilities = exam.shop.oracle.utilities()[exam.shop.users.rows(exam.users.array)[asked.people]]
    utilities[asked.histories.people, asked.histories.items] = -np.inf
    return Hits.top(utilities, K).rows
