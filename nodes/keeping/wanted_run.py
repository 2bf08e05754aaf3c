"""What a kept run was made with, and what is wanted now: the two that must match for it to go on."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import TYPE_CHECKING, NamedTuple, cast

from torch import Tensor

from ...headforcing_core.files.strict_json import Setting
from ...headforcing_core.heads.profile import HeadProfile
from ...headforcing_core.heads.rules import LabelRule
from ...headforcing_core.rollout.plan import Segment
from ...headforcing_core.run_store.opening import kept_run
from ...headforcing_core.run_store.record import RunProfile, RunSpec
from ..request.run_scenes import recorded
from .output_folder import runs_folder

if TYPE_CHECKING:
    from ..request.run_request import RunPlan


class Before(NamedTuple):
    """What a run that goes on brings along: the labels that it was made with, the prompts typed meanwhile, and
    sentences for the report."""

    profile: HeadProfile | None = None
    live: tuple[Segment[str], ...] = ()
    notes: tuple[str, ...] = ()


def run_before(name: str, from_chunk: int, seed: int, fingerprint: str) -> Before:
    """What the kept run of this name brings along, up to the chunk from which it is made anew with this seed (-1: all
    of it, as when it was made anew from there before); no labels of another model's heads. Errors as of kept_run."""
    kept = kept_run(runs_folder(), name)
    if kept is None:
        return Before()
    typed = tuple(segment for segment in kept.segments if segment.live)
    goes_on = from_chunk < 0 or (from_chunk, seed) in kept.seeds
    live = typed if goes_on else tuple(segment for segment in typed if segment.first_chunk < from_chunk)
    left_out = len(typed) - len(live)
    notes = (f"Live prompts from chunk {from_chunk} on are left out ({left_out}), since it is made anew.",) * bool(
        left_out
    )
    if kept.profile is None or kept.settings.get("fingerprint") != fingerprint:
        return Before(None, live, notes)
    rule = LabelRule(kept.profile.rule)
    return Before(HeadProfile(kept.profile.fingerprint, "", rule, kept.profile.labels, None, {}), live, notes)


def run_spec(plan: RunPlan, seed: int, beginning: Tensor | None) -> RunSpec:
    """The run that is wanted now; `beginning` is the start image or the latent that the video goes on from."""
    video = plan.video
    return RunSpec(
        settings=_settings(plan),
        segments=recorded(plan.rollout.segments, plan.schedule is not None),
        seed=seed,
        profile=run_profile(plan.profile),
        prefix_hash=None
        if beginning is None
        else hashlib.sha256(beginning.float().cpu().numpy().tobytes()).hexdigest(),
        chunks=video.chunks,
        chunk_shape=video.chunk_shape,
    )


def run_profile(profile: HeadProfile | None) -> RunProfile | None:
    """What is written down of a profile with a run."""
    return None if profile is None else RunProfile(profile.fingerprint, profile.rule.rule, profile.labels)


def _settings(plan: RunPlan) -> dict[str, Setting]:
    """What must be the same for two chunks to be of one run: not the length, and of the policy what was asked for."""
    policy = cast("dict[str, Setting]", asdict(plan.fitted.policy))
    return {
        "fingerprint": plan.facts.fingerprint,
        "weight_patches": plan.weight_patches,
        "chunk_frames": plan.fitted.chunk_frames,
        "trained_frames": plan.fitted.trained_frames,
        "sigmas": list(plan.rollout.sigmas),
        "width": plan.video.width,
        "height": plan.video.height,
        **{f"policy_{name}": value for name, value in policy.items() if name != "name"},
    }
