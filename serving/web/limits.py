"""`Limits`: how much one request, one key and the whole service may take; and a token bucket that counts."""

from __future__ import annotations

import io
import time
import tomllib
from collections import OrderedDict
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from towers.errors import InputError
from towers.tables import missing_name

LONGEST_SOUND = 600  # seconds of a sound that is sent: decoding an hour takes the one thread that answers for long
BUCKETS = 10_000  # callers that are remembered; of one forgotten, the bucket is full


class BusyError(Exception):
    """Too much waits, or something waited too long; its text says what."""


class Limits(BaseModel):
    """What the service refuses beyond; read from a TOML file with `read`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    body: int = Field(default=8 * 2**20, ge=1024)
    """Largest body of a request, in bytes; 413 beyond."""
    rate: float = Field(default=100.0, gt=0)
    """Requests a second that one key may send for long; 429 beyond."""
    burst: int = Field(default=200, ge=1)
    """Requests that one key may send at once, after a pause."""
    k: int = Field(default=100, ge=1, le=10_000)
    """Most items of one answer."""
    batch: int = Field(default=16, ge=1)
    """Most questions that are computed together; 1: each alone."""
    queue: int = Field(default=64, ge=1)
    """Questions that may wait, and other requests that may wait for a thread; 503 with Retry-After beyond."""
    seconds: float = Field(default=5.0, gt=0)
    """Longest time from a question to its answer; 503 with Retry-After beyond."""

    @classmethod
    def read(cls, path: Path) -> Limits:
        """Limits from a TOML file.

        Raises:
            InputError: no such file, no TOML, or an unknown or impossible setting.
        """
        try:
            return cls.model_validate(tomllib.loads(path.read_text("utf-8")))
        except ValidationError as error:
            why = "; ".join(map(_wrong, error.errors()))
            raise InputError(f"{path} holds no limits that can be used: {why}") from error
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InputError(f"{path} holds no limits that can be used: {error}") from error


def _wrong(error: Any) -> str:
    """What is wrong with one setting."""
    setting = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        return f"it {missing_name('setting', setting, Limits.model_fields)}"
    return f"{setting}: {error['msg']}, got {error['input']!r}"


def refuse_long(sound: bytes) -> None:
    """Refuse a sound that is longer than anybody needs to ask by; one that cannot be read is refused where it is.

    Raises:
        InputError: it lasts longer than `LONGEST_SOUND`, or does not tell how long.
    """
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(sound)) as one:
            seconds = one.frames / one.samplerate
    except soundfile.LibsndfileError:
        return
    if seconds > LONGEST_SOUND:
        raise InputError(f"a sound that is sent may last {LONGEST_SOUND // 60} minutes")


class Buckets:
    """A token bucket for each caller.

    Args:
        rate: tokens that come back in a second.
        burst: tokens of a full bucket.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self._rate, self._burst = rate, burst
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, caller: str, now: float | None = None) -> float:
        """Take one token of a caller's; how many seconds to wait for it, 0 where it was there and is taken.

        Args:
            caller: whose.
            now: seconds of a clock that never goes back; default: this machine's.
        """
        now = time.monotonic() if now is None else now
        left, then = self._left.pop(caller, (float(self._burst), now))
        left = min(self._burst, left + (now - then) * self._rate)
        taken = left >= 1
        self._left[caller] = left - taken, now
        if len(self._left) > BUCKETS:
            self._left.popitem(last=False)
        return 0.0 if taken else (1 - left) / self._rate
