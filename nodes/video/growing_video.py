"""A video that is made while it is sampled: each finished chunk decoded and appended to an MP4."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import comfy.cli_args
from av.error import FFmpegError
from torch import Tensor

from ..host.chunk_decoder import ChunkDecoder
from .mp4_writer import VideoWriter

if TYPE_CHECKING:
    from comfy.sd import VAE

log = logging.getLogger(__name__)


class VideoStream:
    """An MP4 of at most `pixel_frames` pictures that grows by the chunk, in the memory of two chunks: while one is
    sampled, the one before is encoded on the processor, in a thread that ends with `close`.

    A run outlives its video: when a chunk cannot be decoded or written, `failure` says why, and nothing more is added.
    """

    def __init__(self, vae: VAE, path: Path, fps: float, pixel_frames: int, metadata: Mapping[str, str]) -> None:
        self.path = path
        self.failure: str | None = None
        self._pixel_frames = pixel_frames
        self._decoder = ChunkDecoder(vae)
        self._writer = VideoWriter(path, Fraction(fps), metadata)
        self._thread = ThreadPoolExecutor(1, "head-forcing-video")
        self._encoding: Future[None] | None = None
        self._decoded = 0

    @property
    def pixel_frames(self) -> int:
        """Pictures in the file."""
        return self._writer.pixel_frames

    def expected_bytes(self, width: int, height: int) -> int:
        """Bytes that the decoder will remember between two chunks of a size in pixels."""
        return self._decoder.expected_bytes(width, height)

    def append(self, latent: Tensor) -> Tensor | None:
        """The next frames of the video's LATENT, (1, channels, frames, height, width). Returns their pictures,
        (pictures, height, width, 3) in 0 to 1, if there are more."""
        missing = self._pixel_frames - self._decoded
        if self.failure is not None or not missing:
            return None
        try:
            pictures = self._decoder.decode(latent)[:missing]
            self._finish_encoding()
        except (RuntimeError, FFmpegError) as error:  # out of memory is a RuntimeError
            self._fail(error)
            return None
        self._decoded += len(pictures)
        self._encoding = self._thread.submit(self._writer.append, pictures)
        return pictures

    def close(self) -> None:
        """Finish the file; what is there plays in any case."""
        self._decoder.close()
        try:
            self._finish_encoding()
            self._writer.close()
        except (RuntimeError, FFmpegError) as error:
            self._fail(error)
        finally:
            self._thread.shutdown()

    def _finish_encoding(self) -> None:
        encoding, self._encoding = self._encoding, None
        if encoding is not None:
            encoding.result()

    def _fail(self, error: Exception) -> None:
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
