"""What every frame of a film shows, as numbers: from prompts by chunk to tensors for many films at once.

Cameras are counted in frames of a pan, which are two columns of the latent.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from headforcing_core.geometry import TIME_STRIDE, WAN21

from ..prompts import COLOURS, SHAPES, SKIES
from ..world import PAN_PIXELS, SPEED
from .words import FOLLOWS, HERE, PLACES, VIEWS, GrownPrompt

CHUNK_FRAMES = 3
STEP_PIXELS = PAN_PIXELS * TIME_STRIDE
STEP_COLUMNS = STEP_PIXELS // WAN21.stride
_STEPS = {"pans left": -1, "pans right": 1, "holds still": 0, FOLLOWS: 0}


@dataclass(frozen=True)
class Frames:
    """All (films, frames): numbers of sky, place, version, colour and shape, how far the thing has gone, and the
    camera; `follows` (films,) says whose camera follows the thing instead."""

    sky: Tensor
    place: Tensor
    version: Tensor
    colour: Tensor
    shape: Tensor
    way: Tensor
    camera: Tensor
    follows: Tensor

    def to(self, device: torch.device) -> "Frames":
        """The same on a device."""
        return Frames(*(each.to(device, non_blocking=True) for each in self.__dict__.values()))


def frames_of(films: Sequence[Sequence[GrownPrompt]]) -> Frames:
    """Films by the prompts of their chunks, all of one length."""
    by_word = (
        (SKIES, "sky"),
        (PLACES, "place"),
        ((0, 1), "version"),
        (COLOURS, "colour"),
        (SHAPES, "shape"),
    )
    columns = {
        name: torch.tensor([[known.index(getattr(prompt, name)) for prompt in film] for film in films])
        for known, name in by_word
    }
    return Frames(
        **{name: column.repeat_interleave(CHUNK_FRAMES, dim=1) for name, column in columns.items()},
        way=torch.tensor([ways(film) for film in films]),
        camera=torch.tensor([cameras(film) for film in films]),
        follows=torch.tensor([film[0].camera == FOLLOWS for film in films]),
    )


def ways(film: Sequence[GrownPrompt]) -> list[float]:
    """How far the thing has gone across in every frame, in pixels."""
    steps = [TIME_STRIDE * SPEED[prompt.speed] for prompt in film for _ in range(CHUNK_FRAMES)]
    return torch.tensor([0.0, *steps[1:]]).cumsum(0).tolist()


def cameras(film: Sequence[GrownPrompt]) -> list[int]:
    """Where the camera is in every frame. At `here` it goes on from where it left the place; a prompt that names a view
    begins there."""
    left: dict[str, int] = {}
    found: list[int] = []
    scene: tuple[str, ...] = ()
    for prompt in film:
        at = left.get(prompt.place, 0)
        if prompt.view != HERE and _scene(prompt) != scene:
            at = VIEWS[prompt.view]
        scene = _scene(prompt)
        found += [at + (frame + 1) * _STEPS[prompt.camera] for frame in range(CHUNK_FRAMES)]
        left[prompt.place] = found[-1]
    return found


def _scene(prompt: GrownPrompt) -> tuple[str, ...]:
    return prompt.place, prompt.things, prompt.ground, prompt.view, prompt.camera


def following(across: Tensor) -> Tensor:
    """Cameras that follow things whose middle is there, (films, frames): through every chunk they go where the thing
    went between the last two frames before it. In the first chunk they stand."""
    last = across.unflatten(1, (-1, CHUNK_FRAMES))[:, :-1]
    steps = torch.where(last[:, :, -1] >= last[:, :, -2], 1, -1)
    steps = torch.cat([torch.zeros_like(steps[:, :1]), steps], dim=1)
    return steps.repeat_interleave(CHUNK_FRAMES, dim=1).cumsum(dim=1)
