"""The scenes of a run: where they begin, under which texts, and how they are written down."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from textwrap import shorten
from typing import TYPE_CHECKING, cast

import torch

from ...headforcing_core.families.family import Shots
from ...headforcing_core.geometry import VideoShape
from ...headforcing_core.rollout.plan import Segment, with_segment
from ...headforcing_core.rollout.transitions import TRANSITIONS
from ...headforcing_core.run_store.record import CARRIED
from ...headforcing_core.schedule.reading import read_prompt
from ...headforcing_core.schedule.scenes import Scene, place_scenes, write_schedule
from ..host.conditioning import check_conditioning
from ..sockets import PromptSchedule

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from torch import Tensor

    from ..sockets import Conditioning

_POSITIVE = "(the positive input)"
_SHOWN = 200  # characters


def run_scenes(
    model: ModelPatcher,
    schedule: PromptSchedule | None,
    positive: Conditioning | None,
    kept: Sequence[Segment[str]],
    video: VideoShape,
    shots: Shots | None = None,
) -> tuple[tuple[Segment[Conditioning], ...], tuple[str, ...]]:
    """Put the scenes of a schedule on chunks, or take the one text. `kept` are the scenes of the same run as it was
    made before: it goes on under its own reading of a text, and those that were typed are part of it. `shots` is how
    the model was taught them. Also returns sentences for the report. ValueError unless exactly one of schedule and
    positive can be used."""
    if (schedule is None) == (positive is None):
        given = "Neither schedule nor positive is" if schedule is None else "Both schedule and positive are"
        raise ValueError(
            f"{given} connected. The video is made under one of them. Connect exactly one: Prompt Schedule, "
            "or a CLIP Text Encode for one prompt."
        )
    if schedule is None:
        assert positive is not None
        check_conditioning(positive, model, "positive")
        return (Segment(0, positive, prompt=_POSITIVE),), ()
    nearest = [video.nearest_chunk(scene.start_second) for scene in schedule.scenes]
    placed, notes = place_scenes(schedule.scenes, video.chunks, video.start_second, nearest)
    notes = (*notes, *(note for _, scene in placed for note in scene.notes))
    texts = schedule.conditionings[: len(placed)]
    for text in texts:
        check_conditioning(text, model, "schedule")
    segments = tuple(
        Segment(
            chunk,
            text,
            scene.transition or schedule.transition,
            scene.soft_chunks or schedule.soft_chunks,
            scene.prompt,
        )
        for (chunk, scene), text in zip(placed, texts, strict=True)
    )
    segments, told = _as_read_before(segments, schedule, {segment.first_chunk: segment.prompt for segment in kept})
    notes = (*notes, *told)
    # a live prompt that begins on a chunk of the schedule was pasted into it
    begun = {segment.first_chunk for segment in segments}
    added = [
        scene for scene in kept if scene.live and scene.first_chunk < video.chunks and scene.first_chunk not in begun
    ]
    for live in added:
        text = schedule.encode(live.prompt)
        segment = Segment(live.first_chunk, text, live.transition, live.soft_chunks, live.prompt, live=True)
        segments = with_segment(segments, segment)
    if added:
        told = f"Live prompts of the run before are part of it ({len(added)}); the schedule does not have them."
        notes = (*notes, told)
    first, *later = segments
    return (first, *(as_taught(segment, schedule, shots) for segment in later)), notes


def as_taught(segment: Segment[Conditioning], schedule: PromptSchedule, shots: Shots | None) -> Segment[Conditioning]:
    """A segment that takes over by a shot with the text of its first chunk, as the model was taught it; any other as it
    is."""
    if shots is None or not TRANSITIONS[segment.transition].is_shot:
        return segment
    return replace(segment, first_text=schedule.encode(shots.prompt_prefix + segment.prompt))


def _as_read_before(
    segments: tuple[Segment[Conditioning], ...], schedule: PromptSchedule, before: Mapping[int, str]
) -> tuple[tuple[Segment[Conditioning], ...], tuple[str, ...]]:
    """The segments under the prompts of `before`, by chunk, where those are the same texts as an older version read
    them: with comments and invisible characters."""
    read = {
        segment.first_chunk: replace(segment, text=schedule.encode(prompt), prompt=prompt)
        for segment in segments
        if (prompt := before.get(segment.first_chunk, segment.prompt)) != segment.prompt
        and read_prompt(prompt) == segment.prompt
    }
    notes = tuple(
        f"Chunk {chunk} goes on under its text as the version that began the run read it: "
        f"{shorten(repr(segment.prompt), _SHOWN)}"
        for chunk, segment in read.items()
    )
    return tuple(read.get(segment.first_chunk, segment) for segment in segments), notes


def schedule_text(
    segments: Sequence[Segment[Conditioning]] | Sequence[Segment[str]], start_second: Callable[[int], float], past: str
) -> str:
    """The text for Prompt Schedule that makes the same video again; `start_second` gives that of a chunk. The first
    segment takes over from something where the `past` of the run is CARRIED."""
    return write_schedule(
        [
            Scene(
                start_second(segment.first_chunk),
                None,
                segment.prompt,
                segment.transition,
                soft_chunks=segment.soft_chunks if TRANSITIONS[segment.transition].fades else None,
            )
            for segment in segments
        ],
        goes_on=past == CARRIED,
    )


def kept_schedule(segments: Sequence[Segment[str]], start_second: Callable[[int], float], past: str) -> str:
    """As `schedule_text`, of what is written down of segments; empty under one `positive`."""
    written = all(segment.prompt != _POSITIVE for segment in segments)
    return schedule_text(segments, start_second, past) if written else ""


def recorded(segments: Sequence[Segment[Conditioning]], are_written: bool) -> tuple[Segment[str], ...]:
    """What is written down of segments with a kept run: a hash in place of the text, of what an artist has written or,
    under one `positive`, of what it was encoded to."""
    return tuple(
        Segment(
            segment.first_chunk,
            hashlib.sha256(segment.prompt.encode()).hexdigest() if are_written else _text_hash(segment.text),
            segment.transition,
            segment.soft_chunks,
            segment.prompt,
            segment.live,
        )
        for segment in segments
    )


def _text_hash(text: Conditioning) -> str:
    """Of a text of which nothing but its encoding is known: of shape and size alone, since encoding the same text again
    need not give the same bits."""
    encoded = cast("Tensor", text[0][0])
    described = f"{tuple(encoded.shape)} {torch.linalg.vector_norm(encoded.float()).item():.2e}"
    return hashlib.sha256(described.encode()).hexdigest()
