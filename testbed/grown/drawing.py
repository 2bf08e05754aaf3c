"""The truth of many films at once, in model space, by tables instead of pictures.

Landmarks stand on whole columns of the latent, so a landscape is looked up: what a landmark looks like under a sky, and
what the ground of a place does. The thing alone lies between the pixels and is drawn.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from headforcing_core.geometry import WAN21

from ..deciding import thing_kernel
from ..latents import LATENT_SIZE, Basis, load_basis
from ..prompts import COLOURS, SHAPES, SKIES
from ..prompts import PLACES as OLD_PLACES
from ..world import (
    EVERY_LANDMARK,
    GROUND_TOP,
    HEIGHT,
    RGB,
    SLOT,
    THING_ROWS,
    THING_SIZE,
    WIDTH,
    landmark_cover,
    rgb,
)
from .films import STEP_COLUMNS, Frames
from .words import PLACES

GROUNDS_RGB = {
    **{place: RGB[place] for place in OLD_PLACES},
    **{"snowfield": (230, 235, 240), "orchard": (120, 75, 40), "town": (105, 105, 110)},
}
VERSIONS = 2
SLOT_COLUMNS = SLOT // WAN21.stride
SKY_ROWS = THING_ROWS // WAN21.stride
MARK_ROWS = GROUND_TOP // WAN21.stride - SKY_ROWS
_HALF = THING_SIZE / 2
REACHES = (WIDTH - THING_SIZE, 14.0)
THING_TOP = 1.0 + _HALF


@dataclass(frozen=True)
class Tables:
    """`skies` (skies, 16); `grounds` (places, 16); `marks` (skies, landmarks, slot columns, 16, rows); `tints` (skies,
    colours, 64, 16): what a pixel of the thing adds to the latent of its patch; `things` (shapes, 1, rows, columns):
    what it covers around its middle."""

    skies: Tensor
    grounds: Tensor
    marks: Tensor
    tints: Tensor
    things: Tensor


@dataclass(frozen=True)
class Landscape:
    """What stands in the slots of films, (films, slots of all places and versions), and for every column of every frame
    which slot that is and which of its columns, (films, frames, columns)."""

    marks: Tensor
    slots: Tensor
    parts: Tensor


@cache
def tables(device: torch.device) -> Tables:
    """Everything that is looked up, on a device."""
    basis = load_basis()
    skies = torch.stack([_plain(basis, rgb(sky))[:, 0, 0, 0] for sky in SKIES])
    grounds = torch.stack([_plain(basis, torch.tensor(GROUNDS_RGB[place]) / 255)[:, 0, 0, 0] for place in PLACES])
    covers = torch.stack([torch.from_numpy(landmark_cover(kind, SLOT / 2)) for kind, _ in EVERY_LANDMARK])
    covers = covers[:, :, :SLOT, None].float()
    colours = torch.stack([torch.from_numpy(rgb(colour)) for _, colour in EVERY_LANDMARK])[:, None, None]
    marks = []
    for sky in SKIES:
        drawn = torch.from_numpy(rgb(sky)) + covers * (colours - torch.from_numpy(rgb(sky)))
        latent = basis.latent(drawn)[:, :, SKY_ROWS : SKY_ROWS + MARK_ROWS]  # (16, landmarks, rows, columns)
        marks.append(latent.permute(1, 3, 0, 2))
    pixels = basis.encode.unflatten(1, (WAN21.stride**2, 3))  # (16, 64, 3)
    tints = torch.stack(
        [torch.stack([pixels @ torch.from_numpy(rgb(colour) - rgb(sky)) for colour in COLOURS]) for sky in SKIES]
    ).mT
    kernels = torch.stack([thing_kernel(shape) for shape in SHAPES])[:, None]
    found = (skies, grounds, torch.stack(marks), tints, kernels)
    return Tables(*(each.contiguous().to(device) for each in found))


def landscape(frames: Frames, camera: Tensor, changed: Tensor, marks: Tensor) -> Landscape:
    """Where every column looks. `changed` (films, places, slots a place) says what is another thing in version 1;
    `marks` (films, places, versions, slots a place) are numbers of landmarks. The middle slot of a place is where its
    camera began."""
    slots = changed.shape[2]
    columns = STEP_COLUMNS * camera[..., None] + torch.arange(LATENT_SIZE[1], device=camera.device)
    number = columns.div(SLOT_COLUMNS, rounding_mode="floor") + slots // 2
    place = frames.place[..., None]
    other = changed.flatten(1).gather(1, (place * slots + number).flatten(1)).view_as(number)
    version = frames.version[..., None] * other
    return Landscape(marks.flatten(1), (place * VERSIONS + version) * slots + number, columns % SLOT_COLUMNS)


def things(start: Tensor, way: Tensor) -> tuple[Tensor, Tensor]:
    """Middles of things that began at (films, 2), each 0 to 2, and went so far, (films, frames): across and down."""
    across, down = (start[:, place, None] * reach for place, reach in enumerate(REACHES))
    return _HALF + _bounce(across + way, REACHES[0]), THING_TOP + _bounce(down + way / 2, REACHES[1])


def sky_latent(frames: Frames, across: Tensor, down: Tensor) -> Tensor:
    """The upper rows, (films, 16, frames, SKY_ROWS, columns)."""
    known = tables(across.device)
    cover = thing_cover(frames.shape, across, down)
    patches = cover.unflatten(2, (SKY_ROWS, -1)).unflatten(4, (-1, WAN21.stride)).permute(0, 1, 2, 4, 3, 5)
    thing = patches.flatten(4).flatten(2, 3) @ known.tints[frames.sky, frames.colour]
    latent = thing + known.skies[frames.sky][:, :, None]
    return latent.unflatten(2, (SKY_ROWS, -1)).permute(0, 4, 1, 2, 3)


def ground_latent(frames: Frames, seen: Landscape, marks: Tensor) -> Tensor:
    """The lower rows, (films, 16, frames, rows, columns); `marks` (films, frames, columns)."""
    known = tables(marks.device)
    blocks = known.marks[frames.sky[..., None], marks, seen.parts].permute(0, 3, 1, 4, 2)
    ground = known.grounds[frames.place].permute(0, 2, 1)[..., None, None]
    return torch.cat([blocks, ground.expand(*blocks.shape[:3], 1, LATENT_SIZE[1])], dim=3)


def thing_cover(shape: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """What things cover, (films, frames, THING_ROWS, WIDTH), as the old world draws them."""
    x = torch.arange(WIDTH, device=across.device) + 0.5 - across[..., None, None]
    y = (torch.arange(THING_ROWS, device=across.device) + 0.5)[:, None] - down[..., None, None]
    ball = _HALF + 0.5 - torch.hypot(x, y)
    box = torch.minimum(_HALF - 1 - x.abs(), _HALF - 1 - y.abs()) + 0.5
    side = ((y + _HALF) / 2 - x.abs()) / 1.25**0.5
    triangle = torch.minimum(side, _HALF - y) + 0.5
    kind = shape[..., None, None]
    return torch.where(kind == 0, ball, torch.where(kind == 1, box, triangle)).clamp(0, 1)


def _bounce(way: Tensor, reach: float) -> Tensor:
    way = way % (2 * reach)
    return torch.minimum(way, 2 * reach - way)


def _plain(basis: Basis, colour: object) -> Tensor:
    return basis.latent(torch.as_tensor(colour).float().expand(1, HEIGHT, WIDTH, 3))[: WAN21.channels]
