"""Ours and the usual call give the same vectors, and their times are divided the right way round."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

pytest.importorskip("open_clip", reason="needs the extra media")

from benchmarks import embed_speed
from benchmarks.embed_speed import KEPT, SAME, SHARED, SHIPPED, Case, LeftOut, measure, missed, read_texts, rows
from towers import embed
from towers.embed import BATCH
from towers.precision import bf16_is_fast
from towers.text import TextConfig, TextEncoder, embed_texts

TEXTS = [f"quiet piano {n} evening rain"[: 8 + n] for n in range(20)]


@pytest.fixture
def encoder(tiny_bert: Path) -> TextEncoder:
    return TextEncoder.load(TextConfig(source=str(tiny_bert)))


def test_each_way_is_timed_and_compared(encoder: TextEncoder) -> None:
    asked: list[int] = []

    def usual(texts: Sequence[str]) -> torch.Tensor:
        asked.append(len(set(texts)))
        return torch.from_numpy(embed_texts(encoder, texts))

    seconds, cosines = measure(Case(encoder, TEXTS, usual, "itself"), turns=2)
    assert asked == [20, 20, 18, 20, 18]  # the warm-up, then both lists each turn, of which one has two twice
    assert {way: len(turns) for way, turns in seconds.items()} == {SAME: 2, SHIPPED: 2, SHARED: 2, KEPT: 2}
    assert min(min(turn) for turns in seconds.values() for turn in turns) > 0
    assert cosines[SAME] > 0.99999
    assert min(cosines.values()) > 0.999
    assert embed.bf16_is_fast is bf16_is_fast  # as it was


def test_other_vectors_are_seen(encoder: TextEncoder) -> None:
    def usual(texts: Sequence[str]) -> torch.Tensor:
        return torch.from_numpy(embed_texts(encoder, texts)).roll(1, dims=1)

    _, cosines = measure(Case(encoder, TEXTS[:3], usual, "another"), turns=1)
    assert max(cosines.values()) < 0.9


def test_rows_by_hand() -> None:
    turns = [[1.0, 3.0], [2.0, 3.0], [9.0, 5.0]]
    (row,) = rows("minilm", "text", 60, {SHIPPED: turns}, {SHIPPED: 0.9999})
    wanted = {"ours, a second": 30.0, "usual, a second": 20.0, "ratio": 1.5, "least cosine": 0.9999}
    assert row["metrics"] == wanted
    assert (row["method"], row["split"]) == ("minilm", SHIPPED)


@pytest.mark.parametrize(
    ("way", "ratio", "cosine", "said"),
    [
        (SAME, 1.0, 1.0, 0),
        (SAME, 0.99, 1.0, 1),
        (SAME, 1.0, 0.9999, 1),
        (SHIPPED, 1.5, 1.0, 0),
        (SHIPPED, 1.4, 0.99, 2),
    ],
)
def test_what_is_missed_is_said(way: str, ratio: float, cosine: float, said: int) -> None:
    metrics = {"ratio": ratio, "least cosine": cosine}
    assert len(missed([{"method": "minilm", "split": way, "modality": "text", "metrics": metrics}])) == said


def test_one_in_ten_is_there_twice() -> None:
    repeated = embed_speed.with_repeats([str(n) for n in range(50)])
    assert len(repeated) == 50
    assert len(set(repeated)) == 45


def test_texts_are_distinct_and_of_mixed_lengths(tmp_path: Path) -> None:
    made_up = read_texts(None, 200)
    assert len(set(made_up)) == 200
    assert len({len(text.split()) for text in made_up}) > 100
    folder = tmp_path / "movies"
    folder.mkdir()
    films = {"title": list("ABCDE"), "year": [1990] * 5, "genres": ["Drama"] * 5}
    pl.DataFrame({**films, "description": ["One. Two. Three."] * 4 + [""]}).write_parquet(folder / "items.parquet")
    assert read_texts(tmp_path, 9) == ["A (1990)", "B (1990), Drama", "One", "One. Two. Three."]


def test_the_usual_pictures_are_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a batch, so that batches are put together."""
    folder = tmp_path / "movies" / "posters"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for n in range(6):
        Image.fromarray(rng.integers(0, 256, (30 + n, 40, 3)).astype(np.uint8)).save(folder / f"{n}.jpg")
    (folder / "6.jpg").write_bytes((folder / "0.jpg").read_bytes())
    monkeypatch.setitem(BATCH, "image", 4)
    case = embed_speed._lite0(tmp_path)
    assert [path.name for path in case.contents] == [f"{n}.jpg" for n in range(6)]
    _, cosines = measure(case, turns=1)
    assert min(cosines.values()) > 0.99999  # batch normalisation, so float32


def test_what_cannot_be_measured_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    for make in embed_speed.CASES.values():
        with pytest.raises(LeftOut):
            make(None)
