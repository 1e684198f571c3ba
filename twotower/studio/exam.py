"""What listeners of the generated shop are asked for, and how often methods find it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from indexing.hits import Hits
from indexing.index import ItemIndex
from towers.catalog import ITEM_ID
from towers.history import Histories
from towers.interactions import USER_ID, Positive
from towers.model import TwoTower
from training.measuring.comparison import split_log
from training.measuring.evaluate import PeopleRanker, Ranker, ranked_rows, score
from training.measuring.popularity import MostPopular
from training.measuring.protocols import split_words
from training.measuring.splits import Questions, Split
from training.ranker import IndexRanker
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
        split: of the log, by its column ``split``; its test asks each of M listeners for the last choice. Nothing is
            refitted, as in leave-one-out: the validation choice is read in the pasts and never trained on.
        of_new: the same pasts, followed by what these listeners choose of the new tracks.
        strangers: pasts of the listeners who are not trained on, followed by the last fifth of their choices.
        people: int64 ``(U,)`` rows of the oracle for the people of `split`.
        strange_people: the same for those of `strangers`.
    """

    shop: Shop
    split: Split
    of_new: Questions
    strangers: Questions
    people: np.ndarray
    strange_people: np.ndarray

    @property
    def questions(self) -> dict[str, Questions]:
        """By name, with the same pasts; all tracks compete that the listener has not chosen before."""
        return {KNOWN: self.split.test, NEW: self.of_new}


@dataclass(frozen=True)
class OracleRanker:
    """Ranks by what people truly want, as nobody can: the ceiling.

    Args:
        utilities: float32 ``(U, N)`` of the people asked about.
    """

    utilities: np.ndarray

    def for_people(self, people: np.ndarray) -> OracleRanker:
        """The same for a batch of people."""
        return OracleRanker(self.utilities[people])

    def rank(self, histories: Histories, k: int) -> Hits:
        """The k tracks of the highest utility, those of the history left out."""
        scores = self.utilities.copy()
        scores[histories.people, histories.items] = -np.inf
        return Hits.top(scores, k)


def make_exam(shop: Shop) -> Exam:
    """The questions of a shop."""
    listeners, split = split_log("given", shop.log, shop.catalog, Positive())
    split = replace(split, refit=split.train)
    strangers, choices = shop.new_listeners.histories(shop.catalog)
    asked = np.array(split_words(shop.new_listeners, shop.catalog).to_pylist()) == "test"
    everybody = np.arange(len(strangers))
    people = shop.users.rows(listeners.array)
    return Exam(
        shop=shop,
        split=split,
        of_new=Questions(split.test.people, split.test.histories, _of_new(shop, people[split.test.people])),
        strangers=Questions(everybody, choices.keep(~asked), choices.keep(asked)),
        people=people,
        strange_people=shop.users.rows(strangers.array),
    )


def _of_new(shop: Shop, people: np.ndarray) -> Histories:
    """What these rows of the oracle choose of the new tracks."""
    owners = shop.users.rows(shop.new_tracks[USER_ID])
    rows = shop.catalog.rows(shop.new_tracks[ITEM_ID])[np.argsort(owners, kind="stable")]
    return Histories.of(rows.reshape(len(shop.users), -1)[people].tolist())


def measure(exam: Exam, model: TwoTower, index: ItemIndex, seed: int) -> list[dict[str, Any]]:
    """How often what a listener chooses is among the first 20, by most popular, ours, and the true tastes.

    Ours once more for each kind of content, read alone of all tracks, those of the histories too.
    """
    shop, train = exam.shop, exam.split.train
    counts = np.bincount(train.items, minlength=len(shop.catalog))
    rankers: dict[str, Ranker | PeopleRanker] = {
        "most popular": MostPopular().fit(train, len(shop.catalog)),
        "twotower": IndexRanker(model, index, shop.catalog),
    }
    for kind, name in NAMES.items():
        alone = ItemIndex.from_arrays(
            shop.catalog.ids, model.embed_items(shop.catalog, by=kind), kind="Flat", space=model.space
        )
        rankers[f"twotower, {name} only"] = IndexRanker(model, alone, shop.catalog)
    rankers[TRUTH] = OracleRanker(shop.oracle.utilities()[exam.people])
    lists = {name: ranked_rows(ranker, exam.split.test, K) for name, ranker in rankers.items()}
    return [
        score(ranked, asked, counts=counts, ks=(K,), depth=K, seed=seed).row(method=name, split=split, seed=seed)
        for split, asked in exam.questions.items()
        for name, ranked in lists.items()
    ]
