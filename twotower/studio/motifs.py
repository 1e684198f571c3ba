"""Eight things that a cover may show, one for each class of the picture part.

Each is drawn on a transparent sheet of ``SHEET`` pixels in three colours, with proportions and numbers of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from towers.errors import MissingExtraError

try:
    from PIL import Image, ImageDraw
except ImportError as error:
    raise MissingExtraError("drawing covers needs pillow: pip install 'twotower[media]'") from error

SHEET = 320

Colour = tuple[int, int, int]
Points = Sequence[tuple[float, float]]


class Pen:
    """Draws filled shapes with an ink outline on a new sheet.

    Args:
        colours: main, second, ink.
        outline: width of the outline in pixels, 0 for none.
    """

    def __init__(self, colours: tuple[Colour, Colour, Colour], outline: int) -> None:
        self.main, self.second, self.ink = colours
        self.sheet = Image.new("RGBA", (SHEET, SHEET), (*self.main, 0))
        self._draw = ImageDraw.Draw(self.sheet)
        self._outline = outline

    def shape(self, points: Points, fill: Colour) -> None:
        """A polygon."""
        self._draw.polygon(list(points), fill=fill)
        if self._outline:
            self._draw.line([*points, points[0]], fill=self.ink, width=self._outline, joint="curve")

    def oval(self, x: float, y: float, wide: float, high: float, fill: Colour) -> None:
        """An ellipse around ``(x, y)``; `wide` and `high` are its half axes."""
        box = (x - wide, y - high, x + wide, y + high)
        self._draw.ellipse(box, fill=fill, outline=self.ink if self._outline else None, width=self._outline)

    def box(self, left: float, top: float, right: float, bottom: float, fill: Colour) -> None:
        """A rectangle."""
        self.shape([(left, top), (right, top), (right, bottom), (left, bottom)], fill)

    def line(self, points: Points, width: int) -> None:
        """A line in ink."""
        self._draw.line(list(points), fill=self.ink, width=width, joint="curve")


def leaf(x: float, y: float, angle: float, length: float, width: float) -> Points:
    """A pointed oval that begins at ``(x, y)``; `angle` in radians, 0 to the right, growing downwards."""
    along = np.linspace(0, 1, 15)
    across = width * np.sin(np.pi * along) ** 0.8
    forth = np.stack([along * length, across], axis=1)
    outline = np.concatenate([forth, forth[::-1] * [1, -1]])
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return [(float(a), float(b)) for a, b in outline @ turn + [x, y]]


def _mountains(pen: Pen, rng: np.random.Generator) -> None:
    """Two to four peaks with snow."""
    places = np.linspace(70, 250, int(rng.integers(2, 5)))
    for x in rng.permutation(places):
        top, half = rng.uniform(40, 150), rng.uniform(70, 110)
        fill = pen.main if rng.random() < 0.6 else pen.second
        pen.shape([(x - half, 290), (x, top), (x + half, 290)], fill)
        snow = 0.28 * (290 - top)
        side = 0.28 * half
        zigzag = [(x + side / 2, top + 0.75 * snow), (x, top + 1.1 * snow), (x - side / 2, top + 0.7 * snow)]
        pen.shape([(x, top), (x + side, top + snow), *zigzag, (x - side, top + snow)], (245, 245, 248))


def _city(pen: Pen, rng: np.random.Generator) -> None:
    """Towers with lit windows."""
    left = 15.0
    while left < 290:
        right, top = min(305, left + rng.uniform(38, 70)), rng.uniform(40, 200)
        pen.box(left, top, right, 300, pen.main if rng.random() < 0.6 else pen.second)
        if rng.random() < 0.3:
            pen.line([((left + right) / 2, top), ((left + right) / 2, top - 30)], 4)
        for y in np.arange(top + 12, 285, 24):
            for x in np.arange(left + 8, right - 12, 16):
                if rng.random() < 0.7:
                    pen.box(x, y, x + 8, y + 12, (250, 225, 130) if rng.random() < 0.6 else pen.ink)
        left = right + 2


def _boat(pen: Pen, rng: np.random.Generator) -> None:
    """A boat under sail, and waves."""
    mast, deck = rng.uniform(140, 180), rng.uniform(215, 235)
    pen.line([(mast, deck), (mast, 25)], 7)
    pen.shape([(mast + 8, 35), (mast + 8, deck - 18), (mast + rng.uniform(70, 115), deck - 18)], (246, 243, 235))
    pen.shape(
        [(mast - 8, rng.uniform(50, 90)), (mast - 8, deck - 18), (mast - rng.uniform(55, 95), deck - 18)], pen.second
    )
    pen.shape([(45, deck), (275, deck), (235, deck + 45), (85, deck + 45)], pen.main)
    for row in range(int(rng.integers(2, 4))):
        x = np.linspace(5, 315, 60)
        y = deck + 50 + 16 * row + 6 * np.sin(x / 14 + rng.uniform(0, 6))
        pen.line(list(zip(x.tolist(), y.tolist(), strict=True)), 6)


def _flower(pen: Pen, rng: np.random.Generator) -> None:
    """A blossom on a stem with leaves."""
    petals, x, y = int(rng.integers(5, 14)), rng.uniform(140, 180), rng.uniform(105, 130)
    pen.line([(x, y), (x + rng.uniform(-20, 20), 310)], 9)
    for side in (-1, 1):
        start = rng.uniform(210, 270)
        pen.shape(leaf(x, start, np.pi / 2 - side * rng.uniform(1.7, 2.3), rng.uniform(70, 100), 16), (70, 140, 70))
    width = 210 / petals
    for angle in 2 * np.pi * (np.arange(petals) / petals + rng.random()):
        pen.shape(leaf(x, y, float(angle), 100, min(32, width)), pen.main)
    pen.oval(x, y, 30, 30, pen.second)


def _balloon(pen: Pen, rng: np.random.Generator) -> None:
    """A hot-air balloon with stripes and a basket."""
    x, high = 160, rng.uniform(95, 115)
    wide = high * rng.uniform(0.85, 1.0)
    middle, basket = 20 + high, rng.uniform(275, 285)
    for side in (-1, 1):
        pen.line([(x + side * wide * 0.75, middle + high * 0.66), (x + side * 20, basket)], 4)
    skirt = middle + high * 0.6
    pen.shape([(x - wide * 0.8, skirt), (x + wide * 0.8, skirt), (x + 24, 258), (x - 24, 258)], pen.main)
    stripes = np.linspace(1, 0.15, int(rng.integers(3, 6)))
    for number, share in enumerate(stripes):
        pen.oval(x, middle, wide * share, high, pen.second if number % 2 else pen.main)
    pen.box(x - 22, basket, x + 22, basket + 30, (150, 105, 60))


def _fish(pen: Pen, rng: np.random.Generator) -> None:
    """A fish with fins, bands and a round eye."""
    high, y = rng.uniform(50, 85), 160
    pen.shape([(225, y), (305, y - rng.uniform(50, 80)), (285, y), (305, y + rng.uniform(50, 80))], pen.second)
    pen.shape([(110, y - high * 0.8), (190, y - high - rng.uniform(20, 45)), (215, y - high * 0.4)], pen.second)
    pen.shape([(130, y + high * 0.8), (180, y + high + rng.uniform(15, 35)), (195, y + high * 0.6)], pen.second)
    pen.oval(140, y, 110, high, pen.main)
    for x in np.linspace(120, 200, int(rng.integers(0, 4))):
        reach = high * np.sqrt(max(0, 1 - ((x - 140) / 110) ** 2)) - 6
        pen.box(float(x) - 8, y - reach, float(x) + 8, y + reach, pen.second)
    pen.oval(72, y - 14, 15, 15, (250, 250, 250))
    pen.oval(70, y - 14, 7, 7, (20, 20, 30))
    pen.line([(34, y + 18), (60, y + 24)], 5)


def _butterfly(pen: Pen, rng: np.random.Generator) -> None:
    """Four wings with spots, body and feelers."""
    upper, lower, spread = rng.uniform(115, 150), rng.uniform(80, 115), rng.uniform(0.45, 0.75)
    spots = int(rng.integers(1, 3))
    for side in (-1, 1):
        for angle, length, width, fill in ((spread, lower, 42, pen.second), (-spread, upper, 50, pen.main)):
            turned = angle if side > 0 else np.pi - angle
            pen.shape(leaf(160 + 6 * side, 165, turned, length, width), fill)
            for spot in range(spots):
                reach = length * (0.72 - 0.28 * spot)
                x, y = 160 + 6 * side + reach * np.cos(turned), 165 + reach * np.sin(turned)
                pen.oval(float(x), float(y), 13 - 4 * spot, 13 - 4 * spot, pen.second if fill == pen.main else pen.main)
        pen.line([(160, 115), (160 + 22 * side, 75), (160 + 34 * side, 62)], 4)
    pen.oval(160, 170, 11, 62, pen.ink)


def _mushrooms(pen: Pen, rng: np.random.Generator) -> None:
    """One to three toadstools with dots."""
    count = int(rng.integers(1, 4))
    for x in np.linspace(160, 160, 1) if count == 1 else np.linspace(90, 230, count):
        size = rng.uniform(0.75, 1.0) * (1.0, 0.75, 0.55)[count - 1]
        wide, top = 120 * size, 300 - 240 * size
        brim = top + 110 * size
        thin, thick = 26 * size, 38 * size
        stem = [(x - thin, brim - 5), (x + thin, brim - 5), (x + thick, 300), (x - thick, 300)]
        pen.shape(stem, (240, 232, 215))
        turn = np.linspace(np.pi, 2 * np.pi, 25)
        arch = [(float(x + wide * np.cos(a)), float(brim + 110 * size * np.sin(a))) for a in turn]
        pen.shape(arch, pen.main)
        for dot in range(int(rng.integers(3, 6))):
            along = rng.uniform(-0.6, 0.6)
            height = rng.uniform(0.2, 0.7) * np.sqrt(1 - along**2)
            across, up, reach = x + wide * along, brim - 110 * size * height, 9 * size + dot
            pen.oval(float(across), float(up), reach, reach, pen.second)


MOTIFS: tuple[Callable[[Pen, np.random.Generator], None], ...] = (
    _mountains,
    _city,
    _boat,
    _flower,
    _balloon,
    _fish,
    _butterfly,
    _mushrooms,
)
