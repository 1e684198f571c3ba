"""What listeners choose: the more a track is to their taste, the sooner."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from twotower.studio.oracle import Oracle
from twotower.studio.settings import StudioSettings

OPENS = 1_600_000_000  # seconds since 1970: the first visits are in the year after it
YEAR = 365 * 86_400
GAP = 3 * 86_400  # mean seconds between two choices


@dataclass(frozen=True)
class Choices:
    """Who chose what, tracks and listeners as rows of the `Oracle`.

    Args:
        cold: bool ``(N,)`` tracks that are new: they occur in `of_new` only.
        unseen: bool ``(U,)`` listeners who are new.
        people, items: int64 ``(E,)`` choices, grouped by listener, each oldest first, no track twice.
        times: int64 ``(E,)`` seconds since 1970, rising within a listener.
        of_new: int64 ``(U, new_choices)`` what each listener chooses of the new tracks, first choice first.
    """

    cold: np.ndarray
    unseen: np.ndarray
    people: np.ndarray
    items: np.ndarray
    times: np.ndarray
    of_new: np.ndarray


def draw_choices(rng: np.random.Generator, oracle: Oracle, settings: StudioSettings) -> Choices:
    """Sequential choices without replacement by a multinomial logit over the utilities.

    Utilities plus Gumbel noise, sorted, are exactly such a sequence (Yellott, "The relationship between Luce's choice
    axiom, Thurstone's theory of comparative judgment, and the double exponential distribution", 1977).
    """
    cold, unseen = _some(rng, settings.tracks, settings.cold), _some(rng, settings.listeners, settings.unseen)
    utilities = oracle.utilities()
    wanted = utilities + settings.noise * rng.gumbel(size=utilities.shape)
    counts = rng.integers(settings.choices[0], settings.choices[1] + 1, settings.listeners)
    ordered = _best(np.where(cold, -np.inf, wanted), settings.choices[1])
    gaps = 1 + rng.exponential(GAP, ordered.shape).astype(np.int64)
    times = OPENS + rng.integers(0, YEAR, (settings.listeners, 1)) + np.cumsum(gaps, axis=1)
    made = np.arange(settings.choices[1]) < counts[:, None]
    return Choices(
        cold,
        unseen,
        np.repeat(np.arange(settings.listeners), counts),
        ordered[made],
        times[made],
        _best(np.where(cold, wanted, -np.inf), settings.new_choices),
    )


def split_words(choices: Choices) -> np.ndarray:
    """str ``(E,)``: a known listener's last choice is ``test``, the one before ``validation``, the rest ``train``; the
    last fifth of a new listener's choices is ``test``, the rest ``history``."""
    counts = np.bincount(choices.people)
    left = np.repeat(np.cumsum(counts), counts) - np.arange(len(choices.people))  # 1 for a listener's last choice
    known = np.select([left == 1, left == 2], ["test", "validation"], "train")
    new = np.where(left <= (counts // 5)[choices.people], "test", "history")
    return np.where(choices.unseen[choices.people], new, known)


def _some(rng: np.random.Generator, size: int, count: int) -> np.ndarray:
    """bool ``(size,)`` with `count` random places that hold."""
    return rng.permutation(np.arange(size) < count)


def _best(values: np.ndarray, count: int) -> np.ndarray:
    """int64 ``(U, count)`` places of the largest values of each row, largest first."""
    return np.argsort(-values, axis=1, kind="stable")[:, :count]
