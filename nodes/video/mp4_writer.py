"""An MP4 that plays while it is being written: pictures are appended chunk by chunk, and never wait in memory."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
from av.container import OutputContainer
from torch import Tensor

from ...headforcing_core.files.disk_room import disk_errors
from ...headforcing_core.files.safe_files import temporary_of

# Each append becomes one fragment, in a small MP4 of its own from which the header is left out. With delay_moov the
# fragment begins at the time of its first picture; without, at zero.
_FRAGMENT = "frag_discont+delay_moov+empty_moov+default_base_moof+skip_trailer+use_metadata_tags"
ORDINARY = "faststart+use_metadata_tags"
_SAFE = "All pictures that were written before are in it, and it plays."


class VideoWriter:
    """Writes H.264 in MP4, with the host's pixel format and quality, in place of what is at `path`.

    When `append` returns, its pictures are in the file and nothing is held back: each append is encoded to its end and
    begins with a key frame. Until `close` the file is a fragmented MP4, which players read whatever ends the process;
    `close` makes it an ordinary one, with duration and number of pictures in its header. As a context it closes on
    leaving, but not after an exception: what was appended stays as it is. `metadata` is what the host's own videos
    carry, `prompt` and `workflow` as JSON. Whatever the disk refuses is a RuntimeError.
    """

    def __init__(self, path: Path, fps: Fraction, metadata: Mapping[str, str]) -> None:
        self._path = path
        self._fps = Fraction(round(fps * 1000), 1000)  # as the host rounds it
        self._metadata = metadata
        self._is_closed = False
        self.pixel_frames = 0

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()

    def append(self, pictures: Tensor) -> None:
        """Add (pictures, height, width, 3) in 0..1, of even size, the same each time. When the disk refuses them, none
        of these is in the file and all before are; they can be appended again."""
        if self._is_closed:
            raise ValueError(f"{self._path} is closed. Nothing can be appended to a finished video.")
        if not len(pictures):
            return
        fragment = self._encode(pictures)
        with (
            disk_errors(self._path.parent, f"{self._path.name} could not be written", _SAFE),
            open(self._path, "ab" if self.pixel_frames else "wb", buffering=0) as file,
        ):
            _write_whole(file, _without_header(fragment) if self.pixel_frames else fragment)
        self.pixel_frames += len(pictures)

    def close(self) -> None:
        """Turn the file into an ordinary MP4, without encoding again; until that is whole the fragmented one stays."""
        if self._is_closed or not self.pixel_frames:
            return
        whole = temporary_of(self._path)
        with disk_errors(self._path.parent, f"{self._path.name} could not be finished", _SAFE):
            try:
                with av.open(self._path) as source, self._open(whole, {"movflags": ORDINARY}) as target:
                    stream = target.add_stream_from_template(source.streams.video[0])
                    for packet in source.demux(video=0):
                        if packet.dts is not None:  # the last one only says that it ends
                            packet.stream = stream
                            target.mux(packet)
                os.replace(whole, self._path)
            finally:
                with suppress(OSError):  # what ended it is to be told, not this
                    whole.unlink(missing_ok=True)
        self._is_closed = True

    def _encode(self, pictures: Tensor) -> bytes:
        buffer = io.BytesIO()
        with self._open(buffer, {"movflags": _FRAGMENT, "fragment_index": str(self.pixel_frames + 1)}) as target:
            stream = target.add_stream("h264", rate=self._fps)
            stream.height, stream.width = pictures.shape[1:3]
            stream.pix_fmt = "yuv420p"
            stream.codec_context.max_b_frames = 0  # so that each fragment follows the one before without a gap
            for number, picture in enumerate(pictures, self.pixel_frames):
                pixels = (picture * 255).clamp(0, 255).byte().cpu().numpy()  # (height, width, 3)
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
                frame.pts, frame.time_base = number, 1 / self._fps
                target.mux(stream.encode(frame))
            target.mux(stream.encode(None))
        return buffer.getvalue()

    def _open(self, file: Path | io.BytesIO, options: dict[str, str]) -> OutputContainer:
        target = av.open(file, "w", format="mp4", options=options)
        target.metadata.update(self._metadata)
        return target


def _write_whole(file: io.FileIO, data: bytes) -> None:
    end = file.tell()
    try:
        while data:
            data = data[file.write(data) :]
    except OSError:
        file.truncate(end)
        raise


def _without_header(fragment: bytes) -> bytes:
    start = 0
    while fragment[start + 4 : start + 8] != b"moof":
        start += int.from_bytes(fragment[start : start + 4])
    return fragment[start:]
