"""The world: places with landmarks and no end, one thing bouncing in the sky, and a camera that obeys the prompt.

Everything follows from a seed and a script; any picture can be drawn without those before it. The camera moves by
whole tokens from frame to frame, so that what stands still is the same numbers one token further.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from headforcing_core.geometry import TIME_STRIDE

from .prompts import COLOURS, PLACES, Script, prompt_at

WIDTH, HEIGHT = 128, 64
PAN_PIXELS = 4  # a picture; one token a frame
SLOT = 32  # pixels of the landscape for each landmark
GROUND_TOP = 56
THING_SIZE = 16
THING_ROWS = 32  # from the top; no landmark reaches into them, and the thing does not leave them
LANDMARKS = ("house", "tree", "tower")

RGB = {
    "red": (215, 40, 40),
    "yellow": (245, 220, 50),
    "green": (40, 160, 60),
    "blue": (35, 70, 225),
    "purple": (160, 50, 190),
    "white": (245, 245, 245),
    "day": (130, 190, 240),
    "dusk": (240, 160, 110),
    "night": (25, 28, 60),
    "fog": (150, 150, 155),
    "harbour": (30, 95, 120),
    "meadow": (85, 130, 45),
    "desert": (205, 165, 105),
}
_PAN = {"pans left": -PAN_PIXELS, "pans right": PAN_PIXELS, "holds still": 0}
SPEED = {"slow": 1.0, "fast": 2.0}  # pixels a picture across; half of it up and down
_HALF = THING_SIZE / 2
_THING_RANGE = (WIDTH - THING_SIZE, 14.0)  # how far its middle travels, across and down
_THING_TOP = 1.0 + _HALF

Cover = NDArray[np.floating]
"""(height, width): how much of each pixel is covered, 0 to 1."""
Picture = NDArray[np.float32]
"""(height, width, 3), 0 to 1."""
Landmark = tuple[str, str]
"""Kind and colour."""
Slot = tuple[str, int]
"""Place, and where in its landscape: pixels 32 * n to 32 * n + 31."""
EVERY_LANDMARK: Sequence[Landmark] = tuple(product(LANDMARKS, COLOURS))


@dataclass(frozen=True)
class World:
    """A seeded landscape under a script. Pictures are counted from 0; the first frame is picture 0 alone.

    Each place has a landscape and a view of its own: who returns finds the camera where it was left. The thing in the
    sky is the same everywhere. `start` and `landmarks` stand in place of what the seed draws: where the thing begins on
    its way across and down, each 0 to 2, and what stands in a slot.
    """

    seed: int
    script: Script
    start: tuple[float, float] | None = None
    landmarks: Mapping[Slot, Landmark] = field(default_factory=dict)

    def camera(self, picture: int) -> int:
        """Left edge of the view in the landscape of the picture's place, in pixels."""
        place = self.place(picture)
        stretches = self._stretches(picture)
        return sum(_PAN[prompt.camera] * pictures for prompt, pictures in stretches if prompt.place == place)

    def place(self, picture: int) -> str:
        """Where a picture is."""
        return prompt_at(self.script, frame_of(picture)).place

    @property
    def start_of_thing(self) -> tuple[float, float]:
        """Where the thing begins on its way across and down, each 0 to 2."""
        across, down = self.start or np.random.default_rng((self.seed, 1)).uniform(0, 2, 2)
        return float(across), float(down)

    def thing(self, picture: int) -> tuple[float, float]:
        """Middle of the moving thing in the view, in pixels from its left and top edge."""
        way = sum(SPEED[prompt.speed] * pictures for prompt, pictures in self._stretches(picture))
        across, down = self.start_of_thing
        reach_x, reach_y = _THING_RANGE
        return (
            _HALF + _bounce(across * reach_x + way, reach_x),
            _THING_TOP + _bounce(down * reach_y + way / 2, reach_y),
        )

    def landmark(self, slot: Slot) -> Landmark:
        """The landmark in the middle of a slot."""
        if slot in self.landmarks:
            return self.landmarks[slot]
        place, number = slot
        draw = np.random.default_rng((self.seed, 2, PLACES.index(place), abs(number), int(number < 0)))
        return LANDMARKS[draw.integers(len(LANDMARKS))], COLOURS[draw.integers(len(COLOURS))]

    def slots(self, picture: int) -> list[Slot]:
        """Slots of which something is in view."""
        place, left = self.place(picture), self.camera(picture)
        return [(place, number) for number in range(left // SLOT, (left + WIDTH - 1) // SLOT + 1)]

    def left_of(self, slot: Slot, picture: int) -> int:
        """Left edge of a slot in a picture of its place, in pixels."""
        return slot[1] * SLOT - self.camera(picture)

    def picture(self, picture: int) -> Picture:
        """Draw one picture."""
        prompt = prompt_at(self.script, frame_of(picture))
        canvas = np.empty((HEIGHT, WIDTH, 3), np.float32)
        canvas[:] = rgb(prompt.sky)
        canvas[GROUND_TOP:] = rgb(prompt.place)
        for slot in self.slots(picture):
            kind, colour = self.landmark(slot)
            _paint(canvas, landmark_cover(kind, self.left_of(slot, picture) + SLOT / 2), colour)
        _paint(canvas, thing_cover(prompt.shape, *self.thing(picture)), prompt.colour)
        return canvas

    def _stretches(self, picture: int) -> Iterator[tuple]:
        # each prompt and the pictures drawn under it up to this one; picture 0 is where everything starts
        firsts = [first_picture(scene.first_frame) for scene in self.script]
        for scene, first, end in zip(self.script, firsts, [*firsts[1:], picture + 1], strict=True):
            yield scene.prompt, max(0, min(end, picture + 1) - max(first, 1))


def frame_of(picture: int) -> int:
    """Frame that a picture belongs to."""
    return -(-picture // TIME_STRIDE)


def first_picture(frame: int) -> int:
    """First picture of a frame."""
    return max(0, TIME_STRIDE * (frame - 1) + 1)


def last_picture(frame: int) -> int:
    """Last picture of a frame."""
    return TIME_STRIDE * frame


def _bounce(way: float, reach: float) -> float:
    way %= 2 * reach
    return min(way, 2 * reach - way)


def rgb(name: str) -> NDArray[np.float32]:
    """A colour of the world or a sky as (3,), 0 to 1."""
    return np.array(RGB[name], np.float32) / np.float32(255)


@cache
def _grid() -> tuple[Cover, Cover]:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32) + 0.5
    return columns, rows


def _paint(canvas: Picture, cover: Cover, colour: str) -> None:
    canvas += cover[..., None] * (rgb(colour) - canvas)


def _box(middle_x: float, middle_y: float, width: float, height: float) -> Cover:
    x, y = _grid()
    inside = np.minimum(width / 2 - abs(x - middle_x), height / 2 - abs(y - middle_y))
    return np.clip(inside + 0.5, 0, 1)


def _triangle(middle_x: float, bottom: float, width: float, height: float) -> Cover:
    x, y = _grid()
    slope = width / 2 / height
    side = (slope * (y - (bottom - height)) - abs(x - middle_x)) / (1 + slope**2) ** 0.5
    return np.clip(np.minimum(side, bottom - y) + 0.5, 0, 1)


def landmark_cover(kind: str, middle_x: float) -> Cover:
    """What a landmark covers of a picture."""
    if kind == "house":
        return _box(middle_x, GROUND_TOP - 9, 22, 18)
    if kind == "tree":
        return _triangle(middle_x, GROUND_TOP, 24, 23)
    return _box(middle_x, GROUND_TOP - 11.5, 10, 23)


def thing_cover(shape: str, middle_x: float, middle_y: float) -> Cover:
    """What the moving thing covers of a picture."""
    if shape == "ball":
        x, y = _grid()
        return np.clip(_HALF + 0.5 - np.hypot(x - middle_x, y - middle_y), 0, 1)
    if shape == "box":
        return _box(middle_x, middle_y, THING_SIZE - 2, THING_SIZE - 2)
    return _triangle(middle_x, middle_y + _HALF, THING_SIZE, THING_SIZE)
