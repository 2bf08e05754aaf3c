"""Prompts that are typed while a run goes on: left by the server's thread, taken by the run's own between chunks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import NamedTuple


class NotNow(Exception):
    """A live prompt that is right in itself but cannot be taken; the message is for the artist."""


class LivePrompt(NamedTuple):
    """A prompt in one line, how it takes over, on which chunk, at which second of the video that is, and sentences on
    what of it does nothing."""

    text: str
    transition: str
    chunk: int
    second: float
    notes: tuple[str, ...] = ()


class Mailbox:
    """Where a run finds the prompt that waits for its next chunk.

    `chunk` is being made, of `chunks`; scenes of the schedule begin on those of `scenes`, and `start_second` tells when
    a chunk does. `refusal` says why the run takes no live prompt, empty if it does; `refused`, by transition, why it
    takes none by that.
    """

    def __init__(
        self,
        chunk: int,
        chunks: int,
        scenes: Collection[int],
        start_second: Callable[[int], float],
        refusal: str = "",
        refused: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._lock = threading.Lock()
        self._chunk, self._chunks, self._scenes, self._start_second = chunk, chunks, scenes, start_second
        self._refusal, self._refused = refusal, refused
        self._waiting: LivePrompt | None = None

    @property
    def is_open(self) -> bool:
        """Whether a prompt can still be left."""
        return not self._refusal and self._next_chunk() < self._chunks

    def put(self, text: str, transition: str, notes: tuple[str, ...] = ()) -> tuple[LivePrompt, bool]:
        """Leave a prompt for the next chunk on which no scene begins; returns it, and whether it took the place of one
        that waited. NotNow when the run cannot take it."""
        with self._lock:
            refusal = self._refusal or self._refused.get(transition)
            if refusal:
                raise NotNow(refusal)
            chunk = self._next_chunk()
            if chunk >= self._chunks:
                raise NotNow(
                    f"Chunk {self._chunk + 1} of {self._chunks} is being made. The video ends before another prompt "
                    "could take over. Make a longer video, or put the prompt into the schedule."
                )
            replaced = self._waiting is not None
            self._waiting = LivePrompt(text, transition, chunk, self._start_second(chunk), notes)
            return self._waiting, replaced

    def take(self, chunk: int) -> LivePrompt | None:
        """The prompt that takes over on this chunk, which begins now."""
        with self._lock:
            self._chunk = chunk
            if self._waiting is None or self._waiting.chunk != chunk:
                return None
            taken, self._waiting = self._waiting, None
            return taken

    def _next_chunk(self) -> int:
        return next(chunk for chunk in range(self._chunk + 1, self._chunks + 1) if chunk not in self._scenes)


_open: dict[str, Mailbox] = {}  # by the id of the node whose run is going


@contextmanager
def opened(mailbox: Mailbox, node_id: str | None) -> Iterator[None]:
    """While this lasts, prompts for the node reach its run."""
    if node_id is None:
        yield
        return
    _open[node_id] = mailbox
    try:
        yield
    finally:
        del _open[node_id]


def mailbox_of(node_id: str) -> Mailbox:
    """The mailbox of the run that is going on a node. NotNow when there is none."""
    mailbox = _open.get(node_id)
    if mailbox is None:
        raise NotNow(
            f"No run of the Head-Forced Sampler {node_id[:60]!r} is going. A live prompt takes over while a video is "
            "made. Press Run first, and send it once the first chunk has begun."
        )
    return mailbox
