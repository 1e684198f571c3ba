"""`Retriever`: what next for this person? Retrieve candidates, re-rank them by predicted rating, answer with titles."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np

from indexing.hits import Hits
from indexing.index import ItemIndex
from serving.people import People, Person, session, stranger
from serving.recommendations import Recommendation, Recommendations
from towers.catalog import Catalog
from towers.errors import ArtefactError, InputError
from towers.ids import Id
from towers.interactions import Interactions
from towers.model import TwoTower
from towers.words import Words


class Retriever:
    """Answers questions about one catalog.

    Args:
        model: both towers and the rating head, or the folder of a model.
        index: an index made with `model`, or the folder of one. Its items may be in another order than the catalog's,
            or other ones: what only the index has is never recommended, what only the catalog has is set aside in
            histories.
        catalog: the items on offer.
        log: what people did; needed to ask for a `user`.
        depth: candidates that are retrieved and then re-ranked; more where more are asked for.

    Raises:
        ArtefactError: the index was made with another model, or has no item of the catalog.
        InputError: a catalog or log that was not read, a log that has no item of the catalog, or
            one whose ratings were mapped from another range than those that the model learned from.
    """

    def __init__(
        self,
        model: TwoTower | str | Path,
        index: ItemIndex | str | Path,
        catalog: Catalog,
        log: Interactions | None = None,
        *,
        depth: int = 100,
    ) -> None:
        _check_read(catalog, Catalog)
        if log is not None:
            _check_read(log, Interactions)
        model = model if isinstance(model, TwoTower) else TwoTower.load(model)
        index = index if isinstance(index, ItemIndex) else ItemIndex.load(index)
        if index.space != model.space:
            raise ArtefactError(
                f"the index belongs to another model: it is of the space {index.space[:12]!r}, the model of "
                f"{model.space[:12]!r}; build it again with this model"
            )
        self._model, self._index, self._catalog, self._depth = model, index, catalog, depth
        self._catalog_rows = catalog.rows(index.ids.array)
        self._index_rows = index.ids.rows(catalog.ids.array)
        self._has_vector = self._index_rows >= 0
        self._gone = np.flatnonzero(self._catalog_rows < 0)
        if not self._has_vector.any():
            raise ArtefactError(
                f"the index has none of the catalog's items: it has {index.ids[0]!r}, the catalog {catalog.ids[0]!r}; "
                "build it again with this catalog"
            )
        vectors = np.where(self._has_vector[:, None], index.vectors[self._index_rows], np.float32(0))
        self._memory = model.memory(catalog, vectors)
        self._rating_range = _rating_range(model, log)
        self._log = log

    def recommend(
        self, *, user: Id | None = None, history: Iterable[Id] | None = None, text: str | None = None, k: int = 10
    ) -> Recommendations:
        """The k items that suit a person best, none that they have met.

        Args:
            user: somebody in the log.
            history: items that somebody met, oldest first; unknown ones are set aside and named in the answer.
            text: what somebody would like, in words; alone, or beside one of the others, where it is read instead of
                the history's text. Items that have its very words gain by them.
            k: how many, at least 1; the answer is shorter where fewer are left.

        Raises:
            InputError: none or both of `user` and `history` without `text`, somebody of whom nothing is known, a
                text that the model cannot read, or a k that is no whole number from 1 on.
        """
        _check_k(k)
        person = self._person(user, history, text)
        queries = self._model.encode(person.history, self._memory, [text])
        hits = self._search(queries, max(k, self._depth), self._index_rows[person.seen], self._bonus(text))
        ratings = self._model.rate(person.history, self._memory, hits.rows)
        final = hits.rescored(self._model.rerank_scores(hits.scores, ratings)).first(k)
        reranked = bool(self._model.rating.weight)
        query = person.name if text is None else f'{person.name}, "{text}"'
        return Recommendations(query, self._items(final, hits, ratings), person.unknown, reranked)

    def similar(self, item: Id, *, k: int = 10) -> Recommendations:
        """The k items most like one of the index.

        Raises:
            InputError: an item that is not in the index, or a k that is no whole number from 1 on.
        """
        _check_k(k)
        row = self._index.ids.rows([item])[0]
        if row < 0:
            some = self._index.ids[0]
            raise InputError(f"the index has no item {item!r}; it has {len(self._index):,} items, such as {some!r}")
        hits = self._search(self._index.vectors[[row]], k, np.array([row]))
        return Recommendations(f"items like {self._index.ids[row]}", self._items(hits, hits, None))

    @cached_property
    def _people(self) -> People:
        if self._log is None:
            raise InputError("no log was given, so no user is known: give a log, or a history or a text instead")
        return People(self._log, self._catalog, self._has_vector, self._model.config.data)

    def _person(self, user: Id | None, history: Iterable[Id] | None, text: str | None) -> Person:
        if text is not None:
            self._check_text(text)
        if user is not None and history is not None:
            raise InputError("a user and a history were given, expected one of them: the log tells a user's history")
        if user is not None:
            return self._people.person(user)
        if history is None and text is None:
            raise InputError("nothing was asked for: give a user, a history or a text")
        person = stranger() if history is None else session(history, self._catalog, self._has_vector)
        if text is None and not len(person.seen):
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

    def _search(self, queries: np.ndarray, k: int, seen: np.ndarray, bonus: np.ndarray | None = None) -> Hits:
        """Hits in catalog rows, at most as many as there are items."""
        barred = np.concatenate([seen, self._gone])
        hits = self._index.search(queries, min(k, len(self._index)), exclude=[barred], bonus=bonus)
        return Hits(np.where(hits.rows < 0, -1, self._catalog_rows[hits.rows]), hits.scores)

    def _bonus(self, text: str | None) -> np.ndarray | None:
        """What speaks for each item of the index beside its vector: popularity of late, and words of the text."""
        bonus = self._trend
        if text is not None:
            assert self._model.user.text is not None
            words = float(self._model.user.text.words) * self._words.shares(text)
            bonus = words if bonus is None else bonus + words
        return None if bonus is None else np.where(self._catalog_rows < 0, np.float32(0), bonus[self._catalog_rows])

    @cached_property
    def _trend(self) -> np.ndarray | None:
        return None if self._log is None else self._model.standing(self._people.positives, len(self._catalog))

    @cached_property
    def _words(self) -> Words:
        """Of what the items' texts say; made when first asked for."""
        return Words(self._catalog.texts(self._model.template))

    def _items(self, final: Hits, found: Hits, ratings: np.ndarray | None) -> tuple[Recommendation, ...]:
        """The items of `final` with what was found out about them on the way."""
        cosines = dict(zip(found.rows[0].tolist(), found.scores[0].tolist(), strict=True))
        rated: dict[int, float] = {}
        if ratings is not None and self._model.rating.fitted:
            low, high = self._rating_range
            rated = dict(zip(found.rows[0].tolist(), (low + ratings[0] * (high - low)).tolist(), strict=True))
        return tuple(
            Recommendation(self._catalog.ids[row], self._catalog.titles[row], score, cosines[row], rated.get(row))
            for row, score in zip(final.rows[0].tolist(), final.scores[0].tolist(), strict=True)
            if row >= 0
        )


def _check_k(k: int) -> None:
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise InputError(f"k must be a whole number from 1 on, got {k!r}")


def _check_read(data: object, kind: type[Catalog] | type[Interactions]) -> None:
    if not isinstance(data, kind):
        raise InputError(f"expected a {kind.__name__}, got {type(data).__name__}; {kind.__name__}.read makes one")


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
