"""Draw the pack's icon and banner into assets/, in the colours of its own pictures and without any font.

Run it after a change: python dev.py run -- python -m devtools.draw_brand
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

from PIL import Image, ImageDraw

from headforcing_core.report.drawing import COLOURS

from .paths import REPOSITORY

ASSETS = REPOSITORY / "assets"
ICON_SIZE = (400, 400)  # the registry's limit
BANNER_SIZE = (1470, 630)  # 21:9
PAPER, FILM, FORGOTTEN = "#F4ECDC", "#16202B", "#43505E"
SKY, SUN, HILL, NEAR_HILL = "#DCEBF5", "#F2C14E", "#8FB9A8", "#5E8C7F"
NOISE = ("#F4F4F4", "#C4CCD3", "#8D99A5", "#56636F")
_SHARPER = 4  # drawn this many times larger, then averaged: smooth edges
_NOISE_SEED = 21

Box = tuple[float, float, float, float]  # left, top, right, bottom


class Canvas:
    """A picture to draw on, in pixels of the finished picture."""

    def __init__(self, size: tuple[int, int], colour: str | None = None) -> None:
        self.large = Image.new("RGBA", (size[0] * _SHARPER, size[1] * _SHARPER), colour)
        self.draw = ImageDraw.Draw(self.large)

    def block(self, box: Box, radius: float, colour: str) -> None:
        """A filled rectangle with round corners."""
        self.draw.rounded_rectangle(_enlarged(box), radius * _SHARPER, fill=colour)

    def dot(self, x: float, y: float, radius: float, colour: str) -> None:
        """A filled circle."""
        self.draw.ellipse(_enlarged((x - radius, y - radius, x + radius, y + radius)), fill=colour)

    def arc(self, left: float, right: float, foot: float, flat: float, width: float, colour: str) -> None:
        """Half an ellipse that stands on `foot`, as high as `flat` times half its width; a dot at its left end."""
        middle, half = (left + right) / 2, (right - left) / 2
        steps = math.ceil(half * _SHARPER)
        for angle in (math.pi * step / steps for step in range(steps + 1)):
            self.dot(middle + half * math.cos(angle), foot - flat * half * math.sin(angle), width / 2, colour)
        self.dot(left, foot, width * 0.95, colour)

    def inlay(self, picture: Canvas, box: Box, radius: float) -> None:
        """Put what another canvas of the same size has in a box with round corners."""
        mask = Image.new("L", self.large.size)
        ImageDraw.Draw(mask).rounded_rectangle(_enlarged(box), radius * _SHARPER, fill=255)
        self.large.paste(picture.large, (0, 0), mask)

    def finished(self) -> Image.Image:
        """The picture at its own size."""
        return self.large.reduce(_SHARPER)


@dataclass(frozen=True)
class Film:
    """Frames in a row, all of one size, with round corners."""

    left: float
    top: float
    width: float
    height: float
    gap: float
    radius: float = 8

    def box(self, number: int, margin: float = 0) -> Box:
        """Where a frame is, with a margin around it."""
        left = self.left + number * (self.width + self.gap)
        return left - margin, self.top - margin, left + self.width + margin, self.top + self.height + margin

    def middle(self, number: int) -> float:
        """Where the middle of a frame is, from the left."""
        left, _, right, _ = self.box(number)
        return (left + right) / 2


def draw_icon() -> Image.Image:
    """Five frames: the newest, still noise, reads the first, one of long ago, and the last."""
    canvas, film = Canvas(ICON_SIZE), Film(left=29, top=241, width=60, height=62, gap=10.5)
    width, height = ICON_SIZE
    canvas.block((0, 0, width, height), 68, PAPER)
    _draw_film(canvas, film, width, edge=30, hole=(17, 13), pitch=40)
    kinds = {0: "anchor", 2: "memory", 3: "local"}
    canvas.block(film.box(1), film.radius, FORGOTTEN)
    for number, kind in kinds.items():
        canvas.block(film.box(number, margin=3), film.radius + 2, PAPER)
        canvas.block(film.box(number), film.radius, COLOURS[kind])
    canvas.inlay(_noise(ICON_SIZE, film.box(4), cell=15), film.box(4), film.radius)
    for lane, (number, kind) in enumerate(kinds.items()):
        end = film.middle(4) + 23 * (1 - lane)
        canvas.arc(film.middle(number), end, foot=192, flat=1, width=19, colour=COLOURS[kind])
    return canvas.finished()


def draw_banner() -> Image.Image:
    """A film of a day: the newest frame reads the first one, two of long ago, and the last. The others are dim."""
    canvas, film = Canvas(BANNER_SIZE, PAPER), Film(left=26, top=452, width=100, height=80, gap=9.5)
    _draw_film(canvas, film, BANNER_SIZE[0], edge=42, hole=(22, 17), pitch=52.5)
    kinds = {0: "anchor", 4: "memory", 7: "memory", 11: "local"}
    newest = 12
    for number in range(newest):
        scene = _scene(BANNER_SIZE, film.box(number), hour=number / (newest - 1))
        if number in kinds:
            canvas.block(film.box(number, margin=8), film.radius + 6, PAPER)
            canvas.block(film.box(number, margin=6), film.radius + 4, COLOURS[kinds[number]])
        else:
            scene.large = Image.blend(scene.large, Image.new("RGBA", scene.large.size, FILM), 0.78)
        canvas.inlay(scene, film.box(number), film.radius)
    canvas.inlay(_noise(BANNER_SIZE, film.box(newest), cell=10), film.box(newest), film.radius)
    for lane, (number, kind) in enumerate(kinds.items()):
        end, flat = film.middle(newest) + 26 * (1.5 - lane), 1 if kind == "local" else 0.53
        canvas.arc(film.middle(number), end, foot=388, flat=flat, width=19, colour=COLOURS[kind])
    return canvas.finished()


PICTURES = {"icon.png": draw_icon, "banner.png": draw_banner}


def main() -> None:
    """Write both pictures."""
    ASSETS.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        draw().save(ASSETS / name, optimize=True)


def _enlarged(box: Box) -> list[float]:
    return [edge * _SHARPER for edge in box]


def _draw_film(canvas: Canvas, film: Film, width: int, edge: float, hole: tuple[float, float], pitch: float) -> None:
    """The dark strip across a picture, `edge` high above and below its frames, with a row of holes in each edge."""
    bottom = film.top + film.height
    canvas.block((0, film.top - edge, width, bottom + edge), 0, FILM)
    for number in range(round(width / pitch)):
        x = pitch * (number + 0.5) - hole[0] / 2
        for y in (film.top - edge / 2 - hole[1] / 2, bottom + edge / 2 - hole[1] / 2):
            canvas.block((x, y, x + hole[0], y + hole[1]), hole[1] / 3, PAPER)


def _noise(size: tuple[int, int], box: Box, cell: float) -> Canvas:
    """What is being made: grey cells."""
    canvas, random = Canvas(size), Random(_NOISE_SEED)
    for row in range(math.ceil((box[3] - box[1]) / cell)):
        for column in range(math.ceil((box[2] - box[0]) / cell)):
            x, y = box[0] + column * cell, box[1] + row * cell
            canvas.block((x, y, x + cell, y + cell), 0, random.choice(NOISE))
    return canvas


def _scene(size: tuple[int, int], box: Box, hour: float) -> Canvas:
    """Two hills and a sun, which crosses the sky from hour 0 to 1."""
    canvas, width, height = Canvas(size, SKY), box[2] - box[0], box[3] - box[1]
    x, y = box[0] + width * (0.1 + 0.8 * hour), box[1] + height * (0.62 - 0.4 * math.sin(math.pi * hour))
    canvas.dot(x, y, height * 0.16, SUN)
    canvas.dot(box[0] + width * 0.2, box[3] + height * 0.55, height, HILL)
    canvas.dot(box[0] + width * 0.85, box[3] + height * 0.8, height * 1.12, NEAR_HILL)
    return canvas


if __name__ == "__main__":
    main()
