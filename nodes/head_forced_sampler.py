"""Head-Forced Sampler: the whole run, from checks to report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import Input, io
from torch import Tensor
from typing_extensions import override

from ..headforcing_core.families.family import CONCAT, check_sigmas
from ..headforcing_core.files.disk_room import reason_of
from ..headforcing_core.files.plain_names import scene_name
from ..headforcing_core.geometry import VideoShape
from ..headforcing_core.heads.profile import HeadProfile
from ..headforcing_core.policy.cache_policy import CachePolicy
from ..headforcing_core.policy.presets import PRESETS
from .cards.spread import settle_spread
from .host.backbone import check_backbone
from .host.chunk_decoder import can_stream
from .host.conditioning import told_of_unread
from .host.device_memory import explaining_out_of_memory
from .host.guidance import told_of_nodes_between
from .host.model import facts_of
from .host.wiring import goes_on, is_used, scene_number
from .input_checks import run_name_error, seconds_error, size_error
from .inputs import DEFAULT_HEIGHT, DEFAULT_WIDTH
from .keeping.kept_run import open_run
from .keeping.wanted_run import FolderRequest, carried_over
from .request.beginning import ENCODING, Beginning
from .request.carried_memory import KEY
from .request.lora_warnings import lora_warnings
from .request.noise_choice import check_noise, make_noise
from .request.past import settle_past
from .request.run_request import RunInputs, settle_run
from .request.sound_length import check_seconds, settled_seconds
from .request.source import USUAL_STRENGTH, settle_source, told_of_strength
from .run.announce_cost import announce_cost
from .run.chunk_makers import opened_maker
from .run.head_labels import RunHeads, run_heads
from .run.live_scenes import LiveScenes
from .run.make_video import RunOutputs, kept_outputs, make_outputs
from .run.memory_at_end import memory_of_kept
from .run.video_job import VideoJob
from .sampler_schema import DEFAULT_SECONDS, sampler_schema
from .sockets import PromptSchedule
from .status.node_status import NodeStatus
from .video.growing_video import workflow_metadata
from .video.image import to_image
from .video.latent_video import check_vae, no_vae
from .video.new_part import video_outputs, video_stream
from .video.sound import settle_sound

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import VAE

    from .cards.card_group import CardGroup
    from .sockets import Conditioning

_LATENT, _VIDEO, _NEW_VIDEO = 0, 1, 4
_UNLINKED = object()


class HeadForcedSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return sampler_schema()

    @classmethod
    @override
    def validate_inputs(
        cls,
        width: int | None = DEFAULT_WIDTH,
        height: int | None = DEFAULT_HEIGHT,
        run_name: str | None = "",
        seconds: float | None = DEFAULT_SECONDS,
        audio: object = _UNLINKED,
    ) -> bool | str:
        named = run_name_error(run_name)
        named = seconds_error(seconds, audio is not _UNLINKED) if named is True else named
        return size_error(width, height) if named is True else named

    @classmethod
    @override
    def execute(
        cls,
        model: ModelPatcher,
        schedule: PromptSchedule | None = None,
        seconds: float = DEFAULT_SECONDS,
        width: int = DEFAULT_WIDTH,
        height: int = DEFAULT_HEIGHT,
        seed: int = 0,
        profile: HeadProfile | None = None,
        policy: CachePolicy | None = None,
        vae: VAE | None = None,
        start_image: Tensor | None = None,
        previous: dict[str, Tensor] | None = None,
        sigmas: Tensor | None = None,
        positive: Conditioning | None = None,
        fps: float = 0.0,
        noise: str = "per_chunk",
        run_name: str = "",
        on_existing_run: str = "resume",
        from_chunk: int = -1,
        video: Tensor | Input.Video | None = None,
        strength: float = USUAL_STRENGTH,
        cards: CardGroup | None = None,
        audio: Input.Audio | None = None,
    ) -> io.NodeOutput:
        check_seconds(seconds, audio is not None)
        check_backbone(model)
        facts = facts_of(model)
        family = facts.record
        fps = fps or family.fps
        status = NodeStatus(cls.hidden.unique_id)
        run_name = scene_name(run_name, scene_number(cls.hidden.dynprompt, status.node_id))
        takes_video, takes_new = (is_used(cls.hidden.dynprompt, status.node_id, each) for each in (_VIDEO, _NEW_VIDEO))
        is_new_alone = takes_new and not takes_video and not run_name and previous is not None
        if vae is not None:
            check_vae(vae, family.space)
        elif takes_video or takes_new:
            raise no_vae(family.space)
        levels = None if sigmas is None else tuple(sigmas.flatten().tolist())
        if levels is not None:
            check_sigmas(levels)
        beginning = Beginning(start_image, previous, vae, family)
        beginning.check(width, height)
        has_image = start_image is not None and previous is None
        sound, told_of_sound = settle_sound(audio)
        seconds = settled_seconds(seconds, sound, beginning, fps)
        shape = (seconds, fps, width, height, facts.chunk_frames)
        length = VideoShape(*shape, beginning.frames, has_image, family.space)
        if video is not None:
            status.say("reading the video")
        source = settle_source(video, strength, beginning, length)
        length = length if source is None else source.shortened(length)
        sound = None if sound is None else sound.until(length.pixel_frames / fps)
        folder = FolderRequest(run_name, on_existing_run, from_chunk)
        check_noise(noise, length, facts, continues=previous is not None, is_kept=bool(run_name))
        carried = carried_over(folder, seed, facts.fingerprints)
        policy = policy or PRESETS["paper"]
        warnings = (
            *lora_warnings(model, cls.hidden.dynprompt, status.node_id),
            *told_of_nodes_between(model),
            *told_of_unread(positive or [], "positive"),
            *told_of_strength(video, strength),
            *told_of_sound,
        )
        for warning in warnings:
            status.warn(warning)
        inputs = RunInputs(
            model, schedule, positive, beginning, length, levels, policy, profile, seed, noise, warnings, source, sound
        )
        if family.image == CONCAT:
            status.say(ENCODING)
        request = settle_past(settle_run(inputs, carried), carried.past, cards is not None and cards.cards > 1)
        spread = settle_spread(cards, request)
        replaces = run_name and on_existing_run == "replace"  # then measured before the old run is deleted
        heads = run_heads(request, status) if replaces else None
        with open_run(request, folder, status) as run:
            stream, metadata = None, workflow_metadata(cls.hidden.prompt, cls.hidden.extra_pnginfo)
            run.give_sound(metadata)
            is_taken = takes_video or takes_new or run_name
            if vae is not None and can_stream(vae) and is_taken and not run.has_video:
                try:
                    stream = video_stream(vae, run.video_path, length, metadata, is_new_alone, sound)
                except OSError as error:  # a run outlives its video
                    run.notes.append(
                        f"The video could not be begun in ComfyUI's temp folder ({reason_of(error)}), so the video "
                        "output decodes the latent. Check that folder."
                    )
            hands_on = goes_on(cls.hidden.dynprompt, status.node_id, _LATENT)
            made = _outputs(VideoJob(request, run, stream, status, spread, hands_on), heads)
        file = run.video_path if run.has_video else None
        shown, new = video_outputs(made.latent, vae, length, file, is_new_alone, sound)
        latent = {"samples": made.latent, KEY: made.memory}
        return io.NodeOutput(latent, shown, to_image(made.timeline), made.report, new)


def _outputs(job: VideoJob, heads: RunHeads | None) -> RunOutputs:
    request, run = job.request, job.run
    kept = None if run.told is None else kept_outputs(job, run.told)
    if kept is not None and kept.memory.gone:
        return kept
    if kept is None:
        request.past.check()
    heads = heads or run_heads(request, job.status)
    run.note_profile(heads.profile)
    carried = request.rollout.carried
    made_before = None if carried is None else carried.chunks
    noise = make_noise(request.noise, request.video, request.seed, run.seed_for, made_before)
    with opened_maker(job, heads, noise) as maker:
        if kept is not None:
            return kept._replace(memory=memory_of_kept(job, heads, maker, kept.latent))
        cost, said = announce_cost(job, maker)
        run.notes.append(said)
        live = LiveScenes(request, run, job.status)
        return explaining_out_of_memory(
            lambda: make_outputs(job, heads, maker, live), lambda: maker.out_of_memory(cost)
        )
