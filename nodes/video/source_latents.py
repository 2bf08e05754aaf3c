"""The latent of a video that a run is made of, chunk by chunk, between two calls of the model."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import repeat
from typing import TYPE_CHECKING

from torch import Tensor

from ...headforcing_core.geometry import TIME_STRIDE
from ..host.chunk_encoder import ChunkEncoder
from ..host.encoders import LOOK_BACK
from ..host.finite import check_finite

if TYPE_CHECKING:
    from comfy.sd import VAE

    from .source_video import SourceVideo

log = logging.getLogger(__name__)


class SourceLatents:
    """Frames of a SourceVideo in the memory of a chunk, however long it is. Where it ends its last picture stays.

    The first frame holds one picture, later ones four each, as in every video. Of a video that `goes_on` from another
    one all hold four: its first picture then stands before it once more, as the single one of a frame that is left out.
    """

    def __init__(self, video: SourceVideo, vae: VAE, goes_on: bool) -> None:
        self._video = video
        self._encoder = ChunkEncoder(vae)
        self._left_out = int(goes_on)
        self._lead = self._encoder.first_pictures - 1 + self._left_out  # copies of the first picture that come before
        self._pictures: Iterator[Tensor] | None = None
        self._next = 0
        self.pictures = 0  # as many as were there, once it has ended; the video's own
        self.ended: str | None = None  # why there were no more

    def frames(self, own: range) -> Tensor:
        """These frames of the LATENT, (1, channels, frames, height, width). They are asked in order; what is not asked
        from the beginning on is made to the same bits. ValueError for a video without a picture, or numbers that are
        none; RuntimeError for one that cannot be read."""
        if self._pictures is None or own.start != self._next:
            self._begin(own.start)
        assert self._pictures is not None
        frames = self._encoder.frames(self._pictures, len(own))
        check_finite([frames], "video, encoded by this vae,", "Start ComfyUI with --fp32-vae.")
        self._next = own.stop
        return frames

    def close(self) -> None:
        """Let go of the video's file."""
        self._pictures = None
        self._encoder.close()

    def _begin(self, frame: int) -> None:
        """Go to a frame: from a little before, since an encoder does not look back to the beginning. Frames that it
        makes together stay together, as their last bits may depend on that."""
        self.close()
        frame += self._left_out
        begin = max(0, frame - LOOK_BACK) // self._encoder.frames_at_once * self._encoder.frames_at_once
        self._pictures = self._held(TIME_STRIDE * begin)
        if frame > begin:
            self._encoder.frames(self._pictures, frame - begin)

    def _held(self, first: int) -> Iterator[Tensor]:
        """The encoder's pictures without end, from one of them on; the lead before the video counts."""
        own = max(0, first - self._lead)
        last: Tensor | None = None
        number = own
        try:
            for last in self._video.pictures(own):
                if first == 0 == number:
                    yield from repeat(last, self._lead)
                yield last
                number += 1
        except RuntimeError as error:
            if last is None:
                raise
            log.warning("Head forcing: %s", error)
            self.ended = str(error)
        self.pictures, self.ended = number, self.ended or ""
        if last is not None:
            yield from repeat(last)
