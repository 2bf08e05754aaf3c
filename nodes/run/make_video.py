"""A run from its first step to its outputs: chunks made, kept, decoded and shown, one after the other."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import comfy.model_management
import torch
from PIL import Image
from torch import Tensor

from ...headforcing_core.files.disk_room import reason_of
from ...headforcing_core.report.head_map import draw_timeline
from ...headforcing_core.report.run_report import Setting, make_report, shown_chunks, with_notes
from ...headforcing_core.rollout.loop import Chunk, make_memory, rollout
from ...headforcing_core.rollout.noise import Noise
from ..host import backbone as host
from ..keeping.kept_run import Told
from ..status.progress import RunProgress, checking, decoding

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from ..keeping.kept_run import Run
    from ..request.run_request import RunPlan
    from ..video.growing_video import VideoStream
    from .head_labels import RunHeads
    from .live_scenes import LiveScenes

log = logging.getLogger(__name__)

_NO_LATENT = torch.empty(0)


class Made(NamedTuple):
    """What a run made: its LATENT with all frames, a picture of what was read, and the report as JSON text."""

    latent: Tensor
    timeline: Image.Image
    report: str


def make_run(
    model: ModelPatcher,
    plan: RunPlan,
    heads: RunHeads,
    noise: Noise,
    prefix: Tensor | None,
    settings: dict[str, Setting],
    run: Run,
    live: LiveScenes,
    stream: VideoStream | None,
    node_id: str | None,
) -> Made:
    """Make the chunks that are not there yet. Whatever ends it early, every finished chunk is in `run` and in the file
    of `stream`, and the model is as it was found."""
    started = perf_counter()
    latent = _empty_latent(plan)
    with _closing(stream, run) as failures:
        chunks, beside = _make_chunks(model, plan, heads, noise, prefix, run, live, stream, node_id, latent)
    taken = perf_counter() - started
    log.info("Head forcing: %d chunks in %.1f s, history %.2f GB", len(chunks), taken, chunks[-1].kv_bytes / 1e9)
    segments = live.scenes.told(plan.video.chunks)
    schedule = live.scenes.schedule(plan.video.start_second)
    timeline = draw_timeline(
        chunks,
        [plan.video.start_second(chunk.index) for chunk in chunks],
        [(segment.chunks[0], segment.prompt) for segment in segments],
    )
    notes = [*plan.notes, *heads.notes, *run.notes, *live.notes]
    shown = shown_chunks(chunks, segments)
    report = make_report(settings, notes, segments, schedule, heads.profile, chunks, shown, beside, taken)
    whole = report
    if len(shown) < len(chunks):
        whole = make_report(settings, notes, segments, schedule, heads.profile, chunks, chunks, beside, taken)
    try:
        run.tell(Told(whole, timeline))
    except Exception as error:  # the chunks are there, so the video is not lost for it
        failures.append(f"{reason_of(error)}.")
    return Made(latent, timeline, with_notes(report, failures))  # what failed is mended by the next run: it is not kept


def take_run(
    model: ModelPatcher,
    plan: RunPlan,
    prefix: Tensor | None,
    run: Run,
    told: Told,
    stream: VideoStream | None,
    node_id: str | None,
) -> Made:
    """The outputs of a run that was whole before, without a step."""
    latent, on_chunk = _empty_latent(plan), checking(node_id)
    with _closing(stream, run) as failures:
        _put_prefix(latent, prefix, stream, node_id)
        for chunk in range(run.finished.chunks):
            first = plan.video.prefix_frames + chunk * plan.video.chunk_frames
            made = host.latent_out(model, run.finished.read(chunk))
            _put(latent, slice(first, first + plan.video.chunk_frames), made, stream)
            on_chunk(chunk + 1, run.finished.chunks)
    return Made(latent, told.timeline, with_notes(told.report, [*run.notes, *failures]))


def _make_chunks(
    model: ModelPatcher,
    plan: RunPlan,
    heads: RunHeads,
    noise: Noise,
    prefix: Tensor | None,
    run: Run,
    live: LiveScenes,
    stream: VideoStream | None,
    node_id: str | None,
    latent: Tensor,
) -> tuple[list[Chunk], int]:
    wanted = replace(plan.rollout, finished=run.finished)
    backbone = host.HostBackbone(model, run.seed_for(0))
    memory = make_memory(plan.fitted, heads.labels, wanted, backbone.attention, host.rotate)
    steps = len(wanted.sigmas) - 1
    each = plan.fitted.episode_frames
    progress = RunProgress(model, plan.video, steps, node_id, each, lambda chunk: live.scenes.prompt_of(chunk))
    chunks: list[Chunk] = []
    beside = 0
    with closing(progress):
        _put_prefix(latent, prefix, stream, node_id)
        with backbone.reading(memory, heads.cost.memory_bytes), live.listening():
            made = rollout(
                backbone, memory, wanted, plan.fitted, heads.labels, noise, progress.step, progress.prefix, live.take
            )
            for chunk in made:
                run.keep(chunk)
                pictures = _put(latent, slice(*chunk.frames), host.latent_out(model, chunk.latent), stream)
                if chunk.index < run.finished.chunks:
                    progress.rebuilt(chunk.index + 1, run.finished.chunks)
                else:
                    progress.made(chunk, pictures)
                beside = max(beside, memory.chunk_bytes)
                chunks.append(replace(chunk, latent=_NO_LATENT))
    return chunks, beside


def _empty_latent(plan: RunPlan) -> Tensor:
    # All of it at once: what does not fit into memory is known before the first step, and nothing is copied at the end.
    return torch.full(plan.video.latent_shape, 0.0, device=comfy.model_management.intermediate_device())


def _put_prefix(latent: Tensor, prefix: Tensor | None, stream: VideoStream | None, node_id: str | None) -> None:
    if prefix is None:
        return
    there = latent[:, :, : prefix.shape[2]]
    there[:] = prefix
    if stream is not None:
        stream.append_all(there, decoding(node_id))


def _put(latent: Tensor, frames: slice, made: Tensor, stream: VideoStream | None) -> Tensor | None:
    latent[:, :, frames] = made
    return None if stream is None else stream.append(latent[:, :, frames])


@contextmanager
def _closing(stream: VideoStream | None, run: Run) -> Iterator[list[str]]:
    """Gives what holds sentences on what failed around the video, once it is closed. Nothing that fails there takes the
    place of what ended the run."""
    failures: list[str] = []
    try:
        yield failures
    finally:
        if stream is not None:
            stream.close()
            settling = run.settle_video(stream)
            failures += [*filter(None, [stream.failure]), *settling]
            for failure in settling:  # an interrupted run has no report
                log.warning("Head forcing: %s", failure)
