"""What a kept run was made with, and what is wanted now: the two that must match for it to go on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, NamedTuple, cast

from ...headforcing_core.files.strict_json import Setting
from ...headforcing_core.heads.profile import HeadProfile
from ...headforcing_core.heads.rules import LabelRule
from ...headforcing_core.policy.cache_policy import CachePolicy
from ...headforcing_core.rollout.plan import Segment
from ...headforcing_core.run_store.opening import kept_run
from ...headforcing_core.run_store.record import RunProfile, RunSpec
from .output_folder import runs_folder

if TYPE_CHECKING:
    from ..request.run_request import RunPlan


_OF_POLICY = "policy_"
_MEANT_BEFORE: Mapping[str, Setting] = {"policy_episode": "frame"}
"""What versions that did not have a setting did. Whoever adds a setting adds it here."""


class Before(NamedTuple):
    """What a run that goes on brings along: the labels that it was made with, the prompts typed meanwhile, what the
    settings meant that its version did not have, and sentences for the report."""

    profile: HeadProfile | None = None
    live: tuple[Segment[str], ...] = ()
    notes: tuple[str, ...] = ()
    meant: Mapping[str, Setting] = {}

    def as_begun(self, policy: CachePolicy) -> tuple[CachePolicy, tuple[str, ...]]:
        """The policy with which the run goes on as its version began it, and a sentence when that is another one."""
        of_policy = {name.removeprefix(_OF_POLICY): value for name, value in self.meant.items()}
        changed = {name: value for name, value in of_policy.items() if getattr(policy, name) != value}
        notes = tuple(
            f"The run was begun by a version of this pack without {name}, and goes on as it began, with {name} "
            f"{value}; Head Cache Policy would give {getattr(policy, name)}."
            for name, value in changed.items()
        )
        return replace(policy, **changed), notes


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
    meant = {name: value for name, value in _MEANT_BEFORE.items() if name not in kept.settings}
    if kept.profile is None or kept.settings.get("fingerprint") != fingerprint:
        return Before(None, live, notes, meant)
    rule = LabelRule(kept.profile.rule)
    profile = HeadProfile(kept.profile.fingerprint, "", rule, kept.profile.labels, None, {})
    return Before(profile, live, notes, meant)


def run_spec(plan: RunPlan, seed: int, beginning: tuple[str, ...]) -> RunSpec:
    """The run that is wanted now; `beginning` are the hashes of what it begins with, as of beginning_hashes."""
    video = plan.video
    return RunSpec(
        settings=_settings(plan),
        segments=plan.scenes.record(),
        seed=seed,
        profile=run_profile(plan.profile),
        prefix_hash=beginning[0] if beginning else None,
        chunks=video.chunks,
        chunk_shape=video.chunk_shape,
        meant_before=_MEANT_BEFORE,
        older_prefix_hashes=beginning[1:],
    )


def run_profile(profile: HeadProfile | None) -> RunProfile | None:
    """What is written down of a profile with a run."""
    return None if profile is None else RunProfile(profile.fingerprint, profile.rule.rule, profile.labels)


def _settings(plan: RunPlan) -> dict[str, Setting]:
    """What must be the same for two chunks to be of one run: not the length, and of the policy what was asked for."""
    policy = cast("dict[str, Setting]", asdict(plan.fitted.asked))
    return {
        "fingerprint": plan.facts.fingerprint,
        "weight_patches": plan.weight_patches,
        "chunk_frames": plan.fitted.chunk_frames,
        "trained_frames": plan.fitted.trained_frames,
        "sigmas": list(plan.rollout.sigmas),
        "width": plan.video.width,
        "height": plan.video.height,
        **{f"{_OF_POLICY}{name}": value for name, value in policy.items() if name != "name"},
    }
