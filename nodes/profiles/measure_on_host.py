"""Measuring a head profile on a MODEL, and showing one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ...headforcing_core.families.family import RENOISE, ROLLING, Family
from ...headforcing_core.geometry import latent_size, tokens_per_frame
from ...headforcing_core.heads.attention_masses import MassRecorder
from ...headforcing_core.heads.measuring import Watch, measure, profiling_policy, watched_chunks
from ...headforcing_core.heads.profile import HeadProfile
from ...headforcing_core.heads.rules import MEASURING_RULES, LabelRule, label_heads
from ...headforcing_core.kv_memory.memory import KVMemory
from ...headforcing_core.report.head_map import draw_profile
from ...headforcing_core.rollout.noise import PerChunkNoise
from ...headforcing_core.rollout.passes import Concat
from ...headforcing_core.rollout.plan import RolloutPlan, Segment
from ..host.attention_choice import EXACT
from ..host.backbone import HostBackbone, check_backbone, rotate
from ..host.conditioning import check_conditioning
from ..host.device_memory import explaining_out_of_memory, pins_memory
from ..host.model import facts_of, frame_of_head, is_loaded, layers_and_heads
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
    frames count as the sink, 0 for as many as the family's own window keeps."""

    protocol: str
    rule: LabelRule
    width: int
    height: int
    sink_frames: int = 0

    def sink_of(self, family: Family) -> int:
        """How many first frames count as the sink with a family."""
        return self.sink_frames or family.window.sink


def make_profile(
    model: ModelPatcher,
    texts: Sequence[Conditioning],
    measurement: Measurement,
    status: NodeStatus,
    beside: Concat | None = None,
) -> HeadProfile:
    """Measure on these texts, if the rule measures, and label. `beside` is what a model of the route `concat` is given
    beside every chunk, and must be there for one."""
    check_backbone(model)
    facts = facts_of(model)
    layers, heads = layers_and_heads(model)
    rule, masses, reliability, attention = measurement.rule, None, {}, ()
    if rule.rule in MEASURING_RULES:
        for text in texts:
            check_conditioning(text, model, "schedule")
        recorder, attention = explaining_out_of_memory(
            lambda: _watch(model, texts, measurement, status, beside),
            lambda: _OUT_OF_MEMORY,
        )
        masses, reliability = recorder.masses(), recorder.reliability()
    labels = label_heads(rule, layers, heads, masses)
    protocol, sink = measurement.protocol if masses is not None else "", measurement.sink_of(facts.record)
    return HeadProfile(facts.fingerprint, protocol, rule, labels, masses, reliability, sink, attention)


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
    recall = [f"layers {', '.join(map(str, profile.recall_layers))}"] if profile.recall_layers is not None else []
    recall += [f"share {profile.recall_share:g}"] if profile.recall_share is not None else []
    if recall:
        lines.append(f"Recalls by {' and '.join(recall)}, as the profile says.")
    other = [name for name in profile.attention if name not in EXACT]
    if other:
        lines.append(
            f"Measured under the attention {', '.join(other)}, which may change what is measured: without it other "
            "heads may be found."
        )
    return lines


def profile_picture(profile: HeadProfile) -> torch.Tensor:
    """The map of a profile as an IMAGE."""
    return to_image(draw_profile(profile, "Head roles"))


def _watch(
    model: ModelPatcher,
    texts: Sequence[Conditioning],
    measurement: Measurement,
    status: NodeStatus,
    beside: Concat | None,
) -> tuple[MassRecorder, tuple[str, ...]]:
    facts, protocol, seed = facts_of(model), measurement.protocol, measurement.rule.seed
    layers, heads = layers_and_heads(model)
    n, size = facts.chunk_frames, latent_size(measurement.width, measurement.height, facts.record.space)
    labels = tuple(("memory",) * heads for _ in range(layers))
    frame = frame_of_head(model, tokens_per_frame(*size))
    recorder = MassRecorder(layers, n, measurement.sink_of(facts.record), seed=seed)
    backbone = HostBackbone(model, seed)
    record, done = facts.record, 0
    watched = [watched_chunks(protocol, n, prompt, seed, record) for prompt in range(len(texts))]
    plans = [
        RolloutPlan(
            profiling_policy(protocol, n, record, chunks[-1] + 1),
            chunks[-1] + 1,
            *size,
            record.steps.sigmas,
            (Segment(0, text),),
            first=record.steps_of_first(0, continues=False),
            timesteps=record.steps.timesteps,
            solver=RENOISE if record.solver == ROLLING else record.solver,  # a chunk by itself is measured
            concat=beside,
        )
        for text, chunks in zip(texts, watched, strict=True)
    ]
    steps = [plan.steps_of(chunk).count for plan in plans for chunk in range(plan.chunks)]
    progress = StepProgress(steps, status, "profiling,")
    status.say("profiling, first step" if is_loaded(model) else "profiling, loading the model")
    for prompt, (plan, chunks) in enumerate(zip(plans, watched, strict=True)):
        memory = KVMemory(plan.memory_plan(labels), backbone.attention, rotate, recorder)
        noise = PerChunkNoise(seed + prompt, (1, facts.record.space.channels, n, *size), pins_memory())
        watch = Watch(recorder, prompt, chunks)
        with backbone.reading(memory, memory.plan.expected_bytes(frame)):
            measure(backbone, memory, plan, noise, watch, progress.after(done))
        done += plan.chunks
    status.say(f"profiled on {len(texts)} prompt{'s' if len(texts) > 1 else ''}")
    return recorder, tuple(backbone.attentions)
