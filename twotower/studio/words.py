"""The text of a track, and what has nothing to do with any taste: title, artist, price and year."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from twotower.studio.themes import THEMES

SCENES = (
    "{who} {does} {when}.",
    "{when}, {who} {does}.",
    "here {who} {does} {when}.",
    "we hear how {who} {does} {when}.",
)
TOPICS = (
    "It is a song about {about}.",
    "At its heart lies {about}.",
    "Every verse comes back to {about}.",
    "Few have sung of {about} so plainly.",
    "The words speak of {about}, {when}.",
    "What begins as small talk turns into {about}.",
)
REMARKS = (
    "Written in {span} and left as it was.",
    "The refrain took {span} to get right.",
    "It opens side {side} of the record.",
    "The demo lay in a drawer for {span}.",
    "Take {take} is the one that was kept.",
    "A favourite of those who bought side {side} on tape.",
    "Reviewers needed {span} to notice it.",
    "The third verse was added after take {take}.",
)
SPANS = ("an hour", "one afternoon", "two days", "a week", "a month", "half a year", "ten years")

FIRSTS = """Paper Copper Winter Hollow Second Northern Velvet Plain Distant Amber Left Half Seven Double Crooked
    Ordinary Hidden Early Late Bitter Grey Narrow Common Last"""
LASTS = """Signal Orchard Ladder Season Mirror Letter Number Window Corner Thread Compass Chapter Measure Harbour
    Lantern Postcard Weather Echo Margin Ticket Pattern Answer"""
SYLLABLES = "ba cor del en fa gri han io ka lum mar no or pe ru sel ta vin"
ARTISTS = 240
PRICES = (69, 199)  # cents
YEARS = (1965, 2024)


def draw_text(rng: np.random.Generator, theme: int) -> str:
    """Two sentences that a theme shows in, and between, before or after them one that says nothing of it.

    Args:
        rng: of this track.
        theme: class of the text part.
    """
    remark = _pick(rng, REMARKS).format(span=_pick(rng, SPANS), side="AB"[rng.integers(2)], take=rng.integers(2, 30))
    phrases = THEMES[theme]
    drawn = {name: _pick(rng, getattr(phrases, name)) for name in ("who", "does", "when", "about")}
    topic = _pick(rng, TOPICS).format(about=drawn["about"], when=_pick(rng, phrases.when))
    sentences = [_pick(rng, SCENES).format(**drawn), topic]
    if rng.random() < 0.5:
        sentences.reverse()
    sentences.insert(int(rng.integers(3)), remark)
    return " ".join(sentence[0].upper() + sentence[1:] for sentence in sentences)


def draw_titles(rng: np.random.Generator, count: int) -> list[str]:
    """Two words each, now and then with an article or a number."""
    firsts, lasts = FIRSTS.split(), LASTS.split()
    frames = ("{first} {last}", "The {first} {last}", "{first} {last} No. {number}", "{last}, {last2}")
    return [
        _pick(rng, frames).format(
            first=_pick(rng, firsts), last=_pick(rng, lasts), last2=_pick(rng, lasts), number=rng.integers(2, 10)
        )
        for _ in range(count)
    ]


def draw_artists(rng: np.random.Generator, count: int) -> list[str]:
    """One of `ARTISTS` invented names for each of `count` tracks."""
    names = [f"{_name(rng)} {_name(rng)}" for _ in range(ARTISTS)]
    return [_pick(rng, names) for _ in range(count)]


def draw_attributes(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Price, float64 ``(count,)``, and year, int64 ``(count,)``, of each track."""
    return rng.integers(*PRICES, count, endpoint=True) / 100, rng.integers(*YEARS, count, endpoint=True)


def _name(rng: np.random.Generator) -> str:
    return "".join(_pick(rng, SYLLABLES.split()) for _ in range(int(rng.integers(2, 4)))).title()


def _pick(rng: np.random.Generator, of: Sequence[str]) -> str:
    return of[int(rng.integers(len(of)))]
