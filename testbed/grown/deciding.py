"""What noise decides, as in testbed/deciding.py, for many windows at once."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from headforcing_core.geometry import WAN21

from ..deciding import REACH, UNDECIDED
from ..world import EVERY_LANDMARK, THING_ROWS, WIDTH
from .drawing import (
    MARK_ROWS,
    SKY_ROWS,
    VERSIONS,
    Landscape,
    ground_latent,
    landscape,
    sky_latent,
    tables,
    things,
)
from .films import CHUNK_FRAMES, Frames, following
from .words import PLACES

SLOTS = 32  # of a place, in a window
_STARTS = 64
_CHANGED = 0.5  # share of the landmarks of a place that are others after its change


@dataclass(frozen=True)
class Decided:
    """The truth to learn and the noisy chunks, both (films, 16, frames, height, width)."""

    truth: Tensor
    noisy: Tensor


def decide(frames: Frames, noise: Tensor, sigmas: Tensor, generator: torch.Generator) -> Decided:
    """Draw the worlds of these windows, and let the noise decide what is new in them. `sigmas` (films, chunks)."""
    films, device = len(noise), noise.device
    start = 2 * torch.rand(films, 2, generator=generator, device=device)
    best = _best_start(frames, start, noise[:, :, :CHUNK_FRAMES, :SKY_ROWS], sigmas[:, 0], generator)
    across, down = things(best, frames.way)
    camera = torch.where(frames.follows[:, None], following(across), frames.camera)
    size = (films, len(PLACES), SLOTS)
    changed = torch.rand(size, generator=generator, device=device) < _CHANGED
    marks = torch.randint(
        len(EVERY_LANDMARK), (films, len(PLACES), VERSIONS, SLOTS), generator=generator, device=device
    )
    seen = landscape(frames, camera, changed.long(), marks)
    first, chosen = _choose(frames, seen, noise, sigmas)
    old, new = (each.gather(1, seen.slots.flatten(1)).view_as(seen.slots) for each in (seen.marks, chosen))
    chunk = torch.arange(sigmas.shape[1], device=device).repeat_interleave(CHUNK_FRAMES)[:, None]
    is_new = first.gather(1, seen.slots.flatten(1)).view_as(seen.slots) == chunk
    sky = sky_latent(frames, across, down)
    truth = torch.cat([sky, ground_latent(frames, seen, new)], dim=3)
    shown_sky = sky.clone()
    shown_sky[:, :, :CHUNK_FRAMES] = sky_latent(frames, *things(start, frames.way))[:, :, :CHUNK_FRAMES]
    shown = torch.cat([shown_sky, ground_latent(frames, seen, torch.where(is_new, old, new))], dim=3)
    levels = sigmas.repeat_interleave(CHUNK_FRAMES, dim=1)[:, None, :, None, None]
    return Decided(truth, torch.lerp(shown, noise, levels))


def _choose(frames: Frames, seen: Landscape, noise: Tensor, sigmas: Tensor) -> tuple[Tensor, Tensor]:
    """The chunk in which every slot is seen first, and the landmark that it gets: the one that the noisy chunk
    resembles most, where that is open. Both (films, slots)."""
    chunks, landmarks = sigmas.shape[1], len(EVERY_LANDMARK)
    blocks = tables(noise.device).marks  # (skies, landmarks, columns of a slot, 16, rows)
    templates = (blocks - blocks.mean(dim=1, keepdim=True)).flatten(3)
    likeness = templates.transpose(1, 2) @ templates.permute(0, 2, 3, 1)  # (skies, columns, landmarks, landmarks)
    place = (frames.sky[..., None], seen.parts)
    mark = seen.marks.gather(1, seen.slots.flatten(1)).view_as(seen.slots)
    level = sigmas.repeat_interleave(CHUNK_FRAMES, dim=1)[:, :, None, None]
    rows = noise[:, :, :, SKY_ROWS : SKY_ROWS + MARK_ROWS].permute(0, 2, 4, 1, 3).flatten(3)
    by_noise = (templates.transpose(1, 2)[place] @ rows[..., None])[..., 0]
    alike = (1 - level) * likeness[(*place, mark)] + level * by_noise  # (films, frames, columns, landmarks)
    size = likeness.diagonal(dim1=2, dim2=3)[place]
    slots = seen.marks.shape[1]
    chunk = torch.arange(chunks, device=noise.device).repeat_interleave(CHUNK_FRAMES)[:, None]
    at = (chunk * slots + seen.slots).flatten(1)
    sums = torch.zeros(len(noise), chunks * slots, 2 * landmarks, device=noise.device)
    both = torch.cat([alike, size], dim=3).flatten(1, 2)
    sums.scatter_add_(1, at[..., None].expand_as(both), both)
    sums = sums.unflatten(1, (chunks, slots))
    is_seen = sums[..., landmarks:].sum(dim=3) > 0
    first = torch.where(is_seen.any(dim=1), is_seen.long().argmax(dim=1), chunks)
    at_first = first.clamp(max=chunks - 1)
    found = sums.gather(1, at_first[:, None, :, None].expand(-1, 1, -1, sums.shape[3]))[:, 0]
    best = (found[..., :landmarks] / found[..., landmarks:].clamp(min=1e-12).sqrt()).argmax(dim=2)
    return first, torch.where(sigmas.gather(1, at_first) >= UNDECIDED, best, seen.marks)


def _best_start(frames: Frames, start: Tensor, noise: Tensor, sigma: Tensor, generator: torch.Generator) -> Tensor:
    """Where the things begin, (films, 2), so that the noisy first chunk resembles them most, where that is open."""
    device, films = noise.device, len(noise)
    early = Frames(*(each[:, :CHUNK_FRAMES] if each.ndim == 2 else each for each in frames.__dict__.values()))
    known = tables(device)
    thing = sky_latent(early, *things(start, early.way)) - known.skies[early.sky].permute(0, 2, 1)[..., None, None]
    noisy = torch.lerp(thing, noise, sigma[:, None, None, None, None])
    pixels = _weights(noisy, early)  # (films, frames, rows, columns): what a pixel of the thing counts
    alike = conv2d(pixels.flatten(0, 1)[:, None], known.things, padding=REACH).unflatten(0, (films, CHUNK_FRAMES))
    shape = early.shape[:, :1, None, None].expand(-1, CHUNK_FRAMES, *alike.shape[3:])[:, :, None]
    alike = alike.gather(2, shape)[:, :, 0]
    others = 2 * torch.rand(films, _STARTS, 2, generator=generator, device=device)
    choices = torch.cat([start[:, None], others], dim=1)
    across, down = things(choices.flatten(0, 1), early.way.repeat_interleave(_STARTS + 1, dim=0))
    cells = (down.long() * alike.shape[3] + across.long()).unflatten(0, (films, -1))  # (films, choices, frames)
    scores = alike.flatten(2).gather(2, cells.transpose(1, 2)).sum(dim=1)
    best = choices[torch.arange(films, device=device), scores.argmax(dim=1)]
    return torch.where(sigma[:, None] >= UNDECIDED, best, start)


def _weights(noisy: Tensor, frames: Frames) -> Tensor:
    tints = tables(noisy.device).tints[frames.sky, frames.colour]  # (films, frames, 64, 16)
    patches = torch.einsum("bcfyx,bfpc->bfyxp", noisy, tints).unflatten(4, (WAN21.stride, WAN21.stride))
    return patches.permute(0, 1, 2, 4, 3, 5).reshape(*patches.shape[:2], THING_ROWS, WIDTH)
