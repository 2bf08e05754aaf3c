"""A run from its first step to its outputs: chunks made, kept, decoded and shown, one after the other."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import comfy.model_management
import torch
from PIL import Image
from torch import Tensor

from ...headforcing_core.files.disk_room import reason_of
from ...headforcing_core.report.run_report import RunReport, with_notes
from ...headforcing_core.report.timeline import draw_timeline
from ...headforcing_core.rollout.ended import ended_plan
from ...headforcing_core.rollout.loop import Chunk, Listeners
from ..host.model import latent_out
from ..keeping.run import RunSummary
from ..request.carried_memory import CarriedMemory
from ..status.progress import RunProgress
from ..strip.growing_strip import GrowingStrip, opened_strip
from .memory_at_end import memory_at_end
from .source_chunks import SourceChunks, opened_source

if TYPE_CHECKING:
    from ..request.run_request import RunRequest
    from ..video.growing_video import OnPictures
    from .chunk_makers import ChunkMaker
    from .head_labels import RunHeads
    from .live_scenes import LiveScenes
    from .video_job import VideoJob

log = logging.getLogger(__name__)

_NO_LATENT = torch.empty(0)


class _Made(NamedTuple):
    chunks: list[Chunk]
    beside: int  # the most bytes that a chunk took beside the history
    attention: list[str]


class RunOutputs(NamedTuple):
    """What a run made: the samples of all frames, a picture of what was read, the report as JSON text, and the memory
    that it had at its end."""

    latent: Tensor
    timeline: Image.Image
    report: str
    memory: CarriedMemory


def make_outputs(job: VideoJob, heads: RunHeads, maker: ChunkMaker, live: LiveScenes) -> RunOutputs:
    """Make the chunks that are not there yet. Whatever ends it early, every finished chunk is in its run and in its
    video, and the model is as it was found."""
    request, run = job.request, job.run
    started = perf_counter()
    latent = _empty_latent(request)
    opened = opened_strip(request.video, run, job.stream, job.status, lambda: live.segments)
    with opened as strip, _closing(job) as failures:
        chunks, beside, attention = _make_chunks(job, maker, live, latent, strip)
    taken = perf_counter() - started
    log.info("Head forcing: %d chunks in %.1f s, history %.2f GB", len(chunks), taken, chunks[-1].kv_bytes / 1e9)
    report = RunReport(
        settings=request.settings(),
        notes=(*request.notes, *heads.notes, *run.notes, *live.notes),
        segments=live.segments,
        schedule=live.schedule_text,
        profile=heads.profile,
        attention=attention,
        chunks=chunks,
        chunk_bytes=beside,
        seconds=taken,
    )
    starts = [request.video.start_second(chunk.index) for chunk in chunks]
    timeline = draw_timeline(chunks, starts, live.segments)
    try:
        run.tell(RunSummary(report.text(every_chunk=True), timeline))
    except Exception as error:  # the chunks are there, so the video is not lost for it
        failures.append(f"{reason_of(error)}.")
    # what failed is mended by the next run: it is not kept
    plan = ended_plan(replace(request.rollout, segments=live.segments), chunks)
    memory = memory_at_end(request, heads, maker, plan, latent)
    return RunOutputs(latent, timeline, with_notes(report.text(), failures), memory)


def kept_outputs(job: VideoJob, told: RunSummary) -> RunOutputs:
    """The outputs of a run that was whole before, without a step, and without its memory."""
    request, run, stream = job.request, job.run, job.stream
    latent = _empty_latent(request)
    opened = opened_strip(request.video, run, stream, job.status, lambda: request.rollout.segments)
    with opened as strip, _closing(job) as failures:
        strip.read_report(told.report)
        _put_prefix(job, latent)
        for chunk in range(run.finished.chunks):
            kept, frames = run.finished.read(chunk), _of_chunk(job, latent, chunk)
            frames[:] = latent_out(request.model, kept)
            on_pictures = strip.add_kept(chunk, kept)
            if stream is None or not stream.append(frames, on_pictures):
                strip.settle()
            job.status.checked(chunk + 1, run.finished.chunks)
    memory = CarriedMemory(gone=request.past.lost or job.why_not_kept)
    return RunOutputs(latent, told.timeline, with_notes(told.report, [*run.notes, *failures]), memory)


def _make_chunks(job: VideoJob, maker: ChunkMaker, live: LiveScenes, latent: Tensor, strip: GrowingStrip) -> _Made:
    request, run, stream = job.request, job.run, job.stream
    of_chunk = partial(_of_chunk, job, latent)
    wanted = replace(request.rollout, finished=run.finished, read=of_chunk)
    steps = [wanted.passes_of(chunk) for chunk in range(wanted.chunks)]
    progress = RunProgress(request.model, request.video, steps, job.status, request.fitted, live.prompt_of)
    chunks: list[Chunk] = []
    beside = 0
    opened = opened_source(request, run, stream, job.status)
    with closing(progress), opened as source, ThreadPoolExecutor(1, "head-forcing-disk") as disk:
        wanted = replace(wanted, source=None if source is None else source.read)
        _put_prefix(job, latent)
        if stream is not None:
            run.notes += stream.decode_beside(request.model)
        listeners = Listeners(progress.step, progress.prefix, progress.recall)
        with maker.making(wanted, listeners, live.segment_for) as made, live.listening(stream):
            for chunk in made:
                is_new = chunk.index >= run.finished.chunks
                kept = disk.submit(run.add_chunk, chunk)
                try:
                    of_chunk(chunk.index)[:] = chunk.latent  # in model space, since a later chunk may recall it
                    on_pictures = strip.add(chunk, progress.show if is_new else None)
                    is_seen = _append(job, chunk, source, on_pictures, kept)
                    if not is_seen:
                        strip.settle()
                finally:
                    kept.result()
                if is_new:
                    progress.made(chunk, is_seen)
                else:
                    progress.rebuilt(chunk.index + 1, run.finished.chunks)
                beside = max(beside, maker.beside_bytes)
                kept_latent = _NO_LATENT if job.why_not_kept else chunk.latent  # the memory may come of it again
                chunks.append(replace(chunk, latent=kept_latent, window=None))
        if stream is not None:
            stream.settle()
    for frames in map(of_chunk, range(len(chunks))):
        frames[:] = latent_out(request.model, frames)
    return _Made(chunks, beside, maker.attentions)


def _append(
    job: VideoJob, chunk: Chunk, source: SourceChunks | None, on_pictures: OnPictures | None, kept: Future[None]
) -> bool:
    """Append a chunk to the video; whether there will be pictures of it. What the next one is made of is encoded right
    before, so that the VAE is called for once a chunk; whatever comes of that, a chunk that is made is in the video."""
    try:
        if source is not None:
            source.read_ahead(chunk.index + 1)
    finally:
        frames = latent_out(job.request.model, chunk.latent)
        is_seen = job.stream is not None and job.stream.append(frames, on_pictures, kept)
    return is_seen


def _empty_latent(request: RunRequest) -> Tensor:
    # All of it at once: what does not fit into memory is known before the first step, and nothing is copied at the end.
    return torch.full(request.video.latent_shape, 0.0, device=comfy.model_management.intermediate_device())


def _put_prefix(job: VideoJob, latent: Tensor) -> None:
    prefix = job.request.prefix
    if prefix is None:
        return
    there = latent[:, :, : prefix.shape[2]]
    there[:] = prefix
    if job.stream is not None:
        job.stream.begin(there, job.status.decoded)


def _of_chunk(job: VideoJob, latent: Tensor, chunk: int) -> Tensor:
    """The frames of a chunk in a LATENT, where they lie."""
    video = job.request.video
    first = video.prefix_frames + chunk * video.chunk_frames
    return latent[:, :, first : first + video.chunk_frames]


@contextmanager
def _closing(job: VideoJob) -> Iterator[list[str]]:
    """Gives what holds sentences on what failed around the video, once it is closed. Nothing that fails there takes the
    place of what ended the run."""
    failures: list[str] = []
    try:
        yield failures
    finally:
        if job.stream is not None:
            job.stream.close()
            settling = job.run.settle_video(job.stream)
            failures += [*filter(None, [job.stream.failure]), *settling]
            for failure in failures:  # an interrupted run has no report
                job.status.warn(failure)
