"""What noise decides: windows whose new things are those that the noisy chunks resemble most.

A model of few steps has to make up its mind. Trained on what happened to be there, it learns the mean of all that could
be: a haze where a landmark comes into view, no thing at all in the first sky. Here each noisy chunk is made from one
choice of what is new in it, and the truth to learn is the choice that resembles the noisy chunk most: near the first
noise level mostly another one, told by the noise alone, near the last the same. So every noise has one sharp answer, as
for a distilled model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from headforcing_core.geometry import WAN21

from .latents import load_basis, world_latent
from .prompts import Prompt, Scene, prompt_at
from .world import EVERY_LANDMARK, HEIGHT, SLOT, THING_ROWS, WIDTH, Slot, World, last_picture, rgb, thing_cover

UNDECIDED = 0.5  # noise level from which on it is open what is there
_STARTS = 64  # places for the thing to choose from
_SKY_ROWS = THING_ROWS // WAN21.stride  # of a latent
_SLOT_COLUMNS = SLOT // WAN21.stride
_COLUMNS = WIDTH // WAN21.stride
REACH = 8  # pixels of the thing on each side of its middle


def decide(world: World, noise: Tensor, sigmas: Sequence[float], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The truth to learn and the noisy chunks, both (16, frames, height, width) like `noise`.

    `sigmas` are the chunks' noise levels; `generator` draws where else the thing could begin.
    """
    basis = load_basis()
    chunk_frames = noise.shape[1] // len(sigmas)
    first_chunk = range(chunk_frames)
    decided = world
    if sigmas[0] >= UNDECIDED:
        decided = replace(world, start=_best_start(world, noise[:, :chunk_frames], sigmas[0], generator))
    landmarks, offered = {}, []
    seen: set[Slot] = set()
    for chunk, sigma in enumerate(sigmas):
        frames = range(chunk * chunk_frames, (chunk + 1) * chunk_frames)
        blocks = _landmark_blocks(prompt_at(world.script, frames[0]).sky)
        in_view = {frame: world.slots(last_picture(frame)) for frame in frames}
        for slot in sorted(set().union(*in_view.values()) - seen):
            places = {frame: _first_column(world, slot, frame) for frame in frames if slot in in_view[frame]}
            first = EVERY_LANDMARK.index(world.landmark(slot))
            best = _most_alike(blocks, first, noise, places, sigma) if sigma >= UNDECIDED else first
            landmarks[slot] = EVERY_LANDMARK[best]
            offered += [(frame, column, blocks[first] - blocks[best]) for frame, column in places.items()]
            seen.add(slot)
    decided = replace(decided, landmarks=landmarks)
    truth = world_latent(decided, range(noise.shape[1]), basis)
    shown = truth.clone()
    shown[:, :chunk_frames, :_SKY_ROWS] = world_latent(world, first_chunk, basis)[:, :, :_SKY_ROWS]
    for frame, column, difference in offered:
        inside, part = _visible(column)
        shown[:, frame, _SKY_ROWS:, inside] += difference[..., part]
    levels = torch.tensor(sigmas).repeat_interleave(chunk_frames)
    return truth, torch.lerp(shown, noise, levels[:, None, None])


def _most_alike(blocks: Tensor, first: int, noise: Tensor, places: Mapping[int, int], sigma: float) -> int:
    """Which landmark the noisy chunk resembles most in these columns by frame, when it was made with `first`."""
    differences = blocks - blocks.mean(dim=0)
    alike, size = torch.zeros(len(blocks)), torch.full((len(blocks),), 1e-12)
    for frame, column in places.items():
        inside, part = _visible(column)
        templates = differences[..., part].flatten(1)
        noisy = (1 - sigma) * templates[first] + sigma * noise[:, frame, _SKY_ROWS:, inside].flatten()
        alike += templates @ noisy
        size += templates.square().sum(dim=1)
    return int((alike / size.sqrt()).argmax())


def _best_start(world: World, noise: Tensor, sigma: float, generator: torch.Generator) -> tuple[float, float]:
    """Where the thing begins so that the noisy first chunk resembles it most."""
    basis, prompt = load_basis(), prompt_at(world.script, 0)
    tint = torch.from_numpy(rgb(prompt.colour) - rgb(prompt.sky))
    cover = thing_kernel(prompt.shape)
    drawn = (2 * torch.rand(_STARTS, 2, generator=generator)).tolist()
    worlds = [world, *(replace(world, start=(across, down)) for across, down in drawn)]
    frames = range(noise.shape[1])
    thing = world_latent(world, frames, basis)[:, :, :_SKY_ROWS] - _plain_sky(prompt.sky)
    noisy = torch.lerp(thing, noise[:, :, :_SKY_ROWS], sigma)
    alike = conv2d((basis.weights(noisy) @ tint)[:, None], cover[None, None], padding=REACH)[:, 0]
    scores = [sum(float(alike[frame][_cell(each, frame)]) for frame in frames) for each in worlds]
    return worlds[int(np.argmax(scores))].start_of_thing


@cache
def _landmark_blocks(sky: str) -> Tensor:
    """The landscape around each landmark below the sky's rows, (choices, 16, rows, columns of a slot)."""
    blocks = []
    for choice in EVERY_LANDMARK:
        world = World(0, (Scene(0, Prompt(sky=sky)),), landmarks={(Prompt().place, 0): choice})
        blocks.append(world_latent(world, range(1), load_basis())[:, 0, _SKY_ROWS:, :_SLOT_COLUMNS])
    return torch.stack(blocks)


@cache
def _plain_sky(sky: str) -> Tensor:
    """(16, 1, 1, 1)."""
    picture = torch.from_numpy(rgb(sky)).expand(1, HEIGHT, WIDTH, 3)
    return load_basis().latent(picture)[:, :, :1, :1]


@cache
def thing_kernel(shape: str) -> Tensor:
    """What the thing covers around the pixel of its middle, (2 * REACH + 1, same)."""
    middle = 2 * REACH
    cover = thing_cover(shape, middle + 0.5, middle + 0.5)
    around = slice(middle - REACH, middle + REACH + 1)
    return torch.from_numpy(cover[around, around].astype(np.float32))


def _cell(world: World, frame: int) -> tuple[int, int]:
    x, y = world.thing(last_picture(frame))
    return int(y), int(x)


def _first_column(world: World, slot: Slot, frame: int) -> int:
    return world.left_of(slot, last_picture(frame)) // WAN21.stride


def _visible(column: int) -> tuple[slice, slice]:
    """Which columns of the latent, and which of a slot's block, are in view when the slot begins at a column."""
    begin, end = max(0, column), min(_COLUMNS, column + _SLOT_COLUMNS)
    return slice(begin, end), slice(begin - column, end - column)
