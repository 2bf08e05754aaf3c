"""A run that goes on from its own finished chunks (method.md section 8)."""

import pytest
import torch
from tiny_model import CHANNELS, CoreBackbone, TinyModel, blend
from torch import Tensor

from headforcing_core.kv_memory.attention import dense_attention
from headforcing_core.kv_memory.memory import KVMemory
from headforcing_core.kv_memory.rope import rotate
from headforcing_core.policy.fitting import fit_policy
from headforcing_core.policy.presets import PRESETS
from headforcing_core.rollout.episodes import Decision
from headforcing_core.rollout.loop import Chunk, Recipe, rollout
from headforcing_core.rollout.noise import Noise, PerChunkNoise
from headforcing_core.rollout.passes import CLEAN, Predict
from headforcing_core.rollout.plan import FinishedChunks, RolloutPlan, Segment

MODEL = TinyModel(layers=2, heads=3)
LABELS = (("local", "anchor", "memory"), ("memory", "memory", "anchor"))
LATENT, N, CHUNKS = (4, 6), 3, 16
SIGMAS = (1.0, 0.8, 0.4, 0.0)
SHAPE = (1, CHANNELS, N, *LATENT)
NOTHING = FinishedChunks()


class BadLook(CoreBackbone):
    """A model that overflows in the first pass over a clean chunk, and in no other, of one call."""

    def __init__(self, memory: KVMemory, call: int, bad: float) -> None:
        super().__init__(MODEL, memory)
        self._call, self._bad, self._calls = call, bad, 0

    def sample(self, recipe: Recipe, noise: Tensor, sigmas: Tensor, text: Tensor) -> Tensor:
        spoils, self._calls = [self._bad] * (self._calls == self._call), self._calls + 1

        def spoiled(predict: Predict, x: Tensor, sigmas: Tensor) -> Tensor:
            return recipe(lambda x, at: predict(x * spoils.pop() if at is CLEAN and spoils else x, at), x, sigmas)

        return super().sample(spoiled, noise, sigmas, text)


class NaNAt:
    """Noise of which one chunk is not a number."""

    def __init__(self, chunk: int) -> None:
        self._chunk = chunk
        self._sound = PerChunkNoise(1, SHAPE)

    def initial(self, chunk: int) -> Tensor:
        return self._sound.initial(chunk) * (float("nan") if chunk == self._chunk else 1.0)

    def fresh(self, chunk: int, step: int, like: Tensor) -> Tensor:
        return self._sound.fresh(chunk, step, like)


def made(
    finished: FinishedChunks = NOTHING,
    transition: str = "recache",
    preset: str = "paper",
    chunks: int = CHUNKS,
    prefix: Tensor | None = None,
    noise: Noise | None = None,
    passes: list[int] | None = None,
) -> list[Chunk]:
    segments = (Segment(0, MODEL.text(0)), Segment(8, MODEL.text(1), transition, 3))
    frames = 0 if prefix is None else prefix.shape[2]
    policy = fit_policy(PRESETS[preset], N, 21, frames + N * chunks)
    plan = RolloutPlan(policy, chunks, *LATENT, SIGMAS, segments, blend, prefix, finished)
    memory = KVMemory(plan.memory_plan(LABELS), dense_attention, rotate)
    backbone = CoreBackbone(MODEL, memory)
    found = list(rollout(backbone, memory, plan, noise or PerChunkNoise(1, SHAPE)))
    assert memory.kv_bytes == 0
    if passes is not None:
        passes.append(backbone.passes)
    return found


def first(chunks: list[Chunk], count: int) -> FinishedChunks:
    decisions: list[Decision] = [
        decision for chunk in chunks[:count] for decision in (*chunk.prefix_decisions, *chunk.decisions)
    ]
    return FinishedChunks(
        count, lambda chunk: chunks[chunk].latent, {decision.frame: decision for decision in decisions}
    )


@pytest.mark.parametrize("transition", ["recache", "flush", "soft", "cut"])
@pytest.mark.parametrize("done", [1, 7, 8, 9, 10, 15])
def test_a_resumed_run_equals_an_unbroken_one(transition: str, done: int) -> None:
    whole = made(transition=transition)
    again = made(first(whole, done), transition)
    for one, other in zip(whole, again, strict=True):
        assert torch.equal(one.latent, other.latent)
        assert (one.seen, one.decisions) == (other.seen, other.decisions)


@pytest.mark.parametrize("preset", ["enhanced", "low_vram", "max", "uniform_21"])
def test_every_preset_resumes_after_a_continued_video(preset: str) -> None:
    prefix = torch.randn(1, CHANNELS, 20, *LATENT, generator=torch.Generator().manual_seed(5))
    whole = made(preset=preset, prefix=prefix)
    again = made(first(whole, 9), preset=preset, prefix=prefix)
    assert all(torch.equal(one.latent, other.latent) for one, other in zip(whole, again, strict=True))


def test_a_finished_run_can_be_made_longer() -> None:
    short, long = made(chunks=10), made(chunks=14)
    again = made(first(short, 10), chunks=14)
    assert all(torch.equal(one.latent, other.latent) for one, other in zip(long, again, strict=True))


def test_a_finished_chunk_costs_one_pass() -> None:
    passes: list[int] = []
    whole = made(passes=passes, transition="flush")
    made(first(whole, 10), passes=passes, transition="flush")
    made(first(whole, CHUNKS), passes=passes, transition="flush")
    steps = len(SIGMAS)
    assert passes == [CHUNKS * steps - 1, 10 + 6 * steps - 1, CHUNKS - 1]


def test_recorded_decisions_are_repeated_and_not_judged_again() -> None:
    whole = made()
    done = first(whole, 12)
    turned = {frame: Decision(frame, 0.5, 0.4, False, None) for frame in done.decisions}
    again = made(FinishedChunks(12, done.read, turned))
    assert [chunk.decisions for chunk in again[:12]] != [chunk.decisions for chunk in whole[:12]]
    assert all(decision == turned[decision.frame] for chunk in again[:11] for decision in chunk.decisions)


@pytest.mark.parametrize("bad", [0, 5, CHUNKS - 1])
def test_a_chunk_with_nan_ends_the_run_before_it_is_given_out(bad: int) -> None:
    given: list[Chunk] = []
    policy = fit_policy(PRESETS["paper"], N, 21, N * CHUNKS)
    plan = RolloutPlan(policy, CHUNKS, *LATENT, SIGMAS, (Segment(0, MODEL.text(0)),))
    memory = KVMemory(plan.memory_plan(LABELS), dense_attention, rotate)
    chunks = rollout(CoreBackbone(MODEL, memory), memory, plan, NaNAt(bad))
    with pytest.raises(RuntimeError, match=f"Chunk {bad} came out with NaN or infinity"):
        given.extend(chunks)
    assert memory.kv_bytes == 0


@pytest.mark.parametrize(
    ("bad", "number", "sigmas"),
    [
        (6, float("nan"), SIGMAS),  # the first one for which something is dropped
        (10, float("nan"), SIGMAS),  # the new text is all there
        (10, float("inf"), SIGMAS),
        (6, float("nan"), (1.0, 0.0)),
    ],
)
def test_so_does_a_look_with_nan_though_its_chunk_would_come_out_sound(
    bad: int, number: float, sigmas: tuple[float, ...]
) -> None:
    given: list[Chunk] = []
    policy = fit_policy(PRESETS["recall"], N, 21, N * CHUNKS)
    segments = (Segment(0, MODEL.text(0)), Segment(8, MODEL.text(1), "soft", 3))
    plan = RolloutPlan(policy, CHUNKS, *LATENT, sigmas, segments, blend)
    memory = KVMemory(plan.memory_plan(LABELS), dense_attention, rotate)
    with pytest.raises(RuntimeError, match=f"Chunk {bad} came out with NaN or infinity"):
        given.extend(rollout(BadLook(memory, bad, number), memory, plan, PerChunkNoise(1, SHAPE)))
    assert len(given) == bad and memory.kv_bytes == 0
