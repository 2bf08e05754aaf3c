"""Which noise a run is made from, and when it cannot be."""

from __future__ import annotations

import math
from collections.abc import Callable

from ...headforcing_core.checkpoint.ar_facts import ARFacts
from ...headforcing_core.families.family import RENOISE
from ...headforcing_core.geometry import VideoShape
from ...headforcing_core.rollout.noise import NativeNoise, Noise, SplicedNoise
from ..host.device_memory import pins_memory

_MOST_NATIVE_BYTES = 2**32
_FLOAT = 4


def check_noise(mode: str, video: VideoShape, facts: ARFacts, continues: bool, is_kept: bool) -> None:
    """ValueError for noise that is drawn for a whole video at once where the video goes on from something, can go on
    later, or is too long, or where the host's own sampler makes no such chunks."""
    if mode != "native":
        return
    family = facts.record
    if family.solver != RENOISE or family.steps.timesteps or family.first_steps is not None:
        raise ValueError(
            f"noise is native, which repeats ComfyUI's own AR sampler, and that one does not know the steps of family "
            f"{facts.family}. Set noise to per_chunk."
        )
    if continues or is_kept:
        what, why = ("previous is connected", "go on") if continues else ("run_name is set", "be resumed")
        raise ValueError(
            f"noise is native, and {what}. Native noise is drawn for a whole video at once and cannot {why}. Set noise "
            "to per_chunk."
        )
    size = _FLOAT * math.prod(video.latent_shape)
    if size > _MOST_NATIVE_BYTES:
        raise ValueError(
            f"noise is native, which draws all {video.frames} frames at once: {size / 1e9:.1f} GB. It is meant for "
            "comparing short videos. Set noise to per_chunk."
        )


def chunks_before(mode: str, video: VideoShape) -> int:
    """How many chunks of the noise lie before a run's first one: as many as the video that it continues has, where the
    noise is of the whole video. A start image is none."""
    is_counted = mode == "whole_video" and not video.counts_prefix
    return video.prefix_frames // video.chunk_frames if is_counted else 0


def make_noise(
    mode: str, video: VideoShape, seed: int, seed_for: Callable[[int], int], made_before: int | None = None
) -> Noise:
    """The noise of a run; `seed_for` gives the seed of a chunk. `made_before` are the chunks of the video that it
    continues, where that is known better than by its frames, one of which may be a start image."""
    if mode == "native":
        whole = video.latent_shape
        return NativeNoise(seed, whole, video.chunk_frames, video.prefix_frames)
    before = chunks_before(mode, video)
    if before and made_before is not None:
        before = made_before
    return SplicedNoise(seed_for, video.chunk_shape, pins_memory(), before)
