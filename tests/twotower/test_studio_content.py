"""What text, cover and sound tell: each its own part, and neither anything of the others'; nothing else tells any."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from twotower.studio.playing import BRASS, FLUTE
from twotower.studio.probes import colour_histogram, probes, raw_mel, tf_idf
from twotower.studio.settings import PARTS, StudioSettings
from twotower.studio.shop import Shop, make_shop
from twotower.studio.sound import write_sound
from twotower.studio.themes import THEMES
from twotower.studio.voices import RATE, bell, tone

TRACKS = 256
CHANCE, TOLERANCE = 1 / 8, 0.075  # three and a half standard deviations of a share of 256


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    settings = StudioSettings(tracks=TRACKS, listeners=50, seconds=1.5, side=64)
    return make_shop(tmp_path_factory.mktemp("content") / "shop", seed=5, settings=settings, progress=False)


@pytest.fixture(scope="module")
def features(shop: Shop) -> dict[str, np.ndarray]:
    return probes(shop)


def accuracy(vectors: np.ndarray, classes: np.ndarray) -> float:
    """Of a linear classifier on tracks that it has not seen."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=200))
    return float(cross_val_score(model, vectors, classes, cv=4).mean())


@pytest.mark.parametrize("part", PARTS)
def test_each_part_is_told_by_its_own_content_only(shop: Shop, features: dict[str, np.ndarray], part: str) -> None:
    found = {other: accuracy(features[other], shop.oracle.classes[PARTS.index(part)]) for other in PARTS}
    assert found.pop(part) > CHANCE + 2 * TOLERANCE
    assert found == {other: pytest.approx(CHANCE, abs=TOLERANCE) for other in found}


def test_names_ids_order_and_attributes_tell_nothing(shop: Shop) -> None:
    table = shop.catalog.table
    letters = [
        f"{item[1:]} {title} {artist}"
        for item, title, artist in zip(
            *(table[name].to_pylist() for name in ("item_id", "title", "artist")), strict=True
        )
    ]
    counted = np.array(
        [[text.lower().count(letter) for letter in "abcdefghijklmnopqrstuvwxyz23456789"] for text in letters]
    )
    numbers = np.stack([table["price"].to_numpy(), table["year"].to_numpy(), np.arange(TRACKS), shop.cold], axis=1)
    plain = np.concatenate([counted, numbers, numbers**2], axis=1)
    words = tf_idf(
        [
            f"{title} {artist}"
            for title, artist in zip(table["title"].to_pylist(), table["artist"].to_pylist(), strict=True)
        ]
    )
    for vectors in (plain, words):
        found = [accuracy(vectors, classes) for classes in shop.oracle.classes]
        assert found == [pytest.approx(CHANCE, abs=TOLERANCE)] * 3
    assert table["image"].to_pylist() == [f"covers/{item}.jpg" for item in table["item_id"].to_pylist()]
    assert table["audio"].to_pylist() == [f"sounds/{item}.flac" for item in table["item_id"].to_pylist()]


def test_no_phrase_belongs_to_two_themes() -> None:
    phrases = [phrase for theme in THEMES for slot in vars(theme).values() for phrase in slot]
    assert len(set(phrases)) == len(phrases) > 8 * 4 * 17
    assert all(phrase == phrase.strip() and phrase for phrase in phrases)


def test_a_tone_has_its_pitch_and_a_bell_has_partials_that_are_no_multiples() -> None:
    rng = np.random.default_rng(0)

    def loudest(samples: np.ndarray, low: float, high: float) -> float:
        spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
        pitches = np.fft.rfftfreq(len(samples), 1 / RATE)
        inside = (pitches > low) & (pitches < high)
        return float(pitches[inside][spectrum[inside].argmax()])

    for voice in (FLUTE, BRASS):
        assert loudest(tone(rng, voice, 440.0, 1.0), 300, 600) == pytest.approx(440, abs=8)
    assert loudest(tone(rng, BRASS, 440.0, 1.0), 700, 1000) == pytest.approx(880, abs=3)
    struck = bell(rng, 440.0, 1.5)
    assert loudest(struck, 300, 600) == pytest.approx(440, abs=2)
    assert loudest(struck, 700, 1500) == pytest.approx(2.76 * 440, abs=3)


def test_probes_by_hand(tmp_path: Path) -> None:
    picture = Image.new("RGB", (10, 10), (255, 0, 0))
    picture.paste((0, 0, 255), (0, 0, 10, 3))
    picture.save(tmp_path / "flag.png")
    histogram = colour_histogram([tmp_path / "flag.png"])[0]
    assert {int(at): round(float(histogram[at]), 3) for at in np.flatnonzero(histogram)} == {5 * 36: 0.7, 5: 0.3}

    time = np.arange(RATE) / RATE
    write_sound(tmp_path / "low.flac", (0.5 * np.sin(2 * np.pi * 300 * time)).astype(np.float32))
    write_sound(tmp_path / "high.flac", (0.5 * np.sin(2 * np.pi * 3000 * time)).astype(np.float32))
    mean, deviation = np.split(raw_mel([tmp_path / "low.flac", tmp_path / "high.flac"]), 2, axis=1)
    # Of 64 bands from 60 to 8,000 Hz: mel(300) = 402 and mel(3000) = 1876 between mel(60) = 92 and mel(8000) = 2840.
    assert mean.argmax(axis=1).tolist() == [
        round((402 - 92) / (2840 - 92) * 65) - 1,
        round((1876 - 92) / (2840 - 92) * 65) - 1,
    ]
    assert deviation[np.arange(2), mean.argmax(axis=1)].max() < 0.05
    assert soundfile.info(tmp_path / "low.flac").frames == RATE

    words = tf_idf(["quiet piano", "loud piano", "quiet quiet evening"])
    assert words.shape == (3, 4)
    np.testing.assert_allclose(np.linalg.norm(words, axis=1), 1, rtol=1e-6)
    assert words[0] @ words[2] > 0 == words[1] @ words[2]
