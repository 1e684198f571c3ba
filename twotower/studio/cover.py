"""The cover of a track: the motif of its class in some colours before some ground."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from towers.errors import MissingExtraError
from twotower.studio.motifs import MOTIFS, SHEET, Colour, Pen
from twotower.studio.settings import GENERATED

try:
    from PIL import Image, ImageColor
except ImportError as error:
    raise MissingExtraError("drawing covers needs pillow: pip install 'twotower[media]'") from error

PALETTES = (  # hue of ground, main and second colour, in degrees
    (210, 15, 45),
    (30, 200, 350),
    (120, 330, 50),
    (270, 50, 180),
    (0, 40, 220),
    (180, 300, 20),
    (50, 260, 130),
    (330, 170, 60),
)
LEANING = 0.35
"""How often a cover takes the palette of its class, else any: colours tell a little of the class, shapes the rest."""


def draw_cover(rng: np.random.Generator, motif: int, side: int) -> Image.Image:
    """An RGB picture of `side` by `side` pixels.

    Colours (see `LEANING`), ground, outline, size, place, tilt and grain are drawn alike for every motif.

    Args:
        rng: of this track.
        motif: class of the picture part.
        side: pixels.
    """
    palette = motif if rng.random() < LEANING else int(rng.integers(len(PALETTES)))
    ground, main, second = (_shade(rng, hue) for hue in PALETTES[palette])
    picture = _ground(rng, ground)
    outline = int(rng.choice([0, 3, 5]))
    size, tilt, mirrored = rng.uniform(0.62, 0.98), rng.uniform(-14, 14), rng.random() < 0.5
    x, y = (rng.uniform(0.2, 0.8, 2) * (1 - size) * SHEET).round().astype(int)
    grain = rng.normal(0, rng.uniform(1, 9), (side, side, 1))

    pen = Pen((main, second, _ink(ground)), outline)
    MOTIFS[motif](pen, rng)
    sheet = pen.sheet.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else pen.sheet
    sheet = sheet.rotate(tilt, Image.Resampling.BILINEAR).resize((round(size * SHEET),) * 2, Image.Resampling.BILINEAR)
    picture.paste(sheet, (int(x), int(y)), sheet)
    small = np.asarray(picture.resize((side, side), Image.Resampling.BOX), np.float32)
    return Image.fromarray((small + grain).clip(0, 255).astype(np.uint8))


def write_cover(path: Path, picture: Image.Image) -> None:
    """A JPEG file."""
    picture.save(path, "JPEG", quality=88, comment=GENERATED)


def _shade(rng: np.random.Generator, hue: float) -> Colour:
    """A colour near a hue, pale or deep."""
    hue = (hue + rng.normal(0, 12)) % 360
    red, green, blue = ImageColor.getrgb(f"hsl({hue:.0f}, {rng.uniform(35, 90):.0f}%, {rng.uniform(30, 75):.0f}%)")[:3]
    return red, green, blue


def _ink(ground: Colour) -> Colour:
    """Dark on a light ground, light on a dark one."""
    return (25, 25, 35) if sum(ground) > 300 else (240, 236, 225)


def _ground(rng: np.random.Generator, colour: Colour) -> Image.Image:
    """A sheet that is plain, shaded, striped, dotted, ringed or has rays."""
    kind, strength, turn, width = (
        rng.integers(6),
        rng.uniform(0.15, 0.4),
        rng.uniform(0, 2 * np.pi),
        rng.uniform(20, 45),
    )
    axis = np.arange(SHEET, dtype=np.float32) - SHEET / 2
    x, y = axis[None, :], axis[:, None]
    along = (x * np.cos(turn) + y * np.sin(turn)) / width
    across = (y * np.cos(turn) - x * np.sin(turn)) / width
    if kind == 0:
        light = np.zeros_like(along)
    elif kind == 1:
        light = along * width / SHEET
    elif kind == 2:
        light = np.sin(np.pi * along) > 0.3
    elif kind == 3:
        light = np.sin(np.pi * along) * np.sin(np.pi * across) > 0.6
    elif kind == 4:
        light = np.sin(2 * np.pi * np.hypot(along, across)) > 0.3
    else:
        light = np.sin(np.arctan2(across, along) * round(width / 3)) > 0
    towards = (255 if rng.random() < 0.5 else 0) - np.array(colour, np.float32)
    mixed = np.array(colour, np.float32) + np.float32(strength) * light[..., None] * towards
    return Image.fromarray(mixed.clip(0, 255).astype(np.uint8))
