"""A picture of a measured video: a panel for each measure, time to the right, drawn with Pillow."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from kornia.color import lab_to_rgb
from PIL import Image, ImageDraw, ImageFont

from .result import Drift

# dark blue and orange: far apart in lightness, and from blue to yellow, which red-green blindness leaves intact
_COLOURS = ("#0072B2", "#E69F00")
_BACKGROUND, _INK, _FAINT = "#FFFFFF", "#1A1A1A", "#D4D4D4"
_TIME_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400)
_MOST_TIMES, _MOST_VALUES = 6, 4

# everything is drawn twice as large and then reduced, for smooth lines; lengths are in pixels of the large picture
_REDUCED = 2
_COLUMNS, _WIDTH, _HEIGHT = 2, 980, 320  # of a panel within its frame
_LEFT, _RIGHT, _TITLE, _TIMES = 150, 50, 64, 66
_HEADER, _STRIP = 120, 84
_HEADER_FONT, _TITLE_FONT, _FONT = 40, 36, 28
_LINE, _THIN_LINE, _DOT = 6, 3, 9


@dataclass(frozen=True)
class _Panel:
    """Measures on one axis, each with its legend. The axis holds their values and `always`, or, where there is none,
    at least `span` around them."""

    title: str
    lines: Sequence[tuple[str, str]]
    always: tuple[float, ...] = ()
    span: float = 0.0

    def axis(self, drift: Drift) -> tuple[float, float]:
        """Lowest and highest value."""
        values = [value for measure, _ in self.lines for value in drift.values(measure) if value is not None]
        if not self.always:
            middle = (min(values) + max(values)) / 2
            values += [middle - self.span / 2, middle + self.span / 2]
        return min([*values, *self.always]), max([*values, *self.always])


_PANELS = (
    _Panel("colour drift (Delta E 76)", [("drift", "")], always=(0, 5)),
    _Panel(
        "similarity (SSIM)",
        [("similarity_to_first", "to the first second"), ("similarity_to_previous", "to the one before")],
        always=(0, 1),
    ),
    _Panel("lightness (L)", [("lightness", "")], span=10),
    _Panel("mean colour (Lab)", [("a", "a: green to red"), ("b", "b: blue to yellow")], always=(-5, 5)),
    _Panel("contrast (standard deviation of L)", [("contrast", "")], always=(0, 5)),
    _Panel("saturation (mean chroma)", [("saturation", "")], always=(0, 5)),
    _Panel("sharpness (variance of Laplacian)", [("sharpness", "")], always=(0, 0.1)),
    _Panel("motion (% between pictures)", [("motion", "")], always=(0, 1)),
)


def draw_drift(drift: Drift) -> Image.Image:
    """The summary, a strip of each second's mean colour, and the panels."""
    column, row = _LEFT + _WIDTH + _RIGHT, _TITLE + _HEIGHT + _TIMES
    top = _HEADER + _STRIP + 20
    size = column * _COLUMNS, top + row * -(-len(_PANELS) // _COLUMNS) + 20
    image = Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(image)
    draw.text((_LEFT, 36), _summary(drift), fill=_INK, font=_font(_HEADER_FONT))
    draw.text((_LEFT - 14, _HEADER + _STRIP / 2), "colour", fill=_INK, font=_font(_FONT), anchor="rm")
    _draw_strip(draw, drift, (_LEFT, _HEADER, size[0] - _RIGHT, _HEADER + _STRIP))
    for number, panel in enumerate(_PANELS):
        down, across = divmod(number, _COLUMNS)
        _draw_panel(draw, drift, panel, column * across + _LEFT, top + row * down + _TITLE)
    return image.reduce(_REDUCED)


def _summary(drift: Drift) -> str:
    most, jump = drift.most_drifted, drift.jump
    return (
        f"{drift.pictures / drift.fps:.1f} s at {drift.fps:g} fps. Largest colour drift {drift.drifts[most]:.1f} in "
        f"second {most}, largest jump {jump.difference:.1f} % at {jump.at_seconds:.2f} s"
    )


def _draw_strip(draw: ImageDraw.ImageDraw, drift: Drift, box: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = box
    lab = torch.tensor([(second.lightness, second.a, second.b) for second in drift.seconds])
    colours = (lab_to_rgb(lab.T[None, :, :, None]) * 255).round().int()[0, :, :, 0].T.tolist()  # (seconds, 3)
    step = (right - left) * drift.fps / drift.pictures
    for number, colour in enumerate(colours):
        draw.rectangle((left + step * number, top, min(right, left + step * (number + 1)), bottom), fill=tuple(colour))


def _draw_panel(draw: ImageDraw.ImageDraw, drift: Drift, panel: _Panel, left: int, top: int) -> None:
    right, bottom = left + _WIDTH, top + _HEIGHT
    duration = drift.pictures / drift.fps
    low, high = panel.axis(drift)
    margin = (high - low) * 0.06
    across = _WIDTH / duration
    up = _HEIGHT / (high - low + 2 * margin)
    draw.text((left, top - 14), panel.title, fill=_INK, font=_font(_TITLE_FONT), anchor="ls")
    for value in _ticks(low, high, _value_step(high - low)):
        y = bottom - (value - low + margin) * up
        draw.line((left, y, right, y), fill=_FAINT, width=2)
        draw.text((left - 14, y), f"{value:g}", fill=_INK, font=_font(_FONT), anchor="rm")
    for time in _ticks(0, duration, _time_step(duration)):
        x = left + time * across
        draw.line((x, bottom, x, bottom + 10), fill=_INK, width=2)
        draw.text((x, bottom + 16), f"{time:g} s", fill=_INK, font=_font(_FONT), anchor="mt")
    end = right
    for number, (measure, legend) in reversed([*enumerate(panel.lines)]):
        points = [
            (left + second.middle_seconds * across, bottom - (value - low + margin) * up)
            for second, value in zip(drift.seconds, drift.values(measure), strict=True)
            if value is not None
        ]
        _draw_points(draw, points, _COLOURS[number])
        if legend:
            draw.text((end, top - 14), legend, fill=_INK, font=_font(_FONT), anchor="rs")
            end -= draw.textlength(legend, font=_font(_FONT)) + 44
            draw.rectangle((end, top - 34, end + 32, top - 22), fill=_COLOURS[number])
            end -= 30
    draw.rectangle((left, top, right, bottom), outline=_INK, width=2)


def _draw_points(draw: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]], colour: str) -> None:
    if len(points) > 1:
        draw.line(points, fill=colour, width=_LINE if len(points) * _LINE < _WIDTH else _THIN_LINE, joint="curve")
    if len(points) * 4 * _DOT < _WIDTH:
        for x, y in points:
            draw.ellipse((x - _DOT, y - _DOT, x + _DOT, y + _DOT), fill=colour)


def _value_step(span: float) -> float:
    power = 10.0
    while span / power < _MOST_VALUES:
        power /= 10
    while span / power > 10 * _MOST_VALUES:
        power *= 10
    return next(power * step for step in (1, 2, 5, 10) if span / (power * step) <= _MOST_VALUES)


def _time_step(duration: float) -> float:
    return next((step for step in _TIME_STEPS if duration / step <= _MOST_TIMES), duration)


def _ticks(low: float, high: float, step: float) -> list[float]:
    first = -(-low // step)
    return [round((first + number) * step, 9) for number in range(int((high - first * step) / step + 1e-6) + 1)]


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
