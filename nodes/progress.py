"""What a node shows while it works: a bar by the step, a line of text and a picture by the chunk."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import comfy.model_management
import comfy.utils
import latent_preview
from server import PromptServer
from torch import Tensor

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


class StepProgress:
    """Progress of a run on its node: a step at a time, with a line of text a chunk and, where `pictures` are wanted, a
    preview a chunk. Raises the host's interrupt."""

    def __init__(
        self, model: ModelPatcher, chunks: int, steps: int, node_id: str | None, doing: str, pictures: bool
    ) -> None:
        self._chunks, self._steps, self._node_id, self._doing = chunks, steps, node_id, doing
        self._bar = comfy.utils.ProgressBar(chunks * steps, node_id=node_id)
        self._previewer = None
        if pictures:
            self._previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)

    def step(self, chunk: int, step: int, x0: Tensor) -> None:
        """One step of a chunk is done."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        if step == 0:
            self._say(f"{self._doing} chunk {chunk + 1} of {self._chunks}".strip())
        self._bar.update_absolute(chunk * self._steps + step + 1, self._chunks * self._steps)

    def picture(self, chunk: int, latent: Tensor) -> None:
        """A chunk is done: show its first frame."""
        if self._previewer is not None:
            picture = self._previewer.decode_latent_to_preview_image("JPEG", latent)
            self._bar.update_absolute((chunk + 1) * self._steps, self._chunks * self._steps, picture)

    def rebuilt(self, done: int, chunks: int) -> None:
        """A finished chunk of a kept run is committed again."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        self._say(f"rebuilding memory {done} of {chunks}")
        self._bar.update_absolute(done * self._steps, self._chunks * self._steps)

    def prefix(self, done: int, chunks: int) -> None:
        """A chunk of what was there before is committed."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        self._say(f"reading what is there, {done} of {chunks}")

    def after(self, chunks: int) -> Callable[[int, int, Tensor], None]:
        """`step` for a rollout that begins when so many chunks are done."""
        return lambda chunk, step, x0: self.step(chunks + chunk, step, x0)

    def _say(self, text: str) -> None:
        _say(text, self._node_id)


def checking(node_id: str | None) -> Callable[[int, int], None]:
    """What hears of every chunk of a kept run that is checked before the run goes on. Raises the host's interrupt."""

    def checked(done: int, chunks: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        _say(f"checking what is kept, {done} of {chunks}", node_id)

    return checked


def _say(text: str, node_id: str | None) -> None:
    server = getattr(PromptServer, "instance", None)  # absent when nodes run without a server
    if server is not None and node_id is not None:
        server.send_progress_text(text, node_id)
