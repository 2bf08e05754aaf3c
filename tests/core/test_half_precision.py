"""bfloat16 weights and caches: positions stay apart, and errors stay small however long the video is."""

import pytest
import torch
from tiny_model import CHANNELS, CoreBackbone, TinyModel
from torch import Tensor

from headforcing_core.kv_memory.attention import dense_attention
from headforcing_core.kv_memory.memory import KVMemory
from headforcing_core.kv_memory.rope import rotate, temporal_rotation
from headforcing_core.policy.fitting import fit_policy
from headforcing_core.policy.presets import PRESETS
from headforcing_core.rollout.loop import rollout
from headforcing_core.rollout.noise import PerChunkNoise
from headforcing_core.rollout.plan import RolloutPlan, Segment

LABELS = (("local", "anchor", "memory", "memory"),) * 4
N, SIZE = 3, 8


def one_forward(dtype: torch.dtype, chunks_before: int, preset: str) -> Tensor:
    """What one pass over noise gives after so many committed chunks, with weights and caches of a type."""
    model = TinyModel(dtype=dtype)
    frames = N * chunks_before
    prefix = torch.randn(1, CHANNELS, frames, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
    fitted = fit_policy(PRESETS[preset], N, 21, frames + N)
    plan = RolloutPlan(fitted, 1, SIZE, SIZE, (1.0, 0.0), (Segment(0, model.text(1)),), prefix=prefix)
    memory = KVMemory(plan.memory_plan(LABELS), dense_attention, rotate)
    noise = PerChunkNoise(1, (1, CHANNELS, N, SIZE, SIZE))
    backbone = CoreBackbone(model, memory)
    return next(rollout(backbone, memory, plan, noise)).latent


def test_neighbouring_frames_keep_their_own_angles_at_any_frame() -> None:
    for first in (0, 255, 600, 100_000):
        rotation = temporal_rotation(range(first, first + 3), 128)
        assert rotation.dtype == torch.float32
        for one, two in ((0, 1), (1, 2), (0, 2)):
            assert (rotation[one] - rotation[two]).abs().max() > 0.1


def test_keys_of_frame_600_and_601_differ_after_rotation_in_bfloat16() -> None:
    keys = torch.ones(1, 3, 1, 44, dtype=torch.bfloat16)
    turned = rotate(keys, temporal_rotation((600, 601, 602), 128)[None, :, None])
    assert turned.dtype == torch.bfloat16
    assert not torch.equal(turned[:, 0], turned[:, 1]) and not torch.equal(turned[:, 1], turned[:, 2])


@pytest.mark.parametrize("preset", ["paper", "uniform"])
def test_one_forward_in_bfloat16_is_within_two_percent_and_does_not_worsen_with_length(preset: str) -> None:
    errors = []
    for chunks_before in (3, 10, 40):
        exact, half = (one_forward(dtype, chunks_before, preset) for dtype in (torch.float32, torch.bfloat16))
        errors.append(float((half - exact).norm() / exact.norm()))
    assert max(errors) <= 2e-2, errors
    assert errors[-1] <= 2 * errors[0], errors
