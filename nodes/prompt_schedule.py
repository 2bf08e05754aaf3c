"""Prompt Schedule: text with times -> encoded scenes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import comfy.model_management
from comfy_api.latest import io
from typing_extensions import override

from ..headforcing_core.families.self_forcing import SELF_FORCING
from ..headforcing_core.geometry import chunk_start_second, nearest_chunk
from ..headforcing_core.rollout.transitions import TRANSITIONS
from ..headforcing_core.schedule.reading import MOST_SOFT_CHUNKS, parse_schedule
from ..headforcing_core.schedule.scenes import Scene
from .sockets import CATEGORY, PromptSchedule, PromptScheduleSocket
from .status.node_status import NodeStatus

if TYPE_CHECKING:
    from comfy.sd import CLIP

    from .sockets import Conditioning

_EXAMPLE = """[0s] a red fox in deep snow, golden light
[12s] the fox finds a frozen river"""

_SOFT_CHUNKS = 4


class PromptScheduleNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HeadForcingPromptSchedule",
            display_name="Prompt Schedule",
            category=CATEGORY,
            description="Prompts at times: one scene per line that begins with a time in brackets, such as [12s] or "
            "[0:30 cut]. Text without times is one prompt for the whole video.",
            search_aliases=["prompt travel", "timed prompts", "multi prompt", "scenes"],
            is_experimental=True,
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder. Wan needs umt5_xxl (CLIPLoader, type wan)."),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    default=_EXAMPLE,
                    tooltip="The scenes. Each begins at the chunk nearest to its time and lasts until the next. Long, "
                    "detailed prompts give the best picture.",
                ),
                io.Combo.Input(
                    "transition",
                    options=list(TRANSITIONS),
                    default="recache",
                    optional=True,
                    tooltip="How scenes without a word of their own take over. recache: recent chunks are read again "
                    "under the new prompt. flush: all but the beginning and the last frame is forgotten. soft: the "
                    "prompt fades over. cut: a hard cut to a new scene. shot: a new shot, nothing forgotten, "
                    "as LongLive-2.0 was taught; for its checkpoints alone. Typical: recache",
                ),
                io.Int.Input(
                    "soft_chunks",
                    default=_SOFT_CHUNKS,
                    min=1,
                    max=MOST_SOFT_CHUNKS,
                    optional=True,
                    advanced=True,
                    tooltip="With transition soft: chunks over which the old prompt fades into the new one, for scenes "
                    "without a number of their own, such as [12s soft 6]. Typical: 4",
                ),
            ],
            outputs=[
                PromptScheduleSocket.Output(
                    display_name="schedule", tooltip="The encoded scenes, for Profile Heads and the sampler."
                ),
                io.String.Output(display_name="report", tooltip="When each scene really begins, in words."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @override
    def validate_inputs(cls, text: str | None) -> bool | str:
        if text is None:  # linked: read when it runs
            return True
        try:
            parse_schedule(text, TRANSITIONS)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    @override
    def execute(
        cls, clip: CLIP, text: str, transition: str = "recache", soft_chunks: int = _SOFT_CHUNKS
    ) -> io.NodeOutput:
        if clip is None:
            raise RuntimeError(
                "clip is empty. The checkpoint loader before it holds no text encoder. Use CLIPLoader with "
                "umt5_xxl, type wan."
            )
        scenes = parse_schedule(text, TRANSITIONS)
        status = NodeStatus(cls.hidden.unique_id)
        prompts = f"{len(scenes)} prompt{'s' if len(scenes) > 1 else ''}"
        status.say(f"reading {prompts}")  # loads the text encoder, which takes longer than all else
        encoded = tuple(_encoded(clip, scene.prompt) for scene in scenes)
        status.say(f"{prompts} read")
        schedule = PromptSchedule(scenes, encoded, transition, soft_chunks, clip)
        return io.NodeOutput(schedule, _report(scenes, transition))


def _encoded(clip: CLIP, prompt: str) -> Conditioning:
    comfy.model_management.throw_exception_if_processing_interrupted()  # each may take seconds
    return clip.encode_from_tokens_scheduled(clip.tokenize(prompt))


def _report(scenes: Sequence[Scene], transition: str) -> str:
    chunk_frames, fps = SELF_FORCING.chunk_frames, SELF_FORCING.fps
    lines = [
        f"{len(scenes)} scene{'s' if len(scenes) > 1 else ''}, as they fall with chunks of {chunk_frames} frames at "
        f"{fps:g} fps (the sampler's report has the real ones):"
    ]
    before = -1
    for scene in scenes:
        chunk = nearest_chunk(scene.start_second, chunk_frames, fps)
        over = f" over {scene.soft_chunks} chunks" if scene.soft_chunks else ""
        word = f" ({scene.transition or transition}{over})" if before >= 0 else ""
        clash = " - SAME CHUNK as the scene above, which the sampler refuses" if chunk == before else ""
        start = chunk_start_second(chunk, chunk_frames, fps)
        lines.append(f"{start:7.2f} s  chunk {chunk:4d}{word}  {scene.prompt}{clash}")
        before = chunk
    if scenes[-1].end_second is not None:
        lines.append(f"The last scene runs to the end of the video, not just to {scenes[-1].end_second:g} s.")
    return "\n".join([*lines, *(note for scene in scenes for note in scene.notes)])
