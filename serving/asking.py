"""What somebody asks, checked: who they are, in what words, by which pictures and sounds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from serving.listing import stars
from serving.people import People, Person, session, stranger
from serving.reading import Question
from towers.catalog import Catalog
from towers.errors import InputError
from towers.ids import Id
from towers.interactions import Interactions
from towers.model import TwoTower
from towers.user import Memory

if TYPE_CHECKING:
    from serving.store.store import Store

Media = str | Path | bytes
NAMES = {"image": "a picture", "audio": "a sound"}


class Asker:
    """Makes questions to one model out of what was given.

    Args:
        model: which reads them.
        catalog: N items.
        has_vector: bool ``(N,)`` items that can be read in histories.
        memory: what the readers know of the items.
        log: what people did; None: nothing.
        store: what they did since; None: nothing.
    """

    def __init__(
        self,
        model: TwoTower,
        catalog: Catalog,
        has_vector: np.ndarray,
        memory: Memory,
        log: Interactions | None,
        store: Store | None,
    ) -> None:
        self._model, self._catalog, self._has_vector, self._memory = model, catalog, has_vector, memory
        self._log, self._store = log, store

    @cached_property
    def people(self) -> People:
        """Those who can be asked for by their id.

        Raises:
            InputError: there is neither a log nor a store.
        """
        if self._log is None and self._store is None:
            raise InputError("no log was given, so no user is known: give a log, or a history or a text instead")
        positive, told = self._model.config.data, stars(self._model, self._log)
        return People(self._log, self._catalog, self._has_vector, positive, self._store, told)

    def question(
        self,
        user: Id | None = None,
        history: Iterable[Id] | None = None,
        text: str | None = None,
        image: Media | None = None,
        audio: Media | None = None,
        person: Person | None = None,
    ) -> Question:
        """A question; arguments and errors are those of `serving.retriever.Retriever.recommend`."""
        media = {name: given for name, given in {"image": image, "audio": audio}.items() if given is not None}
        if text is not None:
            self._check_text(text)
        if person is None:
            person = self._person(user, history, alone=text is None and not media)
        named = [NAMES[name] for name in media] + ([f'"{text}"'] if text is not None else [])
        person = replace(person, name=", ".join([person.name, *named]))
        if not media:
            return Question(person, person.history, self._memory, text)
        shown = self._model.encode_media({name: _content(name, given) for name, given in media.items()})
        history_and_shown = person.history.followed_by(len(self._catalog))
        return Question(person, history_and_shown, self._memory.with_one_more(torch.from_numpy(shown)), text)

    def _person(self, user: Id | None, history: Iterable[Id] | None, *, alone: bool) -> Person:
        """Who asks; `alone` says that nothing else is asked by."""
        if user is not None and history is not None:
            raise InputError("a user and a history were given, expected one of them: the log tells a user's history")
        if user is not None:
            return self.people.person(user)
        if history is None and alone:
            raise InputError("nothing was asked for: give a user, a history, a text, a picture or a sound")
        if history is None:
            return stranger()
        person = session(history, self._catalog, self._has_vector)
        if alone and not len(person.seen):
            unknown = person.unknown
            got = f"{len(unknown)} unknown ones, the first is {unknown[0]!r}" if unknown else "none"
            raise InputError(
                f"a history needs at least one item of the catalog and the index, got {got}; or give a text"
            )
        return person

    def _check_text(self, text: str) -> None:
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"text must be words, got {text!r}")
        if self._model.user.text is None:
            raise InputError("this model has no text reader: give a user or a history, or train one with [user.text]")


def _content(name: str, given: Media) -> Path | bytes:
    """What encoders read of a picture or a sound."""
    if isinstance(given, bytes):
        return given
    if not isinstance(given, str | Path) or not str(given).strip():
        raise InputError(f"{name} must be the path of a file, or its bytes, got {given!r:.200}")
    return Path(given)
