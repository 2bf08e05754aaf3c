"""How a chunk is denoised, by definition: its steps, what it begins as, and the way from level to level. Part of the
naive reference; the host's plain model is recomputed by it too."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

Number = TypeVar("Number", float, Tensor)


@dataclass(frozen=True)
class Way:
    """How a video is denoised; `first` are levels and timesteps of the first chunk, if it has its own. A chunk begins
    as noise times its first level, as the host scales it where the model is `of_host`, or not at all."""

    sigmas: Sequence[float]
    timesteps: Sequence[float] = ()
    first: tuple[Sequence[float], Sequence[float]] | None = None
    solver: str = "renoise"
    image: Tensor | None = None
    concat: Callable[[range], Tensor] | None = None
    source: Callable[[int], Tensor] | None = None
    source_level: float | None = None
    of_host: bool = False

    def steps(self, chunk: int) -> tuple[Sequence[float], Sequence[float]]:
        """Levels and timesteps of a chunk."""
        return self.first if chunk == 0 and self.first else (self.sigmas, self.timesteps)

    def start(self, chunk: int, noise: Tensor) -> Tensor:
        """What a chunk begins as."""
        sigmas, timesteps = self.steps(chunk)
        if self.source is not None:
            level = sigmas[0] if self.source_level is None else self.source_level
            return (1 - level) * self.source(chunk).to(noise) + level * noise
        return noise * sigmas[0] if self.of_host and not timesteps and self.image is None else noise

    def held(self, chunk: int, x: Tensor) -> Tensor:
        """A chunk with its image in place."""
        x = x.clone()
        if chunk == 0 and self.image is not None:
            x[:, :, : self.image.shape[2]] = self.image.to(x)
        return x

    def times(self, chunk: int, step: int, frames: int) -> list[float]:
        """Timestep of every frame."""
        sigmas, timesteps = self.steps(chunk)
        times = [timesteps[step] if timesteps else 1000 * sigmas[step]] * frames
        there = 0 if self.image is None or chunk else self.image.shape[2]
        return [0.0] * there + times[there:]

    def after(
        self, chunk: int, start: Tensor, seen: Sequence[Tensor], fresh: Callable[[int, Tensor], Tensor]
    ) -> Tensor:
        """The chunk after as many steps as have been `seen`; `fresh` draws noise after a step."""
        sigmas, _ = self.steps(chunk)
        if self.solver == "unipc2":
            return unipc(sigmas, start, seen)
        level = sigmas[len(seen)]
        return seen[-1] if level == 0 else (1 - level) * seen[-1] + level * fresh(len(seen) - 1, seen[-1])


def unipc(levels: Sequence[float], x: Number, seen: Sequence[Number]) -> Number:
    """From the beginning `x` through all steps whose x0 was `seen`. Each step is exact for a polynomial in the
    logarithm of signal over noise, by weights that solve the order conditions of B(h) = exp(-h) - 1."""
    begun = x
    for step, now in enumerate(seen):
        if step > 0:  # the step before once more, now that it is known what is seen at its end
            x = _corrected(levels[: step + 1], begun, seen[: step + 1])
        begun = x
        level, to = levels[step], levels[step + 1]
        if to == 0:
            return now
        h = _clear(to) - _clear(level)
        x = to / level * begun - (1 - to) * (math.exp(-h) - 1) * now
        if step > 0:
            r = (_clear(levels[step - 1]) - _clear(level)) / h
            x = x - (1 - to) * (math.exp(-h) - 1) * ((seen[step - 1] - now) / r / 2)
    return x


def _corrected(levels: Sequence[float], begun: Number, seen: Sequence[Number]) -> Number:
    level, to = levels[-2:]
    h = _clear(to) - _clear(level)
    b = math.exp(-h) - 1
    ahead = seen[-1] - seen[-2]
    x = to / level * begun - (1 - to) * b * seen[-2]
    if len(seen) == 2:
        return x - (1 - to) * b * (ahead / 2)
    r = (_clear(levels[-3]) - _clear(level)) / h
    phi1 = b / -h - 1
    phi2 = phi1 / -h - 1 / 2
    conditions = torch.tensor([[1.0, 1.0], [r, 1.0]], dtype=torch.float64)
    back, front = torch.linalg.solve(conditions, torch.tensor([phi1 / b, 2 * phi2 / b], dtype=torch.float64)).tolist()
    return x - (1 - to) * b * (back * ((seen[-3] - seen[-2]) / r) + front * ahead)


def _clear(level: float) -> float:
    return math.log((1 - level) / level)
