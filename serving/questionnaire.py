"""`Questionnaire`: for someone new, the few questions that tell most, and recommendations from the answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from serving.people import Leaning, Person, stranger
from serving.recommendations import Recommendations
from serving.retriever import Retriever
from towers.errors import InputError
from towers.ids import Id

Answers = Mapping[Id, bool | None]  # item to: likes it, does not, does not know it
UNKNOWN, DISLIKED, LIKED = range(3)
LIKES_FROM = 0.75  # of a rating in [0, 1]
OTHERS = 0.3  # how much everybody's answers count beside a person's own: nobody is quite like another
NOT_KNOWN = 0.3  # how much "I do not know it" counts beside an answer: who knows what is chance, in part
FLOOR = 1e-3  # of how many like an item, so that its logarithm is finite


class Questionnaire:
    """Asks someone new about items, each the one whose answer is expected to tell most.

    People of the log are what the new person may be like. Their past says how each of them would answer, and so each
    answer says how likely the new person is like whom (Bayes; all alike at first). The next question is the item after
    whose answer the vectors of these people are expected to lie closest together: least variance, weighted by that.

    Recommendations add two things: what the people that the new person is like have liked, and what the model
    finds for the items that they say they like. Without answers that is what most people like.

    Args:
        retriever: with a log.
        people: how many of the log are drawn.
        items: how many may be asked about, of those on offer the ones that most people met.

    Raises:
        InputError: no log, or nobody in it can be read or met anything that is on offer.

    Attributes:
        retriever: as given.
        catalog: of the items.
        askable: ids of the items that may be asked about.
    """

    def __init__(self, retriever: Retriever, *, people: int = 500, items: int = 100) -> None:
        self.retriever, self.catalog = retriever, retriever.catalog
        events, self._vectors = retriever.acquaintances(people)
        self._people, self._items = events.people, events.items
        liked = ~(events.ratings < np.float32(LIKES_FROM))  # what was not rated was chosen
        self._said = np.where(liked, LIKED, DISLIKED)
        self._liked = liked
        met = np.bincount(self._items, minlength=len(self.catalog)) * retriever.on_offer
        if not met.any():
            raise InputError("nobody in the log met an item that is on offer, so there is nothing to ask about")
        self._asked_about = np.argsort(-met, kind="stable")[: min(items, int((met > 0).sum()))]
        self.askable = self.catalog.ids.take(self._asked_about)
        self._likely = np.stack([self._answers_to(row) for row in self._asked_about], axis=1)

    def next(self, answers: Answers | None = None, *, without: Iterable[Id] = ()) -> Id | None:
        """The item to ask about now; None where all have been.

        Args:
            answers: those so far, by item: True: likes it. False: does not. None: does not know it.
            without: items that nobody is to be asked about.
        """
        weights = self._weights(answers or {})
        rows = np.concatenate([self._rows(answers or {}), self.catalog.rows(list(without))])
        joint = weights[:, None, None] * self._likely  # (H, C, 3): that it is this person, who answers so
        answer = joint.sum(0)
        means = (joint.reshape(len(weights), -1).T @ self._vectors).reshape(*answer.shape, -1)
        closeness = ((means**2).sum(-1) / answer).sum(1)  # of unit vectors: 1 less their expected variance
        closeness[np.isin(self._asked_about, rows)] = -np.inf
        best = int(closeness.argmax())
        return None if np.isneginf(closeness[best]) else self.catalog.ids[self._asked_about[best]]

    def recommend(self, answers: Answers | None = None, *, k: int = 10) -> Recommendations:
        """The k items that suit the new person best, none that they said they know."""
        return self.retriever.recommend(person=self.person(answers), k=k)

    def person(self, answers: Answers | None = None, *, since: Person | None = None) -> Person:
        """The new person, as `Retriever.recommend` takes one.

        Args:
            answers: theirs.
            since: what they did beside answering, such as in a session; it counts as done after the answers.
        """
        answers, before = answers or {}, since or stranger()
        rows, weights = self._rows(answers), self._weights(answers)
        given = np.array([UNKNOWN if one is None else int(one) + 1 for one in answers.values()], np.int64)
        mean = weights @ self._vectors
        likes = np.bincount(self._items, weights[self._people] * self._liked, len(self.catalog))
        bonus = np.log(np.maximum(likes, FLOOR) / FLOOR).astype(np.float32)
        leaning = Leaning((mean / np.linalg.norm(mean)).astype(np.float32), bonus)
        liked = rows[(given == LIKED) & self.retriever.readable[rows] & ~np.isin(rows, before.seen)]
        name = f"someone new with {len(given):,} {'answer' if len(given) == 1 else 'answers'}"
        return replace(
            before,
            name=name if since is None else f"{name}, {since.name}",
            history=before.history.preceded_by(liked),
            seen=np.union1d(before.seen, rows[given != UNKNOWN]).astype(np.int64),
            leaning=leaning,
        )

    def _rows(self, answers: Answers) -> np.ndarray:
        rows = self.catalog.rows(list(answers)) if answers else np.empty(0, np.int64)
        if (rows < 0).any():
            raise InputError(
                f"an answer is about an item that the catalog lacks: {list(answers)[int(rows.argmin())]!r}"
            )
        return rows

    def _weights(self, answers: Answers) -> np.ndarray:
        """float64 ``(H,)`` how likely the new person is like each of them."""
        weights = np.full(len(self._vectors), 1 / len(self._vectors))
        for row, answer in zip(self._rows(answers), answers.values(), strict=True):
            likely = self._answers_to(row)
            weights *= likely[:, UNKNOWN] ** NOT_KNOWN if answer is None else likely[:, int(answer) + 1]
            weights /= weights.sum()  # each time: a hundred small numbers in a row would be 0
        return weights

    def _answers_to(self, row: int) -> np.ndarray:
        """float64 ``(H, 3)`` how likely each of them would answer what about an item."""
        asked, own = self._items == row, np.zeros((len(self._vectors), 3))
        said = np.full(len(own), UNKNOWN)
        said[self._people[asked]] = self._said[asked]
        own[np.arange(len(own)), said] = 1
        everybody = (own.sum(0) + 1) / (len(own) + 3)
        return (1 - OTHERS) * own + OTHERS * everybody
