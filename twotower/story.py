"""One person of the test: what they watched, what is recommended, and what they really watched next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from indexing.index import ItemIndex
from serving.retriever import Retriever
from towers.catalog import ITEM_ID, Catalog
from towers.ids import Id, IdList
from towers.interactions import USER_ID, Interactions
from towers.model import TwoTower
from training.measuring.evaluate import Result
from training.measuring.splits import Questions, Split

LABEL = "{title}[ ({year})]"
EVENTS = (20, 60)  # of the person in the story: enough to know them, few enough to read
LAST = 5  # of those, how many are shown


@dataclass(frozen=True)
class Candidate:
    """One retrieved film.

    Args:
        film: title and year.
        retrieval: what retrieval sorted by.
        stars: predicted rating, None where the model has learned none.
        place: by retrieval, from 1.
        final: after re-ranking, from 1.
        watched: whether this is what the person watched next.
    """

    film: str
    retrieval: float
    stars: float | None
    place: int
    final: int
    watched: bool


@dataclass(frozen=True, kw_only=True)
class Story:
    """What a reader is told of one person.

    Args:
        user: their id.
        about: their attributes in words.
        picked: how they were picked.
        before: films watched before.
        unseen: films they had not watched.
        watched: the last of those before, newest first, with the stars given.
        candidates: all that were retrieved, by place.
        target: what they watched next, with the stars given.
    """

    user: Id
    about: str
    picked: str
    before: int
    unseen: int
    watched: tuple[tuple[str, float], ...]
    candidates: tuple[Candidate, ...]
    target: tuple[str, float]

    @property
    def found(self) -> Candidate | None:
        """The candidate that is the target, None where it was not retrieved."""
        return next((one for one in self.candidates if one.watched), None)

    def outcome(self) -> str:
        """What they watched next and where it stood, in a sentence."""
        (film, stars), found = self.target, self.found
        next_film = f"Watched next: {film}, {stars:g}★."
        if found is None:
            return f"{next_film} It was not among the {len(self.candidates)} candidates out of {self.unseen:,} films."
        places = f"place {found.place} by retrieval, {found.final} after re-ranking"
        return f"{next_film} Of {self.unseen:,} films it stood at {places}."


def pick(questions: Questions, result: Result) -> tuple[int, str]:
    """The question whose person makes the story, and in words how it was picked."""
    least, most = EVENTS
    lengths = questions.histories.lengths
    readable, hit = (least <= lengths) & (lengths <= most), result.per_person["recall@20"] == 1
    how = f"the first in the test with {least} to {most} films"
    if (readable & hit).any():
        return int(np.argmax(readable & hit)), f"{how} whose next one stands in their top 20"
    return int(np.argmax(readable)), f"{how}; none of them has the next one in their top 20"


def tell(
    model: TwoTower,
    index: ItemIndex,
    catalog: Catalog,
    log: Interactions,
    users: IdList,
    split: Split,
    number: int,
    *,
    picked: str,
    depth: int,
) -> Story:
    """Ask for one person as an application would, with a log that ends before the film that is asked for.

    Args:
        model, index, catalog: what answers.
        log: all that people did, in a scale of stars.
        users: the people, as in `split`.
        split: of the log; what it keeps from training stays out of what others did.
        number: which of its test questions.
        picked: how it was picked.
        depth: candidates that are retrieved and re-ranked.
    """
    question = split.test.take(np.array([number]))
    user, target = users[int(question.people[0])], catalog.ids[int(question.targets.items[0])]
    known = _without_answers(log, catalog, users, split, question)
    answer = Retriever(model, index, catalog, known, depth=depth).recommend(user=user, k=depth)
    names = dict(zip(catalog.ids.to_list(), catalog.texts(LABEL), strict=True))
    finals = {one.item: final for final, one in enumerate(answer, start=1)}
    candidates = tuple(
        Candidate(names[one.item], one.retrieval, one.rating, place, finals[one.item], one.item == target)
        for place, one in enumerate(sorted(answer, key=lambda one: -one.retrieval), start=1)
    )
    history = question.histories
    past = [names[catalog.ids[row]] for row in history.items.tolist()]
    watched = list(zip(past, _stars(history.ratings, log), strict=True))[::-1]
    return Story(
        user=user,
        about=history.about[0].as_py() if history.about is not None else "",
        picked=picked,
        before=len(past),
        unseen=len(catalog) - len(np.unique(history.items)),
        watched=tuple(watched[:LAST]),
        candidates=candidates,
        target=(names[target], _stars(question.targets.ratings, log)[0]),
    )


def _without_answers(
    log: Interactions, catalog: Catalog, users: IdList, split: Split, question: Questions
) -> Interactions:
    """The log less everybody's test and validation events, but with all that the person asked about did before."""
    span, own = len(catalog), question.people[0]
    asked = [part.people[part.targets.people] * span + part.targets.items for part in (split.validation, split.test)]
    events = users.rows(log.table[USER_ID]) * span + catalog.rows(log.table[ITEM_ID])
    before = own * span + question.histories.items
    return log.keep(~np.isin(events, np.concatenate(asked)) | np.isin(events, before))


def _stars(ratings: np.ndarray, log: Interactions) -> list[float]:
    low, high = log.rating_range or (0.0, 1.0)
    return (low + ratings * (high - low)).tolist()
