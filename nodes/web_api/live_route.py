"""POST /head_forcing/live_prompt: a prompt for the run that is going, from the next chunk on (docs/live_prompts.md).

Asked: `node_id` of the sampler whose run it is, `text`, and `transition`.

Answered: {"chunk", "second", "replaced"}: on which chunk and at which second of the video it takes over, and whether it
took the place of a prompt that still waited.
"""

from __future__ import annotations

from ...headforcing_core.files.strict_json import Fields, Json
from ...headforcing_core.rollout.transitions import TRANSITIONS
from ..run.live_mailbox import mailbox_of

FIELDS = ("node_id", "text", "transition")
MOST_CHARACTERS = 4000


def answer(asked: Fields) -> dict[str, Json]:
    """Leave the prompt with the run. ValueError for a field that is wrong, NotNow when the run cannot take it."""
    text = " ".join(asked.text("text").split())
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("text holds half of a character")
    if not 1 <= len(text) <= MOST_CHARACTERS:
        raise ValueError(f"text has {len(text)} characters, not 1 to {MOST_CHARACTERS}")
    transition = asked.choice("transition", tuple(TRANSITIONS))
    prompt, replaced = mailbox_of(asked.text("node_id")).put(text, transition)
    return {"chunk": prompt.chunk, "second": round(prompt.second, 3), "replaced": replaced}
