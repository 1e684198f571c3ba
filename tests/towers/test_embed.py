"""The cache of content vectors: nothing is computed twice, nothing damaged is believed, nothing faulty stops it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from towers import embed
from towers.embed import VectorCache
from towers.encoders.contract import Encoder
from towers.errors import MediaError
from towers.precision import bf16_is_fast
from towers.text import TextConfig, TextEncoder, embed_texts

TEXTS = ["quiet piano", "fast engine", "", "quiet piano", "night race"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that reached the encoder, which computes in float32."""
    texts: list[str] = []
    prepare = TextEncoder.prepare

    def counting(encoder: TextEncoder, text: str) -> list[int]:
        texts.append(text)
        return prepare(encoder, text)

    monkeypatch.setattr(TextEncoder, "prepare", counting)
    monkeypatch.setattr(embed, "bf16_is_fast", lambda device: False)
    return texts


def embedded(folder: Path, encoder: Encoder, texts: Sequence[Any]) -> np.ndarray:
    return VectorCache(folder).embed(encoder, texts).vectors.numpy()


def test_each_text_is_embedded_once(tiny_encoder: TextEncoder, tmp_path: Path, asked: list[str]) -> None:
    vectors = embedded(tmp_path, tiny_encoder, TEXTS)
    np.testing.assert_allclose(vectors, embed_texts(tiny_encoder, TEXTS), atol=1e-6)
    assert vectors.dtype == np.float32
    assert sorted(asked) == sorted(set(TEXTS))
    asked.clear()
    again = embedded(tmp_path, tiny_encoder, ["evening rain", *reversed(TEXTS)])
    assert asked == ["evening rain"]
    assert np.array_equal(again[:0:-1], vectors)


def test_another_encoder_has_vectors_of_its_own(tiny_bert: Path, tmp_path: Path, asked: list[str]) -> None:
    first, other = (TextEncoder.load(TextConfig(source=str(tiny_bert), pooling=p)) for p in ("mean", "cls"))
    vectors = embedded(tmp_path, first, TEXTS[:1])
    assert not np.allclose(embedded(tmp_path, other, TEXTS[:1]), vectors)
    assert asked == TEXTS[:1] * 2


def test_a_kill_loses_one_chunk(
    tiny_encoder: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    """Longest first: "quiet piano" and "fast engine" are written, "night race" is being read."""
    monkeypatch.setattr(embed, "CHUNK", 2)
    prepare = TextEncoder.prepare

    def failing(encoder: TextEncoder, text: str) -> list[int]:
        if text == "night race":
            raise KeyboardInterrupt
        return prepare(encoder, text)

    with monkeypatch.context() as patch:
        patch.setattr(TextEncoder, "prepare", failing)
        with pytest.raises(KeyboardInterrupt):
            embedded(tmp_path, tiny_encoder, TEXTS)
    asked.clear()
    embedded(tmp_path, tiny_encoder, TEXTS)
    assert sorted(asked) == ["", "night race"]


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
    vectors = embedded(tmp_path, tiny_encoder, TEXTS)
    (part,) = tmp_path.glob("*/*.npz")
    part.write_bytes(DAMAGES[damage](part.read_bytes()))
    asked.clear()
    np.testing.assert_allclose(embedded(tmp_path, tiny_encoder, TEXTS), vectors, atol=1e-6)
    assert sorted(asked) == sorted(set(TEXTS))
    asked.clear()
    embedded(tmp_path, tiny_encoder, TEXTS)
    assert not asked


def test_two_at_once_share_a_cache(
    tiny_encoder: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    """While one embeds, another does the same and is quicker; a third is being killed in the middle of a write."""
    write = embed._write_part

    def overtaken(folder: Path, found: dict[bytes, np.ndarray]) -> None:
        monkeypatch.setattr(embed, "_write_part", write)
        embedded(tmp_path, tiny_encoder, ["evening rain", *TEXTS])
        write(folder, found)

    monkeypatch.setattr(embed, "_write_part", overtaken)
    vectors = embedded(tmp_path, tiny_encoder, TEXTS)
    first, second = sorted(tmp_path.glob("*/*.npz"))
    (first.parent / f".{first.name}.0.part").write_bytes(second.read_bytes()[:100])
    asked.clear()
    again = embedded(tmp_path, tiny_encoder, ["evening rain", *TEXTS])
    assert not asked
    np.testing.assert_allclose(again[1:], vectors, atol=1e-6)


def test_what_is_not_there_is_not_a_vector(tiny_encoder: TextEncoder, tmp_path: Path) -> None:
    found = VectorCache(tmp_path).embed(tiny_encoder, ["quiet piano", None])
    assert found.present.tolist() == [True, False]
    assert found.vectors[1].abs().sum() == 0
    assert VectorCache(tmp_path).embed(tiny_encoder, []).vectors.shape == (0, 32)
    assert VectorCache(tmp_path).embed(tiny_encoder, [None]).present.tolist() == [False]


def test_bfloat16_is_near_and_kept_apart(tiny_encoder: TextEncoder, tmp_path: Path) -> None:
    vectors = VectorCache(tmp_path).embed(tiny_encoder, TEXTS).vectors
    exact = torch.from_numpy(embed_texts(tiny_encoder, TEXTS))
    assert F.cosine_similarity(vectors, exact).min() > 0.999
    (folder,) = tmp_path.iterdir()
    assert folder.name.endswith("-bf16") == bf16_is_fast(torch.device("cpu"))


class Numbers(Encoder):
    """Reads a number out of a file: ``[n, n²]``."""

    modality = "image"

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    @classmethod
    def load(cls, config: Any, *, weights: Path | None = None) -> Numbers:
        return cls()

    dimension, blocks, reading = 2, [], "numbers"  # type: ignore[assignment]

    def prepare(self, content: Path | bytes) -> float:
        try:
            return float(content.read_text() if isinstance(content, Path) else content)
        except ValueError as error:
            raise MediaError("is no number") from error

    def encode(self, prepared: Sequence[float]) -> torch.Tensor:
        values = torch.tensor(prepared)
        return torch.stack([values, values**2], 1)


def test_what_cannot_be_read_is_told_of_and_the_rest_goes_on(tmp_path: Path) -> None:
    """Files and bytes share one key; a fault is found again each time, for the file may have been mended."""
    good, bad = tmp_path / "3.txt", tmp_path / "bad.txt"
    good.write_text("3")
    bad.write_text("three")
    os.mkfifo(tmp_path / "pipe")
    contents = [good, bad, tmp_path / "none.txt", None, b"3", b"inf", b"2", tmp_path / "pipe"]
    for _ in range(2):
        found = VectorCache(tmp_path / "cache").embed(Numbers(), contents)
        assert found.vectors.tolist() == [[3, 9], [0, 0], [0, 0], [0, 0], [3, 9], [0, 0], [2, 4], [0, 0]]
        assert found.present.tolist() == [True, False, False, False, True, False, True, False]
        assert found.faults == {
            1: "is no number",
            2: "cannot be opened: No such file or directory",
            5: "gives a vector that is not finite",
            7: "is no file",
        }
    bad.write_text("4")
    assert VectorCache(tmp_path / "cache").embed(Numbers(), contents).vectors[1].tolist() == [4, 16]


def test_what_is_asked_for_is_looked_for_where_it_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One content of ten lies in one file of five, or in those of two processes, or in what another wrote since."""
    monkeypatch.setattr(embed, "CHUNK", 2)
    read: list[int] = []
    whole = embed._read_parts
    monkeypatch.setattr(
        embed, "_read_parts", lambda parts, wanted: read.append(len(parts := list(parts))) or whole(parts, wanted)
    )
    (tmp_path / "other").mkdir()
    mine, others = VectorCache(tmp_path / "cache"), VectorCache(tmp_path / "other")
    mine.embed(Numbers(), [b"%d" % n for n in range(10)])
    others.embed(Numbers(), [b"7", b"20"])
    (part,) = (tmp_path / "other").glob("*/*.npz")
    monkeypatch.setattr(Numbers, "prepare", lambda self, content: float(content) + 0.5)  # whatever is embedded anew
    assert mine.embed(Numbers(), [b"7"]).vectors.tolist() == [[7, 49]]
    part.rename(tmp_path / "cache" / part.parent.name / part.name)
    assert mine.embed(Numbers(), [b"20"]).vectors.tolist() == [[20, 400]]
    assert mine.embed(Numbers(), [b"7", b"3"]).vectors.tolist() == [[7, 49], [3, 9]]
    assert mine.embed(Numbers(), [b"30"]).vectors.tolist() == [[30.5, 930.25]]
    assert read == [0, 0, 1, 1, 3, 0]


CHILD = """
import sys, time
from pathlib import Path
import torch
from towers import embed
from towers.encoders.contract import Encoder

class Numbers(Encoder):
    modality, dimension, blocks, reading = "image", 2, [], "numbers"
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
    def load(self): ...
    def prepare(self, content):
        return float(content)
    def encode(self, prepared):
        time.sleep(0.02)
        values = torch.tensor(prepared)
        return torch.stack([values, values**2], 1)

embed.CHUNK = 2
print("ready", flush=True)
sys.stdin.readline()
embed.VectorCache(Path(sys.argv[1])).embed(Numbers(), [b"%d" % n for n in range(200)])
"""


def test_of_two_processes_one_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both embed the same 200 contents; the third needs no more than the ten that neither was given."""
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": Path(__file__).parents[2]}
    with subprocess.Popen(command, **pipes) as killed, subprocess.Popen(command, **pipes) as other:  # type: ignore[call-overload]
        try:
            assert [one.stdout.readline() for one in (killed, other)] == ["ready\n"] * 2
            for one in (killed, other):
                one.stdin.write("\n")
                one.stdin.flush()
            while not all(list(tmp_path.glob(f"*/{one.pid}-*.npz")) for one in (killed, other)):
                assert killed.poll() is None
                time.sleep(0.001)
            killed.kill()
            assert (killed.wait(60), other.wait(60)) == (-signal.SIGKILL, 0)
        finally:
            killed.kill()
            other.kill()
    counts = [len(list(tmp_path.glob(f"*/{one.pid}-*.npz"))) for one in (killed, other)]
    assert 0 < counts[0] < counts[1] == 100
    asked: list[Any] = []
    monkeypatch.setattr(Numbers, "prepare", lambda self, content: asked.append(content) or float(content))
    found = VectorCache(tmp_path).embed(Numbers(), [b"%d" % n for n in range(210)])
    assert found.vectors.tolist() == [[n, n * n] for n in range(210)]
    assert sorted(asked) == [b"%d" % n for n in range(200, 210)]


def test_batches_of_long_sounds_are_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three batches of hours, decoded side by side, would not fit into memory."""
    monkeypatch.setattr(embed, "MOST_BYTES", 10)
    monkeypatch.setattr(Numbers, "modality", "audio")
    sizes: list[int] = []
    whole = Numbers.encode

    def noted(self: Numbers, prepared: Sequence[float]) -> torch.Tensor:
        sizes.append(len(prepared))
        return whole(self, prepared)

    monkeypatch.setattr(Numbers, "encode", noted)
    long = tmp_path / "long.txt"
    long.write_text("4" + " " * 10)
    contents = [b"0001", b"0002", b"0003", long, b"5", b"6"]
    found = VectorCache(tmp_path / "cache").embed(Numbers(), contents)
    assert sizes == [2, 1, 1, 2]
    assert found.vectors[:, 0].tolist() == [1, 2, 3, 4, 5, 6]


def test_the_default_place_is_the_cache_folder(
    tiny_encoder: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path))
    VectorCache().embed(tiny_encoder, TEXTS)
    assert len(list(tmp_path.glob("vectors/*/*.npz"))) == 1


def test_threads_keep_their_number(tmp_path: Path) -> None:
    """Threads that decode use one core each, and no other thread is told so."""
    seen: list[int] = []

    class Counting(Numbers):
        def prepare(self, content: Path | bytes) -> float:
            seen.append(torch.get_num_threads())
            return super().prepare(content)

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        VectorCache(tmp_path).embed(Counting(), [b"1", b"2"])
        with ThreadPoolExecutor(1) as pool:
            assert (seen, torch.get_num_threads(), pool.submit(torch.get_num_threads).result()) == ([1, 1], 2, 2)
    finally:
        torch.set_num_threads(before)


def test_batches_are_of_like_lengths(
    tiny_encoder: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By tokens, of which a known word is one and an unknown one as many as it has letters."""
    monkeypatch.setitem(embed.BATCH, "text", 2)
    batches: list[list[int]] = []
    encode = TextEncoder.encode

    def counting(encoder: TextEncoder, prepared: Sequence[Sequence[int]]) -> torch.Tensor:
        batches.append([len(row) for row in prepared])
        return encode(encoder, prepared)

    monkeypatch.setattr(TextEncoder, "encode", counting)
    VectorCache(tmp_path).embed(tiny_encoder, ["evening violin", "xyzxyz", "quiet piano engine", "xyzzy"])
    assert batches == [[6, 5], [3, 2]]
