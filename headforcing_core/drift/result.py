"""What was measured of a video, and what follows from it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import linear_regression

REFERENCE_SECONDS = 2
SIMILARITY_SIDE = 32
MEASURES: Mapping[str, str] = {
    "drift": f"Delta E 76: distance of the mean colour in Lab from that of the first {REFERENCE_SECONDS} seconds",
    "lightness": "mean L of CIE Lab (D65), 0 to 100",
    "a": "mean a of CIE Lab, from green (-) to red (+)",
    "b": "mean b of CIE Lab, from blue (-) to yellow (+)",
    "contrast": "standard deviation of L within a picture",
    "saturation": "mean chroma: distance of (a, b) from grey",
    "sharpness": "variance of the 3 x 3 Laplacian of L, its weights divided by 16",
    "motion": "mean absolute difference of neighbouring pictures, in % of the full range",
    "similarity_to_first": f"SSIM of the mean picture, at {SIMILARITY_SIDE} x {SIMILARITY_SIDE}, to that of the first "
    "second",
    "similarity_to_previous": "the same to the second before",
}


@dataclass(frozen=True)
class Second:
    """The MEASURES of one second, except its drift: means over its pictures. `middle_seconds` is the time halfway from
    its first picture to its last. None: a lone picture has no motion, the first second none before it."""

    second: int
    middle_seconds: float
    pictures: int
    lightness: float
    a: float
    b: float
    contrast: float
    saturation: float
    sharpness: float
    motion: float | None
    similarity_to_first: float
    similarity_to_previous: float | None


@dataclass(frozen=True)
class Jump:
    """The largest difference of two neighbouring pictures, as motion is measured; the time is that of the later one."""

    at_seconds: float
    difference: float


@dataclass(frozen=True)
class Drift:
    """A measured video. Sizes are (width, height): as the pictures are, and as they were measured."""

    fps: float
    pictures: int
    size: tuple[int, int]
    measured_size: tuple[int, int]
    seconds: tuple[Second, ...]
    jump: Jump

    def values(self, measure: str) -> list[float | None]:
        """One of MEASURES, a value a second."""
        return [*self.drifts] if measure == "drift" else [getattr(second, measure) for second in self.seconds]

    def trend_per_minute(self, measure: str) -> float | None:
        """Slope of the straight line nearest to one of MEASURES; None for fewer than two values."""
        known = [
            (second.middle_seconds / 60, value)
            for second, value in zip(self.seconds, self.values(measure), strict=True)
            if value is not None
        ]
        return linear_regression(*zip(*known, strict=True)).slope if len(known) > 1 else None

    @cached_property
    def drifts(self) -> tuple[float, ...]:
        """Colour drift of each second."""
        colours = [(second.lightness, second.a, second.b) for second in self.seconds]
        first = colours[:REFERENCE_SECONDS]
        reference = [sum(channel) / len(first) for channel in zip(*first, strict=True)]
        return tuple(math.dist(colour, reference) for colour in colours)

    @property
    def most_drifted(self) -> int:
        """The second with the largest drift."""
        return max(range(len(self.seconds)), key=self.drifts.__getitem__)
