"""Pictures in every common format, with pixels known by hand, and everything that can be wrong with a file."""

from __future__ import annotations

import io
import os
import resource
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from towers.errors import MediaError
from towers.pictures import MAX_PIXELS, read_picture

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
GREY = (127, 127, 127)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def of(mode: str, *pixels: Any) -> Image.Image:
    """A picture of one row."""
    image = Image.new(mode, (len(pixels), 1))
    for x, pixel in enumerate(pixels):
        image.putpixel((x, 0), pixel)
    return image


def palette(*colours: tuple[int, int, int]) -> Image.Image:
    """A row that shows each colour of a palette once."""
    image = of("P", *range(len(colours)))
    image.putpalette([value for colour in colours for value in colour])
    return image


def sixteen_bits() -> Image.Image:
    return Image.fromarray(np.array([[0, 65535, 25700, 32768]], np.uint16))  # 25700 = 100 x 257


def turned(orientation: int, kind: str, image: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(image, kind, exif=exif)


def rows_of(image: Image.Image) -> list[list[tuple[int, ...]]]:
    return [[tuple(pixel) for pixel in row] for row in np.asarray(image).tolist()]


LEFT_RED = of("RGB", RED, BLUE)
READ = {
    "colour": (saved(of("RGB", RED, BLUE), "PNG"), [[RED, BLUE]]),
    "bmp": (saved(of("RGB", RED, BLUE), "BMP"), [[RED, BLUE]]),
    "webp": (saved(of("RGB", RED, RED), "WEBP", lossless=True), [[RED, RED]]),
    "alpha": (saved(of("RGBA", (*RED, 255), (*BLACK, 0), (*BLACK, 128)), "PNG"), [[RED, WHITE, GREY]]),
    "colour key": (saved(of("RGB", RED, BLUE), "PNG", transparency=BLUE), [[RED, WHITE]]),
    "grey": (saved(of("L", 0, 127, 255), "PNG"), [[BLACK, GREY, WHITE]]),
    "grey and alpha": (saved(of("LA", (0, 255), (0, 0), (0, 128)), "PNG"), [[BLACK, WHITE, GREY]]),
    "one bit": (saved(of("1", 0, 255), "PNG"), [[BLACK, WHITE]]),
    "palette": (saved(palette(GREEN, BLUE), "PNG"), [[GREEN, BLUE]]),
    "palette with a hole": (saved(palette(GREEN, BLUE, RED), "PNG", transparency=1), [[GREEN, WHITE, RED]]),
    "palette with alpha": (
        saved(palette(BLACK, BLUE, BLACK), "PNG", transparency=b"\xff\x00\x80"),
        [[BLACK, WHITE, GREY]],
    ),
    "ink": (saved(of("CMYK", (0, 255, 255, 0), (0, 0, 0, 255), (0, 0, 0, 0)), "TIFF"), [[RED, BLACK, WHITE]]),
    "16 bits": (saved(sixteen_bits(), "PNG"), [[BLACK, WHITE, (100,) * 3, (128,) * 3]]),
    "16 bits, tiff": (saved(sixteen_bits(), "TIFF"), [[BLACK, WHITE, (100,) * 3, (128,) * 3]]),
    "16 bits, pgm": (saved(sixteen_bits(), "PPM"), [[BLACK, WHITE, (100,) * 3, (128,) * 3]]),
    "gif": (saved(palette(GREEN, BLUE), "GIF"), [[GREEN, BLUE]]),
    "gif with a hole": (saved(palette(GREEN, BLUE), "GIF", transparency=1), [[GREEN, WHITE]]),
    "animation": (
        saved(palette(GREEN, BLUE), "GIF", save_all=True, append_images=[palette(RED, RED)]),
        [[GREEN, BLUE]],
    ),
    "not turned": (turned(1, "PNG", LEFT_RED), [[RED, BLUE]]),
    "mirrored": (turned(2, "PNG", LEFT_RED), [[BLUE, RED]]),
    "upside down": (turned(3, "PNG", LEFT_RED), [[BLUE, RED]]),
    "first column is the top": (turned(6, "PNG", LEFT_RED), [[RED], [BLUE]]),
    "first column is the bottom": (turned(8, "PNG", LEFT_RED), [[BLUE], [RED]]),
    "turned tiff": (turned(6, "TIFF", LEFT_RED), [[RED], [BLUE]]),
}


@pytest.mark.parametrize("kind", READ)
def test_pixels(kind: str, tmp_path: Path) -> None:
    content, pixels = READ[kind]
    (tmp_path / "picture.jpg").write_bytes(content)  # the ending does not matter
    for source in (content, tmp_path / "picture.jpg"):
        image = read_picture(source)
        assert image.mode == "RGB"
        assert rows_of(image) == pixels


def test_a_photo_is_turned_upright() -> None:
    photo = Image.new("RGB", (32, 16), BLUE)
    photo.paste(RED, (0, 0, 8, 8))  # the corner at the upper left
    image = read_picture(turned(6, "JPEG", photo))
    assert image.size == (16, 32)
    corner = {place: image.getpixel(place) for place in [(2, 2), (13, 2), (2, 29), (13, 29)]}
    assert {place for place, pixel in corner.items() if pixel[0] > 200} == {(13, 2)}  # now at the upper right


@pytest.mark.parametrize(("ink", "colour"), [((0, 255, 255, 0), RED), ((0, 0, 0, 0), WHITE), ((0, 0, 0, 255), BLACK)])
def test_a_jpeg_in_ink_that_adobe_inverts(ink: tuple[int, ...], colour: tuple[int, ...]) -> None:
    content = saved(Image.new("CMYK", (16, 16), ink), "JPEG")
    assert b"Adobe" in content
    assert np.abs(np.subtract(read_picture(content).getpixel((8, 8)), colour)).max() <= 3


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM"])
def test_cut_off(kind: str, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    content = saved(NOISE, kind)
    (tmp_path / "half").write_bytes(content[: len(content) // 2])
    for source in (tmp_path / "half", content[: len(content) * 9 // 10]):
        with pytest.raises(MediaError, match=r"^is cut off$"):
            read_picture(source)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", ["WEBP", "AVIF", "JPEG2000"])
def test_cut_off_in_formats_whose_decoders_do_not_say_so(kind: str) -> None:
    content = saved(NOISE, kind)
    with pytest.raises(MediaError, match=r"cannot be decoded|is no picture"):
        read_picture(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.png", b"", "is empty"),
        ("text.jpg", b"this is no picture at all", "is no picture"),
        ("page.png", b"<html><body>404</body></html>", "is no picture"),
        ("head.png", b"\x89PNG\r\n\x1a\n", "is no picture"),
        ("printed.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", "is no picture"),
    ],
)
def test_no_picture(name: str, content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    for source in (content, tmp_path / name):
        with pytest.raises(MediaError, match=f"^{reason}$"):
            read_picture(source)


def test_damaged() -> None:
    content = bytearray(saved(NOISE, "PNG"))
    content[len(content) // 2] ^= 255
    with pytest.raises(MediaError, match=r"^cannot be decoded \("):
        read_picture(bytes(content))


def test_numbers_without_a_range() -> None:
    with pytest.raises(MediaError, match="no known range"):
        read_picture(saved(Image.new("F", (2, 2), 0.5), "TIFF"))


@pytest.mark.parametrize("value", [65_536, 2**31 - 1, -1])
def test_whole_numbers_beyond_16_bits_have_no_range(value: int) -> None:
    """Cut at 65,535 they would all be white."""
    with pytest.raises(MediaError, match=r"no known range \(32 bits\)"):
        read_picture(saved(Image.fromarray(np.full((2, 2), value, np.int32)), "TIFF"))
    inside = read_picture(saved(Image.fromarray(np.full((1, 1), 65_535, np.int32)), "TIFF"))
    assert rows_of(inside) == [[(255, 255, 255)]]


def test_not_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    places = {tmp_path / "none.png": "is missing", tmp_path: "is no file", tmp_path / "pipe": "is no file"}
    for place, reason in places.items():
        with pytest.raises(MediaError, match=f"^{reason}$"):
            read_picture(place)
    with pytest.raises(MediaError, match=r"^cannot be read \(File name too long\)$"):
        read_picture(tmp_path / ("x" * 300))


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that is there and cannot be read")
def test_unreadable() -> None:
    with pytest.raises(MediaError, match=r"^cannot be read \(Input/output error\)$"):
        read_picture(Path("/proc/self/mem"))


def png_of(width: int, height: int) -> bytes:
    """A PNG that claims a size, with data for its first few pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def peak() -> int:
    """Most memory this process has held, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_a_picture_too_large_costs_no_memory() -> None:
    before = peak()
    with pytest.raises(MediaError, match="has more than 100,000,000 pixels"):
        read_picture(png_of(60_000, 60_000))
    with pytest.raises(MediaError, match="has 10,001 x 10,000 pixels, 100,000,000 at most"):
        read_picture(png_of(10_001, 10_000))
    assert peak() - before < 20_000


def test_the_limit_itself_is_read_without_a_warning() -> None:
    assert MAX_PIXELS == 10_000 * 10_000
    with pytest.raises(MediaError, match=r"^is cut off$"):  # so it was let through, though Pillow warns from here on
        read_picture(png_of(9_500, 9_500))


def test_a_strip() -> None:
    assert read_picture(saved(Image.new("RGB", (300, 3)), "PNG")).size == (300, 3)
    with pytest.raises(MediaError, match="is a strip of 301 x 3 pixels"):
        read_picture(saved(Image.new("RGB", (301, 3)), "PNG"))


def damaged_note() -> bytes:
    """A JPEG whose EXIF part promises five entries and holds none, beside sound pixels."""
    return saved(Image.new("RGB", (16, 16), RED), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0")


def test_pillow_warns_nobody() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with Image.open(io.BytesIO(damaged_note())) as image:
            image.getexif().get(0x0112)
        assert caught, "the file gives no occasion"
        caught.clear()
        assert read_picture(damaged_note()).getpixel((8, 8))[0] > 250
        assert rows_of(read_picture(READ["palette with alpha"][0])) == [[BLACK, WHITE, GREY]]
        with pytest.raises(MediaError):
            read_picture(png_of(9_500, 9_500))
        assert not caught


def test_many_threads_read_the_same() -> None:
    kinds = list(READ) * 20
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(lambda kind: read_picture(READ[kind][0]), kinds))
    assert [rows_of(image) for image in images] == [READ[kind][1] for kind in kinds]
