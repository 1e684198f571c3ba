"""Ranks of captions, pictures and sounds, by hand, and folds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("open_clip", reason="needs the extra media")

from benchmarks.stamps import caption_numbers, fold_of, ranks
from towers.catalog import Catalog


def test_ranks_by_hand() -> None:
    """Four items asked for, of which the first two say the same, and the second and the last can be heard."""
    text = np.array([[1.0, 0], [1, 0], [0, 1], [0.8, 0.6], [9, 9]])
    image = np.array([[0.6, 0.8], [0, 1], [0.8, 0.6], [1, 0], [9, 9]])
    audio = np.array([[9.0, 9], [0, 1], [9, 9], [1, 0], [9, 9]])
    here = np.ones(5, bool)
    present = {"text": here, "image": here, "audio": np.array([False, True, False, True, False])}
    vectors = {"text": text, "image": image, "audio": audio}
    found = ranks(vectors, present, np.array([0, 0, 1, 2, 3]), np.arange(4))
    # Pictures by the first caption score .6, 0, .8, 1: the better of the two right ones is third.
    assert found["caption → picture"].tolist() == [3, 3, 3, 3]
    assert found["picture → caption"].tolist() == [3, 3, 4, 3]
    assert found["sound → picture"].tolist() == [1, 1]
    assert found["picture → sound"].tolist() == [1, 1]
    assert found["sound → caption"].tolist() == [3, 3]
    assert found["caption → sound"].tolist() == [2, 1]


def test_equal_captions_share_a_fold(data_dir: Path) -> None:
    catalog = Catalog.read(data_dir / "stamps" / "items.parquet")
    captions = caption_numbers(catalog)
    folds = fold_of(captions)
    assert len(catalog) == 785
    assert set(folds) == set(range(5))
    assert all(len(set(folds[captions == number])) == 1 for number in range(captions.max() + 1))
    assert np.bincount(folds).min() > 140
