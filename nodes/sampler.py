"""Head-Forced Sampler: the whole run, from checks to report."""

from __future__ import annotations

import logging
from time import perf_counter
from typing import TYPE_CHECKING

import torch
from comfy_api.latest import io
from torch import Tensor
from typing_extensions import override

from ..headforcing_core.checkpoint import check_sigmas
from ..headforcing_core.geometry import DEFAULT_FPS, LATENT_CHANNELS, VideoShape
from ..headforcing_core.heatmap import draw_timeline
from ..headforcing_core.noise import NOISE_MODES, NativeNoise, Noise, PerChunkNoise
from ..headforcing_core.policy import PRESETS, CachePolicy
from ..headforcing_core.profile import HeadProfile
from ..headforcing_core.report import make_report
from ..headforcing_core.rollout import Chunk, make_memory, rollout
from . import host
from .input_checks import size_error
from .latent_video import NO_VAE, LatentVideo, check_vae
from .prefix import check_prefix, prefix_samples
from .profiling import to_image
from .progress import StepProgress
from .run_plan import RunPlan, plan_run
from .sockets import CATEGORY, CachePolicySocket, HeadProfileSocket, PromptSchedule, PromptScheduleSocket

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import VAE
    from comfy_execution.graph import DynamicPrompt

    from .sockets import Conditioning

_VIDEO_OUTPUT = 1
_MOST_NATIVE_BYTES = 2**32
_BIGGEST_SEED = 0xFFFFFFFFFFFFFFFF

log = logging.getLogger(__name__)


class HeadForcedSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HeadForcingSampler",
            display_name="Head-Forced Sampler",
            category=CATEGORY,
            description="Makes a long video chunk by chunk in flat memory: each kind of attention head keeps the part "
            "of the past that it needs.",
            search_aliases=["long video", "self forcing", "infinite", "autoregressive", "head forcing"],
            is_experimental=True,
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model, from Load AR Model; LoRA and other model nodes may stand between."
                ),
                PromptScheduleSocket.Input(
                    "schedule",
                    optional=True,
                    tooltip="Prompts at times, from Prompt Schedule. Connect this or positive.",
                ),
                io.Float.Input(
                    "seconds",
                    default=20.0,
                    min=0.1,
                    max=36000.0,
                    step=0.1,
                    optional=True,
                    tooltip="Length of the video. Time grows with it, memory does not. Typical: 20",
                ),
                io.Int.Input(
                    "width",
                    default=832,
                    min=16,
                    max=4096,
                    step=16,
                    optional=True,
                    tooltip="Width in pixels. The models are trained at 832 x 480. Typical: 832",
                ),
                io.Int.Input(
                    "height",
                    default=480,
                    min=16,
                    max=4096,
                    step=16,
                    optional=True,
                    tooltip="Height in pixels. Typical: 480",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=_BIGGEST_SEED,
                    control_after_generate=True,
                    optional=True,
                    tooltip="Another seed, another take. Typical: any",
                ),
                HeadProfileSocket.Input(
                    "profile",
                    optional=True,
                    tooltip="Which head does what, from Profile Heads or Load Head Profile. Unconnected: the newest "
                    "saved one of this checkpoint, else one is measured first (some chunks more).",
                ),
                CachePolicySocket.Input(
                    "policy",
                    optional=True,
                    tooltip="How much of the past each kind of head keeps, from Head Cache Policy. Unconnected: paper",
                ),
                io.Vae.Input(
                    "vae", optional=True, tooltip="The Wan 2.1 VAE; needed for the video output and for start_image."
                ),
                io.Image.Input(
                    "start_image",
                    optional=True,
                    tooltip="The picture that the video begins with. Describe it in the first prompt, or it drifts "
                    "away.",
                ),
                io.Latent.Input(
                    "previous",
                    optional=True,
                    tooltip="The latent of a finished video that goes on from its last chunk (whole chunks are kept). "
                    "seconds and the schedule then count what is new.",
                ),
                io.Sigmas.Input(
                    "sigmas",
                    optional=True,
                    tooltip="Noise levels of every chunk, from 1 down to 0; more steps take longer. Unconnected: the "
                    "4 steps that the model was trained with.",
                ),
                io.Conditioning.Input(
                    "positive", optional=True, tooltip="One prompt for the whole video, instead of a schedule."
                ),
                io.Float.Input(
                    "fps",
                    default=DEFAULT_FPS,
                    min=1.0,
                    max=120.0,
                    step=0.5,
                    optional=True,
                    advanced=True,
                    tooltip="Pictures a second. Models move at natural speed at 16. Typical: 16",
                ),
                io.Combo.Input(
                    "noise",
                    options=list(NOISE_MODES),
                    default="per_chunk",
                    optional=True,
                    advanced=True,
                    tooltip="per_chunk: the noise of a chunk depends on the seed and its number alone. native repeats "
                    "the numbers of ComfyUI's own AR sampler, for comparison. Typical: per_chunk",
                ),
            ],
            outputs=[
                io.Latent.Output(display_name="latent"),
                io.Video.Output(display_name="video"),
                io.Image.Output(display_name="timeline"),
                io.String.Output(display_name="report"),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
        )

    @classmethod
    @override
    def validate_inputs(cls, width: int | None = 832, height: int | None = 480) -> bool | str:
        return size_error(width, height)

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
    ) -> io.NodeOutput:
        host.check_backbone(model)
        if vae is not None:
            check_vae(vae)
        elif _is_consumed(cls.hidden.dynprompt, cls.hidden.unique_id, _VIDEO_OUTPUT):
            raise ValueError(NO_VAE)
        levels = None if sigmas is None else tuple(float(sigma) for sigma in sigmas)
        if levels is not None:
            check_sigmas(levels)
        if previous is not None and noise == "native":
            raise ValueError(
                "noise is native, and previous is connected. Native noise is drawn for a whole video at once and "
                "cannot go on. Set noise to per_chunk."
            )
        check_prefix(start_image, previous, vae, width, height)
        frames = 1 if start_image is not None else 0 if previous is None else previous["samples"].shape[2]
        video = VideoShape(
            seconds, fps, width, height, host.facts_of(model).chunk_frames, frames, start_image is not None
        )
        if noise == "native":
            _check_native(video)
        plan = plan_run(
            model,
            schedule,
            positive,
            video,
            levels,
            policy or PRESETS["paper"],
            profile,
            cls.hidden.unique_id,
        )
        prefix = prefix_samples(start_image, previous, vae, width, height)
        if prefix is not None:
            plan = plan.after(host.latent_in(model, prefix))
        segments = plan.report_segments()
        settings = plan.settings() | {"seed": seed, "noise": noise}
        started = perf_counter()
        chunks, latent, beside = host.explaining_out_of_memory(
            lambda: _run(model, plan, seed, noise, cls.hidden.unique_id),
            lambda: plan.cost.out_of_memory(host.free_bytes(model)),
        )
        taken = perf_counter() - started
        log.info("Head forcing: %d chunks in %.1f s, history %.2f GB", len(chunks), taken, chunks[-1].kv_bytes / 1e9)
        if prefix is not None:
            latent = torch.cat([prefix.to(latent), latent], dim=2)
        peak = max(chunk.kv_bytes for chunk in chunks) + beside
        report = make_report(settings, plan.notes, segments, plan.profile, chunks, beside, peak, taken)
        timeline = to_image(
            draw_timeline(
                chunks,
                [video.start_second(chunk.index) for chunk in chunks],
                [(segment.chunks[0], segment.prompt) for segment in segments],
            )
        )
        return io.NodeOutput({"samples": latent}, LatentVideo(latent, vae, video.pixel_frames, fps), timeline, report)


def _run(
    model: ModelPatcher, plan: RunPlan, seed: int, noise_mode: str, node_id: str | None
) -> tuple[list[Chunk], Tensor, int]:
    fitted, labels, video = plan.fitted, plan.labels, plan.video
    shape = (1, LATENT_CHANNELS, video.chunk_frames, *video.latent_size)
    noise: Noise = PerChunkNoise(seed, shape)
    if noise_mode == "native":
        noise = NativeNoise(
            seed, (*shape[:2], video.frames, *video.latent_size), video.chunk_frames, video.prefix_frames
        )
    backbone = host.HostBackbone(model, seed)
    memory = make_memory(fitted, labels, plan.rollout, backbone.attention, host.rotate)
    progress = StepProgress(model, video.chunks, len(plan.rollout.sigmas) - 1, node_id, "", pictures=True)
    chunks: list[Chunk] = []
    beside = 0
    with backbone.reading(memory, plan.cost.memory_bytes):
        for chunk in rollout(backbone, memory, plan.rollout, fitted, labels, noise, progress.step, progress.prefix):
            chunks.append(chunk)
            progress.picture(chunk.index, chunk.latent)
            beside = max(beside, memory.chunk_bytes)
    return chunks, backbone.latent_out(torch.cat([chunk.latent for chunk in chunks], dim=2)), beside


def _check_native(video: VideoShape) -> None:
    height, width = video.latent_size
    size = 4 * LATENT_CHANNELS * video.frames * height * width
    if size > _MOST_NATIVE_BYTES:
        raise ValueError(
            f"noise is native, which draws all {video.frames} frames at once: {size / 1e9:.1f} GB. It is meant for "
            "comparing short videos. Set noise to per_chunk."
        )


def _is_consumed(dynprompt: DynamicPrompt | None, node_id: str | None, output: int) -> bool:
    if dynprompt is None or node_id is None:
        return False
    nodes = [dynprompt.get_node(each) for each in dynprompt.all_node_ids()]
    return any([node_id, output] == value for node in nodes for value in node["inputs"].values())
