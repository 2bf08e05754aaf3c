"""What a kept run was made with, and what is wanted now: the two that must match for it to go on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, cast

from ...headforcing_core.families.family import RENOISE
from ...headforcing_core.files.plain_names import check_plain_name
from ...headforcing_core.files.strict_json import Setting
from ...headforcing_core.heads.profile import HeadProfile
from ...headforcing_core.heads.rules import LabelRule
from ...headforcing_core.run_store.opening import kept_run
from ...headforcing_core.run_store.record import COMMITTED, OF_POLICY, PAST, RunProfile, RunSpec
from ..request.noise_choice import chunks_before
from ..request.run_request import CarriedOver
from ..request.run_scenes import kept_schedule, recorded
from ..request.source import NO_SOURCE
from .output_folder import runs_folder

if TYPE_CHECKING:
    from ..request.run_request import RunRequest


_MEANT_BEFORE: Mapping[str, Setting] = {
    "policy_episode": "frame",
    "policy_episode_choice": "novelty",
    "policy_recall_share": -1.0,
    "policy_kv_precision": "model",
    "policy_fills": False,
    "timesteps": [],
    "first_sigmas": [],
    "first_timesteps": [],
    "solver": RENOISE,
    **NO_SOURCE,
    "noise": "per_chunk",
    PAST: COMMITTED,
}
"""What versions that did not have a setting did. Whoever adds a setting adds it here."""
_NOT_OF_RESULT = ("name", "by_hand")
"""What a policy is called, and who set its numbers."""


@dataclass(frozen=True)
class FolderRequest:
    """Under which name a run is kept, "" for not at all; what happens when one of that name is there; and from which
    chunk on that one is made anew, or -1. ValueError for a name that is not plain, or a chunk without one."""

    name: str
    on_existing: str
    from_chunk: int

    def __post_init__(self) -> None:
        if self.name:
            check_plain_name("run_name", self.name)
        elif self.from_chunk >= 0:
            raise ValueError(
                f"from_chunk is {self.from_chunk}, but run_name is empty. Only a run that was kept can be made anew "
                "from a chunk on. Set run_name to its name, or from_chunk to -1."
            )


def carried_over(folder: FolderRequest, seed: int, fingerprints: Collection[str]) -> CarriedOver:
    """What a kept run brings along that is to go on, up to the chunk from which it is made anew with this seed (-1: all
    of it, as when it was made anew from there before); no labels of another model's heads. Errors as of kept_run."""
    from_chunk = folder.from_chunk
    kept = kept_run(runs_folder(), folder.name) if folder.name and folder.on_existing == "resume" else None
    if kept is None:
        return CarriedOver()
    goes_on = from_chunk < 0 or (from_chunk, seed) in kept.seeds
    scenes = tuple(segment for segment in kept.segments if goes_on or segment.first_chunk < from_chunk)
    left_out = sum(segment.live for segment in kept.segments) - sum(segment.live for segment in scenes)
    notes = (f"Live prompts from chunk {from_chunk} on are left out ({left_out}), since it is made anew.",) * bool(
        left_out
    )
    meant = {name: value for name, value in _MEANT_BEFORE.items() if name not in kept.settings}
    if kept.profile is None or kept.settings.get("fingerprint") not in fingerprints:
        return CarriedOver(None, scenes, notes, meant, kept.past)
    rule = LabelRule(kept.profile.rule)
    recall_layers, recall_share = kept.profile.recall_layers, kept.profile.recall_share
    profile = HeadProfile(
        kept.profile.fingerprint,
        "",
        rule,
        kept.profile.labels,
        None,
        {},
        recall_layers=recall_layers,
        recall_share=recall_share,
    )
    return CarriedOver(profile, scenes, notes, meant, kept.past)


def run_spec(request: RunRequest) -> RunSpec:
    """The run that is wanted now."""
    video, beginning = request.video, request.beginning.hashes
    return RunSpec(
        settings=_settings(request),
        segments=recorded(request.rollout.segments, request.schedule is not None),
        seed=request.seed,
        profile=run_profile(request.profile),
        prefix_hash=beginning[0] if beginning else None,
        chunks=video.chunks,
        chunk_shape=video.chunk_shape,
        meant_before=_MEANT_BEFORE,
        older_settings={
            "fingerprint": request.facts.older_fingerprints,
            "weight_patches": request.weight_patches[1:],
        },
        older_prefix_hashes=beginning[1:],
        written=lambda segments: kept_schedule(segments, video.start_second, request.past.way),
        window_frames=request.fitted.ahead,
        begun_by=request.beginning.inputs,
    )


def run_profile(profile: HeadProfile | None) -> RunProfile | None:
    """What is written down of a profile with a run."""
    if profile is None:
        return None
    return RunProfile(
        profile.fingerprint, profile.rule.rule, profile.labels, profile.recall_layers, profile.recall_share
    )


def _settings(request: RunRequest) -> dict[str, Setting]:
    """What must be the same for two chunks to be of one run: not the length, and of the policy what was asked for."""
    policy = cast("dict[str, Setting]", asdict(request.fitted.asked))
    return {
        "fingerprint": request.facts.fingerprint,
        "weight_patches": request.weight_patches[0],
        "chunk_frames": request.fitted.chunk_frames,
        "trained_frames": request.fitted.trained_range,
        **request.steps(),
        "width": request.video.width,
        "height": request.video.height,
        PAST: request.past.way,
        "noise": request.noise if chunks_before(request.noise, request.video) else _MEANT_BEFORE["noise"],
        **{f"{OF_POLICY}{name}": value for name, value in policy.items() if name not in _NOT_OF_RESULT},
    }
