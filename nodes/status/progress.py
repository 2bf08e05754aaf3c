"""What a node shows while it works: a bar by the step, a line of text and a moving preview by the chunk."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from itertools import accumulate
from textwrap import shorten
from time import perf_counter
from typing import TYPE_CHECKING, cast

import comfy.model_management
import comfy.utils
from PIL import Image
from torch import Tensor

from ...headforcing_core.files.disk_room import reason_of
from ...headforcing_core.geometry import VideoShape, pixel_frames_of
from ...headforcing_core.policy.fitting import FittedPolicy
from ...headforcing_core.rollout.loop import Chunk
from .node_status import NodeStatus
from .preview import Flipbook, flipped_frames, flipped_pictures, frame_previewer, show_on

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from latent_preview import LatentPreviewer


_LONGEST_PROMPT = 48
_MOST_CLOCKS = 3

log = logging.getLogger(__name__)


class StepProgress:
    """Progress of chunks on their node: a step at a time, with a line of text a chunk. `steps` are those of each chunk.
    Raises the host's interrupt.

    The line says what is being done, how many chunks there are, how long they will take, and the chunk's `_details`.
    """

    def __init__(self, steps: Sequence[int], status: NodeStatus, doing: str = "") -> None:
        self._chunks, self._status, self._doing = len(steps), status, doing
        self._steps = tuple(accumulate(steps, initial=0))  # before each chunk, and in all
        self._bar = comfy.utils.ProgressBar(self._steps[-1], node_id=status.node_id)
        self._made = self._rebuilt = 0  # chunks, in all and those of a kept run
        self._first: tuple[int, float] | None = None  # the first chunk of which steps were made, and when it began

    def step(self, chunk: int, step: int, x0: Tensor) -> None:
        """One step of a chunk is done."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        if step == 0:
            self._say(self._line(chunk))
        self._bar.update_absolute(self._steps[chunk] + step + 1, self._steps[-1])

    def rebuilt(self, done: int, chunks: int) -> None:
        """A finished chunk of a kept run is committed again."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        self._made = self._rebuilt = done
        self._say(f"rebuilding memory {done} of {chunks}")
        self._bar.update_absolute(self._steps[done], self._steps[-1])

    def prefix(self, done: int, chunks: int) -> None:
        """A chunk of what was there before is committed."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        self._say(f"reading what is there, {done} of {chunks}")

    def recall(self, chunk: int) -> None:
        """It is settled what a chunk recalls, which may take passes of the model between two of its steps."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        self._say(f"looking back for chunk {chunk + 1} of {self._chunks}")

    def after(self, chunks: int) -> Callable[[int, int, Tensor], None]:
        """`step` for a rollout that begins when so many chunks are done."""
        return lambda chunk, step, x0: self.step(chunks + chunk, step, x0)

    def _line(self, chunk: int) -> str:
        now = perf_counter()
        self._first = self._first or (chunk, now)
        first, began = self._first
        line = f"{self._doing} chunk {chunk + 1} of {self._chunks}".strip()
        if chunk > first:
            line += f", {_clock((now - began) / (chunk - first) * (self._chunks - chunk))} left"
        return line + self._details(chunk)

    def _details(self, chunk: int) -> str:
        return ""

    def _say(self, text: str) -> None:
        self._status.say(text)


class RunProgress(StepProgress):
    """Progress of a run, which also shows each finished chunk as it moves, and in its line of text the prompt and what
    is remembered under a policy. `prompt_of` gives a chunk's prompt. Close it when the run ends."""

    def __init__(
        self,
        model: ModelPatcher,
        video: VideoShape,
        steps: Sequence[int],
        status: NodeStatus,
        policy: FittedPolicy,
        prompt_of: Callable[[int], str],
    ) -> None:
        super().__init__(steps, status)
        self._fps = video.fps
        self._policy = policy
        self._prompt_of = prompt_of
        self._began = perf_counter()
        self._remembered = ""
        self._previewer: LatentPreviewer | None = None
        try:
            self._previewer = frame_previewer(model)
        except Exception as error:  # a video is not to end for its preview, which other packs make in their own ways
            self._no_preview(error)
        self._flipbook = Flipbook(show_on(status.node_id))

    def made(self, chunk: Chunk, is_shown: bool) -> None:
        """A chunk is done. If it `is_shown`, its decoded pictures come by `show`; else it is drawn by its latent."""
        self._made = chunk.index + 1
        self._remembered = f" | {self._episodes(chunk)}, {chunk.kv_bytes / 1e9:.2f} GB"
        if self._previewer is None or is_shown:  # no previews are wanted, or one comes
            return
        try:
            drawn, seconds = flipped_frames(chunk.latent, self._preview, self._fps)
            if not drawn:
                raise ValueError(f"{type(self._previewer).__name__} makes no picture of a single frame")
            self._flipbook.turn_to(drawn, seconds)
        except Exception as error:
            self._no_preview(error)

    def show(self, pictures: Tensor) -> None:
        """The pictures of the newest chunk that is decoded, from whatever thread."""
        if self._previewer is None:
            return
        try:
            self._flipbook.turn_to(*flipped_pictures(pictures, self._fps))
        except Exception as error:
            self._no_preview(error)

    def close(self) -> None:
        """The run has ended, whole or not."""
        self._flipbook.close()
        if self._made == self._chunks:
            self._say(f"{self._chunks - self._rebuilt} chunks made in {_clock(perf_counter() - self._began)}")
        else:
            self._say(f"stopped after {self._made} of {self._chunks} chunks")

    def _details(self, chunk: int) -> str:
        prompt = shorten(self._prompt_of(chunk), _LONGEST_PROMPT, placeholder="...")
        return f" | {prompt}{self._remembered}"

    def _episodes(self, chunk: Chunk) -> str:
        """How many a chunk read; under a policy that recalls, the seconds of the video that they are from."""
        frames = [frame for frame, _, tier in chunk.seen["memory"] if tier == "episode"]
        each = self._policy.episode_frames
        told = f"{-(-len(frames) // each)} episodes"
        if not self._policy.recalls or not frames:
            return told
        clocks = list(dict.fromkeys(_clock(max(0, pixel_frames_of(first)) / self._fps) for first in frames[::each]))
        return f"{told} from {', '.join(clocks[:_MOST_CLOCKS])}{', ...' * (len(clocks) > _MOST_CLOCKS)}"

    def _no_preview(self, error: Exception) -> None:
        self._previewer = None
        log.info("Head forcing: a preview failed", exc_info=error)
        self._status.warn(f"There is no preview: {reason_of(error)}. The video is made all the same.")

    def _preview(self, frame: Tensor) -> Image.Image | None:
        assert self._previewer is not None
        made = self._previewer.decode_latent_to_preview_image("JPEG", frame)
        return None if made is None else cast("Image.Image", made[1])


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
