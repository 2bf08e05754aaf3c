"""What a picture shows: the sky's colour, the landmark in a slot, the thing in the sky, and how the camera moved.

Read by comparison with drawings: of all that the world knows, what leaves least of the picture unexplained, and how
much of it that explains. Pictures are those of `Basis.pictures`: (frames, height, width, 3), about 0 to 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from headforcing_core.geometry import TIME_STRIDE, WAN21

from .deciding import REACH, thing_kernel
from .latents import load_basis
from .prompts import COLOURS, SHAPES, SKIES
from .world import (
    EVERY_LANDMARK,
    HEIGHT,
    LANDMARKS,
    PAN_PIXELS,
    SLOT,
    THING_ROWS,
    WIDTH,
    Landmark,
    landmark_cover,
    rgb,
    thing_cover,
)

CLEAR = 0.5  # share of a picture's part that a drawing must explain to count
_SHIFTS = (-PAN_PIXELS * TIME_STRIDE, 0, PAN_PIXELS * TIME_STRIDE)  # of the camera, from frame to frame
_LANDSCAPE = slice(THING_ROWS, HEIGHT)


@dataclass(frozen=True)
class Thing:
    """What bounces in the sky, and where its middle is."""

    shape: str
    colour: str
    x: int
    y: int


def sky_colours(pictures: Tensor) -> Tensor:
    """The colour of the sky, (frames, 3): the median, which the thing in it does not change."""
    return pictures[:, :THING_ROWS].flatten(1, 2).median(dim=1).values


def nearest_sky(colour: Tensor) -> str:
    """The sky whose colour is nearest, of (3,)."""
    return min(SKIES, key=lambda sky: float((colour - _rgb(sky)).square().sum()))


def read_landmark(picture: Tensor, left: int) -> Landmark | None:
    """The landmark in the slot that begins at a pixel and is all in view; None when none is clear."""
    sky = sky_colours(picture[None])[0]
    part = picture[_LANDSCAPE, left : left + SLOT][: _covers().shape[1]] - sky
    drawn = _covers()[:, None, ..., None] * (_palette() - sky)[:, None, None]  # (kinds, colours, rows, columns, 3)
    left_over = (part - drawn).square().sum(dim=(2, 3, 4)).flatten()
    best = int(left_over.argmin())
    explained = 1 - left_over[best] / part.square().sum().clamp(min=1e-6)
    return EVERY_LANDMARK[best] if explained >= CLEAR else None


def read_thing(picture: Tensor) -> Thing | None:
    """The thing in the sky; None when none is clear."""
    sky = sky_colours(picture[None])[0]
    tints = _palette() - sky  # (colours, 3)
    seen = ((picture[:THING_ROWS] - sky) @ tints.T).movedim(-1, 0)  # (colours, rows, columns)
    kernels = torch.stack([thing_kernel(shape) for shape in SHAPES])[:, None]
    alike = conv2d(seen[:, None], kernels, padding=REACH)  # (colours, shapes, rows, columns)
    size = torch.einsum("ci,syxij,cj->csyx", tints, _kept_of_things(), tints)
    size = size.tile(1, 1, THING_ROWS // WAN21.stride, WIDTH // WAN21.stride)
    gain = 2 * alike - size  # of what it leaves unexplained, how much less than plain sky does
    colour, shape, y, x = (int(each) for each in torch.unravel_index(gain.argmax(), gain.shape))
    if gain[colour, shape, y, x] < CLEAR * size[colour, shape, y, x]:
        return None
    return Thing(SHAPES[shape], COLOURS[colour], x, y)


def camera_shift(before: Tensor, after: Tensor) -> int:
    """Pixels that the camera moved to the right from one frame to the next, one of -16, 0 and 16."""
    return min(_SHIFTS, key=lambda shift: float(landscape_change(before, after, shift)))


def landscape_change(before: Tensor, after: Tensor, shift: int) -> Tensor:
    """Mean absolute difference of the landscape between two frames when the camera moved by so many pixels."""
    one, other = before[_LANDSCAPE], after[_LANDSCAPE]
    kept = WIDTH - abs(shift)
    one = one[:, shift:] if shift > 0 else one[:, :kept]
    other = other[:, :kept] if shift > 0 else other[:, -shift:]
    return (one - other).abs().mean()


def sky_errors(pictures: Tensor, skies: Sequence[str]) -> Tensor:
    """Distance of each frame's sky from the one that it should have, (frames,), in levels of 255."""
    wanted = torch.stack([_rgb(sky) for sky in skies])
    return 255 * (sky_colours(pictures) - wanted).square().mean(dim=1).sqrt()


def _rgb(name: str) -> Tensor:
    return torch.from_numpy(rgb(name))


@cache
def _palette() -> Tensor:
    return torch.stack([_rgb(colour) for colour in COLOURS])


@cache
def _kept_of_things() -> Tensor:
    """How large a shape is in a picture of the latents, by where its middle lies in a patch: (shapes, rows, columns of
    a patch, 3, 3), to be multiplied with its colour less the sky's from both sides. The latents drop what is fine, more
    of one shape than of another."""
    basis = load_basis()
    plain = torch.zeros(1, THING_ROWS, WIDTH, 3)
    found = torch.empty(len(SHAPES), WAN21.stride, WAN21.stride, 3, 3)
    for shape, y, x in product(range(len(SHAPES)), range(WAN21.stride), range(WAN21.stride)):
        cover = thing_cover(SHAPES[shape], WIDTH / 2 + x + 0.5, THING_ROWS / 2 + y + 0.5)[:THING_ROWS]
        drawn = torch.from_numpy(cover.astype(np.float32))[..., None] * torch.eye(3)[:, None, None]
        kept = (basis.pictures(basis.latent(drawn)) - basis.pictures(basis.latent(plain))).flatten(1)
        found[shape, y, x] = kept @ kept.T
    return found


@cache
def _covers() -> Tensor:
    """(kinds, rows of the landscape above the ground, columns of a slot)."""
    covers = [landmark_cover(kind, SLOT / 2)[THING_ROWS:, :SLOT] for kind in LANDMARKS]
    above = int(np.flatnonzero(np.any(covers, axis=(0, 2))).max()) + 1
    return torch.from_numpy(np.stack(covers)[:, :above].astype(np.float32))
