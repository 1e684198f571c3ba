"""`Retriever`: what next for this person? Retrieve candidates, re-rank them step by step, answer with titles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from indexing.filters import Where
from indexing.hits import Hits
from indexing.store import Index, open_index
from serving.asking import Asker, Media
from serving.bonuses import Bonuses
from serving.explain import Explained, Explainer
from serving.explanation import Explanation
from serving.finding import Finder, with_gone
from serving.listing import Lister, rating_range, stars
from serving.moment import away_from
from serving.people import Leaning, People, Person, alike, side_by_side, stranger
from serving.reading import Question
from serving.recommendations import Recommendations
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
from towers.tables import missing_name, refuse_unread

if TYPE_CHECKING:
    from serving.store.store import Store

ASKED = ("user", "history", "text", "image", "audio", "person", "where", "steps", "k")  # arguments of `recommend`
READ = 1024  # texts whose reading is kept, as whoever is answered may then ask why


@dataclass(frozen=True)
class _Asked:
    """One question, under what condition, how re-ranked, and how many are wanted."""

    question: Question
    where: Where | None
    turns: tuple[Step, ...]
    k: int

    @property
    def presumed(self) -> np.ndarray | None:
        """float32 ``(1, D)`` what to ask with where there is nothing to read; None where there is something."""
        asked, leaning = self.question, self.question.person.leaning
        nothing = not (len(asked.history.items) or asked.text)
        return leaning.query[None] if nothing and leaning is not None else None


class Retriever:
    """Answers questions about one catalog.

    Args:
        model: both towers and the rating head, or the folder of a model.
        index: an index made with `model`, or its place: a folder, or a Milvus such as ``milvus.db``. Its items may be
            in another order than the catalog's, or other ones: what only the catalog has is set aside in histories,
            what only the index has, or had before it was removed, is never recommended and serves in histories.
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
        ArtefactError: the index was made with another model, is empty, or has no item of the catalog.
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
        refuse_unread(catalog, Catalog)
        if log is not None:
            refuse_unread(log, Interactions)
        model = model if isinstance(model, TwoTower) else TwoTower.load(model)
        index = open_index(index) if isinstance(index, str | Path) else index
        if index.space != model.space:
            raise ArtefactError(
                f"the index belongs to another model: it is of the space {index.space[:12]!r}, the model of "
                f"{model.space[:12]!r}; build it again with this model"
            )
        self._given, self._log = catalog, log
        catalog = with_gone(catalog, index)
        self._model, self._index, self._catalog, self._depth = model, index, catalog, depth
        self._steps = read_steps(steps)
        self._finder = Finder(index, catalog, len(self._given))
        self._store, self._half_life = store, half_life
        self._read: Recent[Any] = Recent(READ)
        self._memory = replace(model.memory(catalog, self._finder.vectors()).fading(half_life), read=self._read)
        self._asker = Asker(model, catalog, self._finder.has_vector, self._memory, log, store)
        self._rating_range = rating_range(model, log)
        self._lister = Lister(model, catalog, self._finder, self._rating_range)

    def refresh(self) -> Retriever:
        """A retriever over the index as it is now; itself where that is the one it has.

        Raises:
            InputError, ArtefactError: as `refresh` of the index, or where nothing could be recommended from it; this
                retriever goes on answering from the one that it has.
        """
        index = self._index.refresh()
        if index is self._index:
            return self
        more: dict[str, Any] = {"store": self._store, "half_life": self._half_life, "steps": self._steps}
        return Retriever(self._model, index, self._given, self._log, depth=self._depth, **more)

    def forget(self) -> None:
        """Drop what was read of people lately; it is read again when it is asked for. For when somebody is erased."""
        self._read.clear()
        self._explainer.forget()

    @property
    def people(self) -> People:
        """Those who can be asked for by their id.

        Raises:
            InputError: there is neither a log nor a store.
        """
        return self._asker.people

    @property
    def rating_range(self) -> tuple[float, float]:
        """What predicted ratings of 0 and 1 are told as."""
        return self._rating_range

    @property
    def stars(self) -> tuple[float, float]:
        """The least and the greatest rating that people give."""
        return stars(self._model, self._log) or self._rating_range

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
        said: dict[str, Any] = {"user": user, "history": history, "text": text, "person": person}
        asked = self._asked(**said, image=image, audio=audio, where=where, steps=steps, k=k)
        if (query := asked.presumed) is None:
            query = self._model.encode(asked.question.history, asked.question.memory, [text])
        return self._answer(asked, query)

    def recommend_many(self, questions: Sequence[Mapping[str, Any]]) -> list[Recommendations | TwoTowerError]:
        """What `recommend` gives for each question, but for the last bits of scores, or the error that it raises.

        Histories and texts are read together, which takes half the time; pictures and sounds one by one.

        Args:
            questions: arguments of `recommend`; errors that name a question count them from 0.
        """
        answers: list[Recommendations | TwoTowerError | None] = [None] * len(questions)
        together: dict[int, _Asked] = {}
        for place, question in enumerate(questions):
            try:
                if strange := [name for name in question if name not in ASKED]:
                    raise InputError(f"question {place} {missing_name('argument', str(strange[0]), ASKED)}")
                if question.keys() & {"image", "audio"}:
                    answers[place] = self.recommend(**question)
                    continue
                asked = self._asked(**question)
                if (query := asked.presumed) is not None:
                    answers[place] = self._answer(asked, query)
                else:
                    together[place] = asked
            except TwoTowerError as error:
                answers[place] = error
        for places in alike([one.question.history for one in together.values()]):
            group = [list(together)[place] for place in places]
            answers_of = self._answers([together[place] for place in group])
            for place, answer in zip(group, answers_of, strict=True):
                answers[place] = answer
        return answers  # type: ignore[return-value]

    def _answers(self, group: Sequence[_Asked]) -> list[Recommendations | TwoTowerError]:
        """What those are answered whose histories can be read together."""
        try:
            histories = side_by_side([one.question.history for one in group])
            queries = self._model.user.encode_together(histories, self._memory, [one.question.text for one in group])
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

    def _asked(self, *, where: Where | None = None, steps: Steps = None, k: int = 10, **given: Any) -> _Asked:
        """A question, checked; `given` is what `Asker.question` makes one of."""
        _check_k(k)
        turns = self._steps if steps is None else read_steps(steps)
        return _Asked(self._asker.question(**given), where, turns, k)

    def _answer(self, asked: _Asked, queries: np.ndarray) -> Recommendations:
        """What is found for one person's query ``(1, D)``, or their interests ``(1, K, D)``."""
        person, text, k = asked.question.person, asked.question.text, asked.k
        queries = away_from(queries, self._memory.vectors[person.less].cpu().numpy())
        wishes = [one.wishes() for one in asked.turns]
        bonus = self._bonuses.of(text, person)
        more: dict[str, Any] = {"seen": person.seen, "bonus": bonus, "where": asked.where, "items": self._offer}
        hits = self._finder.search(queries, max(k, self._depth), wishes=wishes, shown=k, **more)
        ratings = self._model.rate(person.history, self._memory, hits.rows)
        known = Known(self._offer, person.history, k, self._model.rerank_scores)
        done = rerank(asked.turns, Candidates.of(hits, ratings), known)
        reranked = Rating.name in done.steps and bool(self._model.rating.weight)
        items = self._lister.items(hits, done, k, queries[0])
        return Recommendations(person.name, items, person.unknown, reranked, done.steps)

    def try_steps(self) -> None:
        """Re-rank once with the retriever's own steps, for somebody of whom nothing is known.

        Raises:
            InputError: a step lacks what it looks at, such as a column or a log.
        """
        query = self._memory.vectors[int(self._finder.on_offer.argmax())].cpu().numpy()
        leaning = Leaning(query, np.zeros(len(self._catalog), np.float32))
        try:
            self.recommend(person=replace(stranger(), leaning=leaning), k=1)
        except InputError as error:
            raise InputError(f"the steps cannot work here: {error}") from error

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
        if by is not None and not isinstance(by, str):
            raise InputError(f"by must be a kind of content, such as 'text', got {by!r}")
        self._finder.refuse_unknown(item)
        hits = self._finder.like(item, k, query=None if by is None else self._vector_by(item, by), where=where)
        like = f"items like {item}" + (f" by {by}" if by is not None else "")
        return Recommendations(like, self._lister.items(hits, Reranked((), Candidates.of(hits), ()), k))

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
        question = self._asker.question(user, history, text, image, audio)
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
        items = self.people.positives.items
        counts = np.bincount(items[self._finder.has_vector[items]], minlength=len(self._catalog))
        return queries.reshape(-1, queries.shape[-1]), self._finder.by_index(counts)

    @property
    def catalog(self) -> Catalog:
        """The items on offer and, behind them, those that only the index has or had, which people have met."""
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
        return self.people.events(drawn), means / np.linalg.norm(means, axis=1, keepdims=True)

    def _drawn(self, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of people in the log, at most so many, and their queries."""
        positives = self.people.positives
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

    @property
    def _met(self) -> Histories | None:
        """What people of the log met and liked; None without a log."""
        return None if self._log is None else self.people.positives

    @cached_property
    def _offer(self) -> Items:
        """What steps know of the items."""
        counts = None if self._met is None else np.bincount(self._met.items, minlength=len(self._catalog))
        return self._finder.items(self._memory.vectors.cpu().numpy(), counts)

    @cached_property
    def _bonuses(self) -> Bonuses:
        return Bonuses(self._model, self._catalog, self._met)

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


def _check_k(k: int) -> None:
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise InputError(f"k must be a whole number from 1 on, got {k!r}")
