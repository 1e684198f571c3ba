"""The cache of text vectors: nothing is computed twice, nothing damaged is believed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from towers import embed
from towers.embed import TextCache
from towers.text import TextConfig, TextEncoder, embed_texts

TEXTS = ["quiet piano", "fast engine", "", "quiet piano", "night race"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that reached the encoder."""
    texts: list[str] = []

    def counting(encoder: TextEncoder, some: list[str]) -> np.ndarray:
        texts.extend(some)
        return embed_texts(encoder, some)

    monkeypatch.setattr(embed, "embed_texts", counting)
    return texts


def test_each_text_is_embedded_once(tiny_encoder: TextEncoder, tmp_path: Path, asked: list[str]) -> None:
    cache = TextCache(tmp_path)
    vectors = cache.embed(tiny_encoder, TEXTS)
    np.testing.assert_allclose(vectors, embed_texts(tiny_encoder, TEXTS), atol=1e-6)
    assert vectors.dtype == np.float32
    assert sorted(asked) == sorted(set(TEXTS))
    asked.clear()
    again = TextCache(tmp_path).embed(tiny_encoder, ["evening rain", *reversed(TEXTS)])
    assert asked == ["evening rain"]
    assert np.array_equal(again[:0:-1], vectors)


def test_another_encoder_has_vectors_of_its_own(tiny_bert: Path, tmp_path: Path, asked: list[str]) -> None:
    cache = TextCache(tmp_path)
    first, other = (TextEncoder.load(TextConfig(source=str(tiny_bert), pooling=p)) for p in ("mean", "cls"))
    vectors = cache.embed(first, TEXTS[:1])
    assert not np.allclose(cache.embed(other, TEXTS[:1]), vectors)
    assert asked == TEXTS[:1] * 2


def test_a_kill_loses_one_chunk(
    tiny_encoder: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    monkeypatch.setattr(embed, "CHUNK", 2)
    embed_some = embed.embed_texts

    def failing(encoder: TextEncoder, some: list[str]) -> np.ndarray:
        if "night race" in some:
            raise KeyboardInterrupt
        return embed_some(encoder, some)

    monkeypatch.setattr(embed, "embed_texts", failing)
    with pytest.raises(KeyboardInterrupt):
        TextCache(tmp_path).embed(tiny_encoder, TEXTS)
    monkeypatch.setattr(embed, "embed_texts", embed_some)
    asked.clear()
    TextCache(tmp_path).embed(tiny_encoder, TEXTS)
    assert asked == ["", "night race"]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut short": lambda data: data[: len(data) // 2],
    "another file": lambda _: b"hello",
    "a flipped bit": lambda data: data[:300] + bytes([data[300] ^ 1]) + data[301:],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_part_is_embedded_again(
    tiny_encoder: TextEncoder, tmp_path: Path, asked: list[str], damage: str
) -> None:
    cache = TextCache(tmp_path)
    vectors = cache.embed(tiny_encoder, TEXTS)
    (part,) = tmp_path.glob("*/*.npz")
    part.write_bytes(DAMAGES[damage](part.read_bytes()))
    asked.clear()
    np.testing.assert_allclose(cache.embed(tiny_encoder, TEXTS), vectors, atol=1e-6)
    assert sorted(asked) == sorted(set(TEXTS))
    asked.clear()
    cache.embed(tiny_encoder, TEXTS)
    assert not asked


def test_two_at_once_share_a_cache(
    tiny_encoder: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    """While one embeds, another does the same and is quicker; a third is being killed in the middle of a write."""
    embed_some = embed.embed_texts

    def overtaken(encoder: TextEncoder, some: list[str]) -> np.ndarray:
        monkeypatch.setattr(embed, "embed_texts", embed_some)
        TextCache(tmp_path).embed(encoder, ["evening rain", *some])
        return embed_texts(encoder, some)

    monkeypatch.setattr(embed, "embed_texts", overtaken)
    vectors = TextCache(tmp_path).embed(tiny_encoder, TEXTS)
    first, second = sorted(tmp_path.glob("*/*.npz"))
    (first.parent / f".{first.name}.0.part").write_bytes(second.read_bytes()[:100])
    asked.clear()
    again = TextCache(tmp_path).embed(tiny_encoder, ["evening rain", *TEXTS])
    assert not asked
    np.testing.assert_allclose(again[1:], vectors, atol=1e-6)


def test_no_texts(tiny_encoder: TextEncoder, tmp_path: Path) -> None:
    assert TextCache(tmp_path).embed(tiny_encoder, []).shape == (0, 32)


def test_the_default_place_is_the_cache_folder(
    tiny_encoder: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path))
    TextCache().embed(tiny_encoder, TEXTS)
    assert len(list(tmp_path.glob("vectors/*/*.npz"))) == 1
