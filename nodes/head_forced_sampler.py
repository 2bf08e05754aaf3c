"""Head-Forced Sampler: the whole run, from checks to report."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from comfy_api.latest import Input, InputImpl, io
from torch import Tensor
from typing_extensions import override

from ..headforcing_core.checkpoint.families import check_sigmas
from ..headforcing_core.files.disk_room import reason_of
from ..headforcing_core.files.plain_names import check_plain_name
from ..headforcing_core.geometry import DEFAULT_FPS, VideoShape
from ..headforcing_core.heads.profile import HeadProfile
from ..headforcing_core.policy.cache_policy import PRESETS, CachePolicy
from .host import backbone as host
from .host.chunk_decoder import can_stream
from .input_checks import name_error, size_error
from .keeping.kept_run import Run, open_run
from .keeping.wanted_run import Before, run_before
from .profiles.measure_on_host import to_image
from .request.beginning import check_prefix, prefix_samples
from .request.noise_choice import check_noise, make_noise
from .request.run_cost import tell_cost
from .request.run_request import RunPlan, plan_run
from .run.head_labels import RunHeads, run_heads
from .run.live_scenes import LiveScenes
from .run.make_video import Made, make_run, take_run
from .sampler_schema import sampler_schema
from .sockets import PromptSchedule
from .status import progress
from .video.growing_video import VideoStream, workflow_metadata
from .video.latent_video import NO_VAE, LatentVideo, check_vae

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import VAE
    from comfy_execution.graph import DynamicPrompt

    from .sockets import Conditioning

_VIDEO = 1


class HeadForcedSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return sampler_schema()

    @classmethod
    @override
    def validate_inputs(
        cls, width: int | None = 832, height: int | None = 480, run_name: str | None = ""
    ) -> bool | str:
        named = name_error("run_name", run_name)
        return size_error(width, height) if named is True else named

    @classmethod
    @override
    def execute(
        cls,
        model: ModelPatcher,
        schedule: PromptSchedule | None = None,
        seconds: float = 20.0,
        width: int = 832,
        height: int = 480,
        seed: int = 0,
        profile: HeadProfile | None = None,
        policy: CachePolicy | None = None,
        vae: VAE | None = None,
        start_image: Tensor | None = None,
        previous: dict[str, Tensor] | None = None,
        sigmas: Tensor | None = None,
        positive: Conditioning | None = None,
        fps: float = DEFAULT_FPS,
        noise: str = "per_chunk",
        run_name: str = "",
        on_existing_run: str = "resume",
        from_chunk: int = -1,
    ) -> io.NodeOutput:
        host.check_backbone(model)
        node_id, takes_video = cls.hidden.unique_id, _is_consumed(cls.hidden.dynprompt, cls.hidden.unique_id, _VIDEO)
        if vae is not None:
            check_vae(vae)
        elif takes_video:
            raise ValueError(NO_VAE)
        levels = None if sigmas is None else tuple(float(sigma) for sigma in sigmas)
        if levels is not None:
            check_sigmas(levels)
        check_prefix(start_image, previous, vae, width, height)
        frames = 1 if start_image is not None else 0 if previous is None else previous["samples"].shape[2]
        facts = host.facts_of(model)
        video = VideoShape(seconds, fps, width, height, facts.chunk_frames, frames, start_image is not None)
        _check_kept(run_name, from_chunk)
        check_noise(noise, video, continues=previous is not None, is_kept=bool(run_name))
        goes_on = run_name and on_existing_run == "resume"
        before = run_before(run_name, from_chunk, seed, facts.fingerprint) if goes_on else Before()
        policy = policy or PRESETS["paper"]
        plan = plan_run(model, schedule, positive, before.live, video, levels, policy, profile or before.profile)
        plan = replace(plan, notes=(*plan.notes, *before.notes))
        prefix = prefix_samples(start_image, previous, vae, width, height)
        if prefix is not None:
            plan = plan.after(host.latent_in(model, prefix))
        beginning = start_image if previous is None else previous["samples"]
        replaces = run_name and on_existing_run == "replace"  # then measured before the old run is deleted
        heads = run_heads(model, plan, node_id) if replaces else None
        with open_run(run_name, plan, seed, beginning, on_existing_run, from_chunk, progress.checking(node_id)) as run:
            stream = None
            if vae is not None and can_stream(vae) and (takes_video or run_name) and not run.has_video:
                metadata = workflow_metadata(cls.hidden.prompt, cls.hidden.extra_pnginfo)
                try:
                    stream = VideoStream(vae, run.video_path, fps, video.pixel_frames, metadata)
                except OSError as error:  # a run outlives its video
                    run.notes.append(
                        f"The video could not be begun in ComfyUI's temp folder ({reason_of(error)}), so the video "
                        "output decodes the latent. Check that folder."
                    )
            made = _made(model, plan, heads, schedule, seed, noise, prefix, run, stream, node_id)
        shown: Input.Video = LatentVideo(made.latent, vae, video.pixel_frames, fps)
        if run.has_video:
            shown = InputImpl.VideoFromFile(str(run.video_path))
        return io.NodeOutput({"samples": made.latent}, shown, to_image(made.timeline), made.report)


def _made(
    model: ModelPatcher,
    plan: RunPlan,
    heads: RunHeads | None,
    schedule: PromptSchedule | None,
    seed: int,
    noise_mode: str,
    prefix: Tensor | None,
    run: Run,
    stream: VideoStream | None,
    node_id: str | None,
) -> Made:
    told = run.told
    if told is not None:
        return take_run(model, plan, prefix, run, told, stream, node_id)
    heads = heads or run_heads(model, plan, node_id)
    run.note_profile(heads.profile)
    noise = make_noise(noise_mode, plan.video, seed, run.seed_for)
    cost = tell_cost(heads.cost, model, run, stream, node_id)
    live = LiveScenes(plan, schedule, noise_mode, run, node_id)
    settings = plan.settings() | {"seed": seed, "noise": noise_mode}
    return host.explaining_out_of_memory(
        lambda: make_run(model, plan, heads, noise, prefix, settings, run, live, stream, node_id),
        lambda: cost.out_of_memory(host.free_bytes(model)),
    )


def _check_kept(run_name: str, from_chunk: int) -> None:
    if run_name:
        check_plain_name("run_name", run_name)
    elif from_chunk >= 0:
        raise ValueError(
            f"from_chunk is {from_chunk}, but run_name is empty. Only a run that was kept can be made anew from a "
            "chunk on. Set run_name to its name, or from_chunk to -1."
        )


def _is_consumed(dynprompt: DynamicPrompt | None, node_id: str | None, output: int) -> bool:
    if dynprompt is None or node_id is None:
        return False
    nodes = [dynprompt.get_node(each) for each in dynprompt.all_node_ids()]
    return any([node_id, output] == value for node in nodes for value in node["inputs"].values())
