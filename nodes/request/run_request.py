"""Everything that is settled of a run before its folder is opened and before the first step: length, texts, policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from torch import Tensor

from ...headforcing_core.checkpoint.ar_facts import ARFacts
from ...headforcing_core.families.family import Steps
from ...headforcing_core.files.strict_json import Setting
from ...headforcing_core.geometry import VideoShape
from ...headforcing_core.heads.profile import HeadProfile
from ...headforcing_core.policy.cache_policy import CachePolicy
from ...headforcing_core.policy.family_presets import for_family
from ...headforcing_core.policy.fitting import FittedPolicy, fit_policy
from ...headforcing_core.policy.head_types import HEAD_TYPES
from ...headforcing_core.rollout.plan import RolloutPlan, Segment
from ...headforcing_core.rollout.segments import check_transitions
from ...headforcing_core.run_store.record import OF_POLICY
from ..host.backbone import foreign_patches
from ..host.conditioning import mix_conditioning
from ..host.lora_hash import weight_patches_hashes
from ..host.model import facts_of, latent_in, layers_and_heads
from ..profiles.library import known_profile
from ..sockets import PromptSchedule
from .beginning import NO_CAMERA, Beginning, beside_chunks
from .carried_memory import Past
from .policy_report import told_of_family
from .run_scenes import run_scenes
from .run_steps import settled_steps
from .source import NO_SOURCE, Source

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from ..sockets import Conditioning
    from ..video.sound import Sound


@dataclass(frozen=True)
class RunInputs:
    """What is connected and set for a video, each value right in itself; `warnings` are sentences on what of it does
    nothing, `sound` is no longer than the video."""

    model: ModelPatcher
    schedule: PromptSchedule | None
    positive: Conditioning | None
    beginning: Beginning
    video: VideoShape
    sigmas: tuple[float, ...] | None
    policy: CachePolicy
    profile: HeadProfile | None
    seed: int
    noise: str
    warnings: tuple[str, ...] = ()
    source: Source | None = None
    sound: Sound | None = None


@dataclass(frozen=True)
class CarriedOver:
    """What a kept run that goes on brings along: the labels that it was made with, its scenes, those typed meanwhile
    among them, what the settings meant that its version did not have, and sentences for the report. `past` is the way
    in which it came to the memory of what was there before it; None where no run goes on."""

    profile: HeadProfile | None = None
    scenes: tuple[Segment[str], ...] = ()
    notes: tuple[str, ...] = ()
    meant: Mapping[str, Setting] = field(default_factory=dict)
    past: str | None = None

    def as_begun(self, policy: CachePolicy) -> tuple[CachePolicy, tuple[str, ...]]:
        """The policy with which the run goes on as its version began it, and a sentence when that is another one."""
        of_policy = {name: value for name, value in self.meant.items() if name.startswith(OF_POLICY)}
        meant = {name.removeprefix(OF_POLICY): value for name, value in of_policy.items()}
        changed = {name: value for name, value in meant.items() if getattr(policy, name) != value}
        notes = tuple(
            f"The run was begun by a version of this pack without {name}, and goes on as it began, with {name} "
            f"{value}; Head Cache Policy would give {getattr(policy, name)}."
            for name, value in changed.items()
        )
        return replace(policy, **changed), notes


@dataclass(frozen=True)
class RunRequest:
    """A run of which everything but the heads is settled. Its policy may need a profile where there is none yet.

    `weight_patches` are hashes of what LoRA adds to the model, today's and then those of older versions; `prefix` holds
    the frames before the first chunk as a LATENT does, `noise` is one of NOISE_MODES, `notes` are sentences for the
    report.
    """

    model: ModelPatcher
    facts: ARFacts
    weight_patches: tuple[str | None, ...]
    schedule: PromptSchedule | None
    beginning: Beginning
    prefix: Tensor | None
    video: VideoShape
    rollout: RolloutPlan[Conditioning]
    profile: HeadProfile | None
    seed: int
    noise: str
    notes: tuple[str, ...]
    source: Source | None = None
    sound: Sound | None = None
    past: Past = Past()

    @property
    def fitted(self) -> FittedPolicy:
        """The policy as it fits the model."""
        return self.rollout.policy

    @property
    def needs_profile(self) -> bool:
        """Whether the policy tells heads apart."""
        return self.fitted.asked.needs_profile

    def steps(self) -> dict[str, Setting]:
        """How chunks are denoised, of which video if of one; the first one too, where it has steps of its own."""
        first = self.rollout.first or Steps(())
        return {
            "solver": self.rollout.solver,  # first, since it tells best that a family is another one
            **(NO_SOURCE if self.source is None else self.source.settings()),
            "sigmas": list(self.rollout.sigmas),
            "timesteps": list(self.rollout.timesteps),
            "first_sigmas": list(first.sigmas),
            "first_timesteps": list(first.timesteps),
        }

    def settings(self) -> dict[str, Setting]:
        """Every resolved value that decides about the result."""
        policy = self.fitted.asked
        return {
            "family": self.facts.family,
            "chunk_frames": self.fitted.chunk_frames,
            "trained_frames": self.fitted.trained_range,
            "fingerprint": self.facts.fingerprint,
            "weight_patches": self.weight_patches[0],
            "ar_trained": self.facts.ar_trained,
            **self.steps(),
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
            "episode": policy.episode,
            "episode_choice": policy.episode_choice,
            "recall_share": self.fitted.recall_share,
            "kv_precision": policy.kv_precision,
            "fills": policy.fills,
            **{head_type: asdict(self.fitted.tiers(head_type)) for head_type in HEAD_TYPES},
            "seed": self.seed,
            "noise": self.noise,
        }


def settle_run(inputs: RunInputs, carried: CarriedOver) -> RunRequest:
    """Check everything and settle a run, without a step. ValueError for input that cannot make a video."""
    model, video = inputs.model, inputs.video
    policy, as_begun = carried.as_begun(inputs.policy)
    facts = facts_of(model)
    notes = list(inputs.warnings)
    if not facts.ar_trained:
        notes.append(
            "The model was not loaded by Load AR Model, so it cannot be known whether its weights are AR-trained: "
            f"taken as {facts.family}, {facts.chunk_frames} frames a chunk."
        )
    segments, told = run_scenes(model, inputs.schedule, inputs.positive, carried.scenes, video, facts.record.shots)
    notes.extend(told)
    asked, policy = policy, for_family(policy, video.chunk_frames, facts.record)
    notes.extend(told_of_family(asked, policy, video.chunk_frames, facts.family))
    ahead = facts.record.ahead(video.chunk_frames)
    fitted = fit_policy(policy, video.chunk_frames, facts.trained_frames, video.frames, facts.record.shots, ahead)
    check_transitions(segments, fitted)
    continues = inputs.beginning.previous is not None
    steps, first, told = settled_steps(facts, inputs.sigmas, inputs.source, video.prefix_frames, continues)
    notes.extend(told)
    profile, told = _profile(model, facts, policy, inputs.profile or carried.profile)
    notes.extend(told)
    if profile is not None:
        fitted = fitted.recalling(profile.recall_layers, profile.recall_share)
        profile = profile.as_used(fitted)
    if foreign_patches(model):
        notes.append(
            "Another node has replaced the model's self-attention; during this run the memory takes its place."
        )
    patches = weight_patches_hashes(model)
    beginning, size = inputs.beginning, (video.width, video.height)
    prefix, image, beside = beginning.samples(*size), beginning.image(*size), beginning.beside(*size)
    if beside is not None:
        notes.append(NO_CAMERA)
    return RunRequest(
        model=model,
        facts=facts,
        weight_patches=patches,
        schedule=inputs.schedule,
        beginning=beginning,
        prefix=prefix,
        video=video,
        rollout=RolloutPlan(
            fitted,
            video.chunks,
            *video.latent_size,
            steps.sigmas,
            segments,
            mix_conditioning,
            None if prefix is None else latent_in(model, prefix),
            first=first,
            timesteps=steps.timesteps,
            solver=facts.record.solver,
            image=None if image is None else latent_in(model, image),
            concat=beside_chunks(model, beside),
            source_level=None if inputs.source is None else inputs.source.strength,
        ),
        profile=profile,
        seed=inputs.seed,
        noise=inputs.noise,
        notes=(*notes, *carried.notes, *as_begun),
        source=inputs.source,
        sound=inputs.sound,
    )


def _profile(
    model: ModelPatcher, facts: ARFacts, policy: CachePolicy, profile: HeadProfile | None
) -> tuple[HeadProfile | None, tuple[str, ...]]:
    layers, heads = layers_and_heads(model)
    if profile is None:
        return known_profile(facts, layers, heads) if policy.needs_profile else (None, ())
    warning = profile.check_fits(layers, heads, facts.fingerprints)
    notes = (warning,) if warning else ()
    if policy.needs_profile:
        return profile, notes
    return None, (*notes, f"The policy {policy.name} treats all heads alike, so the profile was not used.")
