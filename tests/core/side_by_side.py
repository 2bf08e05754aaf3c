"""One rollout made twice, by the core and by the naive reference, and compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pytest
import reference
import reference_recall
import torch
from reference_solvers import Way
from reference_tiers import Rules
from tiny_model import CHANNELS, CoreBackbone, TinyModel, blend
from torch import Tensor

from headforcing_core.families.family import Shots, Steps
from headforcing_core.kv_memory.attention import dense_attention
from headforcing_core.kv_memory.memory import KVMemory
from headforcing_core.kv_memory.rope import rotate
from headforcing_core.policy.cache_policy import CachePolicy
from headforcing_core.policy.fitting import fit_policy
from headforcing_core.rollout.loop import Chunk, rollout
from headforcing_core.rollout.noise import NativeNoise, PerChunkNoise
from headforcing_core.rollout.plan import RolloutPlan, Segment
from headforcing_core.rollout.recall import Choice

TRAINED = 21
TOLERANCE = 1e-5

MIXED = (
    ("local", "anchor", "memory", "memory"),
    ("memory", "memory", "memory", "memory"),
    ("anchor", "local", "local", "anchor"),
    ("memory", "local", "memory", "local"),
)

Change = tuple[int, str, int]
"(first chunk, transition, chunks of a soft one)"


@dataclass(frozen=True)
class Case:
    """One rollout, for both sides; every prompt change brings a text of its own."""

    rules: Rules
    policy: CachePolicy
    chunk_frames: int
    chunks: int
    labels: tuple[tuple[str, ...], ...] = MIXED
    sigmas: tuple[float, ...] = (1.0, 0.8, 0.0)
    changes: tuple[Change, ...] = ()
    prefix_frames: int = 0
    latent: tuple[int, int] = (8, 8)
    seed: int = 5
    noise: str = "per_chunk"
    head_dim: int = 24
    way: Way | None = None
    trained: int = TRAINED
    shots: Shots | None = None
    ahead: int = 0

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        return (1, CHANNELS, self.chunk_frames, *self.latent)

    def prefix(self) -> Tensor | None:
        shape = (1, CHANNELS, self.prefix_frames, *self.latent)
        generator = torch.Generator("cpu").manual_seed(1000 + self.seed)
        return torch.randn(shape, generator=generator) if self.prefix_frames else None


def soft(*first_chunks: int) -> tuple[Change, ...]:
    """Changes of text alone."""
    return tuple((first, "soft", 1) for first in first_chunks)


def going(plan: RolloutPlan[Tensor], way: Way) -> RolloutPlan[Tensor]:
    """A plan that goes a way."""
    return replace(
        plan,
        sigmas=tuple(way.sigmas),
        first=Steps(*map(tuple, way.first)) if way.first else None,
        timesteps=tuple(way.timesteps),
        solver=way.solver,
        image=way.image,
        concat=way.concat,
        source=way.source,
        source_level=way.source_level,
    )


def first_text(how: str, change: int, model: TinyModel) -> Tensor | None:
    """What a shot's first chunk is made under: its text with words before it."""
    return torch.cat([model.text(99), model.text(change + 1)]) if how == "shot" else None


def planned(case: Case, model: TinyModel) -> RolloutPlan[Tensor]:
    """What the core is to make."""
    segments = [Segment(0, model.text(0))]
    segments += [
        Segment(first, model.text(i + 1), how, k, first_text=first_text(how, i, model))
        for i, (first, how, k) in enumerate(case.changes)
    ]
    frames = case.prefix_frames + case.chunks * case.chunk_frames
    fitted = fit_policy(case.policy, case.chunk_frames, case.trained, frames, case.shots, case.ahead)
    plan = RolloutPlan(fitted, case.chunks, *case.latent, case.sigmas, tuple(segments), blend, case.prefix())
    return plan if case.way is None else going(plan, case.way)


def core(case: Case, model: TinyModel) -> list[Chunk]:
    plan = planned(case, model)
    memory = KVMemory(plan.memory_plan(case.labels), dense_attention, rotate)
    noise = PerChunkNoise(case.seed, case.chunk_shape)
    if case.noise == "native":
        video = (1, CHANNELS, case.chunk_frames * case.chunks, *case.latent)
        noise = NativeNoise(case.seed, video, case.chunk_frames)
    return list(rollout(CoreBackbone(model, memory), memory, plan, noise))


def naive(
    case: Case,
    model: TinyModel,
    recorded: Mapping[int, bool],
    choices: Mapping[int, tuple[int, ...]],
    latents: Sequence[Tensor] | None = None,
) -> tuple[reference.Made, ...]:
    draw = reference.per_chunk_noise(case.seed, case.chunk_shape)
    if case.noise == "native":
        draw = reference.native_noise(case.seed, case.chunk_shape, case.chunks)
    segments = [reference.Segment(0, model.text(0))]
    segments += [
        reference.Segment(first, model.text(i + 1), how, k, first_text(how, i, model))
        for i, (first, how, k) in enumerate(case.changes)
    ]
    return reference.generate(
        model,
        case.rules,
        case.labels,
        case.chunks,
        case.chunk_frames,
        case.sigmas,
        segments,
        draw,
        case.prefix(),
        recorded,
        choices,
        latents,
        case.way,
    ).chunks


def compare(case: Case, dtype: torch.dtype = torch.float32, tolerance: float = TOLERANCE) -> None:
    """First that both decide the same and lay the history out the same, then that they compute the same."""
    near = max(TOLERANCE, tolerance)
    chunks = core(case, TinyModel(head_dim=case.head_dim))
    recorded = {decision.frame: decision.admitted for chunk in chunks for decision in chunk.decisions}
    choices = {chunk.index: chunk.choice.frames for chunk in chunks if chunk.choice is not None}
    latents = None if case.policy.kv_precision == "model" else [chunk.latent for chunk in chunks]
    made = naive(case, TinyModel(head_dim=case.head_dim, dtype=dtype), recorded, choices, latents)
    assert [chunk.frames for chunk in chunks] == [expected.frames for expected in made]
    assert len(chunks) == case.chunks

    for chunk, expected in zip(chunks, made, strict=True):
        assert chunk.seen == expected.seen, f"chunk {chunk.index}"
        got = [(d.frame, d.admitted, d.dropped) for d in chunk.decisions]
        assert got == [(v.frame, v.admitted, v.dropped) for v in expected.verdicts], f"chunk {chunk.index}"
        assert _settled(chunk.choice) == _settled(expected.choice), f"chunk {chunk.index}"
        assert _measured(chunk.choice) == pytest.approx(_measured(expected.choice), abs=near), f"chunk {chunk.index}"
        novelties = [number for d in chunk.decisions for number in (d.novelty, d.tau)]
        assert novelties == pytest.approx([x for v in expected.verdicts for x in (v.novelty, v.tau)], abs=near)
    apart = [(chunk.latent - expected.latent).abs().max().item() for chunk, expected in zip(chunks, made, strict=True)]
    assert max(apart) <= tolerance, f"first in chunk {next(i for i, far in enumerate(apart) if far > tolerance)}"


AnyChoice = Choice | reference_recall.Choice | None


def _settled(choice: AnyChoice) -> tuple[tuple[int, ...], int, int] | None:
    return None if choice is None else (choice.frames, choice.candidates, choice.passes)


def _measured(choice: AnyChoice) -> list[float]:
    return [] if choice is None else [*choice.likeness, choice.lowest, choice.best]
