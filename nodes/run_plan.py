"""Everything that is settled before the first step of a run: length, texts, policy, heads, and what they will take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

from ..headforcing_core.checkpoint import ARFacts
from ..headforcing_core.geometry import VideoShape, tokens_per_frame
from ..headforcing_core.plan import RolloutPlan, Segment, check_transitions
from ..headforcing_core.policy import HEAD_TYPES, CachePolicy, FittedPolicy, fit_policy
from ..headforcing_core.profile import HeadProfile
from ..headforcing_core.profiling import FAST_PROMPTS
from ..headforcing_core.report import ReportSegment, Setting
from ..headforcing_core.rules import LabelRule, Labels
from ..headforcing_core.schedule import PlacedScene, place_scenes
from . import host
from .conditioning import check_conditioning, mix_conditioning
from .profile_store import newest_profile
from .profiling import describe_profile, make_profile
from .run_cost import RunCost, run_cost
from .sockets import PromptSchedule

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from .sockets import Conditioning

_RULE = LabelRule()


@dataclass(frozen=True)
class RunPlan:
    """A run that can begin. `notes` are sentences for the report."""

    facts: ARFacts
    video: VideoShape
    rollout: RolloutPlan[Conditioning]
    fitted: FittedPolicy
    labels: Labels
    profile: HeadProfile | None
    scenes: tuple[PlacedScene, ...]
    notes: tuple[str, ...]
    cost: RunCost

    def report_segments(self) -> list[ReportSegment]:
        """The prompt segments as the report tells them."""
        last = self.rollout.chunks - 1
        if not self.scenes:
            return [ReportSegment("(the positive input)", (0, last), None)]
        ends = [*(scene.first_chunk - 1 for scene in self.scenes[1:]), last]
        return [
            ReportSegment(
                scene.scene.prompt, (scene.first_chunk, end), segment.transition if scene.first_chunk else None
            )
            for scene, segment, end in zip(self.scenes, self.rollout.segments, ends, strict=True)
        ]

    def prompt_of(self, chunk: int) -> str:
        """The prompt of a chunk."""
        return [segment.prompt for segment in self.report_segments() if segment.chunks[0] <= chunk][-1]

    def after(self, prefix: Tensor) -> RunPlan:
        """The same run, going on from frames in model space."""
        return replace(self, rollout=replace(self.rollout, prefix=prefix))

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
            "width": self.video.width,
            "height": self.video.height,
            "seconds": self.video.seconds,
            "fps": self.video.fps,
            "chunks": self.video.chunks,
            "frames": self.video.frames,
            "prefix_frames": self.video.prefix_frames,
            "pixel_frames": self.video.pixel_frames,
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
    video: VideoShape,
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
    scenes, segments = _segments(model, schedule, positive, video, notes)
    fitted = fit_policy(policy, video.chunk_frames, facts.trained_frames, video.frames)
    check_transitions(segments, policy.rope)
    if sigmas and sigmas[0] < 1:
        notes.append(
            f"The steps begin at {sigmas[0]:g}, but a chunk begins as pure noise, which is 1: expect a poor picture."
        )
    notes.append(
        f"Steps: {', '.join(f'{sigma:g}' for sigma in sigmas or facts.sigmas)} "
        f"({'the sigmas input' if sigmas else f'family {facts.family}'})."
    )
    texts = schedule.conditionings[:FAST_PROMPTS] if schedule else [segment.text for segment in segments]
    labels, used = _labels(model, facts, policy, profile, texts, video, node_id, notes)
    if used is None and profile is not None:
        notes.append(f"The policy {policy.name} treats all heads alike, so the profile was not used.")
    rollout = RolloutPlan(
        video.chunks,
        *video.latent_size,
        sigmas or facts.sigmas,
        segments,
        mix_conditioning,
    )
    per_frame = host.frame_head_bytes(model, tokens_per_frame(*video.latent_size))
    cost = run_cost(fitted, labels, used is not None, video, per_frame)
    notes.append(cost.told(host.free_bytes(model), host.total_bytes(model)))
    if host.foreign_patches(model):
        notes.append(
            "Another node has replaced the model's self-attention; during this run the memory takes its place."
        )
    return RunPlan(facts, video, rollout, fitted, labels, used, scenes, tuple(notes), cost)


def _segments(
    model: ModelPatcher,
    schedule: PromptSchedule | None,
    positive: Conditioning | None,
    video: VideoShape,
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
        check_conditioning(positive, model, "positive")
        return (), (Segment(0, positive),)
    nearest = [video.nearest_chunk(scene.start_second) for scene in schedule.scenes]
    scenes, moved = place_scenes(schedule.scenes, video.chunks, video.start_second, nearest)
    notes.extend(moved)
    texts = schedule.conditionings[: len(scenes)]
    for text in texts:
        check_conditioning(text, model, "schedule")
    return scenes, tuple(
        Segment(scene.first_chunk, text, scene.scene.transition or schedule.transition, schedule.soft_chunks)
        for scene, text in zip(scenes, texts, strict=True)
    )


def _labels(
    model: ModelPatcher,
    facts: ARFacts,
    policy: CachePolicy,
    profile: HeadProfile | None,
    texts: Sequence[Conditioning],
    video: VideoShape,
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
        found = newest_profile(lambda saved: (saved.fingerprint, saved.rule.rule) == (facts.fingerprint, _RULE.rule))
        if found is not None:
            name, profile = found
            profile.check_fits(layers, heads, facts.fingerprint)
            notes.append(f"Heads from the saved profile {name}.")
        else:
            profile = make_profile(model, texts, "fast", _RULE, video.width, video.height, 3, node_id)
            notes.extend(
                [
                    "No profile was connected or saved, so one was measured first (protocol fast). Save one with "
                    "Profile Heads to spare this.",
                    *describe_profile(profile),
                ]
            )
    if profile.masses is not None and not profile.reliable:
        notes.append(f"The profile is not reliable: {profile.reliability_text}. Profile the model on more prompts.")
    if not facts.ar_trained:
        notes.append("The profile is matched to the model by its architecture alone, since its file is not known.")
    return profile.labels, profile
