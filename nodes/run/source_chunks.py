"""What the chunks of a run are made of, where that is another video: encoded while the model is at rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import Tensor

from ..host.model import latent_in

if TYPE_CHECKING:
    from ..keeping.run import Run
    from ..request.run_request import RunRequest
    from ..status.node_status import NodeStatus
    from ..video.growing_video import VideoStream
    from ..video.source_latents import SourceLatents


class SourceChunks:
    """Chunks of the source in model space, (1, channels, frames, height, width), from `first` on, which is said on the
    node. Encoding waits until the VAE has decoded what the `stream` was given before."""

    def __init__(
        self, request: RunRequest, latents: SourceLatents, first: int, stream: VideoStream | None, status: NodeStatus
    ) -> None:
        self._request, self._latents, self._first = request, latents, first
        self._stream, self._status = stream, status
        self._ahead: tuple[int, Tensor] | None = None

    def read(self, chunk: int) -> Tensor:
        """One chunk."""
        ahead, self._ahead = self._ahead, None
        return ahead[1] if ahead is not None and ahead[0] == chunk else self._encoded(chunk)

    def read_ahead(self, chunk: int) -> None:
        """Encode a chunk that is read next, if it is to be made."""
        if self._first <= chunk < self._request.video.chunks:
            self._ahead = chunk, self._encoded(chunk)

    def _encoded(self, chunk: int) -> Tensor:
        if self._stream is not None:
            self._stream.settle_decoding()
        if chunk and chunk == self._first:
            self._status.say(f"going to chunk {chunk + 1} of the video that it is made of")
        n = self._request.video.chunk_frames
        return latent_in(self._request.model, self._latents.frames(range(chunk * n, chunk * n + n)))


@contextmanager
def opened_source(
    request: RunRequest, run: Run, stream: VideoStream | None, status: NodeStatus
) -> Iterator[SourceChunks | None]:
    """The source of a run, if it has one; its file is open inside."""
    if request.source is None:
        yield None
        return
    with request.source.opened(run.notes) as latents:
        yield SourceChunks(request, latents, run.finished.chunks, stream, status)
