"""Steps, solvers, images, channels beside a chunk and source videos give the same latents as the naive reference."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from reference_solvers import Way
from side_by_side import MIXED, Case, compare, core, going
from test_against_reference import PAPER, own_case, recalling
from tiny_model import BESIDE, CHANNELS, CoreBackbone, TinyModel
from torch import Tensor

from headforcing_core.families.causal_forcing import ONE_STEP
from headforcing_core.families.family import FOUR_STEPS, RENOISE, UNIPC2
from headforcing_core.families.longlive2 import LONGLIVE2
from headforcing_core.families.one_forcing import ONE_FORCING
from headforcing_core.kv_memory.attention import dense_attention
from headforcing_core.kv_memory.memory import KVMemory
from headforcing_core.kv_memory.rope import rotate
from headforcing_core.policy.fitting import fit_policy
from headforcing_core.policy.presets import PRESETS
from headforcing_core.rollout.loop import Listeners, rollout
from headforcing_core.rollout.noise import PerChunkNoise
from headforcing_core.rollout.plan import FinishedChunks, RolloutPlan, Segment

FOUR = (FOUR_STEPS.sigmas, ())
ONE, TWO = (1.0, 0.0), (1.0, 0.8333333134651184, 0.0)
INTEGERS = Way(LONGLIVE2.steps.sigmas, LONGLIVE2.steps.timesteps, solver=UNIPC2)


def drawn(seed: int, channels: int, frames: int, size: Sequence[int] = (8, 8)) -> Tensor:
    """Numbers that follow from a seed."""
    return torch.randn(1, channels, frames, *size, generator=torch.Generator().manual_seed(seed))


def beside(frames: range) -> Tensor:
    """Channels that differ from frame to frame."""
    return torch.cat([drawn(300 + frame, BESIDE, 1) for frame in frames], dim=2)


def source(frames: int) -> Way:
    """Made of another video, in two steps."""
    return Way((0.7, 0.5, 0.0), source=lambda chunk: drawn(500 + chunk, CHANNELS, frames))


def changing(chunk_frames: int, chunks: int = 6) -> Case:
    """A case with a prompt change that commits chunks again."""
    return replace(own_case(PAPER, chunk_frames, chunks, percentile=10.0), changes=((chunks - 3, "recache", 1),))


CASES = {
    "one step, the first chunk in four": replace(changing(1, 24), way=Way(ONE, first=FOUR)),
    "two steps after a start image, the first chunk in four": replace(
        changing(1, 12), prefix_frames=1, way=Way(TWO, first=FOUR)
    ),
    "timesteps": replace(changing(3), way=replace(INTEGERS, solver=RENOISE)),
    "unipc2 with timesteps": replace(changing(5, 5), way=INTEGERS),
    "unipc2 without timesteps, the first chunk in its own": replace(
        changing(3), way=Way((0.9, 0.7, 0.3, 0.0), solver=UNIPC2, first=((0.999, 0.6, 0.0), ()))
    ),
    "an image held by unipc2": replace(changing(4, 5), way=replace(INTEGERS, image=drawn(7, CHANNELS, 1))),
    "two frames held in one step": replace(changing(3), way=Way(ONE, image=drawn(7, CHANNELS, 2))),
    "an image held by renoising": replace(changing(3), way=Way(FOUR_STEPS.sigmas, image=drawn(7, CHANNELS, 1))),
    "channels beside everything": replace(
        changing(3, 6), prefix_frames=7, way=Way(TWO, (999, 833), FOUR, concat=beside)
    ),
    "channels beside what is recalled": recalling(replace(changing(3, 14), way=Way(TWO, concat=beside))),
    "unipc2 that recalls": recalling(replace(changing(3, 14), way=INTEGERS)),
    "unipc2 of one step that recalls": recalling(
        replace(changing(3, 14), way=Way((0.999, 0.0), (999,), solver=UNIPC2, concat=beside))
    ),
    "a source": replace(changing(3), way=source(3)),
    "a source at another level": replace(changing(2), way=replace(source(2), source_level=0.8)),
    "a source by unipc2, with an image": replace(
        changing(3), way=replace(source(3), solver=UNIPC2, image=drawn(7, CHANNELS, 1))
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_way_gives_the_latents_of_the_naive_reference(name: str) -> None:
    compare(CASES[name])


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.way and case.way.image is not None])
def test_an_image_is_in_the_finished_chunk_as_it_was_given(name: str) -> None:
    case = CASES[name]
    assert case.way is not None and case.way.image is not None
    first, second = core(replace(case, chunks=2, changes=()), TinyModel())
    there = case.way.image.shape[2]
    assert torch.equal(first.latent[:, :, :there], case.way.image)
    assert not torch.equal(second.latent[:, :, :there], case.way.image)


def test_every_pass_of_a_chunk_is_counted_and_heard() -> None:
    model, way = TinyModel(layers=2, heads=4), Way(ONE, first=FOUR, source=lambda chunk: asked.append(chunk) or clean)
    asked: list[int] = []
    heard: list[tuple[int, int]] = []
    clean = drawn(1, CHANNELS, 1, (4, 4))
    policy = fit_policy(PRESETS["full"], 1, 21, 4)
    plan = going(RolloutPlan(policy, 4, 4, 4, ONE, (Segment(0, model.text(0)),)), way)
    labels = MIXED[:2]

    def passes(plan: RolloutPlan[Tensor]) -> list[int]:
        memory = KVMemory(plan.memory_plan(labels), dense_attention, rotate)
        backbone, counted = CoreBackbone(model, memory), [0]
        listeners = Listeners(lambda chunk, step, x0: heard.append((chunk, step)))
        for _ in rollout(backbone, memory, plan, PerChunkNoise(3, (1, CHANNELS, 1, 4, 4)), listeners):
            counted.append(backbone.passes)
        return [after - before for before, after in zip(counted, counted[1:], strict=False)]

    assert passes(plan) == [4 + 1, 1 + 1, 1 + 1, 1] and asked == [0, 1, 2, 3]
    assert heard == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (2, 0), (3, 0)]
    assert passes(replace(plan, sigmas=TWO)) == [4 + 1, 2 + 1, 2 + 1, 2]
    assert passes(replace(plan, first=None)) == [1 + 1, 1 + 1, 1 + 1, 1]
    asked.clear()
    assert passes(replace(plan, finished=FinishedChunks(2, lambda chunk: clean))) == [1, 1, 1 + 1, 1]
    assert asked == [2, 3]


def test_unipc2_shows_what_was_seen_and_draws_no_noise_between_steps() -> None:
    model, shown = TinyModel(layers=2), []

    class Once(PerChunkNoise):
        def fresh(self, chunk: int, step: int, like: Tensor) -> Tensor:
            raise AssertionError("noise was drawn")

    plan = going(
        RolloutPlan(fit_policy(PRESETS["full"], 2, 21, 2), 1, 4, 4, ONE, (Segment(0, model.text(0)),)), INTEGERS
    )
    memory = KVMemory(plan.memory_plan(MIXED[:2]), dense_attention, rotate)
    listeners = Listeners(lambda chunk, step, x0: shown.append(x0))
    made = list(rollout(CoreBackbone(model, memory), memory, plan, Once(3, (1, CHANNELS, 2, 4, 4)), listeners))
    assert len(shown) == 4 and torch.equal(shown[-1], made[0].latent)
    assert not torch.equal(shown[0], shown[1])


def test_which_first_chunk_has_steps_of_its_own() -> None:
    assert ONE_STEP.steps_of_first(0, continues=False) == ONE_STEP.steps_of_first(1, continues=False) == FOUR_STEPS
    assert ONE_FORCING.steps_of_first(0, continues=False) == FOUR_STEPS
    assert ONE_FORCING.steps_of_first(1, continues=False) is None
    for family in (ONE_STEP, ONE_FORCING, LONGLIVE2):
        assert family.steps_of_first(21, continues=True) is family.steps_of_first(0, continues=True) is None
    assert LONGLIVE2.steps_of_first(0, continues=False) is None
