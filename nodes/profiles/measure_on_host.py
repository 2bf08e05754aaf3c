"""Measuring a head profile on a MODEL, and showing one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ...headforcing_core.checkpoint.wan_weights import HEAD_DIM
from ...headforcing_core.geometry import LATENT_CHANNELS, latent_size, tokens_per_frame
from ...headforcing_core.heads.attention_masses import MassRecorder
from ...headforcing_core.heads.measuring import measure, profiling_policy, watched_chunks
from ...headforcing_core.heads.profile import HeadProfile
from ...headforcing_core.heads.rules import MEASURING_RULES, LabelRule, label_heads
from ...headforcing_core.report.head_map import draw_profile
from ...headforcing_core.rollout.loop import make_memory
from ...headforcing_core.rollout.memory_size import capacities, expected_bytes, warm_up_frames
from ...headforcing_core.rollout.noise import PerChunkNoise
from ...headforcing_core.rollout.plan import RolloutPlan, Segment
from ..host.backbone import HostBackbone, check_backbone, rotate
from ..host.conditioning import check_conditioning
from ..host.device_memory import explaining_out_of_memory
from ..host.model import facts_of, frame_head_bytes, layers_and_heads
from ..status.node_status import NodeStatus
from ..status.progress import StepProgress
from ..video.image import to_image

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from ..sockets import Conditioning


_OUT_OF_MEMORY = (
    "Out of memory while the attention heads were measured. Measuring keeps the whole trained range for every head. "
    "Measure at a smaller width and height with Profile Heads; the profile serves every size."
)


@dataclass(frozen=True)
class Measurement:
    """How a profile is made: by which protocol and rule, on a video of which size in pixels, and how many of its first
    frames count as the sink."""

    protocol: str
    rule: LabelRule
    width: int
    height: int
    sink_frames: int = 3


def make_profile(
    model: ModelPatcher, texts: Sequence[Conditioning], measurement: Measurement, status: NodeStatus
) -> HeadProfile:
    """Measure on these texts, if the rule measures, and label."""
    check_backbone(model)
    facts = facts_of(model)
    layers, heads = layers_and_heads(model)
    rule, masses, reliability = measurement.rule, None, {}
    if rule.rule in MEASURING_RULES:
        for text in texts:
            check_conditioning(text, model, "schedule")
        recorder = explaining_out_of_memory(
            lambda: _watch(model, texts, measurement, status),
            lambda: _OUT_OF_MEMORY,
        )
        masses, reliability = recorder.masses(), recorder.reliability()
    labels = label_heads(rule, layers, heads, masses)
    protocol = measurement.protocol if masses is not None else ""
    return HeadProfile(facts.fingerprint, protocol, rule, labels, masses, reliability, measurement.sink_frames)


def describe_profile(profile: HeadProfile) -> list[str]:
    """The profile in words."""
    counts = ", ".join(f"{count} {head_type}" for head_type, count in profile.counts.items())
    lines = [f"{profile.layers} layers of {profile.heads} heads: {counts}. Rule {profile.rule.rule}."]
    if profile.masses is not None:
        lines.append(f"Measured by protocol {profile.protocol}; {profile.reliability_text}.")
        if not profile.reliable:
            lines.append(
                "WARNING: below 0.9 the ranking of heads depends on what was watched. Use more prompts, or the "
                "protocol paper."
            )
    return lines


def profile_picture(profile: HeadProfile) -> torch.Tensor:
    """The map of a profile as an IMAGE."""
    return to_image(draw_profile(profile, "Head roles"))


def _watch(
    model: ModelPatcher, texts: Sequence[Conditioning], measurement: Measurement, status: NodeStatus
) -> MassRecorder:
    facts = facts_of(model)
    layers, heads = layers_and_heads(model)
    protocol, seed, n = measurement.protocol, measurement.rule.seed, facts.chunk_frames
    latent_height, latent_width = latent_size(measurement.width, measurement.height)
    labels = tuple(("memory",) * heads for _ in range(layers))
    recorder = MassRecorder(layers, n, measurement.sink_frames, seed=seed)
    backbone = HostBackbone(model, seed)
    watched = [watched_chunks(protocol, n, prompt, seed) for prompt in range(len(texts))]
    chunks_in_all = sum(chunks[-1] + 1 for chunks in watched)
    progress = StepProgress(chunks_in_all, len(facts.sigmas) - 1, status, "profiling,")
    done = 0
    for prompt, (text, chunks) in enumerate(zip(texts, watched, strict=True)):
        plan = RolloutPlan(chunks[-1] + 1, latent_height, latent_width, facts.sigmas, (Segment(0, text),))
        policy = profiling_policy(protocol, n, facts.trained_frames, plan.chunks)
        memory = make_memory(policy, labels, plan, backbone.attention, rotate, recorder)
        expected = expected_bytes(
            labels,
            capacities(policy, labels),
            warm_up_frames(policy, plan.chunks),
            n,
            frame_head_bytes(model, tokens_per_frame(latent_height, latent_width)),
            HEAD_DIM,
        )
        noise = PerChunkNoise(seed + prompt, (1, LATENT_CHANNELS, n, latent_height, latent_width))
        with backbone.reading(memory, expected):
            measure(backbone, memory, plan, policy, labels, noise, recorder, prompt, chunks, progress.after(done))
        done += plan.chunks
    return recorder
