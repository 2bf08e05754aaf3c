"""Lines on a node and events for its page."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import comfy.model_management
from server import PromptServer

log = logging.getLogger(__name__)


def checking(node_id: str | None) -> Callable[[int, int], None]:
    """What hears of every chunk of a kept run that is checked before the run goes on. Raises the host's interrupt."""

    def checked(done: int, chunks: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        say(f"checking what is kept, {done} of {chunks}", node_id)

    return checked


def send_event(event: str, data: Mapping[str, str | int | bool | None]) -> None:
    """Tell the page that started this, if any, what only this pack's own script there understands."""
    server = getattr(PromptServer, "instance", None)
    if server is not None:
        with _going_on():
            server.send_sync(event, dict(data), server.client_id)


def say(text: str, node_id: str | None) -> None:
    """Write a line on a node."""
    server = getattr(PromptServer, "instance", None)  # absent when nodes run without a server
    if server is not None and node_id is not None:
        with _going_on():
            server.send_progress_text(text, node_id, server.client_id)


@contextmanager
def _going_on() -> Iterator[None]:
    try:
        yield
    except Exception:  # a run does not end, nor hide what ended it, because a page cannot be told
        log.warning("Head forcing: the page could not be told", exc_info=True)
