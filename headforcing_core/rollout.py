"""The chunk loop: denoise a chunk reading the history, commit it, update the tiers, go on (method.md section 1)."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from .cache import EVERY_HEAD, KVMemory
from .episodes import Decision, EpisodicMemory, describe, descriptor_layers, is_candidate
from .geometry import PATCH
from .noise import Noise
from .policy import HEAD_TYPES, FittedPolicy, Kept, keep, keep_all
from .positions import chunk_position, history_positions

Text = TypeVar("Text")
TextIn = TypeVar("TextIn", contravariant=True)

Predict = Callable[[Tensor, Tensor], Tensor]
"""(x, sigma) -> x0, the clean chunk as the model sees it now: (batch, channels, frames, height, width)."""
Recipe = Callable[[Predict, Tensor, Tensor], Tensor]
"""(predict, x, sigmas) -> the finished chunk."""


class Backbone(Protocol[TextIn]):
    """A diffusion model whose self-attention reads the rollout's KVMemory."""

    def sample(self, recipe: Recipe, noise: Tensor, sigmas: Tensor, text: TextIn) -> Tensor:
        """Run a recipe with the model in place. Returns what the recipe returns, in model space."""
        ...


@dataclass(frozen=True)
class Segment(Generic[Text]):
    """The stretch of chunks from `first_chunk` to the next segment, under one text."""

    first_chunk: int
    text: Text


@dataclass(frozen=True)
class RolloutPlan(Generic[Text]):
    """What to make: how many chunks of what size, by which noise levels, under which texts."""

    chunks: int
    latent_height: int
    latent_width: int
    sigmas: tuple[float, ...]
    segments: tuple[Segment[Text], ...]

    def text(self, chunk: int) -> Text:
        """The text in force for a chunk."""
        return [segment.text for segment in self.segments if segment.first_chunk <= chunk][-1]

    def changes_text(self, chunk: int) -> bool:
        """Whether a chunk begins a segment after the first."""
        return any(segment.first_chunk == chunk for segment in self.segments[1:])


@dataclass(frozen=True)
class Chunk:
    """A finished chunk: its latent (model space, float32, on the CPU), what every head type saw, what was decided.

    `seen` gives, per head type, (frame, position, tier) of the history in time order.
    """

    index: int
    frames: tuple[int, int]
    position: int
    latent: Tensor
    seen: Mapping[str, tuple[tuple[int, int, str], ...]]
    decisions: tuple[Decision, ...]
    kv_bytes: int
    seconds: float


def capacities(policy: FittedPolicy, labels: Sequence[Sequence[str]]) -> dict[str, int]:
    """History frames of every head type that occurs, for KVMemory."""
    used = {label for layer in labels for label in layer}
    return {head_type: policy.tiers(head_type).frames for head_type in HEAD_TYPES if head_type in used}


def warm_up_frames(policy: FittedPolicy, chunks: int) -> int:
    """The most history that any chunk reads before compression."""
    return (min(policy.compress_from_chunk, chunks) - 1) * policy.chunk_frames


@dataclass(frozen=True)
class _Layout:
    """Where everything stands for one chunk: its own frames and, per group, what is kept."""

    index: int
    first_frame: int
    chunk_frames: int
    position: int
    rope: str
    groups: Mapping[str, Kept]

    @property
    def own_positions(self) -> range:
        return range(self.position, self.position + self.chunk_frames)

    def positions(self, kept: Kept) -> list[int]:
        return history_positions(self.rope, kept.frames, kept.recent_from, self.first_frame, self.position)

    def everything(self) -> dict[str, tuple[int, list[int]]]:
        return {group: (0, self.positions(kept)) for group, kept in self.groups.items()}

    def recent_only(self) -> dict[str, tuple[int, list[int]]]:
        older = {group: sum(frame < kept.recent_from for frame in kept.frames) for group, kept in self.groups.items()}
        return {group: (older[group], self.positions(kept)[older[group] :]) for group, kept in self.groups.items()}

    def seen(self, kept: Kept) -> tuple[tuple[int, int, str], ...]:
        places = zip(kept.frames, self.positions(kept), strict=True)
        return tuple((frame, position, kept.tier(frame)) for frame, position in places)


class _Tiers:
    """What each group holds as the rollout goes on, and the episodic decisions behind it."""

    def __init__(self, policy: FittedPolicy, labels: Sequence[Sequence[str]], episodic: EpisodicMemory) -> None:
        self._policy = policy
        self._labels = labels
        self._episodic = episodic
        self._committed = 0

    def kept(self, chunk: int, head_type: str) -> Kept:
        if chunk < self._policy.compress_from_chunk:
            return keep_all(self._committed)
        return keep(self._policy.tiers(head_type), self._committed, self._episodic.episodes)

    def layout(self, chunk: int) -> _Layout:
        n, rope = self._policy.chunk_frames, self._policy.policy.rope
        if chunk < self._policy.compress_from_chunk:
            groups = {EVERY_HEAD: keep_all(self._committed)}
        else:
            groups = {head_type: self.kept(chunk, head_type) for head_type in capacities(self._policy, self._labels)}
        first = chunk * n
        return _Layout(chunk, first, n, chunk_position(rope, first, n, self._policy.trained_frames), rope, groups)

    def observe(self, memory: KVMemory, first: int, grid: tuple[int, int]) -> None:
        """Describe the chunk's sink frames and candidates from the keys that the commit pass computed."""
        for place in range(self._policy.chunk_frames):
            frame = first + place
            if frame < self._episodic.sink or self._candidate(frame):
                described = [
                    describe(self._memory_heads(memory.captured_keys(layer)[0, place : place + 1], layer), *grid)[0]
                    for layer in descriptor_layers(len(self._labels))
                ]
                self._episodic.observe(frame, torch.stack(described).cpu())

    def advance(self) -> tuple[Decision, ...]:
        """Count a committed chunk and judge the candidates that leave the memory heads' recent tier."""
        recent, n = self._policy.memory.recent, self._policy.chunk_frames
        leaving = range(max(0, self._committed - recent), max(0, self._committed + n - recent))
        self._committed += n
        if not self._policy.memory.episodes:
            return ()
        return tuple(self._episodic.judge(frame) for frame in leaving if self._candidate(frame))

    def _candidate(self, frame: int) -> bool:
        n = self._policy.chunk_frames
        return is_candidate(frame, self._episodic.sink, frame // n * n, n)

    def _memory_heads(self, keys: Tensor, layer: int) -> Tensor:
        heads = [head for head, label in enumerate(self._labels[layer]) if label == "memory"]
        return keys[..., heads, :] if heads else keys


def rollout(
    backbone: Backbone[Text],
    memory: KVMemory,
    plan: RolloutPlan[Text],
    policy: FittedPolicy,
    labels: Sequence[Sequence[str]],
    noise: Noise,
    on_step: Callable[[int, int, Tensor], None],
) -> Generator[Chunk, None, None]:
    """Make a video chunk by chunk; what the caller does with a chunk happens between model calls.

    `on_step(chunk, step, x0)` is called after every denoising step; whatever it raises ends the run. The memory's
    buffers are dropped when the generator ends, for whatever reason.
    """
    episodic = EpisodicMemory(policy.memory.sink, policy.memory.episodes, policy.policy.novelty_percentile)
    tiers = _Tiers(policy, labels, episodic)
    grid = plan.latent_height // PATCH, plan.latent_width // PATCH
    try:
        for index in range(plan.chunks):
            started = perf_counter()
            if plan.changes_text(index):
                episodic.close_segment()
            layout = tiers.layout(index)
            own = range(layout.first_frame, layout.first_frame + layout.chunk_frames)
            last = index == plan.chunks - 1
            commit_context = None if last else policy.policy.commit_context
            recipe = _recipe(memory, layout, plan.sigmas, commit_context, noise, on_step)
            latent = backbone.sample(recipe, noise.initial(index), torch.tensor(plan.sigmas), plan.text(index))
            seen = {head_type: layout.seen(tiers.kept(index, head_type)) for head_type in HEAD_TYPES}
            decisions: tuple[Decision, ...] = ()
            if not last:
                if policy.memory.episodes:
                    tiers.observe(memory, layout.first_frame, grid)
                decisions = tiers.advance()
                following = tiers.layout(index + 1)
                memory.commit(own, {group: kept.frames for group, kept in following.groups.items()})
            yield Chunk(
                index,
                (own.start, own.stop),
                layout.position,
                latent.to("cpu", torch.float32),
                seen,
                decisions,
                memory.kv_bytes,
                perf_counter() - started,
            )
    finally:
        memory.release()


def _recipe(
    memory: KVMemory,
    layout: _Layout,
    levels: Sequence[float],
    commit_context: str | None,
    noise: Noise,
    on_step: Callable[[int, int, Tensor], None],
) -> Recipe:
    """Denoise one chunk, then commit it. `levels` are the noise levels as numbers, so that nothing waits for the device
    to tell whether the last one is 0; no commit context means no commit pass."""

    def recipe(predict: Predict, x: Tensor, sigmas: Tensor) -> Tensor:
        memory.begin(layout.own_positions, layout.everything())
        for step in range(len(levels) - 1):
            x0 = predict(x, sigmas[step])
            on_step(layout.index, step, x0)
            following = sigmas[step + 1]
            x = (
                x0
                if levels[step + 1] == 0
                else ((1.0 - following) * x0 + following * noise.fresh(layout.index, step, x0))
            )
        if commit_context is not None:
            if commit_context == "recent":
                memory.begin(layout.own_positions, layout.recent_only())
            predict(x, torch.zeros_like(sigmas[0]))
        return x

    return recipe
