"""Which head of a run does what, and what the run takes with these heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...headforcing_core.geometry import tokens_per_frame
from ...headforcing_core.heads.measuring import FAST_PROMPTS
from ...headforcing_core.heads.profile import HeadProfile
from ...headforcing_core.policy.head_types import Labels
from ..host.model import frame_head_bytes, layers_and_heads
from ..profiles.library import USUAL_RULE
from ..profiles.measure_on_host import describe_profile, make_profile
from ..request.run_cost import RunCost, run_cost

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from ..request.run_request import RunPlan


@dataclass(frozen=True)
class RunHeads:
    """The labels of a run's heads, the profile that they are from if the policy tells heads apart, and what the run
    takes. `notes` are sentences for the report."""

    labels: Labels
    profile: HeadProfile | None
    cost: RunCost
    notes: tuple[str, ...]


def run_heads(model: ModelPatcher, plan: RunPlan, node_id: str | None) -> RunHeads:
    """Settle the heads of a run; measures a profile on its first texts when the plan needs one and has none."""
    notes: list[str] = []
    profile = plan.profile
    if plan.needs_profile and profile is None:
        texts = [segment.text for segment in plan.rollout.segments[:FAST_PROMPTS]]
        profile = make_profile(model, texts, "fast", USUAL_RULE, plan.video.width, plan.video.height, 3, node_id)
        notes.extend(
            [
                "No profile was connected or saved, so one was measured first (protocol fast). Save one with "
                "Profile Heads to spare this.",
                *describe_profile(profile),
            ]
        )
    if profile is None:
        layers, heads = layers_and_heads(model)
        labels: Labels = tuple(("memory",) * heads for _ in range(layers))
    else:
        labels = profile.labels
        if profile.masses is not None and not profile.reliable:
            notes.append(f"The profile is not reliable: {profile.reliability_text}. Profile the model on more prompts.")
        if not plan.facts.ar_trained:
            notes.append("The profile is matched to the model by its architecture alone, since its file is not known.")
    per_frame = frame_head_bytes(model, tokens_per_frame(*plan.video.latent_size))
    cost = run_cost(plan.fitted, labels, profile is not None, plan.video, per_frame)
    return RunHeads(labels, profile, cost, tuple(notes))
