"""An answer for people and for programs."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO

from rich.console import Console

from serving.recommendations import Recommendation, Recommendations

TWO = Recommendations(
    "user [b]7[/b], 3 items",
    (
        Recommendation("m1", "Alien [1979]", 2.5, 0.75, 4.25),
        Recommendation("m2", "Aliens", 1.5, 0.5, 3.0),
    ),
    ("x", "y", "z", "w"),
    True,
)


def printed(found: Recommendations) -> str:
    console = Console(width=100, file=StringIO())
    with console.capture() as text:
        console.print(found.table())
    return text.get()


def test_it_is_a_sequence() -> None:
    assert len(TWO) == 2
    assert [one.item for one in TWO] == ["m1", "m2"]
    assert TWO[1].title == "Aliens"


def test_json_has_ranks_and_nothing_that_json_cannot_say() -> None:
    assert json.loads(json.dumps(TWO.to_json())) == {
        "query": "user [b]7[/b], 3 items",
        "reranked": True,
        "unknown": ["x", "y", "z", "w"],
        "items": [
            {"rank": 1, "item": "m1", "title": "Alien [1979]", "score": 2.5, "retrieval": 0.75, "rating": 4.25},
            {"rank": 2, "item": "m2", "title": "Aliens", "score": 1.5, "retrieval": 0.5, "rating": 3.0},
        ],
    }


def test_the_table_shows_what_was_asked_found_and_set_aside() -> None:
    text = printed(TWO)
    assert "user [b]7[/b], 3 items" in text
    assert [word.strip() for word in text.splitlines()[4].strip("│ ").split("│")] == [
        "1",
        "m1",
        "Alien [1979]",
        "4.25",
        "0.750",
        "2.500",
    ]
    assert "4 without a vector set aside: x, y, z, …" in text
    assert "re-ranked" not in text + printed(replace(TWO, steps=("rating",)))
    assert "re-ranked: rating, mmr; 4 without" in printed(replace(TWO, steps=("rating", "mmr")))


def test_a_table_without_ratings_has_no_column_for_them() -> None:
    text = printed(Recommendations("items like m1", (Recommendation("m2", "Aliens", 0.5, 0.5, None),)))
    assert "rating" not in text
    assert "retrieval" in text
    assert "set aside" not in text
