"""Eight ways of playing, one for each class of the sound part: an instrument with a manner that suits it.

Tempo, key, mode and register are drawn for each track from the same ranges, whatever the class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from twotower.studio.voices import RATE, Voice, bell, drum, tone

MAJOR, MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
TRIAD = np.array([0, 2, 4])

PIANO = Voice(slope=1.2, decay=0.7, opens=-0.25)
GUITAR = Voice(slope=0.7, even=0.5, attack=0.002, decay=0.3, opens=-0.07)
STRINGS = Voice(slope=1.0, attack=0.35, bright=0.8, vibrato=0.35)
FLUTE = Voice(slope=2.6, even=0.6, attack=0.06, vibrato=0.25, breath=0.06)
BRASS = Voice(slope=0.6, attack=0.04, opens=0.08)
SYNTH = Voice(slope=0.8, even=0.05, decay=0.5, sweeps=1.7)

Notes = list[tuple[float, float, int, float]]
"""When (in beats), how long (in beats), which step of the scale, how loud."""


@dataclass(frozen=True)
class Piece:
    """What tracks of every class draw alike.

    Args:
        beat: seconds between two beats.
        tonic: MIDI number of step 0 of the scale.
        scale: semitones of the seven steps.
        beats: how many fit into the sound, rounded up.
    """

    beat: float
    tonic: int
    scale: tuple[int, ...]
    beats: int

    def pitch(self, step: int) -> float:
        """Hz of a step of the scale; 7 is an octave above 0."""
        return float(440 * 2 ** ((self.tonic + self.scale[step % 7] + 12 * (step // 7) - 69) / 12))


def draw_piece(rng: np.random.Generator, seconds: float) -> Piece:
    """75 to 140 beats a minute, a key between B flat below middle C's octave and F sharp, major or minor."""
    beat = 60 / rng.uniform(75, 140)
    scale = MAJOR if rng.random() < 0.5 else MINOR
    return Piece(beat, int(rng.integers(46, 67)), scale, int(np.ceil(seconds / beat)))


def play(rng: np.random.Generator, way: int, piece: Piece, seconds: float) -> np.ndarray:
    """float32 ``(seconds · RATE,)`` the piece in one of the `WAYS`, dry."""
    out = np.zeros(round(seconds * RATE), np.float32)
    for start, samples in WAYS[way](rng, piece):
        begin = round(start * piece.beat * RATE)
        room = max(0, len(out) - begin)
        out[begin : begin + len(samples)] += samples[:room]
    return out


def _piano(rng: np.random.Generator, piece: Piece) -> Notes:
    """Broken chords in eighths over a bass note that is held."""
    notes: Notes = []
    for bar in range(0, piece.beats, 4):
        root = int(rng.choice([0, 3, 4, 5]))
        notes.append((bar, 4, root - 7, 0.9))
        notes += [(bar + n / 2, 1.5, root + int(rng.choice([0, 2, 4, 7])), rng.uniform(0.5, 0.9)) for n in range(8)]
    return notes


def _guitar(rng: np.random.Generator, piece: Piece) -> Notes:
    """A picked pattern in eighths, some of them doubled, that repeats every two beats."""
    steps, doubled = rng.choice([0, 2, 4, 7, 9], 4), rng.random(4) < 0.4
    notes: Notes = []
    for n in range(2 * piece.beats):
        root = 3 * (n // 8 % 2)
        notes.append((n / 2, 1, root + int(steps[n % 4]), rng.uniform(0.6, 1)))
        if doubled[n % 4]:
            notes.append((n / 2 + 0.25, 0.75, root + int(steps[(n + 1) % 4]), rng.uniform(0.4, 0.8)))
    return notes


def _strings(rng: np.random.Generator, piece: Piece) -> Notes:
    """Chords that last three or four beats, one into the other."""
    length = int(rng.choice([3, 4]))
    roots = rng.choice([0, 1, 3, 4, 5], piece.beats)
    starts = range(0, piece.beats, length)
    return [(start, length + 0.2, int(roots[start] + step), 0.5) for start in starts for step in TRIAD]


def _flute(rng: np.random.Generator, piece: Piece) -> Notes:
    """A single line that wanders by steps, each tone bound to the next."""
    notes: Notes = []
    start, step = 0.0, int(rng.integers(4, 10))
    while start < piece.beats:
        length = float(rng.choice([0.5, 1, 1, 2]))
        notes.append((start, length, step, rng.uniform(0.7, 1)))
        start, step = start + length, int(np.clip(step + rng.choice([-2, -1, 1, 2]), 2, 12))
    return notes


def _brass(rng: np.random.Generator, piece: Piece) -> Notes:
    """Short chords on some of the eighths of a bar, the same in every bar."""
    hits = rng.permutation(8)[: rng.integers(3, 6)]
    notes: Notes = []
    for bar in range(0, piece.beats, 4):
        root = int(rng.choice([0, 3, 4]))
        notes += [(bar + hit / 2, 0.35, root + int(step), 0.6) for hit in hits for step in TRIAD]
    return notes


def _bells(rng: np.random.Generator, piece: Piece) -> Notes:
    """Single strokes here and there that ring on."""
    struck = np.flatnonzero(rng.random(2 * piece.beats) < 0.45)
    return [(n / 2, 3, int(rng.choice([0, 2, 4, 7, 9, 11])), rng.uniform(0.5, 1)) for n in [0, *struck]]


def _synth(rng: np.random.Generator, piece: Piece) -> Notes:
    """A riff of eight sixteenths that repeats."""
    steps, silent = rng.choice([-7, 0, 0, 2, 4, 6], 8), rng.random(8) < 0.2
    return [(n / 4, 0.22, int(steps[n % 8]), 0.8) for n in range(4 * piece.beats) if not silent[n % 8]]


def _groove(rng: np.random.Generator, piece: Piece) -> list[tuple[float, np.ndarray]]:
    """Kick, snare on two and four, and a hat in eighths, the kick in a pattern of its own."""
    kicks = {0, *rng.permutation(8)[:2].tolist()}
    beats = []
    for n in range(2 * piece.beats):
        beats.append((n / 2, rng.uniform(0.3, 0.5) * drum(rng, "hat")))
        if n % 8 in kicks:
            beats.append((n / 2, drum(rng, "kick")))
        if n % 4 == 2:
            beats.append((n / 2, 0.8 * drum(rng, "snare")))
    return beats


def _with(voice: Voice, score: Callable[[np.random.Generator, Piece], Notes]) -> Way:
    """The notes of a score, played by a voice."""

    def way(rng: np.random.Generator, piece: Piece) -> list[tuple[float, np.ndarray]]:
        return [
            (start, loud * tone(rng, voice, piece.pitch(step), length * piece.beat))
            for start, length, step, loud in score(rng, piece)
        ]

    return way


def _rung(rng: np.random.Generator, piece: Piece) -> list[tuple[float, np.ndarray]]:
    return [
        (start, loud * bell(rng, piece.pitch(step), length * piece.beat))
        for start, length, step, loud in _bells(rng, piece)
    ]


Way = Callable[[np.random.Generator, Piece], list[tuple[float, np.ndarray]]]
"""What sounds, and from which beat on."""

WAYS: tuple[Way, ...] = (
    _with(PIANO, _piano),
    _with(GUITAR, _guitar),
    _with(STRINGS, _strings),
    _with(FLUTE, _flute),
    _with(BRASS, _brass),
    _with(SYNTH, _synth),
    _rung,
    _groove,
)
