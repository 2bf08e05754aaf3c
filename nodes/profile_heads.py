"""Profile Heads: which attention head does what in a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from comfy_api.latest import io
from typing_extensions import override

from ..headforcing_core.families.family import CONCAT
from ..headforcing_core.files.plain_names import check_plain_name
from ..headforcing_core.geometry import latent_size
from ..headforcing_core.heads.measuring import FAST_PROMPTS, PROTOCOLS
from ..headforcing_core.heads.rules import MEASURING_RULES, RULES, SCOPES, LabelRule, parse_layers
from .host.model import facts_of
from .input_checks import name_error, size_error
from .inputs import DEFAULT_HEIGHT, DEFAULT_WIDTH, height_input, seed_input, width_input
from .profiles.library import (
    USUAL_RULE,
    Found,
    newest_profile,
    profile_file,
    store_profile,
    with_recall_of_saved,
)
from .profiles.measure_on_host import Measurement, describe_profile, make_profile, profile_picture
from .request.beginning import ENCODING, Beginning, beside_chunks
from .sockets import CATEGORY, HeadProfileSocket, PromptSchedule, PromptScheduleSocket
from .status.node_status import NodeStatus

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import VAE
    from torch import Tensor

    from .sockets import Conditioning

_PAPER_PROMPTS = Path(__file__).parent / "profiling_prompts.txt"


class ProfileHeads(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HeadForcingProfileHeads",
            display_name="Profile Heads",
            category=CATEGORY,
            description="Makes a short video, watches where every attention head looks, and sorts heads into local, "
            "anchor and memory. Needed once per checkpoint.",
            search_aliases=["head forcing", "attention heads", "analyse"],
            is_experimental=True,
            inputs=[
                io.Model.Input("model", tooltip="The model to look into, from Load AR Model."),
                PromptScheduleSocket.Input(
                    "schedule",
                    optional=True,
                    tooltip="Prompts to watch the heads on (up to 4 are used), and their text encoder. Prompts like "
                    "those of your videos fit best. Not needed by random and all_memory.",
                ),
                io.Combo.Input(
                    "protocol",
                    options=list(PROTOCOLS),
                    default="fast",
                    optional=True,
                    tooltip="fast: your prompts, 5 s each. paper: 20 prompts of the pack, 30 s each, many times "
                    "slower. Typical: fast",
                ),
                io.Combo.Input(
                    "rule",
                    options=list(RULES),
                    default=USUAL_RULE.rule,
                    optional=True,
                    tooltip="How heads are sorted. head_forcing is the method; the others are controls that show "
                    "whether sorting matters. Typical: head_forcing",
                ),
                seed_input(
                    "Noise of the watched video. The sorting should hardly change with it. Typical: 0",
                    changes_by_itself=False,
                ),
                io.String.Input(
                    "save_as",
                    default="",
                    optional=True,
                    tooltip="Name under which the profile is kept in models/head_profiles; the sampler then finds it "
                    "by itself. Empty: not kept. Typical: the checkpoint's name",
                ),
                io.Boolean.Input(
                    "reuse_saved",
                    default=True,
                    optional=True,
                    tooltip="Take a saved profile of this checkpoint with the same settings instead of measuring "
                    "again. Typical: on",
                ),
                width_input("Width of the watched video in pixels. Typical: 832", advanced=True),
                height_input("Height of the watched video in pixels. Typical: 480", advanced=True),
                io.Float.Input(
                    "anchor_fraction",
                    default=USUAL_RULE.anchor_fraction,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    advanced=True,
                    tooltip="Share of heads that become anchor heads, which hold the structure. Typical: 0.25",
                ),
                io.Float.Input(
                    "local_fraction",
                    default=USUAL_RULE.local_fraction,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    advanced=True,
                    tooltip="Share of the other heads that become local heads, which draw detail and keep least. "
                    "More: less memory. Typical: 0.20",
                ),
                io.Combo.Input(
                    "scope",
                    options=list(SCOPES),
                    default=USUAL_RULE.scope,
                    optional=True,
                    advanced=True,
                    tooltip="Rank heads over the whole model or within each layer. Typical: global",
                ),
                io.String.Input(
                    "protect_layers",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="Layers whose heads all keep the long memory, such as 0, 3, 5-7. Typical: empty",
                ),
                io.Int.Input(
                    "sink_frames",
                    default=Measurement.sink_frames,
                    min=0,
                    max=12,
                    optional=True,
                    advanced=True,
                    tooltip="First frames that count as the sink when heads are watched. Typical: 0 = as many as the "
                    "model's own window keeps (3)",
                ),
                io.Image.Input(
                    "start_image",
                    optional=True,
                    tooltip="A picture such as those of your videos, for models that are given one beside every chunk "
                    "(LingBot-World). Others are measured without.",
                ),
                io.Vae.Input("vae", optional=True, tooltip="The VAE of the model; needed for start_image alone."),
            ],
            outputs=[
                HeadProfileSocket.Output(display_name="profile", tooltip="Which head does what; for the sampler."),
                io.Image.Output(display_name="map", tooltip="The heads as a picture: a row for each layer."),
                io.String.Output(
                    display_name="report",
                    tooltip="How many heads of each kind there are, and how sure that is, in words.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @override
    def validate_inputs(
        cls,
        save_as: str | None = "",
        protect_layers: str | None = "",
        width: int | None = DEFAULT_WIDTH,
        height: int | None = DEFAULT_HEIGHT,
    ) -> bool | str:
        try:
            parse_layers(protect_layers or "")
        except ValueError as error:
            return str(error)
        named = name_error("save_as", save_as)
        return size_error(width, height) if named is True else named

    @classmethod
    @override
    def execute(
        cls,
        model: ModelPatcher,
        schedule: PromptSchedule | None = None,
        protocol: str = "fast",
        rule: str = USUAL_RULE.rule,
        seed: int = 0,
        save_as: str = "",
        reuse_saved: bool = True,
        width: int = DEFAULT_WIDTH,
        height: int = DEFAULT_HEIGHT,
        anchor_fraction: float = USUAL_RULE.anchor_fraction,
        local_fraction: float = USUAL_RULE.local_fraction,
        scope: str = USUAL_RULE.scope,
        protect_layers: str = "",
        sink_frames: int = Measurement.sink_frames,
        start_image: Tensor | None = None,
        vae: VAE | None = None,
    ) -> io.NodeOutput:
        if save_as:
            check_plain_name("save_as", save_as)
        label_rule = LabelRule(rule, anchor_fraction, local_fraction, scope, parse_layers(protect_layers), seed)
        facts = facts_of(model)
        latent_size(width, height, facts.record.space)
        measurement = Measurement(protocol, label_rule, width, height, sink_frames)
        made_by = (label_rule, protocol if rule in MEASURING_RULES else "", measurement.sink_of(facts.record))
        wanted = [(fingerprint, *made_by) for fingerprint in facts.fingerprints]
        found = newest_profile(lambda saved: saved.settings in wanted) if reuse_saved else Found("", None, ())
        status, name, profile, lines = NodeStatus(cls.hidden.unique_id), found.name, found.profile, [*found.notes]
        if profile is not None:
            lines.append(
                f"Taken from the saved profile {name}; nothing was measured. Turn reuse_saved off to measure again."
            )
        else:
            texts = _texts(schedule, protocol, rule)
            beside = None
            if facts.record.image == CONCAT and texts:
                beginning = Beginning(start_image, None, vae, facts.record)
                beginning.check(width, height)
                status.say(ENCODING)
                beside = beside_chunks(model, beginning.beside(width, height))
            profile = with_recall_of_saved(make_profile(model, texts, measurement, status, beside))
        if save_as and profile_file(save_as) != name:
            try:
                lines.append(f"Saved as {store_profile(profile, save_as).name}.")
            except RuntimeError as error:  # what was measured, for hours perhaps, is not lost for it
                lines.append(str(error))
                status.warn(str(error))
        return io.NodeOutput(profile, profile_picture(profile), "\n".join([*describe_profile(profile), *lines]))


def _texts(schedule: PromptSchedule | None, protocol: str, rule: str) -> Sequence[Conditioning]:
    if rule not in MEASURING_RULES:
        return ()
    if schedule is None:
        raise ValueError(
            f"schedule is not connected. The rule {rule} measures heads on a video, and a video needs prompts "
            "and their text encoder. Connect a Prompt Schedule, or use the rule random or all_memory."
        )
    if protocol == "paper":
        prompts = _PAPER_PROMPTS.read_text(encoding="ascii").splitlines()
        return [schedule.encode(prompt) for prompt in prompts]
    return schedule.conditionings[:FAST_PROMPTS]
