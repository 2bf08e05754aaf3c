"""What a run will take, said on its node and in its report before the first step."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ...headforcing_core.files.byte_words import bytes_in_words
from ...headforcing_core.files.disk_room import free_on_disk
from ...headforcing_core.rollout.recall_bound import recall_bound
from ..host.device_memory import free_main_memory
from ..host.model import is_loaded, pass_bytes, weights_bytes
from ..keeping.kept_run import KeptRun
from ..keeping.output_folder import runs_folder
from ..request.run_cost import RunCost, chunk_bytes, recall_in_words

if TYPE_CHECKING:
    from .chunk_makers import ChunkMaker
    from .video_job import VideoJob


def announce_cost(job: VideoJob, maker: ChunkMaker) -> tuple[RunCost, str]:
    """Say on its node what a run will take that is about to begin; the cost with all that lies beside the KV memory,
    and what was said, for the report."""
    model, video, stream = job.request.model, job.request.video, job.stream
    ahead = job.request.fitted.ahead
    cost = replace(
        maker.cost,
        weights_bytes=weights_bytes(model),
        pass_bytes=pass_bytes(model, video.chunk_frames + ahead, video.latent_size),
        vae_bytes=0 if stream is None else stream.expected_bytes(video.width, video.height, model),
    )
    parts = [maker.told(cost)]
    bound = recall_bound(job.request.rollout)
    if bound is not None:
        parts.append(recall_in_words(bound))
    if not job.why_not_kept:
        handed_on = cost.memory_bytes + video.chunks * chunk_bytes(video)
        parts.append(
            f"Main memory: up to {bytes_in_words(handed_on)} at the end, for the sampler that goes on; "
            f"{bytes_in_words(free_main_memory())} are free."
        )
    if isinstance(job.run, KeptRun):
        kept = bytes_in_words((video.chunks - job.run.finished.chunks) * chunk_bytes(video, ahead))
        parts.append(f"Disk: {kept} for the chunks; {bytes_in_words(free_on_disk(runs_folder()))} are free.")
    said = " ".join(filter(None, parts))
    waits = job.spread is None and not is_loaded(model)  # several cards have it by now
    job.status.say(f"{said} Loading the model." if waits else said)
    return cost, said
