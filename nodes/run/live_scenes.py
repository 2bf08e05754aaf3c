"""The scenes of a run as they stand while it is made: those of its schedule, and those typed meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import shorten
from typing import TYPE_CHECKING, cast

import comfy.model_management
import torch

from ...headforcing_core.policy.fitting import FittedPolicy
from ...headforcing_core.rollout.plan import Segment, with_segment
from ...headforcing_core.rollout.transitions import TRANSITIONS, check_transition
from ..request.run_scenes import as_taught, schedule_text
from .live_mailbox import LivePrompt, Mailbox, opened

if TYPE_CHECKING:
    from torch import Tensor

    from ..keeping.run import Run
    from ..request.run_request import RunRequest
    from ..sockets import Conditioning
    from ..status.node_status import NodeStatus
    from ..video.growing_video import VideoStream

EVENT = "head_forcing.scenes"
_SHOWN = 120  # characters
_MOST_TIMES = 20.0  # beyond the weights that anybody gives a word
_NO_TEXT_ENCODER = (
    "The run was given its prompt by the positive input, which carries no text encoder. A live prompt has to be "
    "encoded while the video is made. Connect a Prompt Schedule instead."
)
_NATIVE = (
    "The run has noise native, which repeats ComfyUI's own sampler, and that one cannot change its prompt. Set noise "
    "to per_chunk."
)
_NO_CUT = (
    "The run's policy has rope absolute. A cut puts the past at the far end of the trained range, and absolute "
    "positions have none. Use another transition."
)


class LiveScenes:
    """The `segments` of one run, which become more when somebody types a prompt; each is written down with the run.

    `notes` are sentences for the report. Prompts are encoded by the schedule's own text encoder, between two chunks.
    """

    def __init__(self, request: RunRequest, run: Run, status: NodeStatus) -> None:
        self.segments = request.rollout.segments
        self.notes: list[str] = []
        self._request, self._run, self._status = request, run, status
        self._stream: VideoStream | None = None
        self._mailbox = Mailbox(
            max(run.finished.chunks - 1, 0),
            request.video.chunks,
            {segment.first_chunk for segment in self.segments},
            request.video.start_second,
            _NO_TEXT_ENCODER if request.schedule is None else _NATIVE if request.noise == "native" else "",
            _refused(request.fitted),
        )

    @property
    def schedule_text(self) -> str | None:
        """The text for Prompt Schedule that makes the same video again; None without a schedule."""
        if self._request.schedule is None:
            return None
        return schedule_text(self.segments, self._request.video.start_second, self._request.past.way)

    def prompt_of(self, chunk: int) -> str:
        """The prompt of a chunk."""
        return [segment.prompt for segment in self.segments if segment.first_chunk <= chunk][-1]

    @contextmanager
    def listening(self, stream: VideoStream | None) -> Iterator[None]:
        """While this lasts, live prompts reach the run, and the page knows. The text encoder is loaded only when the
        run's video is at rest: it may have to make room where the VAE is."""
        self._stream = stream
        try:
            with opened(self._mailbox, self._status.shown_id):
                self._show(self._mailbox.is_open, self._run.finished.chunks)
                yield
        finally:
            self._show(False, self._request.video.chunks)

    def segment_for(self, chunk: int) -> Segment[Conditioning] | None:
        """The scene that was typed for this chunk, which begins now."""
        prompt = self._mailbox.take(chunk)
        schedule = self._request.schedule
        if prompt is None or schedule is None:
            return None
        if self._stream is not None:
            self._stream.settle()
        self._status.say(f"reading the live prompt: {shorten(prompt.text, _SHOWN)}")  # may load the encoder
        try:
            text = schedule.encode(prompt.text)
            segment = Segment(chunk, text, prompt.transition, schedule.soft_chunks, prompt.text, live=True)
            segment = as_taught(segment, schedule, self._request.fitted.shots)
            for each in (text, segment.first_text or text):
                _check_text(each, self.segments[0].text)
        except Exception as error:  # whatever the encoder makes of what somebody typed, the video goes on
            reason = "out of memory" if comfy.model_management.is_oom(error) else str(error) or type(error).__name__
        else:
            self.segments = with_segment(self.segments, segment)
            self._run.note_segments(self.segments)
            self.notes += prompt.notes
            self._show(self._mailbox.is_open, chunk)
            return segment
        self._without(prompt, reason)  # after the handler, since the exception holds what was allocated
        return None

    def _without(self, prompt: LivePrompt, reason: str) -> None:
        comfy.model_management.soft_empty_cache()
        note = (
            f"The live prompt at {prompt.second:.2f} s could not be encoded ({shorten(reason, _SHOWN)}), so the video "
            f"went on without: {prompt.text}"
        )
        self.notes.append(note)
        self._status.warn(note)
        self._show(self._mailbox.is_open, prompt.chunk, failed=True)

    def _show(self, is_open: bool, chunk: int, failed: bool = False) -> None:
        told = {"chunk": chunk, "open": is_open, "failed": failed, "schedule": self.schedule_text}
        self._status.send_event(EVENT, told)


def _refused(policy: FittedPolicy) -> dict[str, str]:
    """Why the run takes no live prompt by a transition, by those of which that is so."""
    found: dict[str, str] = {}
    for word, transition in TRANSITIONS.items():
        try:
            check_transition(word, policy)
        except ValueError as error:
            found[word] = _NO_CUT if transition.is_far else str(error)
    return found


def _check_text(text: Conditioning, usual: Conditioning) -> None:
    """ValueError for a text that would spoil the chunk, as one with a weight of infinity does."""
    size, known = (
        torch.linalg.vector_norm(cast("Tensor", each[0][0]).float(), dim=-1).amax() for each in (text, usual)
    )
    if not bool(size <= _MOST_TIMES * known):
        raise ValueError(f"its numbers are up to {float(size / known):.3g} times as large as those of the first prompt")
