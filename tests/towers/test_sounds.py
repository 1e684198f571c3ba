"""Sounds out of files: values against torchaudio and known signals, and each way in which a file can be bad."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
torchaudio = pytest.importorskip("torchaudio", reason="needs the extra media")
soundfile = pytest.importorskip("soundfile", reason="needs the extra media")

from towers import sounds  # noqa: E402
from towers.errors import MediaError  # noqa: E402
from towers.sounds import read_sound, sound_blocks  # noqa: E402

RATES = [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000]


def noise(frames: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Half a second of it at full strength would be ±1; this is within ±0.5."""
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (frames, channels)).astype(np.float32)


def tone(rate: int, seconds: float, pitch: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * pitch * np.arange(round(rate * seconds)) / rate)


def encoded(samples: np.ndarray, rate: int, *, format: str = "WAV", subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format, subtype=subtype or ("FLOAT" if format == "WAV" else None))
    return file.getvalue()


@pytest.mark.parametrize("target", [16_000, 48_000])
@pytest.mark.parametrize("rate", RATES)
def test_block_by_block_is_as_the_whole(monkeypatch: pytest.MonkeyPatch, rate: int, target: int) -> None:
    monkeypatch.setattr(sounds, "BLOCK", 5_003)
    samples = noise(rate * 6 // 5 + 7)
    blocks = list(sound_blocks(encoded(samples, rate), target))
    whole = torchaudio.functional.resample(torch.from_numpy(samples[:, 0]), rate, target)
    assert len(blocks) > 1
    torch.testing.assert_close(torch.cat(blocks), whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("rate", RATES)
def test_a_tone_stays_as_it_is(rate: int) -> None:
    got, want = read_sound(encoded(tone(rate, 2.0), rate), 16_000).numpy(), tone(16_000, 2.0)
    assert len(got) == len(want)
    np.testing.assert_allclose(got[200:-200], want[200:-200], atol=1e-3)


@pytest.mark.parametrize("rate", [16_025, 22_254, 37_337, 44_101, 191_999])
def test_a_rate_with_no_small_ratio_needs_no_huge_filter(rate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exact filter from 44,101 to 16,000 would have 16,000 phases and take 2.8 GB."""
    ratios = []
    resample = sounds.resample
    monkeypatch.setattr(sounds, "resample", lambda *args, **kw: ratios.append(args[1:3]) or resample(*args, **kw))
    got = read_sound(encoded(tone(rate, 2.0), rate), 16_000).numpy()
    assert all(new <= 640 and old * new < 6e6 for old, new in ratios)
    assert len(got) == pytest.approx(32_000, rel=2e-3)
    spectrum = np.abs(np.fft.rfft(got * np.hanning(len(got)))) * 4 / len(got)
    assert spectrum.argmax() * 16_000 / len(got) == pytest.approx(440, rel=3e-3)
    assert spectrum.max() == pytest.approx(0.5, rel=0.02)


def test_channels_are_averaged() -> None:
    samples = noise(1_600, 6)
    for count in (1, 2, 6):
        got = read_sound(encoded(samples[:, :count], 16_000), 16_000)
        np.testing.assert_allclose(got.numpy(), samples[:, :count].mean(axis=1), atol=1e-6)
    many = np.full((9_000, 900), 0.25, np.float32) * np.arange(900, dtype=np.float32) / 899
    np.testing.assert_allclose(read_sound(encoded(many, 16_000), 16_000).numpy(), 0.125, atol=1e-5)


@pytest.mark.parametrize("subtype", ["FLOAT", "PCM_16"])
@pytest.mark.parametrize("signs", [(1, -1), (-1, 1), (0, 1, -1), (0.1, 1, -1.1), (0.7, 0.3, -1)])
def test_channels_that_cancel_out_are_not_silence(signs: tuple[float, ...], subtype: str) -> None:
    """The first that is about as loud as the loudest is taken: here, each is the same tone, turned over or not."""
    mono = tone(16_000, 1.0)
    got = read_sound(encoded(np.outer(mono, signs), 16_000, subtype=subtype), 16_000).numpy()
    first = next(sign for sign in signs if abs(sign) > 0.55)
    np.testing.assert_allclose(got, first * mono, atol=4e-5)


def test_channels_that_nearly_cancel_out_are_averaged() -> None:
    """What is left is a fiftieth of the loudest, such as a quiet voice in the middle of a wide room."""
    mono = tone(16_000, 1.0)
    got = read_sound(encoded(np.outer(mono, (1, -0.96)), 16_000), 16_000).numpy()
    np.testing.assert_allclose(got, 0.02 * mono, atol=1e-6)


def test_silence_is_that_of_all_channels() -> None:
    """One step of 16 bits in one of eight channels is a sound, as it is alone."""
    quiet = np.zeros((9_000, 8), np.float32)
    quiet[3, 5] = 1 / 32_768
    assert read_sound(encoded(quiet, 16_000), 16_000).sum().item() == pytest.approx(1 / 32_768 / 8)
    with pytest.raises(MediaError, match="is silent"):
        read_sound(encoded(np.zeros((9_000, 8)), 16_000), 16_000)


@pytest.mark.parametrize(
    ("format", "subtype", "error"),
    [
        ("WAV", "PCM_16", 4e-5),
        ("WAV", "PCM_24", 1e-6),
        ("WAV", "PCM_U8", 1e-2),
        ("FLAC", None, 4e-5),
        ("AIFF", None, 4e-5),
        ("OGG", "VORBIS", 5e-2),
        ("MP3", None, 5e-2),
    ],
)
def test_formats_by_content_from_memory_and_disk(
    tmp_path: Path, format: str, subtype: str | None, error: float
) -> None:
    samples = tone(16_000, 1.0) + tone(16_000, 1.0, 1_234.5) / 2
    data = encoded(samples, 16_000, format=format, subtype=subtype)
    (tmp_path / "sound.txt").write_bytes(data)  # the name's ending says nothing
    (tmp_path / "sound.raw").write_bytes(data)
    got = read_sound(data, 16_000)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.numpy()[500:-500], samples[500:-500], atol=error)
    for name in ("sound.txt", "sound.raw"):
        torch.testing.assert_close(read_sound(tmp_path / name, 16_000), got, atol=0, rtol=0)


def test_precision_is_kept_under_autocast() -> None:
    data = encoded(noise(44_100), 44_100)
    plain = read_sound(data, 16_000)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(read_sound(data, 16_000), plain, atol=0, rtol=0)


def test_threads_read_what_one_reads() -> None:
    files = [encoded(noise(30_000, 2, seed), RATES[seed % 8], format="FLAC") for seed in range(16)]
    alone = [read_sound(file, 16_000) for file in files]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda file: read_sound(file, 16_000), files * 4))
    for number, sound in enumerate(together):
        assert torch.equal(sound, alone[number % 16])


def with_one(value: float) -> np.ndarray:
    samples = noise(8_000, 2)
    samples[5_000, 1] = value
    return samples


GOOD = encoded(noise(48_000), 16_000)
BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "no bytes": (lambda: b"", "is empty"),
    "text": (lambda: b"a quiet piano piece\n" * 50, "is no sound that can be read"),
    "picture": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(500), "is no sound that can be read"),
    "wav cut": (lambda: GOOD[: len(GOOD) // 2], "is cut off"),
    "wav cut in the header": (lambda: GOOD[:30], "is no sound that can be read|is damaged|is cut off"),
    "flac cut": (lambda: half("FLAC"), "is cut off or damaged"),
    "ogg cut": (lambda: half("OGG"), "is cut off"),
    "mp3 cut": (lambda: half("MP3"), "is cut off"),
    "aiff cut": (lambda: half("AIFF"), "is cut off"),
    "no frames": (lambda: encoded(np.empty((0, 2)), 16_000), "has no samples"),
    "one frame": (lambda: encoded(noise(1), 16_000), "is shorter than 50 ms"),
    "49 ms": (lambda: encoded(noise(784), 16_000), "is shorter than 50 ms"),
    "silence": (lambda: encoded(np.zeros((9_000, 2)), 16_000), "is silent"),
    "almost silence": (lambda: encoded(noise(9_000) * 1e-5, 16_000), "is silent"),
    "NaN": (lambda: encoded(with_one(math.nan), 16_000), "holds samples that are no numbers"),
    "infinity": (lambda: encoded(with_one(-math.inf), 16_000), "holds samples that are no numbers"),
    "huge": (lambda: encoded(with_one(1e30), 16_000), "far outside -1 to 1"),
    "slow": (lambda: encoded(noise(3_000), 2_000), "has 2,000 samples a second, 4,000 to 400,000 can be read"),
    "fast": (lambda: encoded(noise(99_999), 500_000), "has 500,000 samples a second"),
}


def half(format: str) -> bytes:
    data = encoded(noise(48_000), 16_000, format=format)
    return data[: len(data) // 2]


@pytest.mark.parametrize("name", BAD)
def test_bad_sounds_are_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    make, reason = BAD[name]
    data = make()
    (tmp_path / "bad.wav").write_bytes(data)
    for source in (data, tmp_path / "bad.wav"):
        with pytest.raises(MediaError, match=reason):
            read_sound(source, 16_000)


def test_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"^is missing$"):
        read_sound(tmp_path / "none.wav", 16_000)
    with pytest.raises(MediaError, match=r"^is a folder$"):
        read_sound(tmp_path, 16_000)
    with pytest.raises(MediaError, match=r"^cannot be opened \(File name too long\)$"):
        read_sound(tmp_path / ("x" * 300), 16_000)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """Nobody ever writes into it."""
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(MediaError, match=r"^is no file$"):
        read_sound(tmp_path / "pipe.wav", 16_000)


def test_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sounds, "LONGEST", 2.5)
    assert len(read_sound(encoded(noise(40_000), 16_000), 16_000)) == 40_000
    with pytest.raises(MediaError, match="is longer than"):
        read_sound(encoded(noise(40_001), 16_000), 16_000)


def test_the_shortest_and_the_quietest_that_can_be_read() -> None:
    assert len(read_sound(encoded(noise(800), 16_000), 16_000)) == 800
    quiet = np.zeros(9_000, np.float32)
    quiet[3] = 1 / 32_768  # the smallest step of 16 bits
    assert read_sound(encoded(quiet, 16_000), 16_000).sum().item() == pytest.approx(1 / 32_768)


def test_a_stream_whose_header_knows_no_length_is_no_cut_sound() -> None:
    """What a program writes into a pipe has 0xFFFFFFFF for the lengths."""
    data = bytearray(encoded(noise(16_000), 16_000, subtype="PCM_16"))
    start = data.index(b"data") + 4
    data[4:8] = data[start : start + 4] = b"\xff" * 4
    torch.testing.assert_close(
        read_sound(bytes(data), 16_000), torch.from_numpy(noise(16_000)[:, 0]), atol=4e-5, rtol=0
    )


def test_what_comes_after_the_last_page_of_an_ogg_does_not_matter() -> None:
    data = encoded(noise(16_000), 16_000, format="OGG")
    assert torch.equal(read_sound(data + b"\0" * 100, 16_000), read_sound(data, 16_000))


def test_real_recordings(data_dir: Path) -> None:
    """No published clip is taken for a bad one, but for four that hold nothing but silence."""
    files = [*sorted((data_dir / "esc10" / "audio").iterdir())[::8], *sorted((data_dir / "stamps" / "audio").iterdir())]
    refused = {}
    for file in files:
        try:
            assert len(read_sound(file, 16_000)) > 800
        except MediaError as error:
            refused[file.stem.rpartition("-")[2]] = str(error)
    assert refused == dict.fromkeys(["nandou", "wombat", "iguana", "giraffe"], "is silent")
    assert len(read_sound(files[0], 16_000)) == 80_016  # 5.001 s
