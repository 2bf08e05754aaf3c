"""The memory that a run has at its end, for the sampler that goes on from it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import comfy.model_management
from torch import Tensor

from ...headforcing_core.rollout.chunk import Chunk
from ...headforcing_core.rollout.ended import ended_plan
from ...headforcing_core.rollout.loop import NOBODY
from ..request.carried_memory import CarriedMemory, HeldMemory, sha256
from ..request.past import made_with

if TYPE_CHECKING:
    from ...headforcing_core.rollout.plan import RolloutPlan
    from ..request.run_request import RunRequest
    from ..sockets import Conditioning
    from .chunk_makers import ChunkMaker
    from .head_labels import RunHeads
    from .video_job import VideoJob


def memory_at_end(
    request: RunRequest,
    heads: RunHeads,
    maker: ChunkMaker,
    plan: RolloutPlan[Conditioning],
    samples: Tensor,
) -> CarriedMemory:
    """What `maker` has of it, beside these samples, after all chunks of this plan."""
    if maker.end is None:
        return CarriedMemory(gone=maker.gone)
    made = made_with(request, tuple(map(tuple, heads.memory.labels)), heads.profile, plan)
    return CarriedMemory(sha256(samples), HeldMemory(made, *maker.end))


def memory_of_kept(job: VideoJob, heads: RunHeads, maker: ChunkMaker, samples: Tensor) -> CarriedMemory:
    """That of a run whose chunks are all there: each is committed again, as where a run is resumed."""
    request, finished = job.request, job.run.finished
    plan = replace(request.rollout, finished=finished, read=finished.read)
    made: list[Chunk] = []
    with maker.making(plan, NOBODY, lambda chunk: None) as chunks:
        for chunk in chunks:
            comfy.model_management.throw_exception_if_processing_interrupted()
            done = f"{chunk.index + 1} of {finished.chunks}"
            job.status.say(f"making the memory anew for the sampler that goes on, {done}")
            made.append(chunk)
    return memory_at_end(request, heads, maker, ended_plan(request.rollout, made), samples)
