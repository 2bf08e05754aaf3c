"""Which rollouts a profile is measured on, and which of their chunks are watched (method.md section 2)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..families.self_forcing import SELF_FORCING
from ..geometry import chunks_for, frames_for, pixel_frames_for
from ..kv_memory.memory import KVMemory
from ..policy.cache_policy import CachePolicy
from ..policy.fitting import FittedPolicy, fit_policy
from ..policy.presets import PRESETS
from ..policy.tiers import Tiers
from ..rollout.loop import Backbone, Listeners, rollout
from ..rollout.noise import Noise
from ..rollout.passes import OnStep
from ..rollout.plan import RolloutPlan, Text
from .attention_masses import MassRecorder

PROTOCOLS = ("fast", "paper")
FAST_PROMPTS = 4
FAST_FIRST_FRAME = 9  # chunks 3 to 6 of three frames: the later part of the trained range
PAPER_SECONDS = 30.0
PAPER_FPS = 16.0
PAPER_CHUNKS = 3


@dataclass(frozen=True)
class Watch:
    """The chunks of one prompt's rollout whose attention is measured, and the recorder that watches them."""

    recorder: MassRecorder
    prompt: int
    chunks: tuple[int, ...]


def watched_chunks(protocol: str, chunk_frames: int, prompt: int, seed: int) -> tuple[int, ...]:
    """Chunks of one prompt's rollout whose attention is measured, in ascending order.

    `fast`: all that lie in frames 9 to 20. `paper`: three at random after the third, of 30 seconds. ValueError for
    another protocol, or a chunk too long for it.
    """
    if protocol == "fast":
        first = -(-FAST_FIRST_FRAME // chunk_frames)
        chunks = tuple(range(first, SELF_FORCING.trained_frames // chunk_frames))
    elif protocol == "paper":
        total = chunks_for(frames_for(pixel_frames_for(PAPER_SECONDS, PAPER_FPS)), chunk_frames)
        generator = torch.Generator().manual_seed((seed * 1000003 + prompt) % 2**63)
        drawn = torch.randperm(max(0, total - 3), generator=generator)[:PAPER_CHUNKS]
        chunks = tuple(sorted(3 + chunk for chunk in drawn.tolist()))
    else:
        raise ValueError(f"protocol is {protocol!r}. Known are {', '.join(PROTOCOLS)}. Choose one of them.")
    if not chunks:
        raise ValueError(
            f"chunk_frames is {chunk_frames}. Nothing is left to measure within {SELF_FORCING.trained_frames} frames. "
            "Use a chunk of 1 to 6 frames."
        )
    return chunks


def profiling_policy(protocol: str, chunk_frames: int, trained_frames: int, chunks: int) -> FittedPolicy:
    """What heads read while they are measured: everything (`fast`), or past the trained range as much as it allows, as
    `uniform_21` does (`paper`)."""
    policy: CachePolicy = PRESETS["full"]
    if protocol == "paper":
        sink = PRESETS["uniform_21"].memory.sink
        widest = Tiers(sink, 0, trained_frames - chunk_frames - sink)
        policy = replace(PRESETS["uniform_21"], local=widest, anchor=widest, memory=widest)
    return fit_policy(policy, chunk_frames, trained_frames, chunks * chunk_frames)


def measure(
    backbone: Backbone[Text],
    memory: KVMemory,
    plan: RolloutPlan[Text],
    noise: Noise,
    watch: Watch,
    on_step: OnStep,
) -> None:
    """Roll out one prompt and `watch` it at every denoising step but not the commit pass. `on_step` as for `rollout`.

    `memory` must have been made with the recorder as its observer and all heads of one type.
    """
    recorder = watch.recorder

    def pause_before_commit(chunk: int, step: int, x0: Tensor) -> None:
        if step == plan.steps_of(chunk).count - 1:
            recorder.begin(None)
        on_step(chunk, step, x0)

    chunks = rollout(backbone, memory, plan, noise, Listeners(pause_before_commit))
    for chunk in range(plan.chunks):
        recorder.begin(memory.held(memory.groups[0]) if chunk in watch.chunks else None, (watch.prompt, chunk))
        next(chunks)
    chunks.close()
