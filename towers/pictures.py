"""Pictures as people's catalogs hold them, in any common format, read into plain RGB."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from towers.errors import MediaError

# Only formats that hold pixels: Pillow would hand an EPS file, for one, to another program.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
MAX_PIXELS = 100_000_000  # 0.4 GB decoded, twice that while it is converted
WHITE = 65535  # of 16 bits
MAX_RATIO = 100  # a strip would grow out of memory when its shorter side is scaled up to what an encoder reads

_WARNINGS_OF_PILLOW = ("ignore", None, Warning, re.compile(r"PIL\."), 0)

Image.init()  # here, for threads would race to do it


def read_picture(source: Path | bytes) -> Image.Image:
    """Read a picture in RGB, upright; of an animation the first frame. May be called from any thread.

    What is transparent becomes white. Grey of 16 bits is scaled so that its white stays white.

    Args:
        source: a file, or its content.

    Raises:
        MediaError: it is missing, empty, cut off, damaged, too large, or no picture.
    """
    _hush_pillow()
    try:
        with _stream_of(source) as stream:
            if not stream.read(1):
                raise MediaError("is empty")
            stream.seek(0)
            with Image.open(stream, formats=FORMATS) as image:
                _check_size(*image.size)
                image.load()
                _turn_upright(image)
                return _in_rgb(image)
    except MediaError:
        raise
    except UnidentifiedImageError as error:
        raise MediaError("is no picture") from error
    except Image.DecompressionBombError as error:
        raise MediaError(f"has more than {MAX_PIXELS:,} pixels") from error
    except Exception as error:  # a damaged file can make a decoder raise anything
        raise MediaError(_reason(error)) from error


def _hush_pillow() -> None:
    """Keep Pillow's warnings from standard error. `catch_warnings` would not be safe with threads."""
    if _WARNINGS_OF_PILLOW not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL\.")


def _stream_of(source: Path | bytes) -> BinaryIO:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if not source.exists():
        raise MediaError("is missing")
    if not source.is_file():  # reading a device or a pipe might never end
        raise MediaError("is no file")
    return source.open("rb")


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise MediaError(f"has {width:,} x {height:,} pixels, {MAX_PIXELS:,} at most are read")
    if max(width, height) > MAX_RATIO * min(width, height):
        raise MediaError(f"is a strip of {width:,} x {height:,} pixels, 1 to {MAX_RATIO} at most is read")


def _turn_upright(image: Image.Image) -> None:
    """Apply the camera's note of how it was held, where that can be read."""
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:  # a damaged note beside sound pixels
        return


def _in_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip
        grey = np.asarray(image)
        if grey.min() < 0 or grey.max() > WHITE:
            raise MediaError("has pixels of no known range (32 bits)")
        grey = grey.astype(np.uint32)
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise MediaError("has pixels of no known range (floating point)")
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    page = Image.new("RGB", layer.size, "white")
    page.paste(layer, mask=layer)
    return page


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be read ({error.strerror})"
    if isinstance(error, EOFError) or "truncated" in str(error).lower():
        return "is cut off"
    return f"cannot be decoded ({error})"
