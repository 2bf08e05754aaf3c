"""The chunk loop: denoise a chunk reading the history, commit it, update the tiers, go on (method.md section 1)."""

from collections import deque
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from ..geometry import PATCH, prefix_chunks
from ..kv_memory.memory import KVMemory
from ..kv_memory.memory_plan import MemoryPlan
from ..policy.head_types import HEAD_TYPES
from .episodes import Decision
from .history import History
from .layout import PREFIX, Layout
from .noise import Noise
from .plan import RolloutPlan, Segment, Text, check_transitions
from .transitions import Predict, cut, flush, recache, recached_chunks

TextIn = TypeVar("TextIn", contravariant=True)

Recipe = Callable[[Predict, Tensor, Tensor], Tensor]
"""(predict, x, sigmas) -> the finished chunk."""
OnStep = Callable[[int, int, Tensor], None]
"""(chunk, step, x0), after every denoising step."""
OnPrefix = Callable[[int, int], None]
"""(chunks committed, prefix chunks), after every prefix chunk."""
Live = Callable[[int], Segment[Text] | None]
"""(chunk) -> a segment that begins there beyond those of the plan; asked before every later chunk that is made."""


@dataclass(frozen=True)
class Listeners:
    """Who hears of a rollout while it goes on; whatever they raise ends it."""

    on_step: OnStep = lambda chunk, step, x0: None
    on_prefix: OnPrefix = lambda done, chunks: None


NOBODY = Listeners()


class Backbone(Protocol[TextIn]):
    """A diffusion model whose self-attention reads the rollout's KVMemory."""

    def sample(self, recipe: Recipe, noise: Tensor, sigmas: Tensor, text: TextIn) -> Tensor:
        """Run a recipe with the model in place. Returns what the recipe returns, in model space."""
        ...


@dataclass(frozen=True)
class Chunk:
    """A finished chunk: its latent (model space, float32, on the CPU), what every head type saw, what was decided.
    `seconds` is 0 for a chunk that was made before.

    `seen` gives, per head type, (frame, position, tier) of the history in time order. `prefix_decisions`, of the first
    chunk alone, were made while the prefix was committed.
    """

    index: int
    frames: tuple[int, int]
    position: int
    latent: Tensor
    seen: Mapping[str, tuple[tuple[int, int, str], ...]]
    decisions: tuple[Decision, ...]
    kv_bytes: int
    seconds: float
    prefix_decisions: tuple[Decision, ...] = ()


def rollout(
    backbone: Backbone[Text],
    memory: KVMemory,
    plan: RolloutPlan[Text],
    noise: Noise,
    listeners: Listeners = NOBODY,
    live: Live[Text] = lambda chunk: None,
) -> Generator[Chunk, None, None]:
    """Make a video chunk by chunk; what the caller does with a chunk happens between model calls, `live` too.

    `memory` is one made by the plan's `memory_plan`, which the backbone's model reads; its buffers are dropped when the
    generator ends, for whatever reason. ValueError, before the first pass, for a memory that was planned for something
    else, or a cut with absolute positions; RuntimeError for a chunk with NaN or infinity, which then is neither yielded
    nor remembered.
    """
    check_transitions(plan.segments, plan.policy.rope)
    _check_memory(memory.plan, plan.memory_plan(memory.plan.labels))
    run = _Rollout(backbone, memory, plan, noise, listeners, live)
    try:
        run.commit_prefix()
        for index in range(plan.chunks):
            yield run.next_chunk(index)
    finally:
        memory.release()


def _check_memory(given: MemoryPlan, needed: MemoryPlan) -> None:
    if replace(given, capture=needed.capture) != needed or not set(needed.capture) <= set(given.capture):
        raise ValueError(
            f"The KV memory was planned for another rollout ({given}); this one needs {needed}. What does not fit into "
            "its buffers would be lost. Make it by the memory_plan of the rollout's own plan."
        )


class _Rollout(Generic[Text]):
    """The state of one run between its chunks."""

    def __init__(
        self,
        backbone: Backbone[Text],
        memory: KVMemory,
        plan: RolloutPlan[Text],
        noise: Noise,
        listeners: Listeners,
        live: Live[Text],
    ) -> None:
        self._backbone, self._memory, self._plan, self._noise = backbone, memory, plan, noise
        self._listeners, self._live = listeners, live
        policy = self._policy = plan.policy
        self._history = History(policy, memory.plan.labels, plan.finished.decisions)
        self._context = policy.commit_context
        self._text = self._text_before = plan.segments[0].text  # in force now, and when the segment began
        self._prefix_decisions: tuple[Decision, ...] = ()
        self._sigmas = torch.tensor(plan.sigmas)
        again = recached_chunks(policy.memory.recent, policy.chunk_frames)
        self._latents: deque[Tensor] = deque(maxlen=again)  # clean, of the last chunks

    def commit_prefix(self) -> None:
        """Commit the frames that are there before the first chunk, under the first text."""
        if self._plan.prefix is None:
            return
        chunks = prefix_chunks(self._plan.prefix_frames, self._policy.chunk_frames)
        for number, own in enumerate(chunks, 1):
            following = PREFIX if number < len(chunks) else 0
            latent = self._plan.prefix[:, :, own.start : own.stop]
            layout = self._history.layout(PREFIX, len(own))
            committing = self._committing(latent, layout)
            self._latents.append(self._backbone.sample(committing, latent, self._sigmas, self._text))
            self._prefix_decisions += self._committed(layout, following)
            self._listeners.on_prefix(number, len(chunks))

    def next_chunk(self, index: int) -> Chunk:
        """Change the prompt if it is time, make one chunk, or take a finished one, and commit it, unless it is the
        last."""
        again = index < self._plan.finished.chunks
        if index and not again:
            self._ask(index)
        started = perf_counter()
        change = self._plan.change(index)
        if change is not None:
            self._text_before = self._text
        self._text = self._plan.text(index, self._text_before)
        if change is not None:
            self._take_over(change, index)
        is_cut = change is not None and change.transition == "cut"
        layout = self._history.layout(index, self._policy.chunk_frames, far=is_cut)
        last = index == self._plan.chunks - 1
        seen = {name: layout.seen(self._history.kept(index, name)) for name in HEAD_TYPES}
        latent = self._take(index, layout, last) if again else self._make(index, layout, last)
        decisions: tuple[Decision, ...] = ()
        if not last:
            self._latents.append(latent)
            if is_cut:
                self._history.start_anew(layout.first_frame)
            decisions = self._committed(layout, index + 1)
        return Chunk(
            index,
            (layout.own_frames.start, layout.own_frames.stop),
            layout.position,
            latent.to("cpu", torch.float32),
            seen,
            decisions,
            self._memory.kv_bytes,
            0.0 if again else perf_counter() - started,
            self._prefix_decisions if index == 0 else (),
        )

    def _ask(self, index: int) -> None:
        segment = self._live(index)
        if segment is not None:
            self._plan = self._plan.with_segment(segment)
            check_transitions(self._plan.segments, self._policy.rope)

    def _make(self, index: int, layout: Layout, last: bool) -> Tensor:
        recipe = self._recipe(index, layout, last)
        latent = self._backbone.sample(recipe, self._noise.initial(index), self._sigmas, self._text)
        if not bool(torch.isfinite(latent).all()):
            raise RuntimeError(
                f"Chunk {index} came out with NaN or infinity. The type that the model computes in is too narrow for "
                "these weights, LoRAs or attention kernel, and all that follows would be spoiled. Choose another "
                "weight_dtype, or take out the LoRA or attention node that was added last; what was made before is "
                "sound."
            )
        return latent

    def _take(self, index: int, layout: Layout, last: bool) -> Tensor:
        latent = self._plan.finished.read(index)
        if last:
            return latent
        return self._backbone.sample(self._committing(latent, layout), latent, self._sigmas, self._text)

    def _take_over(self, change: Segment[Text], index: int) -> None:
        memory, history = self._memory, self._history
        if change.transition == "recache":
            self._recache(index)
        elif change.transition == "flush":
            flush(memory, history, index)
        elif change.transition == "cut":
            cut(memory, history, index)

    def _recache(self, index: int) -> None:
        latents = list(self._latents)

        def recipe(predict: Predict, x: Tensor, sigmas: Tensor) -> Tensor:
            clean = [latent.to(x) for latent in latents]
            recache(self._memory, self._history, index, clean, predict, self._context)
            return x

        self._backbone.sample(recipe, latents[-1], self._sigmas, self._text)

    def _recipe(self, index: int, layout: Layout, last: bool) -> Recipe:
        # noise levels as numbers tell whether the last one is 0 without waiting for the device
        levels = self._plan.sigmas

        def recipe(predict: Predict, x: Tensor, sigmas: Tensor) -> Tensor:
            layout.begin(self._memory, "full")
            for step in range(len(levels) - 1):
                x0 = predict(x, sigmas[step])
                self._listeners.on_step(index, step, x0)
                following = sigmas[step + 1]
                x = x0
                if levels[step + 1]:
                    x = (1.0 - following) * x0 + following * self._noise.fresh(index, step, x0)
            if not last:
                self._commit(predict, x, layout)
            return x

        return recipe

    def _committing(self, latent: Tensor, layout: Layout) -> Recipe:
        # what the host hands in as x may be scaled by the first noise level
        def recipe(predict: Predict, x: Tensor, sigmas: Tensor) -> Tensor:
            clean = latent.to(x)
            self._commit(predict, clean, layout)
            return clean

        return recipe

    def _commit(self, predict: Predict, clean: Tensor, layout: Layout) -> None:
        layout.begin(self._memory, self._context)
        predict(clean, torch.zeros((), device=clean.device))

    def _committed(self, layout: Layout, following: int) -> tuple[Decision, ...]:
        grid = self._plan.latent_height // PATCH, self._plan.latent_width // PATCH
        own = layout.own_frames
        self._history.observe(self._memory, own, grid)
        decisions = self._history.advance(own)
        kept = self._history.groups(following)
        self._memory.keep({group: each.frames for group, each in kept.items()}, own)
        return decisions
