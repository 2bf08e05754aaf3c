"""A video that is made while it is sampled: each finished chunk decoded and appended to an MP4."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import comfy.cli_args
from torch import Tensor

from .chunk_decoder import ChunkDecoder
from .video_file import VideoWriter

if TYPE_CHECKING:
    from comfy.sd import VAE

log = logging.getLogger(__name__)


class VideoStream:
    """An MP4 of at most `pixel_frames` pictures that grows by the chunk, in the memory of one chunk.

    A run outlives its video: when a chunk cannot be decoded or written, `failure` says why, and nothing more is added.
    """

    def __init__(self, vae: VAE, path: Path, fps: float, pixel_frames: int, metadata: Mapping[str, str]) -> None:
        self.path = path
        self.failure: str | None = None
        self._pixel_frames = pixel_frames
        self._decoder = ChunkDecoder(vae)
        self._writer = VideoWriter(path, Fraction(fps), metadata)

    @property
    def pixel_frames(self) -> int:
        """Pictures in the file."""
        return self._writer.pixel_frames

    def append(self, latent: Tensor) -> None:
        """The next frames of the video's LATENT, (1, channels, frames, height, width)."""
        missing = self._pixel_frames - self._writer.pixel_frames
        if self.failure is not None or not missing:
            return
        try:
            self._writer.append(self._decoder.decode(latent)[:missing])
        except RuntimeError as error:  # out of memory is one
            self._fail(error)

    def close(self) -> None:
        """Finish the file; what is there plays in any case."""
        self._decoder.close()
        try:
            self._writer.close()
        except RuntimeError as error:
            self._fail(error)

    def _fail(self, error: RuntimeError) -> None:
        self.failure = (
            f"The video stopped after {self._writer.pixel_frames} of {self._pixel_frames} pictures: {error} The latent "
            "is whole, and the video output decodes it again."
        )
        log.warning("Head forcing: %s", self.failure)


def workflow_metadata(prompt: object, extra_pnginfo: Mapping[str, object] | None) -> dict[str, str]:
    """What the host writes into its own videos, so that the workflow can be read from the file."""
    if comfy.cli_args.args.disable_metadata:
        return {}
    given = {"prompt": prompt, **(extra_pnginfo or {})}
    return {name: json.dumps(value) for name, value in given.items() if value is not None}
