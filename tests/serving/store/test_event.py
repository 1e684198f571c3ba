"""What an event may say."""

from __future__ import annotations

from typing import Any

import pytest

from serving.store.event import Event
from towers.errors import InputError

GOOD: dict[str, Any] = {"id": "e1", "person": "ann", "item": "i1", "kind": "rating", "time": 1.5, "value": 4}


def test_whole_numbers_are_kept_as_they_are_written() -> None:
    event = Event(**{**GOOD, "person": 7, "item": -3})
    assert (event.person, event.item) == ("7", "-3")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"id": ""}, "1 to 256 characters, got 0"),
        ({"person": "x" * 257}, "1 to 256 characters, got 257"),
        ({"item": "a\0b"}, "cannot be kept"),
        ({"item": "\ud800"}, "cannot be kept"),
        ({"item": 1.0}, "text or a whole number, got float"),
        ({"item": True}, "text or a whole number, got bool"),
        ({"item": 10**5000}, "fit 64 bits"),
        ({"kind": "clik"}, r"an event has no kind 'clik' \(did you mean 'click'\?\)"),
        ({"time": -1}, "seconds since 1970"),
        ({"time": float("inf")}, "time must be a finite number"),
        ({"time": 10**400}, "time must be a finite number"),
        ({"time": "5"}, "time must be a finite number, got '5'"),
        ({"value": None}, "a rating needs a value"),
        ({"value": float("nan")}, "value must be a finite number"),
        ({"probability": 0.0}, "above 0 and at most 1, got 0"),
        ({"probability": 1.01}, r"got 1\.01"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        Event(**{**GOOD, **wrong})
