"""POST /head_forcing/edit_schedule: a text of Prompt Schedule after an edit of its scenes, as the ruler under it and
"Make again from here" ask for it.

Asked: the fields of schedule_route, and `edit`, which is one of
{"kind": "move", "line", "second"}: the scene whose line that is (0: the one of a text without times) begins at the
chunk nearest to the second, or as near to it as its neighbours let it;
{"kind": "add", "second", "prompt", "transition"}: one more scene begins there; null is the node's own transition;
{"kind": "split", "second"}: the scene that is there begins once more there;
{"kind": "delete", "line"}: the scene before goes on instead, or after the first one, the next begins at 0;
{"kind": "transition", "line", "transition", "soft_chunks"}: null is the node's own, and the node's own number;
{"kind": "prompt", "line", "prompt"};
{"kind": "scene_at", "second", "prompt"}: the prompt holds from there to the next scene;
{"kind": "convert"}: another tool's schedule, as ours, with frames at the video's fps.
A prompt is read as in the text: it may have choices. Seconds are those of the schedule.

Answered: {"text": the new text}, or {"error": {"line", "message"}} for a text that cannot be edited so.
"""

from __future__ import annotations

from ...headforcing_core.files.strict_json import Fields, Json, expected
from ...headforcing_core.geometry import MOST_SECONDS
from ...headforcing_core.rollout.transitions import TRANSITIONS
from ...headforcing_core.schedule.editing import Edit, edit_schedule
from ...headforcing_core.schedule.reading import MOST_SOFT_CHUNKS
from ...headforcing_core.schedule.scenes import ScheduleError
from . import schedule_route

FIELDS = (*schedule_route.FIELDS, "edit")
_MOST_LINES = 64 * 1024
_NAMES = {
    "move": ("line", "second"),
    "add": ("second", "prompt", "transition"),
    "split": ("second",),
    "delete": ("line",),
    "transition": ("line", "transition", "soft_chunks"),
    "prompt": ("line", "prompt"),
    "scene_at": ("second", "prompt"),
    "convert": (),
}


def answer(asked: Fields) -> dict[str, Json]:
    """The text after the edit, or why there is none. ValueError for a field of the wrong type or range."""
    text, is_drawn, edit = asked.text("text"), asked.flag("is_drawn"), _edit(asked.values["edit"])
    try:
        return {"text": edit_schedule(text, edit, schedule_route.asked_video(asked), TRANSITIONS, is_drawn)}
    except ScheduleError as error:
        return {"error": {"line": error.line, "message": str(error)}}


def _edit(value: Json) -> Edit:
    where = "the question.edit"
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in _NAMES:
        raise expected(f"{where}.kind", kind, f"one of {', '.join(_NAMES)}")
    names = _NAMES[kind]
    asked = Fields.of(value, where, ("kind", *names))
    word = asked.choice("transition", tuple(TRANSITIONS)) if asked.values.get("transition") is not None else None
    chunks = asked.values.get("soft_chunks")
    return Edit(
        kind,
        asked.integer("line", 0, _MOST_LINES) if "line" in names else 0,
        asked.number("second", 0, MOST_SECONDS) if "second" in names else 0.0,
        asked.text("prompt") if "prompt" in names else "",
        word,
        asked.integer("soft_chunks", 1, MOST_SOFT_CHUNKS) if word == "soft" and chunks is not None else None,
    )
