"""Profile Heads and Load Head Profile: which attention head does what in a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from comfy_api.latest import io
from PIL import Image
from typing_extensions import override

from ..headforcing_core.cache import KVMemory
from ..headforcing_core.geometry import LATENT_CHANNELS, latent_size, tokens_per_frame
from ..headforcing_core.heatmap import draw_profile
from ..headforcing_core.noise import PerChunkNoise
from ..headforcing_core.profile import HeadProfile
from ..headforcing_core.profiling import FAST_PROMPTS, PROTOCOLS, measure, profiling_policy, watched_chunks
from ..headforcing_core.rollout import RolloutPlan, Segment, capacities, warm_up_frames
from ..headforcing_core.rules import MEASURING_RULES, RULES, SCOPES, LabelRule, label_heads, parse_layers
from ..headforcing_core.scoring import MassRecorder
from . import host
from .profile_store import check_plain_name, newest_profile, profile_names, read_profile, store_profile
from .sockets import CATEGORY, HeadProfileSocket, PromptSchedule, PromptScheduleSocket

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from .sockets import Conditioning

_NONE_FOUND = "(none found)"
_PAPER_PROMPTS = Path(__file__).parent / "profiling_prompts.txt"


class ProfileHeads(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HeadForcingProfileHeads",
            display_name="Profile Heads",
            category=CATEGORY,
            description="Makes a short video, watches where every attention head looks, and sorts heads into local, anchor "
            "and memory. Needed once per checkpoint.",
            search_aliases=["head forcing", "attention heads", "analyse", "long video"],
            is_experimental=True,
            inputs=[
                io.Model.Input("model", tooltip="The model to look into, from Load AR Model."),
                PromptScheduleSocket.Input(
                    "schedule", optional=True,
                    tooltip="Prompts to watch the heads on (up to 4 are used). Prompts like those of your videos fit "
                    "best. Not needed by random and all_memory."),
                io.Combo.Input(
                    "protocol", options=list(PROTOCOLS), default="fast", optional=True,
                    tooltip="fast: your prompts, 5 s each. paper: 20 prompts of 30 s, some hours on a small card. "
                    "Typical: fast"),
                io.Combo.Input(
                    "rule", options=list(RULES), default="head_forcing", optional=True,
                    tooltip="How heads are sorted. head_forcing is the method; the others are controls that show whether "
                    "sorting matters. Typical: head_forcing"),
                io.Int.Input(
                    "seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=False, optional=True,
                    tooltip="Noise of the watched video. The sorting should hardly change with it. Typical: 0"),
                io.String.Input(
                    "save_as", default="", optional=True,
                    tooltip="Name under which the profile is kept in models/head_profiles; the sampler then finds it by "
                    "itself. Empty: not kept. Typical: the checkpoint's name"),
                io.Boolean.Input(
                    "reuse_saved", default=True, optional=True,
                    tooltip="Take a saved profile of this checkpoint with the same settings instead of measuring again. "
                    "Typical: on"),
                io.Int.Input("width", default=832, min=16, max=4096, step=16, optional=True, advanced=True,
                             tooltip="Width of the watched video in pixels. Typical: 832"),
                io.Int.Input("height", default=480, min=16, max=4096, step=16, optional=True, advanced=True,
                             tooltip="Height of the watched video in pixels. Typical: 480"),
                io.Float.Input("anchor_fraction", default=0.25, min=0.0, max=1.0, step=0.01, optional=True, advanced=True,
                               tooltip="Share of heads that hold the structure. More: steadier, stiffer. Typical: 0.25"),
                io.Float.Input("local_fraction", default=0.20, min=0.0, max=1.0, step=0.01, optional=True, advanced=True,
                               tooltip="Share of the other heads that only draw detail. More: faster, forgets more. "
                               "Typical: 0.20"),
                io.Combo.Input("scope", options=list(SCOPES), default="global", optional=True, advanced=True,
                               tooltip="Rank heads over the whole model or within each layer. Typical: global"),
                io.String.Input("protect_layers", default="", optional=True, advanced=True,
                                tooltip="Layers whose heads all keep the long memory, such as 0, 3, 5-7. Typical: empty"),
                io.Int.Input("sink_frames", default=3, min=1, max=12, optional=True, advanced=True,
                             tooltip="First frames that count as the beginning when heads are watched. Typical: 3"),
            ],
            outputs=[HeadProfileSocket.Output(display_name="profile"), io.Image.Output(display_name="map"),
                     io.String.Output(display_name="report")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @override
    def validate_inputs(cls, save_as: str | None = "", protect_layers: str | None = "") -> bool | str:
        try:
            if save_as:
                check_plain_name("save_as", save_as)
            parse_layers(protect_layers or "")
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    @override
    def execute(
        cls, model: ModelPatcher, schedule: PromptSchedule | None = None, protocol: str = "fast",
        rule: str = "head_forcing", seed: int = 0, save_as: str = "", reuse_saved: bool = True, width: int = 832,
        height: int = 480, anchor_fraction: float = 0.25, local_fraction: float = 0.20, scope: str = "global",
        protect_layers: str = "", sink_frames: int = 3,
    ) -> io.NodeOutput:
        if save_as:
            check_plain_name("save_as", save_as)
        label_rule = LabelRule(rule, anchor_fraction, local_fraction, scope, parse_layers(protect_layers), seed)
        facts = host.facts_of(model)
        found = newest_profile(facts.fingerprint, rule) if reuse_saved else None
        wanted = (label_rule, protocol, sink_frames)
        if found is not None and (found[1].rule, found[1].protocol, found[1].sink_frames) == wanted:
            name, profile = found
            lines = [f"Taken from the saved profile {name}; nothing was measured. Turn reuse_saved off to measure again."]
        else:
            texts = _texts(schedule, protocol, rule)
            profile = make_profile(
                model, texts, protocol, label_rule, width, height, sink_frames, cls.hidden.unique_id)
            lines = []
            if save_as:
                lines.append(f"Saved as {store_profile(profile, save_as).name}.")
        return io.NodeOutput(profile, profile_picture(profile), "\n".join([*describe_profile(profile), *lines]))


class LoadHeadProfile(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HeadForcingLoadProfile",
            display_name="Load Head Profile",
            category=CATEGORY,
            description="Loads a head profile that Profile Heads saved.",
            search_aliases=["head forcing", "attention heads", "long video"],
            is_experimental=True,
            inputs=[io.Combo.Input(
                "profile_name", options=profile_names() or [_NONE_FOUND],
                tooltip="A profile from models/head_profiles. It must have been made on the checkpoint you sample with, "
                "or the video forgets the wrong things.")],
            outputs=[HeadProfileSocket.Output(display_name="profile"), io.Image.Output(display_name="map")],
        )

    @classmethod
    @override
    def execute(cls, profile_name: str) -> io.NodeOutput:
        if profile_name == _NONE_FOUND:
            raise RuntimeError("There is no head profile in models/head_profiles yet. Nothing can be loaded. Run Profile "
                               "Heads with save_as set, then refresh.")
        profile = read_profile(profile_name)
        return io.NodeOutput(profile, profile_picture(profile))


def make_profile(
    model: ModelPatcher, texts: Sequence[Conditioning], protocol: str, rule: LabelRule, width: int, height: int,
    sink_frames: int, node_id: str | None,
) -> HeadProfile:
    """Measure on these texts, if the rule measures, and label."""
    host.check_backbone(model)
    facts = host.facts_of(model)
    layers, heads = host.layers_and_heads(model)
    masses, reliability = None, {}
    if rule.rule in MEASURING_RULES:
        for text in texts:
            host.check_conditioning(text, model, "schedule")
        recorder = _watch(model, texts, protocol, rule.seed, width, height, sink_frames, node_id)
        masses, reliability = recorder.masses(), recorder.reliability()
    labels = label_heads(rule, layers, heads, masses)
    return HeadProfile(facts.fingerprint, protocol, rule, labels, masses, reliability, sink_frames)


def describe_profile(profile: HeadProfile) -> list[str]:
    """The profile in words."""
    counts = ", ".join(f"{count} {head_type}" for head_type, count in profile.counts.items())
    lines = [f"{profile.layers} layers of {profile.heads} heads: {counts}. Rule {profile.rule.rule}, protocol "
             f"{profile.protocol}."]
    if profile.masses is not None:
        values = ", ".join(f"{name} {value:.3f}" for name, value in profile.reliability.items())
        lines.append(f"Split-half rank correlation: {values}.")
        if not profile.reliable:
            lines.append("WARNING: below 0.9 the ranking of heads depends on what was watched. Use more prompts, or the "
                         "protocol paper.")
    return lines


def profile_picture(profile: HeadProfile) -> torch.Tensor:
    """The map of a profile as an IMAGE."""
    return to_image(draw_profile(profile, "Head roles"))


def to_image(picture: Image.Image) -> torch.Tensor:
    """A picture as an IMAGE: float32 (1, height, width, 3) in 0 to 1."""
    return torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255.0)[None]


def _texts(schedule: PromptSchedule | None, protocol: str, rule: str) -> Sequence[Conditioning]:
    if rule not in MEASURING_RULES:
        return ()
    if schedule is None:
        raise ValueError(f"schedule is not connected. The rule {rule} measures heads on a video, and a video needs "
                         "prompts. Connect a Prompt Schedule, or use the rule random or all_memory.")
    if protocol == "paper":
        prompts = _PAPER_PROMPTS.read_text(encoding="ascii").splitlines()
        return [schedule.clip.encode_from_tokens_scheduled(schedule.clip.tokenize(prompt)) for prompt in prompts]
    return schedule.conditionings[:FAST_PROMPTS]


def _watch(
    model: ModelPatcher, texts: Sequence[Conditioning], protocol: str, seed: int, width: int, height: int,
    sink_frames: int, node_id: str | None,
) -> MassRecorder:
    facts = host.facts_of(model)
    layers, heads = host.layers_and_heads(model)
    n, (latent_height, latent_width) = facts.chunk_frames, latent_size(width, height)
    labels = tuple(("memory",) * heads for _ in range(layers))
    recorder = MassRecorder(layers, n, sink_frames, seed=seed)
    backbone = host.HostBackbone(model, seed)
    watched = [watched_chunks(protocol, n, prompt, seed) for prompt in range(len(texts))]
    progress = host.StepProgress(
        model, sum(chunks[-1] + 1 for chunks in watched), len(facts.sigmas) - 1, node_id, "profiling,")
    done = 0
    for prompt, (text, chunks) in enumerate(zip(texts, watched, strict=True)):
        plan = RolloutPlan(chunks[-1] + 1, latent_height, latent_width, facts.sigmas, (Segment(0, text),))
        policy = profiling_policy(protocol, n, facts.trained_frames, plan.chunks)
        memory = KVMemory(labels, capacities(policy, labels), warm_up_frames(policy, plan.chunks), n,
                          backbone.attention, host.rotate, observer=recorder)
        expected = (layers * heads * (policy.memory.frames + n)
                    * host.frame_head_bytes(model, tokens_per_frame(latent_height, latent_width)))
        noise = PerChunkNoise(seed + prompt, (1, LATENT_CHANNELS, n, latent_height, latent_width))
        with backbone.reading(memory, expected):
            measure(backbone, memory, plan, policy, labels, noise, recorder, chunks, progress.after(done))
        done += plan.chunks
    return recorder
