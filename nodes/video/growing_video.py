"""A video that is made while it is sampled: each finished chunk decoded and appended to an MP4."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import comfy.cli_args
import torch
from torch import Tensor

from ...headforcing_core.files.disk_room import reason_of
from ..host.chunk_decoder import REACH, ChunkDecoder
from ..host.second_device import decoding_beside, is_apart
from .mp4_writer import VideoWriter
from .sound import Sound

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import VAE

Decode = Callable[[Tensor], Tensor]
OnPictures = Callable[[Tensor], None]
"""(pictures (pictures, height, width, 3) in 0 to 1), called in a thread of the stream; it must not raise."""

_FRAMES_AT_ONCE = 3  # as a chunk has

log = logging.getLogger(__name__)


class VideoStream:
    """An MP4 of at most `pixel_frames` pictures that grows by the chunk, in the memory of two chunks: while one is
    sampled, the one before is shown and encoded on the processor, in a thread that ends with `close`.

    A run outlives its video: whatever fails here is not raised, `failure` says it in a sentence for the report, and
    nothing more is added. An interrupt passes.
    """

    def __init__(
        self,
        vae: VAE,
        path: Path,
        fps: float,
        pixel_frames: int,
        metadata: Mapping[str, str],
        sound: Sound | None = None,
    ) -> None:
        self.path = path
        self.failure: str | None = None
        self._pixel_frames = pixel_frames
        self._plays = "plays" if sound is None else "plays without its sound"  # until it is finished
        self._vae = vae
        self._decoder = ChunkDecoder(vae)
        self._writer = VideoWriter(path, Fraction(fps), metadata, sound)
        self._thread = ThreadPoolExecutor(1, "head-forcing-video")
        self._encoding: Future[None] | None = None
        self._beside: ThreadPoolExecutor | None = None
        self._decoding: Future[None] | None = None
        self._decoded = 0

    @property
    def pixel_frames(self) -> int:
        """Pictures in the file."""
        return self._writer.pixel_frames

    @property
    def is_whole(self) -> bool:
        """Whether all pictures are in the file, which then plays, even when it could not be finished."""
        return self.pixel_frames == self._pixel_frames

    def expected_bytes(self, width: int, height: int, model: ModelPatcher) -> int:
        """Bytes on a model's device that the decoder will remember between two chunks of a size in pixels."""
        return 0 if is_apart(self._vae, model) else self._decoder.expected_bytes(width, height)

    def decode_beside(self, model: ModelPatcher) -> list[str]:
        """From now on decode while the caller goes on with a model, if the VAE is on another device. Sentences for the
        report."""
        if not is_apart(self._vae, model):
            return []
        self._beside = ThreadPoolExecutor(1, "head-forcing-decoding")
        return [f"The video was decoded on {self._vae.device} while {model.load_device} made the next chunk."]

    def append(self, latent: Tensor, on_pictures: OnPictures | None = None, kept: Future[None] | None = None) -> bool:
        """The next frames of the video's LATENT, (1, channels, frames, height, width), which the caller leaves as they
        are. Whether there will be pictures of them, which `on_pictures` is given. They are in the file only after
        `kept` is done, and not if it failed."""
        self._finish_decoding()
        if self.failure is not None or self._decoded == self._pixel_frames:
            return False
        try:
            append = partial(self._append, latent, on_pictures, kept)
            if self._beside is None:
                append(self._decoder.decode)
            else:
                self._decoder.load(latent)
                self._decoding = self._beside.submit(copy_context().run, self._append_beside, append)
        except Exception as error:
            self._fail(error)
        return self.failure is None

    def append_all(self, latent: Tensor, on_frames: Callable[[int, int], None]) -> None:
        """The next frames of the video's LATENT, however many, in the memory of a chunk. `on_frames` hears of (frames
        appended, frames) after every few; what it raises ends it."""
        frames, done = latent.shape[2], 0
        for piece in latent.split(_FRAMES_AT_ONCE, dim=2):
            self.append(piece)
            done += piece.shape[2]
            on_frames(done, frames)

    def begin(self, latent: Tensor, on_frames: Callable[[int, int], None]) -> None:
        """The frames before the first chunk; `on_frames` as above."""
        self.append_all(latent, on_frames)

    def go_on_after(self, latent: Tensor, on_frames: Callable[[int, int], None]) -> None:
        """Have the next frames follow those of a latent, of which no picture is to be in the file: as many of its last
        ones are decoded as decide about what comes; `on_frames` as above."""
        before = latent[:, :, -REACH:]
        frames, done = before.shape[2], 0
        for piece in before.split(_FRAMES_AT_ONCE, dim=2):
            try:
                self._decoder.decode(piece)
            except Exception as error:
                self._fail(error)
                return
            done += piece.shape[2]
            on_frames(done, frames)

    def settle_decoding(self) -> None:
        """Wait until the VAE is at rest."""
        self._finish_decoding()

    def settle(self) -> None:
        """Wait until all that was appended is in the file."""
        self._finish_decoding()
        try:
            self._finish_encoding()
        except Exception as error:
            self._fail(error)

    def close(self) -> None:
        """Finish the file; what is there plays in any case."""
        if self._beside is not None:
            self._beside.shutdown()  # once the last frames are decoded; the run hears of an interrupt there by itself
        self._decoder.close()
        self._thread.shutdown()  # once the last pictures are encoded
        for finish in (self._finish_encoding, self._writer.close):
            try:
                finish()
            except Exception as error:
                self._fail(error)

    def _append_beside(self, append: Callable[[Decode], None]) -> None:
        try:
            with decoding_beside(self._vae):
                append(self._decoder.decode_loaded)
        except Exception as error:
            self._fail(error)

    def _append(
        self, latent: Tensor, on_pictures: OnPictures | None, kept: Future[None] | None, decode: Decode
    ) -> None:
        pictures = decode(latent)[: self._pixel_frames - self._decoded]
        self._finish_encoding()
        self._encoding = self._thread.submit(copy_context().run, self._encode, pictures, on_pictures, kept)
        self._decoded += len(pictures)

    def _encode(self, pictures: Tensor, on_pictures: OnPictures | None, kept: Future[None] | None) -> None:
        pictures = three_colours(pictures)
        if on_pictures is not None:
            on_pictures(pictures)
        if kept is None or kept.exception() is None:  # waits for it: what is in the video is kept
            self._writer.append(pictures)

    def _finish_decoding(self) -> None:
        decoding, self._decoding = self._decoding, None
        if decoding is not None:
            decoding.result()

    def _finish_encoding(self) -> None:
        encoding, self._encoding = self._encoding, None
        if encoding is not None:
            encoding.result()

    def _fail(self, error: Exception) -> None:
        wait([self._encoding] if self._encoding else [])  # what is being encoded counts
        if self.is_whole:
            failure = (
                f"The video has all of its {self.pixel_frames} pictures and {self._plays}, but it could not be "
                f"finished: {reason_of(error)}. With a run_name, run again to have it finished."
            )
        else:
            failure = (
                f"The video stopped after {self.pixel_frames} of {self._pixel_frames} pictures: {reason_of(error)}. "
                "The latent is whole, and the video output decodes it again."
            )
        log.warning("Head forcing: %s", failure, exc_info=error)
        self.failure = self.failure or failure


def three_colours(pictures: Tensor) -> Tensor:
    """The colours of decoded pictures, (..., height, width, channels). RuntimeError for what is no picture."""
    channels = pictures.shape[-1]
    if channels not in (3, 4):  # the fourth is how far a picture covers what is behind it
        raise RuntimeError(
            f"the VAE makes {channels} channels, and a picture has 3. One that enlarges needs the node it came with, "
            "behind the latent output; here load wan_2.1_vae.safetensors"
        )
    if not bool(torch.isfinite(pictures).all()):
        raise RuntimeError(
            "the VAE came out with NaN or infinity, which would be black pictures. Start ComfyUI with --fp32-vae, or "
            "load another VAE file"
        )
    return pictures[..., :3]


def workflow_metadata(prompt: object, extra_pnginfo: Mapping[str, object] | None) -> dict[str, str]:
    """What the host writes into its own videos, so that the workflow can be read from the file."""
    if comfy.cli_args.args.disable_metadata:
        return {}
    given = {"prompt": prompt, **(extra_pnginfo or {})}
    return {name: json.dumps(value) for name, value in given.items() if value is not None}
