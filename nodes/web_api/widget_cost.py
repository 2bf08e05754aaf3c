"""What a run will take, in a line on its node, as far as the widgets tell before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from ...headforcing_core.checkpoint.ar_facts import ARFacts
from ...headforcing_core.checkpoint.wan_weights import HEAD_DIM
from ...headforcing_core.families.family import CONCAT, PREFIX, Family, Steps
from ...headforcing_core.families.self_forcing import SELF_FORCING
from ...headforcing_core.files.byte_words import bytes_in_words
from ...headforcing_core.files.disk_room import check_disk, free_on_disk
from ...headforcing_core.files.plain_names import check_plain_name, scene_name
from ...headforcing_core.geometry import VideoShape, tokens_per_frame
from ...headforcing_core.heads.rules import LabelRule, label_heads
from ...headforcing_core.kv_memory.memory_plan import FrameOfHead
from ...headforcing_core.policy.cache_policy import CachePolicy
from ...headforcing_core.policy.family_presets import for_family
from ...headforcing_core.policy.fitting import FittedPolicy, fit_policy
from ...headforcing_core.rollout.memory_size import plan_memory
from ...headforcing_core.rollout.plan import RolloutPlan, Segment
from ...headforcing_core.rollout.recall_bound import recall_bound
from ..host.device_memory import free_bytes, total_bytes
from ..keeping.output_folder import runs_folder
from ..request.beginning import no_start_image
from ..request.run_cost import RunCost, chunk_bytes, run_cost
from ..request.sound_length import check_seconds

BEGINNINGS = ("none", "start_image", "previous")
_NUMBER_BYTES = 2  # 16 bit


@dataclass(frozen=True)
class SamplerWidgets:
    """What the widgets say of a run; None is what only another node knows. `beginning` is one of BEGINNINGS; `steps`
    are those of the sigmas that are connected, 0 where none are. A video that it is made of may be shorter than all
    this."""

    seconds: float | None
    fps: float | None
    width: int | None
    height: int | None
    run_name: str | None
    on_existing_run: str | None
    beginning: str
    steps: int | None
    has_video: bool = False
    strength: float | None = None
    has_audio: bool = False


def usual_record(facts: ARFacts | None) -> Family:
    """The family of a model; the usual one where that depends on another node."""
    return SELF_FORCING if facts is None else facts.record


def cost_parts(wanted: SamplerWidgets, facts: ARFacts | None, policy: CachePolicy | None) -> Iterator[tuple[str, str]]:
    """What a run will take, part by part, each with a warning or nothing. ValueError, where the sampler would raise
    one, for what cannot be made; RuntimeError for more than the disk holds."""
    if wanted.seconds == 0:
        check_seconds(wanted.seconds, wanted.has_audio)
        wanted = replace(wanted, seconds=None)
        yield "as long as audio", ""
    lasts = _is_known(wanted.seconds, wanted.fps, facts)
    is_sized = _is_known(wanted.width, wanted.height)
    video = _video(wanted, facts)
    if facts is not None and facts.record.image == CONCAT and wanted.beginning == "none":
        raise no_start_image()
    run_name = scene_name(wanted.run_name or "")
    if run_name:
        check_plain_name("run_name", run_name)
    if lasts:
        yield _length(video, wanted), ""
    if lasts and is_sized and facts is not None and policy is not None:
        cost, total = _cost(policy, facts, video), total_bytes()
        yield (
            f"memory for keys and values up to {bytes_in_words(cost.memory_bytes)}, "
            f"{bytes_in_words(free_bytes())} free",
            cost.warning(total),
        )
    if lasts and facts is not None and policy is not None:
        told = _recall(policy, facts, video, wanted)
        if told:
            yield told, ""
    if lasts and is_sized and run_name and wanted.on_existing_run:
        ahead = 0 if facts is None else facts.record.ahead(facts.chunk_frames)
        folder, each, most = runs_folder(), chunk_bytes(video, ahead), "up to " if wanted.has_video else ""
        is_begun = wanted.on_existing_run != "new" and (folder / run_name).exists()
        if not is_begun and not wanted.has_video:
            check_disk(folder, video.chunks, each)
        yield f"disk {most}{bytes_in_words(video.chunks * each)}, {bytes_in_words(free_on_disk(folder))} free", ""


def _is_known(*values: object) -> bool:
    return all(value is not None for value in values)


def _video(wanted: SamplerWidgets, facts: ARFacts | None) -> VideoShape:
    """The video; what is not known of it is as usual or least, and only parts that do not need it are told."""
    record, has_image = usual_record(facts), wanted.beginning == "start_image"
    is_before = wanted.beginning == "previous" or (has_image and record.image == PREFIX)
    return VideoShape(
        1 if wanted.seconds is None else wanted.seconds,
        wanted.fps or record.fps,
        record.space.pixel_step if wanted.width is None else wanted.width,
        record.space.pixel_step if wanted.height is None else wanted.height,
        1 if facts is None else facts.chunk_frames,
        int(is_before),  # of a latent, any number leaves the chunks as many
        has_image,
        record.space,
    )


def _length(video: VideoShape, wanted: SamplerWidgets) -> str:
    continues = wanted.beginning == "previous"
    pictures = video.pixel_frames - (video.pixel_frames_after(0) if continues else 0)
    frames = video.frames - (video.prefix_frames if continues else 0)
    most = "up to " if wanted.has_video else ""
    told = f"{most}{video.chunks} chunks, {frames} frames, {pictures / video.fps:.1f} s"
    return f"{told} without what goes before" if continues else told


def _fitted(policy: CachePolicy, facts: ARFacts, video: VideoShape) -> FittedPolicy:
    asked = for_family(policy, facts.chunk_frames, facts.record)
    return fit_policy(
        asked,
        facts.chunk_frames,
        facts.trained_frames,
        video.frames,
        facts.record.shots,
        facts.record.ahead(facts.chunk_frames),
    )


def _recall(policy: CachePolicy, facts: ARFacts, video: VideoShape, wanted: SamplerWidgets) -> str:
    """What recalling adds, as far as it is known without the prompts; nothing under other policies. Of a latent that
    the video goes on from, as much as any length of it may bring: all chunks recall."""
    fitted = _fitted(policy, facts, video)
    before = 2 * fitted.trained_frames if wanted.beginning == "previous" else video.prefix_frames
    prefix = torch.empty(1, 1, before, 1, 1) if before else None
    steps, first = _steps(wanted, facts, before)
    plan = RolloutPlan(fitted, video.chunks, 1, 1, steps.sigmas, (Segment(0, ""),), prefix=prefix, first=first)
    bound = recall_bound(plan)
    if bound is None:
        return ""
    return f"recall up to {bound.most} passes more, and {bound.a_choice} for each prompt change"


def _steps(wanted: SamplerWidgets, facts: ARFacts, before: int) -> tuple[Steps, Steps | None]:
    """Steps by which as much is recalled, and those of the first chunk; of steps that are not known a single one, which
    takes the most passes."""
    record, single = facts.record, Steps((1.0, 0.0))
    if wanted.steps != 0:
        is_known = wanted.steps not in (None, 1) and not wanted.has_video
        return (Steps((1.0, 0.5, 0.0)) if is_known else single), None
    steps, first = record.steps, record.steps_of_first(before, wanted.beginning == "previous")
    if not wanted.has_video:
        return steps, first
    if wanted.strength is None or not 0 < wanted.strength <= 1:
        return single, None
    left = record.steps_from_video(steps, wanted.strength)
    return left, None if first is None else record.steps_from_video(first, wanted.strength)


def _cost(policy: CachePolicy, facts: ARFacts, video: VideoShape) -> RunCost:
    size = facts.record.size
    usual = label_heads(LabelRule("random"), size.layers, size.heads, None)
    fitted = _fitted(policy, facts, video)
    told_apart = fitted.asked.needs_profile
    labels = usual if told_apart else tuple(("memory",) * size.heads for _ in range(size.layers))
    frame = FrameOfHead(tokens_per_frame(*video.latent_size), HEAD_DIM, _NUMBER_BYTES)
    memory = plan_memory(fitted, labels, video.chunks, video.prefix_frames)
    return run_cost(fitted, memory, told_apart, video, frame, facts.record)
