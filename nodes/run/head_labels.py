"""Which head of a run does what, and what the run takes with these heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...headforcing_core.geometry import tokens_per_frame
from ...headforcing_core.heads.measuring import FAST_PROMPTS
from ...headforcing_core.heads.profile import HeadProfile
from ...headforcing_core.kv_memory.memory_plan import MemoryPlan
from ...headforcing_core.policy.head_types import Labels
from ..host.model import frame_of_head, layers_and_heads
from ..profiles.library import USUAL_RULE
from ..profiles.measure_on_host import Measurement, describe_profile, make_profile
from ..request.run_cost import RunCost, run_cost

if TYPE_CHECKING:
    from ..request.run_request import RunRequest
    from ..status.node_status import NodeStatus


@dataclass(frozen=True)
class RunHeads:
    """What a run remembers with its heads, the profile that their labels are from if the policy tells heads apart, and
    what the run takes. `notes` are sentences for the report."""

    memory: MemoryPlan
    profile: HeadProfile | None
    cost: RunCost
    notes: tuple[str, ...]


def run_heads(request: RunRequest, status: NodeStatus) -> RunHeads:
    """Settle the heads of a run; measures a profile on its first texts when the policy needs one and has none."""
    model, video = request.model, request.video
    notes: list[str] = []
    profile = request.profile
    if request.needs_profile and profile is None:
        texts = [segment.text for segment in request.rollout.segments[:FAST_PROMPTS]]
        measurement = Measurement("fast", USUAL_RULE, video.width, video.height)
        measured = make_profile(model, texts, measurement, status, request.rollout.concat)
        profile = measured.as_used(request.fitted)
        notes.extend(
            [
                "No profile was connected or saved, so one was measured first (protocol fast). Save one with "
                "Profile Heads to spare this.",
                *describe_profile(measured),
            ]
        )
    if profile is None:
        layers, heads = layers_and_heads(model)
        labels: Labels = tuple(("memory",) * heads for _ in range(layers))
    else:
        labels = profile.labels
        if profile.masses is not None and not profile.reliable:
            notes.append(f"The profile is not reliable: {profile.reliability_text}. Profile the model on more prompts.")
        if not request.facts.ar_trained:
            notes.append("The profile is matched to the model by its architecture alone, since its file is not known.")
    frame = frame_of_head(model, tokens_per_frame(*video.latent_size))
    memory = request.rollout.memory_plan(labels)
    cost = run_cost(request.fitted, memory, profile is not None, video, frame, request.facts.record)
    return RunHeads(memory, profile, cost, tuple(notes))
