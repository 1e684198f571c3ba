"""What the text reader reads of a past, word for word and token for token."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from towers.history import Histories
from towers.history_text import AGES, LIKING, HistoryText, HistoryTextConfig
from towers.text import TextEncoder

ITEMS = ["quiet piano", "fast engine", "", "night race", "rain " * 9]
DAY = 86_400.0
NONE = float("nan")


@pytest.fixture
def encoder(tiny_encoder: TextEncoder) -> TextEncoder:
    return tiny_encoder


def writer(encoder: TextEncoder, prefix: str = "", **config: int) -> HistoryText:
    settings = HistoryTextConfig(**{"budget": 512, **config})
    return HistoryText(config=settings, items=ITEMS, tokenize=encoder.tokenize_plain, prefix=prefix)


def words(encoder: TextEncoder, tokens: list[int]) -> str:
    return encoder.tokenizer.decode(tokens, clean_up_tokenization_spaces=False)


def past(
    items: list[int],
    times: list[float] | None = None,
    ratings: list[float] | None = None,
    texts: list[str | None] | None = None,
    about: str | None = None,
) -> Histories:
    count = len(items)
    return Histories(
        np.array([0, count]),
        np.array(items),
        None if times is None else np.array(times),
        np.full(count, np.nan, np.float32) if ratings is None else np.array(ratings, np.float32),
        None if texts is None else pa.array(texts, pa.large_string()),
        None if about is None else pa.array([about], pa.large_string()),
    )


CASES = {
    "newest first": (past([0, 1, 3]), "night race; fast engine; quiet piano;"),
    "liking": (
        past([0, 0, 0, 0, 0, 1], ratings=[1.0, 0.79, 0.4, 0.2, 0.19, NONE]),
        "fast engine; hated quiet piano; disliked quiet piano; found fair quiet piano; "
        "liked quiet piano; loved quiet piano;",
    ),
    "how long before the newest": (
        past([0, 1, 3, 0, 1, 3], times=[0, 360 * DAY, 390 * DAY, 396 * DAY, 397 * DAY - 1, 397 * DAY]),
        "night race; fast engine; a day before: quiet piano; a week before: night race; "
        "a month before: fast engine; a year before: quiet piano;",
    ),
    "an age is said once": (
        past([0, 1, 3], times=[0, 100, 9 * DAY], ratings=[1, 1, 1]),
        "loved night race; a week before: loved fast engine; loved quiet piano;",
    ),
    "comments": (
        past([0, 1], ratings=[0, 1], texts=["fast night", None]),
        "loved fast engine; hated quiet piano fast night;",
    ),
    "about the person": (past([0], about="age 24"), "age 24; quiet piano;"),
    "an item without text is passed over": (
        past([0, 2, 1, 2], times=[0, 0, 8 * DAY, 9 * DAY], ratings=[1, 1, 1, 1]),
        "a day before: loved fast engine; a week before: loved quiet piano;",
    ),
    "unless something was written on it": (past([2], ratings=[1], texts=["fast night"]), "loved fast night;"),
    "nothing": (past([2]), ""),
    "nobody": (past([]), ""),
}


@pytest.mark.parametrize("case", CASES)
def test_words_and_tokens(encoder: TextEncoder, case: str) -> None:
    histories, expected = CASES[case]
    history = writer(encoder)
    assert history.texts(histories) == [expected]
    assert history.tokens(histories) == encoder.tokenize_plain([expected])


def test_people_are_written_alone(encoder: TextEncoder) -> None:
    both = Histories.of([[0, 1], [], [3]], times=[[0, 1], [], [5]], ratings=[[1, 1], [], [0]])
    history = writer(encoder)
    assert history.texts(both) == ["loved fast engine; loved quiet piano;", "", "hated night race;"]
    assert history.tokens(both) == [history.tokens(both.take([n]))[0] for n in range(3)]


def test_the_oldest_are_dropped_whole(encoder: TextEncoder) -> None:
    """Each event takes three tokens of the fourteen that sixteen leave beside the special ones."""
    histories = past([0, 0, 1, 3, 1, 3])
    tokens = writer(encoder, budget=16).tokens(histories)[0]
    assert words(encoder, tokens) == "night race ; fast engine ; night race ; fast engine ;"
    assert writer(encoder, budget=17).tokens(histories)[0][12:] == encoder.tokenize_plain(["quiet piano ;"])[0]
    assert writer(encoder, budget=16).texts(histories) == ["night race; fast engine; night race; fast engine;"]


def test_a_dropped_event_lets_no_older_one_in(encoder: TextEncoder) -> None:
    tokens = writer(encoder, budget=16).tokens(past([0, 4, 3, 1]))[0]
    assert words(encoder, tokens) == "fast engine ; night race ;"


def test_a_long_item_is_cut(encoder: TextEncoder) -> None:
    assert (
        words(encoder, writer(encoder, item_budget=4).tokens(past([4, 3]))[0]) == "night race ; rain rain rain rain ;"
    )


def test_the_newest_event_is_cut_rather_than_dropped(encoder: TextEncoder) -> None:
    histories = past([1, 4], texts=[None, "piano " * 9], about="age 24")
    tokens = writer(encoder, budget=24).tokens(histories)[0]
    # "age 24 ;" takes six tokens, as letters and figures are tokens of their own, and the item nine
    assert len(tokens) == 22
    assert words(encoder, tokens).endswith(" ; " + "rain " * 9 + " ".join(["piano"] * 7))


def test_comments_have_a_budget(encoder: TextEncoder) -> None:
    histories = past([1], texts=["night " * 9], about="rain " * 9)
    for budget, expected in ((2, "rain rain ; fast engine night night ;"), (0, "fast engine ;")):
        assert words(encoder, writer(encoder, comment_budget=budget).tokens(histories)[0]) == expected


def test_an_instruction_stands_once_before_everything(encoder: TextEncoder) -> None:
    history = writer(encoder, prefix="quiet: ", budget=16)
    tokens = history.tokens(Histories.of([[0, 3, 0, 1, 3], []]))
    assert words(encoder, tokens[0]) == "quiet : night race ; fast engine ; quiet piano ; night race ;"
    assert tokens[1] == []


def test_words_for_every_value() -> None:
    assert len(LIKING) == 5
    assert [least for least, _ in AGES] == sorted(least for least, _ in AGES)


WRITTEN = st.sampled_from([None, "", " ", "\x00", "splendid", "a quiet night of rain"])


@st.composite
def pasts(draw: st.DrawFn) -> Histories:
    """Up to four people, some of whom met nothing that has a text."""
    items = draw(st.lists(st.lists(st.sampled_from([0, 2, 2, 2]), max_size=4), min_size=1, max_size=4))
    found = Histories.of(items)
    comments = draw(st.none() | st.lists(WRITTEN, min_size=len(found.items), max_size=len(found.items)))
    about = draw(st.none() | st.lists(WRITTEN, min_size=len(items), max_size=len(items)))
    return replace(
        found,
        texts=None if comments is None else pa.array(comments, pa.large_string()),
        about=None if about is None else pa.array(about, pa.large_string()),
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    found=pasts(), comment_budget=st.sampled_from([0, 1, 24]), prefix=st.sampled_from(["", "query: ", "quiet " * 13])
)
def test_whether_there_is_something_to_say_is_known_without_writing(
    encoder: TextEncoder, found: Histories, comment_budget: int, prefix: str
) -> None:
    text = writer(encoder, prefix, budget=16, comment_budget=comment_budget)
    events = np.arange(len(found.items))
    starts = found.offsets[found.people]
    written = text.tokens(found.cut(found.people, starts, events + 1))
    assert text.tells(found).tolist() == [bool(tokens) for tokens in written]
