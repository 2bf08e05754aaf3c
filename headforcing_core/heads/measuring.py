"""Which rollouts a profile is measured on, and which of their chunks are watched (method.md section 2)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..families.family import Family
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
PAPER_SECONDS = 30.0
PAPER_CHUNKS = 3


@dataclass(frozen=True)
class Watch:
    """The chunks of one prompt's rollout whose attention is measured, and the recorder that watches them."""

    recorder: MassRecorder
    prompt: int
    chunks: tuple[int, ...]


def watched_chunks(protocol: str, chunk_frames: int, prompt: int, seed: int, family: Family) -> tuple[int, ...]:
    """Chunks of one prompt's rollout whose attention is measured, in ascending order.

    `fast`: all that lie in the last four sevenths of the trained range, of 21 frames 9 to 20. `paper`: three at random
    after the third, of 30 seconds. ValueError for another protocol, or a chunk too long for it.
    """
    trained = family.trained_frames
    first_frame = -(-3 * trained // 7)
    if protocol == "fast":
        chunks = tuple(range(-(-first_frame // chunk_frames), trained // chunk_frames))
    elif protocol == "paper":
        total = chunks_for(frames_for(pixel_frames_for(PAPER_SECONDS, family.fps)), chunk_frames)
        generator = torch.Generator().manual_seed((seed * 1000003 + prompt) % 2**63)
        drawn = torch.randperm(max(0, total - 3), generator=generator)[:PAPER_CHUNKS]
        chunks = tuple(sorted(3 + chunk for chunk in drawn.tolist()))
    else:
        raise ValueError(f"protocol is {protocol!r}. Known are {', '.join(PROTOCOLS)}. Choose one of them.")
    if not chunks:
        raise ValueError(
            f"chunk_frames is {chunk_frames}. Nothing is left to measure within {trained} frames. "
            f"Use a chunk of 1 to {(trained - first_frame + 1) // 2} frames."
        )
    return chunks


def profiling_policy(protocol: str, chunk_frames: int, family: Family, chunks: int) -> FittedPolicy:
    """What heads read while they are measured: everything (`fast`), or past the trained range as much as it allows, the
    family's sink and the newest frames (`paper`)."""
    policy: CachePolicy = PRESETS["full"]
    if protocol == "paper":
        history = family.trained_frames - chunk_frames
        sink = min(family.window.sink, history - 1)
        widest = Tiers(sink, 0, history - sink)
        policy = replace(PRESETS["uniform_21"], local=widest, anchor=widest, memory=widest)
    return fit_policy(policy, chunk_frames, family.trained_frames, chunks * chunk_frames)


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
