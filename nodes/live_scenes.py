"""The scenes of a run as they stand while it is made: those of its schedule, and those typed meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import comfy.model_management
from comfy_execution.utils import get_executing_context

from ..headforcing_core.plan import Segment
from .live_prompts import LivePrompt, Mailbox, opened
from .progress import send_event
from .run_scenes import live_scene
from .sockets import PromptSchedule

if TYPE_CHECKING:
    from .run_folder import Run
    from .run_plan import RunPlan
    from .sockets import Conditioning

EVENT = "head_forcing.scenes"
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

log = logging.getLogger(__name__)


class LiveScenes:
    """The `scenes` of one run, which become more when somebody types a prompt; each is written down with the run.

    `notes` are sentences for the report. Prompts are encoded by the schedule's own text encoder, between two chunks.
    """

    def __init__(
        self, plan: RunPlan, schedule: PromptSchedule | None, noise_mode: str, run: Run, node_id: str | None
    ) -> None:
        self.scenes = plan.scenes
        self.notes: list[str] = []
        self._plan, self._schedule, self._run, self._node_id = plan, schedule, run, node_id
        self._mailbox = Mailbox(
            max(run.finished.chunks - 1, 0),
            plan.video.chunks,
            plan.scenes.first_chunks,
            plan.video.start_second,
            _NO_TEXT_ENCODER if schedule is None else _NATIVE if noise_mode == "native" else "",
            _NO_CUT if plan.fitted.policy.rope == "absolute" else "",
        )

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While this lasts, live prompts reach the run, and the page knows."""
        try:
            with opened(self._mailbox, self._node_id):
                self._show(self._mailbox.is_open, self._run.finished.chunks)
                yield
        finally:
            self._show(False, self._plan.video.chunks)

    def take(self, chunk: int) -> Segment[Conditioning] | None:
        """The scene that was typed for this chunk, which begins now."""
        prompt = self._mailbox.take(chunk)
        if prompt is None or self._schedule is None:
            return None
        try:
            scene, segment = live_scene(self._schedule, prompt.text, prompt.transition, chunk, self._plan.video)
        except Exception as error:
            comfy.model_management.raise_non_oom(error)
        else:
            self.scenes = self.scenes.with_live(scene, segment)
            self._run.note_scenes(self.scenes)
            self._show(self._mailbox.is_open, chunk)
            return segment
        self._without(prompt)  # after the handler, since the exception holds what was allocated
        return None

    def _without(self, prompt: LivePrompt) -> None:
        comfy.model_management.soft_empty_cache()
        note = (
            f"Out of memory when the live prompt at {prompt.second:.2f} s was encoded, so the video went on without: "
            f"{prompt.text}"
        )
        self.notes.append(note)
        log.warning("Head forcing: %s", note)

    def _show(self, is_open: bool, chunk: int) -> None:
        context = get_executing_context()
        send_event(
            EVENT,
            {
                "node_id": self._node_id,
                "prompt_id": None if context is None else context.prompt_id,
                "chunk": chunk,
                "open": is_open,
                "schedule": self.scenes.schedule(self._plan.video.start_second),
            },
        )
