"""`Newcomers`: the questionnaire over an offer, made once, in a thread of its own, when it is first asked for."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from weakref import WeakKeyDictionary

from fastapi import HTTPException

from serving.people import Person, UnknownPersonError
from serving.questionnaire import Answers, Questionnaire
from serving.web.offer import Offer
from serving.web.schemas.newcomers import Said
from towers.errors import InputError
from towers.ids import Id

SAID = {"like": True, "dislike": False, "unknown": None}
AGAIN = "2"  # seconds after which somebody asks again while it is made


class Newcomers:
    """Reads hundreds of people of the log, which takes seconds, while other questions are answered.

    One is made at a time, whatever is exchanged meanwhile; it goes when its offer goes.
    """

    def __init__(self) -> None:
        self._made: WeakKeyDictionary[Offer, Future[Questionnaire]] = WeakKeyDictionary()
        self._thread, self._turn = ThreadPoolExecutor(1, "questionnaire"), Lock()

    def questionnaire(self, offer: Offer) -> Questionnaire:
        """The one over an offer; called by the event loop alone.

        Raises:
            HTTPException: it is being made; 503 with Retry-After.
            InputError: there is no log, or nobody in it can be read.
        """
        if offer.log is None:
            raise InputError("this service has no log, so there is nobody to ask like: give a history or a text")
        if offer not in self._made and self._turn.acquire(blocking=False):
            self._made[offer] = self._thread.submit(Questionnaire, offer.retriever)
            self._made[offer].add_done_callback(lambda _: self._turn.release())
        made = self._made.get(offer)
        if made is None or not made.done():
            raise HTTPException(503, "the questions for somebody new are being prepared", {"Retry-After": AGAIN})
        if (error := made.exception()) is not None:
            raise error.with_traceback(None)  # or it would grow with each time that it is raised
        return made.result()

    def close(self) -> None:
        """Wait until nothing is being made."""
        self._thread.shutdown(wait=True)


def answers_of(said: Sequence[Said]) -> Answers:
    """What somebody said, as a questionnaire takes it."""
    return {one.item: SAID[one.answer] for one in said}


def newcomer(questionnaire: Questionnaire, said: Sequence[Said], user: Id | None) -> Person:
    """Somebody who answered, and who may have begun a session.

    Raises:
        InputError: an answer about an item that there is not, or a user whom the log knows.
    """
    answers, people = answers_of(said), questionnaire.retriever.people
    if user is None:
        return questionnaire.person(answers)
    if people.ids.rows([user])[0] >= 0:
        raise InputError("answers are of somebody new, and the log knows this user: ask without them")
    try:
        return questionnaire.person(answers, since=people.person(user))
    except UnknownPersonError:
        return questionnaire.person(answers)  # a session that has not begun
