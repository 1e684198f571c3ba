"""Sounds are named by other folds only, and the regularisation by those alone."""

from __future__ import annotations

import io

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="needs the extra report")
soundfile = pytest.importorskip("soundfile", reason="needs the extra media")

from benchmarks.esc10 import _differences, _row, linear, log_mel_statistics, nearest  # noqa: E402

FOLDS = np.repeat([1, 2, 3, 4, 5], 12)
LABELS = np.tile(["dog", "rain", "sea"], 20)


def clusters(spread: float) -> np.ndarray:
    """Clips around the corner of their label, all far from the origin: only once centred do directions differ."""
    corners = {"dog": [1, 0, 0], "rain": [0, 1, 0], "sea": [0, 0, 1]}
    noise = np.random.default_rng(0).normal(0, spread, (60, 3))
    return np.array([corners[label] for label in LABELS]) + noise + 100


def test_what_is_apart_is_named_right() -> None:
    vectors = clusters(0.05)
    assert (nearest(vectors, LABELS, FOLDS) == LABELS).all()
    named, strengths = linear(vectors, LABELS, FOLDS)
    assert (named == LABELS).all()
    assert len(strengths) == 5


def test_nearest_by_hand() -> None:
    """Fold 2 is named by directions from the mean (1, 1) of fold 1, however long the vectors are."""
    vectors = np.array([[2.0, 1.0], [0.0, 1.0], [9.0, 2.0], [0.9, 1.0]])
    labels, folds = np.array(["a", "b", "a", "b"]), np.array([1, 1, 2, 2])
    assert nearest(vectors, labels, folds)[2:].tolist() == ["a", "b"]


def test_twins_in_the_own_fold_do_not_help() -> None:
    """Every clip has a twin with its label in its own fold, and nothing in common with the other folds."""
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.normal(size=(60, 8)), 2, axis=0)
    labels, folds = np.repeat(rng.choice(["a", "b"], 60), 2), np.repeat(FOLDS, 2)
    assert (nearest(vectors, labels, folds) == labels).mean() < 0.7
    assert (linear(vectors, labels, folds)[0] == labels).mean() < 0.7


def test_a_fold_has_no_say_in_how_it_is_named() -> None:
    """With other labels on fold 1, its names and its strength stay what they were."""
    vectors = clusters(0.6)
    named, strengths = linear(vectors, LABELS, FOLDS)
    others = np.where(FOLDS == 1, np.roll(LABELS, 1), LABELS)
    again, chosen = linear(vectors, others, FOLDS)
    assert again[FOLDS == 1].tolist() == named[FOLDS == 1].tolist()
    assert chosen[0] == strengths[0]
    assert 0.5 < (named == LABELS).mean() < 1


def test_the_floor_tells_pitch_and_steadiness() -> None:
    time = np.arange(16_000) / 16_000
    tone = 0.5 * np.sin(2 * np.pi * 1_000 * time)
    steady, broken = (log_mel_statistics(_wav(samples)) for samples in (tone, tone * (time < 0.5)))
    band = int(steady[:64].argmax())
    assert band == 19  # of 64 between 125 and 7,500 Hz on the HTK scale; its centre is 972 Hz, that of the next 1,033
    assert steady[64 + band] < 0.01
    assert broken[64 + band] > 2


def test_a_row_has_each_fold_and_differences_are_paired() -> None:
    right = FOLDS != 2
    row = _row("yamnet", "linear", right, FOLDS)
    assert row["metrics"]["accuracy"][0] == 0.8
    assert [row["metrics"][f"fold {n}"] for n in range(1, 6)] == [1, 0, 1, 1, 1]
    floor = np.tile([True, False], 30)
    (difference,) = _differences({("log-mel statistics", "linear"): floor, ("yamnet", "linear"): right})
    assert difference["ours"] == "yamnet"
    assert difference["difference"][0] == pytest.approx(0.3)


def _wav(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format="WAV", subtype="FLOAT")
    return file.getvalue()
