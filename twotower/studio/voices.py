"""Single tones of eight invented instruments, as samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RATE = 16_000  # samples a second
PERIOD = 2048  # samples of a stored wave
HIGHEST = 7_500  # Hz of a partial
RINGS = (1.0, 2.76, 5.40, 8.93)  # partials of a struck bar (Fletcher and Rossing, "The Physics of Musical Instruments")


@dataclass(frozen=True, kw_only=True)
class Voice:
    """How a tone begins, lasts and ends.

    Args:
        slope: partial k has the amplitude ``k ** -slope``.
        even: amplitude of the even partials relative to the odd ones.
        attack: seconds until the tone is full.
        decay: seconds in which a struck tone falls to a third; None for one that is held.
        bright: what share of the full wave, against its dull version, there is at the beginning.
        opens: seconds in which that share grows (above 0) or shrinks to a third (below 0).
        sweeps: how often a second that share rises and falls; 0 for never.
        vibrato: depth in semitones.
        breath: share of noise.
    """

    slope: float
    even: float = 1.0
    attack: float = 0.005
    decay: float | None = None
    bright: float = 1.0
    opens: float = -10.0
    sweeps: float = 0.0
    vibrato: float = 0.0
    breath: float = 0.0


def tone(rng: np.random.Generator, voice: Voice, pitch: float, seconds: float) -> np.ndarray:
    """float32 ``(n,)`` samples, about 1 at the loudest.

    Args:
        rng: draws the phase and the noise.
        voice: the instrument.
        pitch: Hz.
        seconds: how long it is held; a short release follows.
    """
    time = np.arange(round((seconds + 0.06) * RATE), dtype=np.float32) / RATE
    wobble = voice.vibrato * 0.058 / (2 * np.pi * 5.5) * np.sin(2 * np.pi * 5.5 * time)  # a semitone is 5.8 %
    place = (pitch * PERIOD * (time + wobble) + rng.integers(PERIOD)).astype(np.int64) % PERIOD
    partials = np.arange(1, max(2, int(HIGHEST / pitch)) + 1)
    loud = partials**-voice.slope * np.where(partials % 2, 1, voice.even)
    share = _share(voice, time)
    wave = share * _wave(loud)[place] + (1 - share) * _wave(loud * partials**-1.5)[place]
    if voice.breath:
        wave = wave + voice.breath * rng.standard_normal(len(time), np.float32)
    return wave * _envelope(voice, time, seconds)


def bell(rng: np.random.Generator, pitch: float, seconds: float) -> np.ndarray:
    """float32 ``(n,)`` a struck bar: its partials are no multiples of the pitch, and the high ones die first."""
    time = np.arange(round(seconds * RATE), dtype=np.float32) / RATE
    ring = np.zeros(len(time), np.float32)
    for number, ratio in enumerate(RINGS):
        if pitch * ratio < HIGHEST:
            phase = 2 * np.pi * (pitch * ratio * time + rng.random())
            ring += 0.6**number * np.exp(-time * (1.5 + 1.5 * number)) * np.sin(phase.astype(np.float32))
    return ring * np.minimum(1, time / 0.002) * np.minimum(1, (time[-1] - time) / 0.05)


def drum(rng: np.random.Generator, kind: str) -> np.ndarray:
    """float32 ``(n,)`` one beat of a ``kick``, ``snare`` or ``hat``."""
    seconds, fall = {"kick": (0.25, 14.0), "snare": (0.22, 18.0), "hat": (0.08, 60.0)}[kind]
    time = np.arange(round(seconds * RATE), dtype=np.float32) / RATE
    noise = rng.standard_normal(len(time), np.float32)
    if kind == "kick":
        beat = np.sin(2 * np.pi * (50 * time + 3.5 * (1 - np.exp(-30 * time))))
    elif kind == "snare":
        beat = 0.5 * np.sin(2 * np.pi * 185 * time) + 0.5 * noise
    else:
        beat = 0.5 * np.diff(noise, prepend=0)
    return (beat * np.exp(-fall * time)).astype(np.float32)


def _wave(amplitudes: np.ndarray) -> np.ndarray:
    """float32 ``(PERIOD,)`` one period of partials 1, 2, …, scaled to the loudness of a sine of amplitude 1."""
    spectrum = np.zeros(PERIOD // 2 + 1, complex)
    spectrum[1 : len(amplitudes) + 1] = -1j * amplitudes / np.sqrt((amplitudes**2).sum())
    return (np.fft.irfft(spectrum) * PERIOD / 2).astype(np.float32)


def _share(voice: Voice, time: np.ndarray) -> np.ndarray:
    """float32 ``(n,)`` share of the full wave at each time."""
    fallen = np.exp(-time / np.float32(abs(voice.opens)))
    share = voice.bright * (fallen if voice.opens < 0 else 1 - fallen)
    return share * (0.5 - 0.5 * np.cos(2 * np.pi * voice.sweeps * time)) if voice.sweeps else share


def _envelope(voice: Voice, time: np.ndarray, seconds: float) -> np.ndarray:
    """float32 ``(n,)`` loudness at each time."""
    rise = np.minimum(1, time / np.float32(voice.attack))
    release = np.clip(1 - (time - np.float32(seconds)) / np.float32(0.06), 0, 1)
    held = 1.0 if voice.decay is None else np.exp(-time / np.float32(voice.decay))
    return rise * release * held
