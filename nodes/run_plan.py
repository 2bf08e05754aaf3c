"""Everything that is settled before the first step of a run: length, texts, policy, heads, and what they will take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ..headforcing_core.cache import kv_bytes
from ..headforcing_core.checkpoint import ARFacts
from ..headforcing_core.geometry import (
    chunk_start_second,
    chunks_for,
    frames_for,
    latent_size,
    nearest_chunk,
    pixel_frames_for,
    tokens_per_frame,
)
from ..headforcing_core.policy import HEAD_TYPES, CachePolicy, FittedPolicy, fit_policy
from ..headforcing_core.profile import HeadProfile
from ..headforcing_core.profiling import FAST_PROMPTS
from ..headforcing_core.report import ReportSegment, Setting
from ..headforcing_core.rollout import RolloutPlan, Segment, capacities, warm_up_frames
from ..headforcing_core.rules import LabelRule, Labels
from ..headforcing_core.schedule import PlacedScene, place_scenes
from . import host
from .profile_store import newest_profile
from .profiling import describe_profile, make_profile
from .sockets import PromptSchedule

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from .sockets import Conditioning

_RULE = LabelRule()


@dataclass(frozen=True)
class RunPlan:
    """A run that can begin. `notes` are sentences for the report; `expected_bytes` the most that the KV memory "
    "takes."""

    facts: ARFacts
    rollout: RolloutPlan[Conditioning]
    fitted: FittedPolicy
    labels: Labels
    profile: HeadProfile | None
    scenes: tuple[PlacedScene, ...]
    transition: str
    pixel_frames: int
    notes: tuple[str, ...]
    expected_bytes: int

    def report_segments(self) -> list[ReportSegment]:
        """The prompt segments as the report tells them."""
        last = self.rollout.chunks - 1
        if not self.scenes:
            return [ReportSegment("(the positive input)", (0, last), None)]
        ends = [*(scene.first_chunk - 1 for scene in self.scenes[1:]), last]
        return [
            ReportSegment(
                scene.scene.prompt,
                (scene.first_chunk, end),
                (scene.scene.transition or self.transition) if scene.first_chunk else None,
            )
            for scene, end in zip(self.scenes, ends, strict=True)
        ]

    def settings(self) -> dict[str, Setting]:
        """Every resolved value that decides about the result."""
        policy = self.fitted.policy
        return {
            "family": self.facts.family,
            "chunk_frames": self.fitted.chunk_frames,
            "trained_frames": self.fitted.trained_frames,
            "fingerprint": self.facts.fingerprint,
            "ar_trained": self.facts.ar_trained,
            "sigmas": self.rollout.sigmas,
            "chunks": self.rollout.chunks,
            "frames": self.rollout.chunks * self.fitted.chunk_frames,
            "pixel_frames": self.pixel_frames,
            "policy": policy.name,
            "rope": policy.rope,
            "commit_context": policy.commit_context,
            "compress_from_chunk": self.fitted.compress_from_chunk,
            "novelty_percentile": policy.novelty_percentile,
            **{head_type: asdict(self.fitted.tiers(head_type)) for head_type in HEAD_TYPES},
        }


def plan_run(
    model: ModelPatcher,
    schedule: PromptSchedule | None,
    positive: Conditioning | None,
    seconds: float,
    fps: float,
    width: int,
    height: int,
    sigmas: tuple[float, ...] | None,
    policy: CachePolicy,
    profile: HeadProfile | None,
    node_id: str | None,
) -> RunPlan:
    """Check everything and settle a run; measures a profile when the policy needs one and none is there.

    ValueError, before any forward pass, for input that cannot make a video.
    """
    facts = host.facts_of(model)
    notes: list[str] = []
    if not facts.ar_trained:
        notes.append(
            "The model was not loaded by Load AR Model, so it cannot be known whether its weights are AR-trained: "
            f"taken as {facts.family}, {facts.chunk_frames} frames a chunk."
        )
    pixel_frames = pixel_frames_for(seconds, fps)
    latent_height, latent_width = latent_size(width, height)
    n = facts.chunk_frames
    chunks = chunks_for(frames_for(pixel_frames), n)
    scenes, segments = _segments(model, schedule, positive, chunks, n, fps, notes)
    fitted = fit_policy(policy, n, facts.trained_frames, chunks * n)
    notes.append(
        f"Steps: {', '.join(f'{sigma:g}' for sigma in sigmas or facts.sigmas)} "
        f"({'the sigmas input' if sigmas else f'family {facts.family}'})."
    )
    texts = schedule.conditionings[:FAST_PROMPTS] if schedule else [segment.text for segment in segments]
    labels, used = _labels(model, facts, policy, profile, texts, width, height, node_id, notes)
    if used is None and profile is not None:
        notes.append(f"The policy {policy.name} treats all heads alike, so the profile was not used.")
    rollout = RolloutPlan(chunks, latent_height, latent_width, sigmas or facts.sigmas, segments)
    per_frame = host.frame_head_bytes(model, tokens_per_frame(latent_height, latent_width))
    after = kv_bytes(labels, capacities(fitted, labels), per_frame)
    heads = sum(map(len, labels))
    expected = max(after, heads * warm_up_frames(fitted, chunks) * per_frame) + heads * n * per_frame
    return RunPlan(
        facts,
        rollout,
        fitted,
        labels,
        used,
        scenes,
        schedule.transition if schedule else "",
        pixel_frames,
        tuple(notes),
        expected,
    )


def _segments(
    model: ModelPatcher,
    schedule: PromptSchedule | None,
    positive: Conditioning | None,
    chunks: int,
    n: int,
    fps: float,
    notes: list[str],
) -> tuple[tuple[PlacedScene, ...], tuple[Segment[Conditioning], ...]]:
    if (schedule is None) == (positive is None):
        given = "Neither schedule nor positive is" if schedule is None else "Both schedule and positive are"
        raise ValueError(
            f"{given} connected. The video is made under one of them. Connect exactly one: Prompt Schedule, "
            "or a CLIP Text Encode for one prompt."
        )
    if schedule is None:
        assert positive is not None
        host.check_conditioning(positive, model, "positive")
        return (), (Segment(0, positive),)
    nearest = [nearest_chunk(scene.start_second, n, fps) for scene in schedule.scenes]
    starts = [chunk_start_second(chunk, n, fps) for chunk in range(chunks + 1)]
    scenes, moved = place_scenes(schedule.scenes, chunks, starts, nearest)
    texts = schedule.conditionings[: len(scenes)]
    for text in texts:
        host.check_conditioning(text, model, "schedule")
    notes.extend(moved)
    if len(scenes) > 1:
        notes.append(
            "Prompt changes take effect through the text alone in this version; transitions are recorded, not "
            "yet carried out."
        )
    return scenes, tuple(Segment(scene.first_chunk, text) for scene, text in zip(scenes, texts, strict=True))


def _labels(
    model: ModelPatcher,
    facts: ARFacts,
    policy: CachePolicy,
    profile: HeadProfile | None,
    texts: Sequence[Conditioning],
    width: int,
    height: int,
    node_id: str | None,
    notes: list[str],
) -> tuple[Labels, HeadProfile | None]:
    layers, heads = host.layers_and_heads(model)
    if profile is not None:
        warning = profile.check_fits(layers, heads, facts.fingerprint)
        notes.extend([warning] if warning else [])
    if not policy.needs_profile:
        return tuple(("memory",) * heads for _ in range(layers)), None
    if profile is None:
        found = newest_profile(facts.fingerprint, _RULE.rule)
        if found is not None:
            name, profile = found
            profile.check_fits(layers, heads, facts.fingerprint)
            notes.append(f"Heads from the saved profile {name}.")
        else:
            profile = make_profile(model, texts, "fast", _RULE, width, height, 3, node_id)
            notes.extend(
                [
                    "No profile was connected or saved, so one was measured first (protocol fast). Save one with "
                    "Profile Heads to spare this.",
                    *describe_profile(profile),
                ]
            )
    return profile.labels, profile
