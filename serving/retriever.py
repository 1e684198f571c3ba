"""`Retriever`: what next for this person? Retrieve candidates, re-rank them step by step, answer with titles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from indexing.filters import Where
from indexing.hits import Hits
from indexing.store import Index, open_index
from serving.bonuses import Bonuses
from serving.explain import Explained, Explainer
from serving.explanation import Explanation
from serving.finding import Finder, with_removed
from serving.moment import away_from
from serving.people import People, Person, alike, session, side_by_side, stranger
from serving.reading import Question
from serving.recommendations import Recommendation, Recommendations
from serving.rerank.contract import Candidates, Known, Reranked, Step, rerank
from serving.rerank.items import Items
from serving.rerank.recipe import Steps, read_steps
from serving.rerank.scores import Rating
from towers.catalog import Catalog
from towers.embed import NoCache
from towers.errors import ArtefactError, InputError, TwoTowerError
from towers.history import Histories
from towers.ids import Id
from towers.interactions import Interactions
from towers.model import TwoTower
from towers.recent import Recent
from towers.tables import missing_name
from towers.user import Memory

if TYPE_CHECKING:
    from serving.store.store import Store

Media = str | Path | bytes
READ = 1024  # texts whose reading is kept, as whoever is answered may then ask why
NAMES = {"image": "a picture", "audio": "a sound"}


@dataclass(frozen=True)
class _Asked:
    """One question: who asks, in what words, by which pictures and sounds, under what condition, how re-ranked."""

    person: Person
    text: str | None
    media: tuple[str, ...]
    where: Where | None
    turns: tuple[Step, ...]
    k: int

    @property
    def presumed(self) -> np.ndarray | None:
        """float32 ``(1, D)`` what to ask with where there is nothing to read; None where there is something."""
        nothing = not (len(self.person.history.items) or self.media or self.text)
        return self.person.leaning.query[None] if nothing and self.person.leaning is not None else None


class Retriever:
    """Answers questions about one catalog.

    Args:
        model: both towers and the rating head, or the folder of a model.
        index: an index made with `model`, or its place: a folder, or a Milvus such as ``milvus.db``. Its items may be
            in another order than the catalog's, or other ones: what only the index has is never recommended, what only
            the catalog has is set aside in histories. What was removed from the index serves in histories, whether the
            catalog still has it or not.
        catalog: the items on offer.
        log: what people did; needed to ask for a `user`.
        depth: candidates that are retrieved and then re-ranked; more where more are asked for.
        store: what people did since the log was written; each question reads it anew, so that an event changes the
            next answer. A `user` may be somebody that only the store knows, such as an anonymous session.
        half_life: days after which an event counts half as much as one now to the sequence reader; see
            `towers.sequence_reader.SequenceReader.read`. None: old ones count as training has it.
        steps: how they are re-ranked: a list of steps, or a TOML file of them; see `serving.rerank.recipe.read_steps`.
            Default: by predicted rating.

    Raises:
        ArtefactError: the index was made with another model, or has no item of the catalog.
        InputError: a catalog or log that was not read, a log that has no item of the catalog, steps that there are
            not, or ratings that were mapped from another range than those that the model learned from.
    """

    def __init__(
        self,
        model: TwoTower | str | Path,
        index: Index | str | Path,
        catalog: Catalog,
        log: Interactions | None = None,
        *,
        depth: int = 100,
        store: Store | None = None,
        half_life: float | None = None,
        steps: Steps = None,
    ) -> None:
        _check_read(catalog, Catalog)
        if log is not None:
            _check_read(log, Interactions)
        model = model if isinstance(model, TwoTower) else TwoTower.load(model)
        index = open_index(index) if isinstance(index, str | Path) else index
        if index.space != model.space:
            raise ArtefactError(
                f"the index belongs to another model: it is of the space {index.space[:12]!r}, the model of "
                f"{model.space[:12]!r}; build it again with this model"
            )
        self._given, self._log = catalog, log
        catalog = with_removed(catalog, index)
        self._model, self._index, self._catalog, self._depth = model, index, catalog, depth
        self._steps = read_steps(steps)
        self._finder = Finder(index, catalog)
        self._store, self._half_life = store, half_life
        self._memory = replace(model.memory(catalog, self._finder.vectors()).fading(half_life), read=Recent(READ))
        self._rating_range = _rating_range(model, log)

    def refresh(self) -> Retriever:
        """A retriever over the index as it is now; itself where that is the one it has.

        Raises:
            InputError, ArtefactError: as the `refresh` of the index.
        """
        index = self._index.refresh()
        if index is self._index:
            return self
        more: dict[str, Any] = {"store": self._store, "half_life": self._half_life, "steps": self._steps}
        return Retriever(self._model, index, self._given, self._log, depth=self._depth, **more)

    @property
    def people(self) -> People:
        """Those who can be asked for by their id.

        Raises:
            InputError: there is neither a log nor a store.
        """
        return self._people

    @property
    def rating_range(self) -> tuple[float, float]:
        """What predicted ratings of 0 and 1 are told as."""
        return self._rating_range

    @property
    def stars(self) -> tuple[float, float]:
        """The least and the greatest rating that people give."""
        return _stars(self._model, self._log) or self._rating_range

    def recommend(
        self,
        *,
        user: Id | None = None,
        history: Iterable[Id] | None = None,
        text: str | None = None,
        image: Media | None = None,
        audio: Media | None = None,
        person: Person | None = None,
        where: Where | None = None,
        steps: Steps = None,
        k: int = 10,
    ) -> Recommendations:
        """The k items that suit a person best, none that they have met.

        Args:
            user: somebody in the log or in the store.
            history: items that somebody met, oldest first; unknown ones are set aside and named in the answer.
            text: what somebody would like, in words; alone, or beside one of the others, where it is read instead of
                the history's text. Items that have its very words gain by them.
            image, audio: a picture and a sound, as paths or bytes, of something that somebody would like; alone, or
                beside any of the others. They are read as one more item, met just now; by a model without a reader of
                past items, such as one that was trained without a log, as they are.
            person: instead of a user or a history, somebody that was made elsewhere, such as by a questionnaire.
            where: what must hold of the items' attributes, such as ``{"genre": "Comedy", "year": {">=": 1990}}``; see
                `indexing.filters`.
            steps: how candidates are re-ranked this time, in place of the retriever's own steps.
            k: how many, at least 1; the answer is shorter where fewer are left.

        Raises:
            InputError: nothing to ask by, both `user` and `history`, somebody of whom nothing is known, a text, picture
                or sound that the model cannot read, steps that there are not or that lack what they look at, or a k
                that is no whole number from 1 on.
        """
        media = {name: given for name, given in {"image": image, "audio": audio}.items() if given is not None}
        asked = self._asked(user, history, text, media, person, where, steps, k)
        if (query := asked.presumed) is not None:
            return self._answer(asked, query)
        return self._answer(asked, self._model.encode(*self._with_media(asked.person.history, media), [text]))

    def recommend_many(self, questions: Sequence[Mapping[str, Any]]) -> list[Recommendations | TwoTowerError]:
        """What `recommend` gives for each question, but for the last bits of scores, or the error that it raises.

        Histories and texts are read together, which takes half the time; pictures and sounds one by one.

        Args:
            questions: arguments of `recommend`.
        """
        answers: list[Recommendations | TwoTowerError | None] = [None] * len(questions)
        together: dict[int, _Asked] = {}
        for place, question in enumerate(questions):
            try:
                if question.keys() & {"image", "audio"}:
                    answers[place] = self.recommend(**question)
                    continue
                asked = self._asked(**{"user": None, "history": None, **question})
                if (query := asked.presumed) is not None:
                    answers[place] = self._answer(asked, query)
                else:
                    together[place] = asked
            except TwoTowerError as error:
                answers[place] = error
        for places in alike([one.person.history for one in together.values()]):
            group = [list(together)[place] for place in places]
            answers_of = self._answers([together[place] for place in group])
            for place, answer in zip(group, answers_of, strict=True):
                answers[place] = answer
        return answers  # type: ignore[return-value]

    def _answers(self, group: Sequence[_Asked]) -> list[Recommendations | TwoTowerError]:
        """What those are answered whose histories can be read together."""
        try:
            histories = side_by_side([one.person.history for one in group])
            queries = self._model.user.encode_together(histories, self._memory, [one.text for one in group])
        except InputError as error:
            if len(group) == 1:
                return [error]
            return [answer for one in group for answer in self._answers([one])]  # it is one person's, not the others'
        answers: list[Recommendations | TwoTowerError] = []
        for one, query in zip(group, queries, strict=True):
            try:
                answers.append(self._answer(one, query[None]))
            except TwoTowerError as error:
                answers.append(error)
        return answers

    def _asked(
        self,
        user: Id | None,
        history: Iterable[Id] | None,
        text: str | None = None,
        media: Mapping[str, Media] = MappingProxyType({}),
        person: Person | None = None,
        where: Where | None = None,
        steps: Steps = None,
        k: int = 10,
    ) -> _Asked:
        """A question, checked."""
        _check_k(k)
        if person is None:
            person = self._person(user, history, text, shown=bool(media))
        elif text is not None:
            self._check_text(text)
        turns = self._steps if steps is None else read_steps(steps)
        return _Asked(person, text, tuple(media), where, turns, k)

    def _answer(self, asked: _Asked, queries: np.ndarray) -> Recommendations:
        """What is found for one person's query ``(1, D)``, or their interests ``(1, K, D)``."""
        person, text, k = asked.person, asked.text, asked.k
        queries = away_from(queries, self._memory.vectors[person.less].cpu().numpy())
        wishes = [one.wishes() for one in asked.turns]
        bonus = self._bonuses.of(text, person)
        more: dict[str, Any] = {"seen": person.seen, "bonus": bonus, "where": asked.where, "items": self._offer}
        hits = self._finder.search(queries, max(k, self._depth), wishes=wishes, shown=k, **more)
        ratings = self._model.rate(person.history, self._memory, hits.rows)
        known = Known(self._offer, person.history, k, self._model.rerank_scores)
        done = rerank(asked.turns, Candidates.of(hits, ratings), known)
        reranked = Rating.name in done.steps and bool(self._model.rating.weight)
        named = [NAMES[name] for name in asked.media] + ([f'"{text}"'] if text is not None else [])
        query = ", ".join([person.name, *named])
        items = self._items(hits, done, k, queries[0])
        return Recommendations(query, items, person.unknown, reranked, done.steps)

    def similar(self, item: Id, *, by: str | None = None, where: Where | None = None, k: int = 10) -> Recommendations:
        """The k items most like one of the index.

        Args:
            item: its id.
            by: look for what is like its ``"text"``, ``"image"`` or ``"audio"`` alone; default: all that it is.
            where: what must hold of the others' attributes; see `indexing.filters`.
            k: how many, at least 1.

        Raises:
            InputError: an item that is not in the index, a kind of content that it lacks or that the model does not
                read, or a k that is no whole number from 1 on.
        """
        _check_k(k)
        self._finder.refuse_unknown(item)
        hits = self._finder.like(item, k, query=None if by is None else self._vector_by(item, by), where=where)
        like = f"items like {item}" + (f" by {by}" if by is not None else "")
        return Recommendations(like, self._items(hits, Reranked((), Candidates.of(hits), ()), k))

    def explain(
        self,
        item: Id,
        *,
        user: Id | None = None,
        history: Iterable[Id] | None = None,
        text: str | None = None,
        image: Media | None = None,
        audio: Media | None = None,
        words: bool = True,
        counterfactuals: int = 3,
    ) -> Explanation:
        """Why an item for a person: which past items, which kinds of content, which words, and how sure.

        Args:
            item: its id; whether it would be recommended or not, and also one that the person has met.
            user, history, text, image, audio: who asks, as in `recommend`.
            words: whether to tell what each word adds that BERT reads; takes it several times as long.
            counterfactuals: how many of the most telling past items are each left out, at most: the place that the
                item would have then.

        Raises:
            InputError: an item that is not in the index and the catalog, a question that `recommend` refuses, or
                `counterfactuals` that are no whole number from 0 on.
        """
        if isinstance(counterfactuals, bool) or not isinstance(counterfactuals, int) or counterfactuals < 0:
            raise InputError(f"counterfactuals must be a whole number from 0 on, got {counterfactuals!r}")
        row = self._finder.row_of(item)
        media = {name: given for name, given in {"image": image, "audio": audio}.items() if given is not None}
        person = self._person(user, history, text, shown=bool(media))
        named = [person.name, *(NAMES[name] for name in media), *([] if text is None else [f'"{text}"'])]
        person = replace(person, name=", ".join(named))
        question = Question(person, *self._with_media(person.history, media), text)
        explained = Explained(row, self._memory.vectors[row], self._bonuses.parts(row, text))
        return self._explainer.explain(explained, question, words=words, counterfactuals=counterfactuals)

    def questions(self, most: int) -> tuple[np.ndarray, np.ndarray]:
        """What an index is tuned with: how people of the log ask, and how often they met each item.

        Args:
            most: people that are drawn from the log.

        Returns:
            Their vectors, float32 ``(B, D)``, one for each interest, and events of each item of the index, ``(N,)``.

        Raises:
            InputError: nobody has an item that can be read.
        """
        _, queries = self._drawn(most)
        items = self._people.positives.items
        counts = np.bincount(items[self._finder.has_vector[items]], minlength=len(self._catalog))
        return queries.reshape(-1, queries.shape[-1]), self._finder.by_index(counts)

    @property
    def catalog(self) -> Catalog:
        """The items on offer and, behind them, removed ones that people have met."""
        return self._catalog

    @property
    def on_offer(self) -> np.ndarray:
        """bool ``(N,)`` which of `catalog` can be recommended."""
        return self._finder.on_offer

    @property
    def readable(self) -> np.ndarray:
        """bool ``(N,)`` which of `catalog` can be read in a history."""
        return self._finder.has_vector

    def acquaintances(self, most: int) -> tuple[Histories, np.ndarray]:
        """Some people of the log, to hold others against.

        Args:
            most: how many are drawn.

        Returns:
            All that each of them met, in rows of `catalog`, and their vectors, float32 ``(H, D)`` of unit norm (of
            several interests the mean).

        Raises:
            InputError: no log, or nobody in it has an item of the index.
        """
        drawn, queries = self._drawn(most)
        means = queries.reshape(len(drawn), -1, queries.shape[-1]).mean(axis=1)
        return self._people.events(drawn), means / np.linalg.norm(means, axis=1, keepdims=True)

    def _drawn(self, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of people in the log, at most so many, and their queries."""
        positives = self._people.positives
        positives = positives.keep(self._finder.has_vector[positives.items])
        people = np.flatnonzero(positives.lengths)
        if not len(people):
            raise InputError("nobody in the log has an item of the index, so there is nobody to ask like")
        drawn = np.sort(np.random.default_rng(0).permutation(people)[:most])
        return drawn, self._model.encode(positives.take(drawn), self._memory, [None] * len(drawn))

    def _vector_by(self, item: Id, by: str) -> np.ndarray:
        """The vector of one kind of an item's content, float32 ``(1, D)``."""
        if by not in self._model.item.contents:
            raise InputError(f"this model {missing_name('kind of content', by, self._model.item.contents)}")
        rows = self._catalog.rows([item])
        known = self._catalog.select(rows[rows >= 0])
        vector = self._model.embed_items(known, cache=NoCache(), by=by)
        if not vector.any():
            raise InputError(f"item {item!r} has no {by} in the catalog that can be read")
        return vector

    def _with_media(self, history: Histories, media: dict[str, Media]) -> tuple[Histories, Memory]:
        """The history followed by an item that looks and sounds like this, and what is known of items then."""
        if not media:
            return history, self._memory
        contents = {name: _content(name, given) for name, given in media.items()}
        memory = self._memory.with_one_more(torch.from_numpy(self._model.encode_media(contents)))
        return history.followed_by(len(self._catalog)), memory

    @cached_property
    def _people(self) -> People:
        if self._log is None and self._store is None:
            raise InputError("no log was given, so no user is known: give a log, or a history or a text instead")
        stars = _stars(self._model, self._log)
        return People(self._log, self._catalog, self._finder.has_vector, self._model.config.data, self._store, stars)

    def _person(self, user: Id | None, history: Iterable[Id] | None, text: str | None, *, shown: bool) -> Person:
        """Who asks; `shown` says that a picture or a sound comes with the question."""
        if text is not None:
            self._check_text(text)
        if user is not None and history is not None:
            raise InputError("a user and a history were given, expected one of them: the log tells a user's history")
        if user is not None:
            return self._people.person(user)
        if history is None and text is None and not shown:
            raise InputError("nothing was asked for: give a user, a history, a text, a picture or a sound")
        person = stranger() if history is None else session(history, self._catalog, self._finder.has_vector)
        if history is not None and text is None and not shown and not len(person.seen):
            got = (
                f"{len(person.unknown)} unknown ones, the first is {person.unknown[0]!r}" if person.unknown else "none"
            )
            raise InputError(
                f"a history needs at least one item of the catalog and the index, got {got}; or give a text"
            )
        return person

    def _check_text(self, text: str) -> None:
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"text must be words, got {text!r}")
        if self._model.user.text is None:
            raise InputError("this model has no text reader: give a user or a history, or train one with [user.text]")

    @cached_property
    def _offer(self) -> Items:
        """What steps know of the items."""
        met = None if self._log is None else np.bincount(self._people.positives.items, minlength=len(self._catalog))
        return self._finder.items(self._memory.vectors.cpu().numpy(), met)

    @cached_property
    def _bonuses(self) -> Bonuses:
        return Bonuses(self._model, self._catalog, None if self._log is None else self._people.positives)

    @cached_property
    def _explainer(self) -> Explainer:
        return Explainer(self._model, self._catalog, self._ranked)

    def _ranked(self, question: Question, queries: np.ndarray) -> Hits:
        """Candidates for somebody, as catalog rows, in the order that the score which is explained gives them."""
        person = question.person
        bonus = self._bonuses.of(question.text, person)
        hits = self._finder.search(queries, self._depth, seen=person.seen, bonus=bonus)
        ratings = self._model.rate(person.history, self._memory, hits.rows)
        return hits.rescored(self._model.rerank_scores(hits.scores, ratings))

    def _items(
        self, found: Hits, done: Reranked, k: int, query: np.ndarray | None = None
    ) -> tuple[Recommendation, ...]:
        """The first k items of one person's list, with what was found out about them on the way."""
        final = done.candidates
        rows = final.rows[0, :k][final.rows[0, :k] >= 0].tolist()
        nearest = self._nearest(np.array(rows, np.int64), query)
        cosines = dict(zip(found.rows[0].tolist(), found.scores[0].tolist(), strict=True))
        rated = dict(zip(rows, self._stars(final), strict=False))
        chances = {} if final.probabilities is None else dict(zip(rows, final.probabilities[0].tolist(), strict=False))
        return tuple(
            Recommendation(
                self._catalog.ids[row],
                self._catalog.titles[row],
                score,
                cosines[row],
                rated.get(row),
                nearest.get(row),
                done.places(row),
                chances.get(row),
            )
            for row, score in zip(rows, final.scores[0].tolist(), strict=False)
        )

    def _stars(self, final: Candidates) -> list[float]:
        """Predicted ratings of one person's list on the scale of the log; none where the model has not learned any."""
        if final.ratings is None or not self._model.rating.fitted:
            return []
        low, high = self._rating_range
        return (low + final.ratings[0] * (high - low)).tolist()

    def _nearest(self, rows: np.ndarray, query: np.ndarray | None) -> dict[int, int]:
        """Which of several interests ``(K, D)`` each of these items is nearest to, from 1 on."""
        if query is None or query.ndim == 1:
            return {}
        return dict(zip(rows.tolist(), (1 + self._finder.nearest(rows, query)).tolist(), strict=True))


def _check_k(k: int) -> None:
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise InputError(f"k must be a whole number from 1 on, got {k!r}")


def _content(name: str, given: Media) -> Path | bytes:
    """What encoders read of a picture or a sound."""
    if isinstance(given, bytes):
        return given
    if not isinstance(given, str | Path) or not str(given).strip():
        raise InputError(f"{name} must be the path of a file, or its bytes, got {given!r:.200}")
    return Path(given)


def _check_read(data: object, kind: type[Catalog] | type[Interactions]) -> None:
    if not isinstance(data, kind):
        raise InputError(f"expected a {kind.__name__}, got {type(data).__name__}; {kind.__name__}.read makes one")


def _stars(model: TwoTower, log: Interactions | None) -> tuple[float, float] | None:
    """The ratings that stand for 0 and 1 in what people say."""
    return (log.rating_range if log is not None else None) or model.config.rating.range


def _rating_range(model: TwoTower, log: Interactions | None) -> tuple[float, float]:
    """What predictions of 0 and 1 stand for."""
    config = model.config.rating
    given = log.rating_range if log is not None else None
    if given is not None and config.range is not None and tuple(given) != config.range:
        raise InputError(
            f"ratings of {given[0]:g} to {given[1]:g} were mapped to 0 to 1, the model learned from "
            f"{config.range[0]:g} to {config.range[1]:g}: read the log with rating_range={config.range}"
        )
    return (0.0, 1.0) if config.objective == "click" else config.range or given or (0.0, 1.0)
