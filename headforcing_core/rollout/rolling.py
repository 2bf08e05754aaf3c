"""A window of chunks that stand one behind the other, each at its own noise level (docs/method_decisions.md, rolling).

One pass goes over all of them. Then the oldest is done, each of the others gets noise of its next level, and a new one
enters behind.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..families.family import ROLLING, TIMESTEPS
from .layout import Layout
from .noise import Noise, noise_of_pass
from .passes import Model, Recall, check_reached, see_clean
from .plan import RolloutPlan


@dataclass(frozen=True)
class Roll:
    """Make the oldest chunk of a window, and commit it, reading what `commit_context` says; None leaves it uncommitted.
    `window` holds the later ones, noisy, as the chunk before left them. Without it the window fills first, by a chunk a
    pass. After the pass it may `recall` what is read from the commit on. Returns the chunk and the window behind it."""

    chunk: int
    layout: Layout
    noise: Noise
    levels: tuple[float, ...]
    commit_context: str | None
    recall: Recall | None
    window: Tensor | None

    def like(self, noise: Tensor) -> Tensor:
        """As large as the whole window, of the noise of a chunk, for a host that asks what a pass takes."""
        return noise.repeat(1, 1, len(self.levels) - 1, 1, 1)

    def run(self, model: Model, x: Tensor) -> Tensor:
        n, size = self.layout.chunk_frames, len(self.levels) - 1
        window = x[:, :, :0] if self.window is None else self.window.to(x)
        there = window.shape[2] // n
        for newest in range(there, size):
            window = torch.cat([window, self.noise.initial(self.chunk + newest).to(x)], dim=2)
            window = self._seen(model, window)
            model.on_step(self.chunk, newest - there, window[:, :, :n])
            window = self._renoised(model, window)
        clean, layout = window[:, :, :n], self.layout
        if self.recall is not None:
            model.on_recall(self.chunk)
            layout = self.recall.run(model, clean, layout).layout
        if self.commit_context is not None:
            see_clean(model, clean, layout, self.commit_context)
        return window

    def _seen(self, model: Model, window: Tensor) -> Tensor:
        """The clean window as the model sees it: its flow, by the level of each frame."""
        layout = replace(self.layout, chunk_frames=window.shape[2])
        sigma, levels = model.sigmas[0], self._levels(model, window, 0)
        layout.begin(model.memory, "full", keeps=False)  # the commit pass writes what is kept
        seen = model.see(window, sigma, layout.own_frames, TIMESTEPS * levels)
        check_reached(model.memory)
        return window - levels.view(1, 1, -1, 1, 1) * ((window - seen) / sigma)

    def _renoised(self, model: Model, clean: Tensor) -> Tensor:
        """The clean window with noise of the level that comes next for each chunk: none for one that is done."""
        n, chunks = self.layout.chunk_frames, clean.shape[2] // self.layout.chunk_frames
        levels = self._levels(model, clean, 1).view(1, 1, -1, 1, 1)
        fresh: list[Tensor] = []
        for place, own in enumerate(clean.split(n, dim=2)):
            step = chunks - 1 - place
            done = not self.levels[step + 1]
            fresh.append(own if done else self.noise.fresh(self.chunk + place, step, own))
        return (1.0 - levels) * clean + levels * torch.cat(fresh, dim=2)

    def _levels(self, model: Model, window: Tensor, further: int) -> Tensor:
        """Level of each frame, so many steps further: the newest chunk is at the first, each older one a step on."""
        n = self.layout.chunk_frames
        chunks = window.shape[2] // n
        return model.sigmas[further : chunks + further].flip(0).repeat_interleave(n)


class Window:
    """What goes on from chunk to chunk: the noisy chunks `behind` the last one that was made, float32 on the CPU."""

    def __init__(self, noise: Noise) -> None:
        self.behind: Tensor | None = None
        self._noise = noise

    def roll(
        self, plan: RolloutPlan[Any], chunk: int, layout: Layout, commit_context: str | None, recall: Recall | None
    ) -> Roll:
        """The passes that make a chunk; of a new window, where nothing of it is begun."""
        if plan.begins_anew(chunk):
            self.behind = None
        elif self.behind is None:
            self.behind = plan.finished.window(chunk - 1)
        noise = noise_of_pass(self._noise, chunk)
        return Roll(chunk, layout, noise, plan.steps_of(chunk).sigmas, commit_context, recall, self.behind)

    def take(self, made: Tensor, layout: Layout) -> Tensor:
        """The chunk, of what they made; the rest stays behind it."""
        clean, behind = made.split([layout.chunk_frames, made.shape[2] - layout.chunk_frames], dim=2)
        self.behind = behind.to("cpu", torch.float32, copy=True)
        return clean


def check_rolling(plan: RolloutPlan[Any]) -> None:
    """ValueError for what a window of chunks cannot be made of."""
    if plan.solver == ROLLING and plan.source is not None:
        raise ValueError(
            f"A video is to be made anew, but this model makes {plan.steps_of(0).count} chunks at once, each out of "
            "noise of its own level, and was never taught to begin with a picture in it. Use a model of another "
            "family, or previous to go on from the video."
        )
