"""A video that goes on from a start image or from finished frames (method.md section 8)."""

import pytest
import torch
from tiny_model import CHANNELS, CoreBackbone, TinyModel
from torch import Tensor

from headforcing_core.kv_memory.attention import dense_attention
from headforcing_core.kv_memory.memory import KVMemory
from headforcing_core.kv_memory.rope import rotate
from headforcing_core.policy.fitting import fit_policy
from headforcing_core.policy.presets import PRESETS
from headforcing_core.rollout.loop import Chunk, rollout
from headforcing_core.rollout.noise import PerChunkNoise
from headforcing_core.rollout.plan import RolloutPlan, Segment

MODEL = TinyModel(layers=2, heads=3)
LABELS = (("local", "anchor", "memory"), ("memory", "memory", "anchor"))
LATENT = (4, 6)


class LaterNoise:
    """The noise that chunks have so many chunks later."""

    def __init__(self, noise: PerChunkNoise, chunks: int) -> None:
        self._noise, self._chunks = noise, chunks

    def initial(self, chunk: int) -> Tensor:
        return self._noise.initial(chunk + self._chunks)

    def fresh(self, chunk: int, step: int, like: Tensor) -> Tensor:
        return self._noise.fresh(chunk + self._chunks, step, like)


def made(
    chunks: int,
    prefix: Tensor | None = None,
    n: int = 3,
    later: int = 0,
    preset: str = "paper",
    passes: list[int] | None = None,
) -> list[Chunk]:
    frames = 0 if prefix is None else prefix.shape[2]
    policy = fit_policy(PRESETS[preset], n, 21, frames + n * chunks)
    plan = RolloutPlan(policy, chunks, *LATENT, (1.0, 0.8, 0.0), (Segment(0, MODEL.text(0)),), prefix=prefix)
    memory = KVMemory(plan.memory_plan(LABELS), dense_attention, rotate)
    backbone = CoreBackbone(MODEL, memory)
    noise = LaterNoise(PerChunkNoise(1, (1, CHANNELS, n, *LATENT)), later)
    found = list(rollout(backbone, memory, plan, noise))
    if passes is not None:
        passes.append(backbone.passes)
    return found


def finished(frames: int, seed: int = 2) -> Tensor:
    return torch.randn(1, CHANNELS, frames, *LATENT, generator=torch.Generator("cpu").manual_seed(seed))


@pytest.mark.parametrize("n", [3, 1])
@pytest.mark.parametrize("preset", ["paper", "enhanced", "uniform"])
@pytest.mark.parametrize("frames", [6, 18, 30])
def test_a_continuation_equals_an_unbroken_video(preset: str, n: int, frames: int) -> None:
    done = frames // n
    whole = made(done + 24 // n, n=n, preset=preset)
    prefix = torch.cat([chunk.latent for chunk in whole[:done]], dim=2)
    rest = made(24 // n, prefix, n, later=done, preset=preset)
    for again, chunk in zip(rest, whole[done:], strict=True):
        assert (again.frames, again.seen, again.decisions) == (chunk.frames, chunk.seen, chunk.decisions)
        assert torch.equal(again.latent, chunk.latent)


@pytest.mark.parametrize("frames", [1, 3, 7, 30])
def test_only_generated_chunks_are_counted_and_given_out(frames: int) -> None:
    chunks = made(5, finished(frames))
    assert [chunk.index for chunk in chunks] == [0, 1, 2, 3, 4]
    assert [chunk.frames for chunk in chunks] == [(frames + 3 * i, frames + 3 * i + 3) for i in range(5)]
    assert all(chunk.latent.shape == (1, CHANNELS, 3, *LATENT) for chunk in chunks)


@pytest.mark.parametrize(("frames", "n", "commits"), [(1, 3, 1), (7, 3, 3), (9, 3, 3), (7, 1, 7)])
def test_a_prefix_costs_one_commit_pass_a_chunk(frames: int, n: int, commits: int) -> None:
    passes: list[int] = []
    made(4, n=n, passes=passes)
    made(4, finished(frames), n, passes=passes)
    assert passes[1] - passes[0] == commits


@pytest.mark.parametrize("n", [3, 1])
def test_the_start_image_stays_as_the_first_frame_of_the_sink(n: int) -> None:
    last = made(60 // n, finished(1), n)[-1]
    for head_type in ("anchor", "memory"):
        assert [frame for frame, _, tier in last.seen[head_type] if tier == "sink"] == [0, 1, 2]


def test_the_start_image_reaches_the_video() -> None:
    here, there = made(10, finished(1)), made(10, finished(1, seed=3))
    apart = [(a.latent - b.latent).abs().max().item() for a, b in zip(here, there, strict=True)]
    assert min(apart) > 0.01


@pytest.mark.parametrize(("frames", "compressed"), [(0, 7), (1, 6), (7, 4), (18, 1), (19, 0), (30, 0)])
def test_warm_up_ends_where_the_trained_range_does(frames: int, compressed: int) -> None:
    chunks = made(8, finished(frames) if frames else None)
    in_warm_up = [len(chunk.seen["local"]) == chunk.frames[0] for chunk in chunks]
    assert in_warm_up == [True] * compressed + [False] * (8 - compressed)


@pytest.mark.parametrize("n", [3, 1])
def test_frames_are_candidates_by_their_place_in_the_chunk_they_were_committed_in(n: int) -> None:
    chunks = made(36 // n, finished(7), n)
    judged = [decision.frame for chunk in chunks for decision in chunk.decisions]
    starts = [0, 3, 6, *range(7, 43, 3)]
    middles = [first + 1 for first in starts[1:] if first != 6] if n == 3 else [f for f in range(3, 43) if f % 3 == 1]
    assert judged == middles[: len(judged)]
    assert len(judged) >= 9
