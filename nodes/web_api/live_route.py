"""POST /head_forcing/live_prompt: a prompt for the run that is going, from the next chunk on (docs/live_prompts.md).

Asked: `node_id` of the sampler whose run it is, `text`, and `transition`.

Answered: {"chunk", "second", "replaced", "notes"}: on which chunk and at which second of the video it takes over,
whether it took the place of a prompt that still waited, and what of the text does nothing.
"""

from __future__ import annotations

from ...headforcing_core.files.strict_json import Fields, Json
from ...headforcing_core.rollout.transitions import TRANSITIONS
from ...headforcing_core.schedule.reading import read_live_prompt
from ...headforcing_core.schedule.scenes import ScheduleError
from ..run.live_mailbox import NotNow, mailbox_of

FIELDS = ("node_id", "text", "transition")
MOST_CHARACTERS = 4000


def answer(asked: Fields) -> dict[str, Json]:
    """Leave the prompt with the run. ValueError for a field that is wrong, NotNow when the run cannot take it."""
    text, transition = asked.text("text"), asked.choice("transition", tuple(TRANSITIONS))
    node_id = asked.text("node_id")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("text holds half of a character")
    try:
        text, notes = read_live_prompt(text)
    except ScheduleError as error:
        raise NotNow(str(error)) from None
    if not 1 <= len(text) <= MOST_CHARACTERS:
        raise ValueError(f"text has {len(text)} characters, not 1 to {MOST_CHARACTERS}")
    prompt, replaced = mailbox_of(node_id).put(text, transition, notes)
    return {
        "chunk": prompt.chunk,
        "second": round(prompt.second, 3),
        "replaced": replaced,
        "notes": list(prompt.notes),
    }
