"""`Event`: one thing that a person told by what they did."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from towers.errors import InputError
from towers.ids import Id
from towers.tables import missing_name

Kind = Literal["click", "rating", "view", "not-this", "less-like-this"]
REFUSALS = ("not-this", "less-like-this")
KINDS: tuple[str, ...] = get_args(Kind)
LONGEST = 256  # characters of an id
LATEST = 253_402_300_799.0  # the last second of the year 9999, as in logs


@dataclass(frozen=True)
class Event:
    """One event of one person.

    Args:
        id: given by whoever sends it, different for each event of a person, the same when it is sent again.
        person: whose it is: a user id, or the id of an anonymous session. Whole numbers become text.
        item: item id. Whole numbers become text.
        kind: ``"click"``: they chose it. ``"rating"``: they say in `value` how they like it, on the scale of the log.
            ``"view"``: it was shown to them, which speaks neither for nor against it. ``"not-this"``: never show
            it to them again. ``"less-like-this"``: nor so many that are like it.
        time: seconds since 1970, when it happened.
        value: the rating; of a view the place where it was shown, from 1 on, which `serving.store.explored` reads; of
            other kinds what you like, such as seconds listened.
        probability: in (0, 1], with which the item was shown where that was left to chance: what
            `training.measuring.off_policy` needs.

    Raises:
        InputError: a value that the above does not allow.
    """

    id: str
    person: Id
    item: Id
    kind: str
    time: float
    value: float | None = None
    probability: float | None = None

    def __post_init__(self) -> None:
        for name in ("id", "person", "item"):
            object.__setattr__(self, name, checked_id(name, getattr(self, name)))
        if self.kind not in KINDS:
            raise InputError(f"an event {missing_name('kind', str(self.kind), KINDS)}")
        if not 0 <= _number("time", self.time) <= LATEST:
            raise InputError(f"time must be seconds since 1970, up to the year 9999, got {self.time:g}")
        if self.kind == "rating" and self.value is None:
            raise InputError("a rating needs a value")
        if self.value is not None:
            _number("value", self.value)
        if self.probability is not None and not 0 < _number("probability", self.probability) <= 1:
            raise InputError(f"probability must be above 0 and at most 1, got {self.probability:g}")


def checked_id(name: str, given: object) -> str:
    """An id as text.

    Raises:
        InputError: neither text nor a whole number, empty, too long, or text that no database takes.
    """
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise InputError(f"{name} must be text or a whole number, got {type(given).__name__}")
    if isinstance(given, int) and not -(2**63) <= given < 2**63:
        raise InputError(f"{name} must fit 64 bits where it is a number; give it as text")
    text = str(given)
    if not 0 < len(text) <= LONGEST:
        raise InputError(f"{name} must have 1 to {LONGEST} characters, got {len(text):,}")
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise InputError(f"{name} holds a character that cannot be kept (NUL or half of a pair): {text!r}")
    return text


def _number(name: str, given: object) -> float:
    try:
        number = math.nan if isinstance(given, bool | str) else float(given)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{name} must be a finite number, got {str(given)[:40]!r}")
    return number
