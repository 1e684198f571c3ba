"""Sounds out of files: decoded, mixed to one channel and resampled block by block, so that length costs no memory.

`soundfile` decodes (WAV, FLAC, OGG, MP3 and whatever else libsndfile knows; the content decides, not the name's
ending), `torchaudio` resamples.
"""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path

import numpy as np
import soundfile
import torch
from jaxtyping import Float
from torch import Tensor
from torchaudio.functional import resample

from towers.errors import MediaError

SHORTEST = 0.05  # seconds
LONGEST = 12 * 3600.0  # seconds; features of an hour take about 90 MB
SLOWEST, FASTEST = 4_000, 400_000  # samples a second
LOUDEST = 1e5  # samples lie within -1 and 1, a little outside in some files, within ±32768 where a scale was forgotten
SILENCE = 1e-5  # a third of the smallest step of 16 bits
CANCELLED = 0.01  # of the loudest channel's peak; that of a thousand channels with nothing in common is above it
BLOCK = 1 << 20  # values decoded at once, over all channels: 4 MB
WIDTH = 6  # of the resampling filter, in zero crossings to either side
FINEST = 640  # most phases of it; rates with no such ratio move by less than 2 in a thousand, a 30th of a semitone
SLACK_BYTES = 64  # some writers count headers or padding bytes too many
SLACK_FRAMES = 2304  # two frames of MPEG audio, which some decoders leave out
NOT_COUNTED = 0x7FFF0000  # a length that whoever wrote into a pipe put down without knowing it
PAGE = 65_307  # bytes of the longest Ogg page


def sound_blocks(source: Path | bytes, rate: int) -> Iterator[Float[Tensor, " samples"]]:
    """A sound as one channel, in consecutive blocks of any length; together they are what `read_sound` gives.

    Channels are averaged. Where they cancel out, such as a second one that is the first turned over, one of them is
    taken, which each block of about a million samples decides for itself. What is wrong only further on is raised when
    it is met: the silence of a sound is known at its end.

    Args:
        source: path of a sound file, or its content.
        rate: samples a second wanted.

    Yields:
        float32 on the CPU, nominally within -1 and 1.

    Raises:
        MediaError: missing, empty, no sound, cut off, damaged, silent, too short, too long, or not finite.
    """
    with _opened(source) as sound:
        _check(sound)
        ratio = Fraction(sound.samplerate, rate).limit_denominator(FINEST)
        mono = _mono_blocks(sound)
        yield from mono if ratio == 1 else _resampled(mono, ratio.numerator, ratio.denominator)


def read_sound(source: Path | bytes, rate: int) -> Float[Tensor, " samples"]:
    """A whole sound as one channel; arguments and errors as in `sound_blocks`."""
    return torch.cat(list(sound_blocks(source, rate)))


@contextmanager
def _opened(source: Path | bytes) -> Iterator[soundfile.SoundFile]:
    with _file(source) as file:
        if file.seek(0, io.SEEK_END) == 0:
            raise MediaError("is empty")
        _check_last_page(file)
        file.seek(0)
        try:
            sound = soundfile.SoundFile(file)
        except (soundfile.LibsndfileError, TypeError) as error:
            raise MediaError("is damaged" if "malformed" in str(error) else "is no sound that can be read") from error
        with sound:
            yield sound


def _file(source: Path | bytes) -> io.BufferedIOBase:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    try:
        if not source.exists():
            raise MediaError("is missing")
        if not source.is_file():  # reading a device or a pipe might never end
            raise MediaError("is a folder" if source.is_dir() else "is no file")
        # soundfile takes a file called ".raw" for one without a header, so it is not told the name.
        return open("sound", "rb", opener=lambda _, flags: os.open(source, flags))
    except OSError as error:
        raise MediaError(f"cannot be opened ({error.strerror or error})") from error


def _check_last_page(file: io.BufferedIOBase) -> None:
    """Refuse an Ogg file whose last page is incomplete or not marked as the last (RFC 3533, section 6)."""
    file.seek(0)
    if file.read(4) != b"OggS":
        return
    file.seek(-min(PAGE, file.seek(0, io.SEEK_END)), io.SEEK_END)
    page = (tail := file.read())[max(tail.rfind(b"OggS"), 0) :]
    segments = page[27 : 27 + page[26]] if len(page) > 26 else b""
    if not segments or len(page) < 27 + page[26] + sum(segments) or not page[5] & 4:
        raise MediaError("is cut off")


def _check(sound: soundfile.SoundFile) -> None:
    """Refuse what the header tells already."""
    for promised, there in re.findall(r": (\d+) \(should be (\d+)\)", sound.extra_info):
        if int(there) + SLACK_BYTES < int(promised) < NOT_COUNTED:
            raise MediaError("is cut off")
    if not SLOWEST <= sound.samplerate <= FASTEST:
        raise MediaError(f"has {sound.samplerate:,} samples a second, {SLOWEST:,} to {FASTEST:,} can be read")


def _mono_blocks(sound: soundfile.SoundFile) -> Iterator[Tensor]:
    """One channel of all, checked."""
    count, loudest = 0, 0.0
    size = max(BLOCK // sound.channels, 1)
    while len(block := _decoded(sound, size)):
        peak = float(np.abs(block).max())
        if not peak < LOUDEST:  # so written that NaN is caught, too
            raise MediaError("holds samples that are no numbers or far outside -1 to 1")
        mono = _mixed(block, peak)
        count, loudest = count + len(mono), max(loudest, peak)
        if count > LONGEST * sound.samplerate:
            raise MediaError(f"is longer than {LONGEST / 3600:g} hours")
        yield torch.from_numpy(mono)
    if count < sound.frames - SLACK_FRAMES:
        raise MediaError("is cut off")
    if count == 0:
        raise MediaError("has no samples")
    if count < SHORTEST * sound.samplerate:
        raise MediaError(f"is shorter than {SHORTEST * 1000:g} ms")
    if loudest < SILENCE:
        raise MediaError("is silent")


def _mixed(block: np.ndarray, peak: float) -> np.ndarray:
    """The mean of the channels; where next to nothing is left of it, the first that is about as loud as the loudest."""
    mono = block.mean(axis=1)
    if np.abs(mono).max() >= CANCELLED * peak:
        return mono
    loud = np.abs(block).max(axis=0) > peak / 2
    return block[:, loud.argmax()].copy()


def _decoded(sound: soundfile.SoundFile, size: int) -> np.ndarray:
    try:
        return sound.read(size, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise MediaError("is cut off or damaged") from error


def _resampled(blocks: Iterator[Tensor], old: int, new: int) -> Iterator[Tensor]:
    """Blocks at `new` samples for every `old`, the same as if the whole were resampled.

    Each block is resampled with so many samples before and after it that the filter sees all it would see in the
    whole; what comes of those is cut away. All cuts lie at multiples of `old`, where the filter's phase is 0.
    """
    margin = (1 + math.ceil((WIDTH + 1) / min(old, new))) * old
    held, before = torch.empty(0), 0  # samples not done yet, and as many as `before` that are, for the filter's sake
    for block in chain(blocks, [None]):
        if block is None:
            yield _filtered(held, old, new)[before * new // old :]
            return
        held = torch.cat([held, block])
        ready = (len(held) - before - margin) // old * old
        if ready > 0:
            end = before + ready
            yield _filtered(held[: end + margin], old, new)[before * new // old : end * new // old]
            held, before = held[end - min(margin, end) :], min(margin, end)


def _filtered(samples: Tensor, old: int, new: int) -> Tensor:
    """Resampled in float32, whatever autocast is on around."""
    with torch.autocast("cpu", enabled=False):
        return resample(samples, old, new, lowpass_filter_width=WIDTH)
