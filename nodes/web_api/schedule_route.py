"""POST /head_forcing/schedule: where the scenes of a text fall, for the ruler under it.

Asked: `text` and `transition` of a Prompt Schedule, and `is_drawn`: whether the page will draw the choices of the text,
as it does of the node's own text box; `seconds` (null: no end is known), `fps` (0: the model's own) and `beginning`
(which of its inputs a video goes on from) of the sampler; `model_name`, `family` and `chunk_frames` of the loader.

Answered: {"scenes": [{"line", "asked_second", "start_second", "chunk", "transition", "soft_chunks", "prompt"}],
"chunk_frames", "fps", "chunk_starts", "chunks", "end_second", "notes": [text], "habits": [text]}, where chunk_starts
are the seconds at which the second and the third chunk begin, and habits are what of the text does nothing;
or {"drawn": choice} when a choice that is still to be drawn decides about times; or {"error": {"line", "message"}} for
a text that cannot be played, where line 0 is the whole text, or the loader's widgets, and "converts" is true beside
them if edit_schedule_route can convert it from another tool's syntax. `transition` is null for the first scene,
`soft_chunks` where the text gives none, `end_second` and `chunks` without `seconds`. A scene that begins at
`end_second` or later is not shown.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...headforcing_core.checkpoint.ar_facts import AUTO, facts_for
from ...headforcing_core.families.family import PREFIX
from ...headforcing_core.families.table import FAMILIES, most_chunk_frames
from ...headforcing_core.files.strict_json import Fields, Json
from ...headforcing_core.geometry import MOST_FPS, MOST_SECONDS, VideoShape
from ...headforcing_core.rollout.transitions import TRANSITIONS
from ...headforcing_core.schedule.choices import choice_notes, choice_of_times
from ...headforcing_core.schedule.converting import is_convertible
from ...headforcing_core.schedule.reading import parse_schedule
from ...headforcing_core.schedule.scenes import Scene, ScheduleError, place_scenes

FIELDS = ("text", "is_drawn", "transition", "seconds", "fps", "beginning", "model_name", "family", "chunk_frames")
_PREFIX_FRAMES = {"none": 0, "start_image": 1, "previous": 1}  # of a latent, any number puts chunks at the same times


def answer(asked: Fields) -> dict[str, Json]:
    """Where the scenes fall, or the error of the text. ValueError for a field of the wrong type or range."""
    text, transition = asked.text("text"), asked.choice("transition", tuple(TRANSITIONS))
    is_drawn = asked.flag("is_drawn")
    endless = asked.values["seconds"] is None
    try:
        video = asked_video(asked)
    except ScheduleError as error:
        return {"error": {"line": error.line, "message": str(error)}}
    if is_drawn and (choice := choice_of_times(text)) is not None:
        return {"drawn": choice}
    try:
        scenes = parse_schedule(text, TRANSITIONS, is_drawn)
        nearest = [video.nearest_chunk(scene.start_second) for scene in scenes]
        _, notes = place_scenes(scenes, video.chunks, video.start_second, nearest)
    except ScheduleError as error:
        told: dict[str, Json] = {"line": error.line, "message": str(error)}
        return {"error": {**told, "converts": True} if is_convertible(text, TRANSITIONS) else told}
    return {
        "scenes": _described(scenes, nearest, video, transition),
        "chunk_frames": video.chunk_frames,
        "fps": video.fps,
        "chunk_starts": [video.start_second(1), video.start_second(2)],
        "chunks": None if endless else video.chunks,
        "end_second": None if endless else (video.pixel_frames - video.pixel_frames_after(0)) / video.fps,
        "notes": list(notes),
        "habits": [*(choice_notes(text) if is_drawn else ()), *(note for scene in scenes for note in scene.notes)],
    }


def asked_video(asked: Fields) -> VideoShape:
    """The video that the sampler and the loader of a question will make. ScheduleError for chunks that only another
    family can be given; ValueError for a field of the wrong type or range."""
    loader = (
        asked.text("model_name"),
        asked.choice("family", (AUTO, *FAMILIES)),
        asked.integer("chunk_frames", 0, most_chunk_frames()),
    )
    beginning = asked.choice("beginning", tuple(_PREFIX_FRAMES))
    try:
        facts, _ = facts_for(*loader, fingerprint="")
    except ValueError as error:
        raise ScheduleError(0, str(error)) from None
    record = facts.record
    return VideoShape(
        MOST_SECONDS if asked.values["seconds"] is None else asked.number("seconds", 0, MOST_SECONDS),
        asked.number("fps", 0, MOST_FPS) or record.fps,
        record.space.pixel_step,  # the size of the picture does not matter
        record.space.pixel_step,
        facts.chunk_frames,
        0 if beginning == "start_image" and record.image != PREFIX else _PREFIX_FRAMES[beginning],
        beginning == "start_image",
        record.space,
    )


def _described(scenes: Sequence[Scene], nearest: Sequence[int], video: VideoShape, transition: str) -> list[Json]:
    return [
        {
            "line": scene.line,
            "asked_second": scene.start_second,
            "start_second": video.start_second(chunk),
            "chunk": chunk,
            "transition": (scene.transition or transition) if chunk else None,
            "soft_chunks": scene.soft_chunks if chunk else None,
            "prompt": scene.prompt,
        }
        for scene, chunk in zip(scenes, nearest, strict=True)
    ]
