"""The chunk loop (method.md section 1)."""

import gc
import weakref
from collections.abc import Generator, Iterator
from dataclasses import replace

import pytest
import torch
from tiny_model import CHANNELS, CoreBackbone, TinyModel

from headforcing_core.kv_memory.attention import dense_attention
from headforcing_core.kv_memory.memory import KVMemory
from headforcing_core.kv_memory.rope import rotate
from headforcing_core.policy.fitting import fit_policy
from headforcing_core.policy.presets import PRESETS
from headforcing_core.rollout.loop import Chunk, Listeners, rollout
from headforcing_core.rollout.noise import PerChunkNoise
from headforcing_core.rollout.plan import FinishedChunks, RolloutPlan, Segment

MODEL = TinyModel(layers=2, heads=3)
LABELS = (("local", "anchor", "memory"), ("memory", "memory", "anchor"))
SIGMAS = (1.0, 0.8, 0.4, 0.0)
PLAN = RolloutPlan(fit_policy(PRESETS["paper"], 3, 21, 30), 10, 4, 6, SIGMAS, (Segment(0, MODEL.text(0)),))
SHAPE = (1, CHANNELS, 3, 4, 6)


class Bench:
    """A rollout with everything it was made of in reach."""

    def __init__(self, plan: RolloutPlan[torch.Tensor] = PLAN, seed: int = 1, interrupt_at: int | None = None) -> None:
        self.memory = KVMemory(plan.memory_plan(LABELS), dense_attention, rotate)
        self.backbone = CoreBackbone(MODEL, self.memory)
        self.steps: list[tuple[int, int, torch.Tensor]] = []
        self.passes_at: dict[tuple[int, int], int] = {}  # by chunk and step
        self.recalls: dict[int, int] = {}  # passes so far, by chunk
        self.interrupt_at = interrupt_at
        noise = PerChunkNoise(seed, SHAPE)
        listeners = Listeners(self.on_step, on_recall=self.on_recall)
        self.chunks: Iterator[Chunk] = rollout(self.backbone, self.memory, plan, noise, listeners)

    def on_step(self, chunk: int, step: int, x0: torch.Tensor) -> None:
        self.steps.append((chunk, step, x0.clone()))
        self.passes_at[chunk, step] = self.backbone.passes
        if chunk == self.interrupt_at:
            raise KeyboardInterrupt

    def on_recall(self, chunk: int) -> None:
        self.recalls[chunk] = self.backbone.passes

    def latents(self) -> list[torch.Tensor]:
        return [chunk.latent for chunk in self.chunks]


def test_the_commit_after_the_last_chunk_is_skipped() -> None:
    bench = Bench()
    bench.latents()
    assert bench.backbone.passes == 10 * (len(SIGMAS) - 1) + 9


@pytest.mark.parametrize("preset", ["paper", "recall"])
def test_what_a_rollout_held_goes_with_it_and_waits_for_no_collector(preset: str) -> None:
    gc.collect()
    gc.disable()
    try:
        bench = Bench(replace(PLAN, policy=fit_policy(PRESETS[preset], 3, 21, 30)))
        bench.latents()
        backbone = weakref.ref(bench.backbone)
        del bench
        assert backbone() is None
    finally:
        gc.enable()


def test_every_denoising_step_is_told_in_order() -> None:
    bench = Bench()
    latents = bench.latents()
    assert [(chunk, step) for chunk, step, _ in bench.steps] == [(c, s) for c in range(10) for s in range(3)]
    for chunk, step, x0 in bench.steps:
        if step == 2:
            assert torch.equal(x0, latents[chunk])


CHANGED = (Segment(0, MODEL.text(0)), Segment(9, MODEL.text(1), "recache"))


@pytest.mark.parametrize(
    ("preset", "sigmas", "segments", "chunks"),
    [
        ("recall", SIGMAS, PLAN.segments, [6]),
        ("recall", (1.0, 0.0), PLAN.segments, [6]),  # its only step is made again
        ("recall", SIGMAS, CHANGED, [6, 9]),
        ("recall", (1.0, 0.0), CHANGED, [6, 9]),
        ("paper", SIGMAS, CHANGED, []),
    ],
)
def test_that_it_looks_back_is_told_before_the_passes_that_it_takes(
    preset: str, sigmas: tuple[float, ...], segments: tuple[Segment[torch.Tensor], ...], chunks: list[int]
) -> None:
    bench = Bench(replace(PLAN, policy=fit_policy(PRESETS[preset], 3, 21, 30), sigmas=sigmas, segments=segments))
    taken = {chunk.index: chunk.choice.passes for chunk in bench.chunks if chunk.choice is not None}
    assert list(bench.recalls) == list(taken) == chunks
    assert {chunk: bench.passes_at[chunk, 0] - before for chunk, before in bench.recalls.items()} == taken
    assert all(passes >= 2 for passes in taken.values())


def test_that_it_looked_back_for_a_finished_chunk_is_not_told() -> None:
    plan = replace(PLAN, policy=fit_policy(PRESETS["recall"], 3, 21, 30), segments=CHANGED)
    made = list(Bench(plan).chunks)
    choices = {chunk.index: chunk.choice for chunk in made[:8] if chunk.choice is not None}
    bench = Bench(replace(plan, finished=FinishedChunks(8, lambda index: made[index].latent, {}, choices)))
    bench.latents()
    assert list(choices) == [6] and list(bench.recalls) == [9]


def test_a_chunk_says_its_place_and_holds_float32() -> None:
    for index, chunk in enumerate(Bench().chunks):
        assert (chunk.index, chunk.frames) == (index, (3 * index, 3 * index + 3))
        assert chunk.position == 18
        assert chunk.latent.shape == SHAPE
        assert chunk.latent.dtype == torch.float32


def test_the_same_seed_makes_the_same_video_bit_for_bit() -> None:
    for a, b in zip(Bench().latents(), Bench().latents(), strict=True):
        assert torch.equal(a, b)


def test_another_seed_makes_another_video() -> None:
    assert not torch.allclose(Bench(seed=1).latents()[0], Bench(seed=2).latents()[0], atol=0.1)


def test_a_longer_video_begins_like_a_shorter_one() -> None:
    longer = Bench(replace(PLAN, chunks=14)).latents()
    for a, b in zip(Bench().latents(), longer[:10], strict=True):
        assert torch.equal(a, b)


def test_a_text_is_in_force_from_its_first_chunk_on() -> None:
    plan = replace(PLAN, segments=(Segment(0, MODEL.text(0)), Segment(4, MODEL.text(1))))
    apart = [(a - b).abs().max().item() for a, b in zip(Bench().latents(), Bench(plan).latents(), strict=True)]
    assert apart[:4] == [0.0] * 4
    assert min(apart[4:]) > 0.1


@pytest.mark.parametrize(
    "other", [replace(PLAN, chunks=3), replace(PLAN, policy=fit_policy(PRESETS["low_vram"], 3, 21, 30))]
)
def test_a_memory_that_was_planned_for_another_rollout_is_refused(other: RolloutPlan[torch.Tensor]) -> None:
    memory = KVMemory(other.memory_plan(LABELS), dense_attention, rotate)
    backbone = CoreBackbone(MODEL, memory)
    with pytest.raises(ValueError, match="planned for another rollout"):
        next(rollout(backbone, memory, PLAN, PerChunkNoise(1, SHAPE)))
    assert backbone.passes == 0


def test_an_interrupted_run_drops_its_buffers() -> None:
    bench = Bench(interrupt_at=8)
    with pytest.raises(KeyboardInterrupt):
        bench.latents()
    assert bench.memory.kv_bytes == 0


def test_a_run_that_is_left_early_drops_its_buffers() -> None:
    bench = Bench()
    next(bench.chunks)
    assert bench.memory.kv_bytes > 0
    assert isinstance(bench.chunks, Generator)
    bench.chunks.close()
    assert bench.memory.kv_bytes == 0
