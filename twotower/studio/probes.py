"""The floor: what plain features, without any pretrained encoder, tell of the tracks.

Each function returns one vector a track, for `training.measuring.content_baseline.ContentKNN` and its like.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from towers.errors import MissingExtraError
from twotower.studio.shop import Shop

try:
    import soundfile  # the shop needs it, and pillow, too
    from PIL import Image
    from sklearn.feature_extraction.text import TfidfVectorizer
except ImportError as error:
    raise MissingExtraError("the probes need scikit-learn: pip install 'twotower[media,report]'") from error

WINDOW, HOP, FFT = 400, 160, 512  # samples: 25 ms and 10 ms at 16 kHz
BANDS = 64
LEVELS = 6  # of each colour


def probes(shop: Shop) -> dict[str, np.ndarray]:
    """float32 ``(N, d)`` of each part: `tf_idf`, `colour_histogram` and `raw_mel`."""
    return {
        "text": tf_idf(shop.catalog.table["text"].to_pylist()),
        "image": colour_histogram(shop.images),
        "audio": raw_mel(shop.sounds),
    }


def tf_idf(texts: Sequence[str]) -> np.ndarray:
    """float32 ``(N, words)`` TF-IDF of the words, common English ones left out."""
    return TfidfVectorizer(sublinear_tf=True, stop_words="english").fit_transform(texts).toarray().astype(np.float32)


def colour_histogram(pictures: Sequence[Path]) -> np.ndarray:
    """float32 ``(N, LEVELS³)`` share of each colour in a picture's pixels."""
    return np.stack([_histogram(path) for path in pictures])


def raw_mel(sounds: Sequence[Path]) -> np.ndarray:
    """float32 ``(N, 2 · BANDS)`` mean and standard deviation over time of the log mel spectrum."""
    return np.stack([_mel(*soundfile.read(path, dtype="float32")) for path in sounds])


def _histogram(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        levels = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(np.int64) * LEVELS // 256
    counts = np.bincount(levels @ [LEVELS**2, LEVELS, 1], minlength=LEVELS**3)
    return (counts / len(levels)).astype(np.float32)


def _mel(samples: np.ndarray, rate: int) -> np.ndarray:
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP] * np.hanning(WINDOW).astype(np.float32)
    power = np.abs(np.fft.rfft(frames, FFT)) ** 2
    mel = np.log(power @ _filters(rate) + 1e-6)
    return np.concatenate([mel.mean(axis=0), mel.std(axis=0)]).astype(np.float32)


def _filters(rate: int) -> np.ndarray:
    """float64 ``(FFT / 2 + 1, BANDS)`` triangles, evenly spaced on the mel scale of HTK from 60 Hz to half the rate."""
    low, high = (2595 * np.log10(1 + edge / 700) for edge in (60, rate / 2))
    edges = 700 * (10 ** (np.linspace(low, high, BANDS + 2) / 2595) - 1)
    pitch = np.fft.rfftfreq(FFT, 1 / rate)[:, None]
    rising = (pitch - edges[:-2]) / np.diff(edges[:-1])
    falling = (edges[2:] - pitch) / np.diff(edges[1:])
    return np.maximum(0, np.minimum(rising, falling))
