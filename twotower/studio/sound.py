"""The sound of a track: a piece, played in the way of its class, in some room with some noise."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np

from towers.errors import MissingExtraError
from twotower.studio.playing import draw_piece, play
from twotower.studio.settings import GENERATED
from twotower.studio.voices import RATE

try:
    import soundfile
except ImportError as error:
    raise MissingExtraError("writing sounds needs soundfile: pip install 'twotower[media]'") from error

LOUDNESS = (-26.0, -16.0)  # dB below full scale
NOISE = (-40.0, -22.0)  # dB below the music


def draw_sound(rng: np.random.Generator, way: int, seconds: float) -> np.ndarray:
    """float32 ``(seconds · RATE,)`` within -1 and 1.

    Tempo, key, mode, colour, room, noise and loudness are drawn before the way of playing matters, so they say nothing
    about it.

    Args:
        rng: of this track.
        way: class of the sound part.
        seconds: length.
    """
    piece = draw_piece(rng, seconds)
    samples = round(seconds * RATE)
    response, noise, loudness = _response(rng, samples), _noise(rng, samples), rng.uniform(*LOUDNESS)
    dry = play(rng, way, piece, seconds)
    size = 2 * samples  # twice the length: what rings on beyond the end does not come round to the beginning
    wet = np.fft.irfft(np.fft.rfft(dry, size) * response, size)[:samples]
    mixed = wet / _level(wet) + noise
    return np.clip(mixed * 10 ** (loudness / 20) / _level(mixed), -1, 1).astype(np.float32)


def write_sound(path: Path, samples: np.ndarray) -> None:
    """A mono FLAC file of 16 bits. (An Ogg file would carry a random serial number, so no two would be the same.)"""
    whole = BytesIO()  # soundfile would wait for the disk at the end of every single file
    with soundfile.SoundFile(whole, "w", RATE, 1, "PCM_16", format="FLAC") as file:
        file.comment = GENERATED
        file.write(samples)
    path.write_bytes(whole.getvalue())


def _response(rng: np.random.Generator, samples: int) -> np.ndarray:
    """complex ``(samples + 1,)``: a room (decaying noise, Moorer 1979) and a colour (a tilt of the spectrum)."""
    time = np.arange(samples) / RATE
    room = rng.standard_normal(samples) * np.exp(-time / rng.uniform(0.05, 0.25))
    room *= rng.uniform(0.05, 0.5) / np.sqrt((room**2).sum())
    room[0] += 1
    pitches = np.fft.rfftfreq(2 * samples, 1 / RATE)
    colour = (np.maximum(pitches, 60) / 1000) ** rng.uniform(-0.5, 0.5)
    return np.fft.rfft(room, 2 * samples) * colour


def _noise(rng: np.random.Generator, samples: int) -> np.ndarray:
    """float64 ``(samples,)`` hiss, rumble or hum, relative to music of level 1."""
    kind, level = rng.integers(3), 10 ** (rng.uniform(*NOISE) / 20)
    noise = rng.standard_normal(samples)
    if kind == 1:
        noise = np.fft.irfft(np.fft.rfft(noise) / np.maximum(np.fft.rfftfreq(samples, 1 / RATE), 30), samples)
    elif kind == 2:
        time = np.arange(samples) / RATE
        noise = 0.1 * noise + np.sin(2 * np.pi * rng.uniform(45, 65) * time[:, None] * [1, 2, 3]).sum(axis=1)
    return level * noise / _level(noise)


def _level(samples: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(samples))) + 1e-9)
