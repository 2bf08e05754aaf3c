"""Where a node shows what it does: lines of text on it, and events for its page."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import comfy.model_management
from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context
from server import PromptServer

from ...headforcing_core.files.strict_json import Json

_WARNING = "head_forcing.warning"
_MOST_WAITING = 64  # messages of the server

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NodeStatus:
    """The node that is at work, by its id in the workflow; None when it stands in none."""

    node_id: str | None

    @property
    def shown_id(self) -> str | None:
        """The id of the node in the page: a loop, or another node that expands, runs copies of it under other ids."""
        return None if self.node_id is None else get_progress_state().dynprompt.get_display_node_id(self.node_id)

    @property
    def run_id(self) -> str | None:
        """Another one each time that a node runs: copies in a loop have ids of their own. None outside a workflow."""
        context = get_executing_context()
        return None if context is None else f"{context.prompt_id}/{self.node_id}"

    @property
    def is_behind(self) -> bool:
        """Whether much waits to be sent: one queue serves all pages, and a slow one must not hold up the rest."""
        server = getattr(PromptServer, "instance", None)
        return server is not None and server.messages.qsize() > _MOST_WAITING

    def say(self, text: str) -> None:
        """Write a line on the node, in place of the last one."""
        server = getattr(PromptServer, "instance", None)  # absent when nodes run without a server
        if server is not None and self.shown_id is not None:
            with _going_on():
                server.send_progress_text(text, self.shown_id, server.client_id)

    def warn(self, text: str) -> None:
        """Write a sentence on the node that stays there until the node runs again, and into the console log."""
        log.warning("Head forcing: %s", text)
        self.send_event(_WARNING, {"text": text})

    def checked(self, done: int, chunks: int) -> None:
        """A chunk of a kept run was checked before the run goes on. Raises the host's interrupt."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        self.say(f"checking what is kept, {done} of {chunks}")

    def decoded(self, done: int, frames: int) -> None:
        """So many frames that were there before are decoded. Raises the host's interrupt."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        self.say(f"decoding what is there, {done} of {frames} frames")

    def send_event(self, event: str, data: Mapping[str, Json]) -> None:
        """Tell the page that started this, if any, what only this pack's own script there understands; with the ids of
        the node and of its run in the host's queue."""
        server, context = getattr(PromptServer, "instance", None), get_executing_context()
        if server is not None:
            ids = {"node_id": self.shown_id, "prompt_id": None if context is None else context.prompt_id}
            with _going_on():
                server.send_sync(event, {**ids, **data}, server.client_id)


@contextmanager
def _going_on() -> Iterator[None]:
    try:
        yield
    except Exception:  # a run does not end, nor hide what ended it, because a page cannot be told
        log.warning("Head forcing: the page could not be told", exc_info=True)
