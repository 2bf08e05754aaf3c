"""What the model goes through, as data: to make a chunk, to commit one, to commit some again (method.md sections 1, 7).

A pass says which frames stand where, at which noise levels, and holds the latents. It knows neither the model nor the
run, so it may be made in one place and run in another.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from ..families.family import RENOISE, TIMESTEPS
from ..kv_memory.rollout_memory import RolloutMemory
from .layout import Layout
from .noise import Noise
from .solvers import SOLVERS
from .told import Predict, Told

CLEAN = torch.zeros(())
"""The noise level under which a finished chunk is seen. It is always this tensor, so that a backbone can tell such a
pass without asking the device."""
OnStep = Callable[[int, int, Tensor], None]
"""(chunk, step, x0), after every denoising step."""
OnRecall = Callable[[int], None]
"""(chunk), when it is to be settled what it recalls: after its first step, before the passes that this takes."""
Frames = Mapping[str, tuple[int, ...]]
"""Ids of the frames that every group holds, in time order."""
Concat = Callable[[range], Tensor]
"""(ids of frames) -> channels beside those of these frames, as `Told` has them."""


@dataclass(frozen=True)
class Model:
    """The model where a pass runs: its call under the text in force, the KV memory that its attention reads, the noise
    levels on its device, who hears of its steps and of what it recalls, and what it is given beside every chunk."""

    predict: Predict
    memory: RolloutMemory
    sigmas: Tensor
    on_step: OnStep
    on_recall: OnRecall
    concat: Concat | None = None

    def see(self, x: Tensor, sigma: Tensor, frames: range, timesteps: Tensor | None = None) -> Tensor:
        """The clean chunk as the model sees it in these frames, told `timesteps` if there are any."""
        concat = None if self.concat is None else self.concat(frames)
        if timesteps is None and concat is None:
            return self.memory.agreed(self.predict(x, sigma))
        return self.memory.agreed(self.predict(x, sigma, Told(timesteps, concat)))


class Pass(Protocol):
    """Something that the model goes through in one call of the backbone."""

    def run(self, model: Model, x: Tensor) -> Tensor:
        """Go through it. `x` is what the backbone was given, on the model's device; returns the finished chunk."""
        ...


@dataclass(frozen=True)
class Denoise:
    """Make a chunk out of noise, and commit it, reading what `commit_context` says; None leaves it uncommitted.
    `levels` are the noise levels as numbers. After the first step it may `recall` what the other steps read.

    `timesteps`, of the steps, are told in place of the levels. The chunk begins as `start`, if that is given, whatever
    the host made of the noise. `image` holds the first frames of the chunk, which are there already: they are told as
    clean, and stay as they are."""

    chunk: int
    layout: Layout
    noise: Noise
    levels: tuple[float, ...]
    commit_context: str | None
    recall: "Recall | None" = None
    timesteps: tuple[float, ...] = ()
    solver: str = RENOISE
    start: Tensor | None = None
    image: Tensor | None = None

    def run(self, model: Model, x: Tensor) -> Tensor:
        x, layout = self._make(model, x if self.start is None else self.start.to(x))
        check_reached(model.memory)
        if self.commit_context is not None:
            see_clean(model, x, layout, self.commit_context)
        return x

    def _make(self, model: Model, x: Tensor) -> tuple[Tensor, Layout]:
        """The chunk, and where everything stood at the end."""
        layout, own = self.layout, self.layout.own_frames
        image = None if self.image is None else self.image.to(x)
        solver = SOLVERS[self.solver](self.levels, model.sigmas, partial(self.noise.fresh, self.chunk))
        layout.begin(model.memory, "full", keeps=False)  # the commit pass writes what is kept
        x = _held(x, image)
        for step in range(len(self.levels) - 1):
            told = self._timesteps(step, x)
            x0 = _held(model.see(x, model.sigmas[step], own, told), image)
            if step == 0 and self.recall is not None:
                model.on_recall(self.chunk)
                recalled = self.recall.run(model, x0, layout)
                layout, is_only_step = recalled.layout, len(self.levels) == 2
                if recalled.found or not is_only_step:
                    layout.begin(model.memory, "full", keeps=False)
                if recalled.found and is_only_step:
                    x0 = _held(model.see(x, model.sigmas[step], own, told), image)  # again, now that it can recall
            model.on_step(self.chunk, step, x0)
            x = _held(solver.after(step, x, x0), image)
        return x, layout

    def _timesteps(self, step: int, x: Tensor) -> Tensor | None:
        """What is told of each frame at a step; None where the noise level says it."""
        if not self.timesteps and self.image is None:
            return None
        all_frames = self.timesteps[step] if self.timesteps else TIMESTEPS * self.levels[step]
        told = x.new_full((x.shape[2],), all_frames, dtype=torch.float32)
        if self.image is not None:
            told[: self.image.shape[2]] = 0
        return told


@dataclass(frozen=True)
class Commit:
    """Let the model see a clean chunk, so that its K and V can be kept."""

    latent: Tensor
    layout: Layout
    context: str

    def run(self, model: Model, x: Tensor) -> Tensor:
        clean = self.latent.to(x)  # not x itself, which a host may have scaled by the first noise level
        see_clean(model, clean, self.layout, self.context)
        return clean


@dataclass(frozen=True)
class Recache:
    """Commit chunks again, one after the other, in place of their old K and V. `held` says what the memory holds before
    each of them, and after the last: one more than there are `commits`."""

    commits: tuple[Commit, ...]
    held: tuple[Frames, ...]

    def run(self, model: Model, x: Tensor) -> Tensor:
        model.memory.keep(self.held[0])
        for commit, held in zip(self.commits, self.held[1:], strict=True):
            x = commit.run(model, x)
            model.memory.keep(held, commit.layout.own_frames)
        return x


@dataclass(frozen=True)
class Recalled:
    """What of the past is read from now on: the chunks that are committed `again` for it, where everything stands then,
    and whether anything was `found`."""

    again: Recache
    layout: Layout
    found: bool


@dataclass(frozen=True)
class Recall:
    """Settle what a chunk reads of the past, once it can be seen what it is to be. With `looks` the model first sees
    the clean chunk that it has in mind; from the keys of that pass, which the memory has captured, `choose` tells."""

    looks: bool
    choose: Callable[[RolloutMemory], Recalled]

    def run(self, model: Model, x0: Tensor, layout: Layout) -> Recalled:
        """`x0`: the clean chunk after the first step, which read `layout`."""
        if self.looks:
            see_clean(model, x0, layout, "full")
        recalled = self.choose(model.memory)
        recalled.again.run(model, x0)
        return recalled


def not_finite(chunk: int) -> RuntimeError:
    """The error for a chunk that came out as no numbers, or is on the way to."""
    return RuntimeError(
        f"Chunk {chunk} came out with NaN or infinity. The type that the model computes in is too narrow for these "
        "weights, LoRAs or attention kernel, and all that follows would be spoiled. Choose another weight_dtype, or "
        "take out the LoRA or attention node that was added last; what was made before is sound."
    )


def finite(made: Tensor, chunk: int) -> Tensor:
    """What was made, if all of it is finite; else the error of `not_finite`."""
    if not bool(torch.isfinite(made).all()):
        raise not_finite(chunk)
    return made


def see_clean(model: Model, clean: Tensor, layout: Layout, context: str) -> None:
    """Let the model see a clean chunk that reads what `context` says; its K and V can be kept then."""
    layout.begin(model.memory, context)
    model.see(clean, CLEAN, layout.own_frames)
    check_reached(model.memory)


def _held(x: Tensor, image: Tensor | None) -> Tensor:
    """A chunk whose first frames are those of the image, where there is one."""
    return x if image is None else torch.cat([image, x[:, :, image.shape[2] :]], dim=2)


def check_reached(memory: RolloutMemory) -> None:
    """RuntimeError where a layer's attention did not come by in the last pass."""
    missed = memory.missed_layers
    if missed:
        layers = f"{len(missed)} of {len(memory.plan.labels)} layers, the first is layer {missed[0]}"
        raise RuntimeError(
            f"A chunk was made past the memory: {layers}, never read it. Another node runs the model's layers in its "
            "own way, or leaves some out (TeaCache and nodes that skip layers do), and the video would forget its "
            "past. Take out the node between the loader and the sampler that does so; what was made before is sound."
        )
