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
from av.container import InputContainer, OutputContainer
from torch import Tensor

from ...headforcing_core.files.disk_room import disk_errors
from ...headforcing_core.files.safe_files import temporary_of
from .sound import Sound, SoundTrack

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

    It is silent until `close`, which adds `sound`: a frame of AAC goes over the end of an append, so that sound in each
    of them would hang on the next one being written.
    """

    def __init__(self, path: Path, fps: Fraction, metadata: Mapping[str, str], sound: Sound | None = None) -> None:
        self._path = path
        self._fps = Fraction(round(fps * 1000), 1000)  # as the host rounds it
        self._metadata = metadata
        self._sound = sound
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
        """Turn the file into an ordinary MP4, with its sound; until that is whole the fragmented one stays."""
        if self._is_closed or not self.pixel_frames:
            return
        sound = None if self._sound is None else self._sound.until(self.pixel_frames / self._fps)
        finish_video(self._path, self._path, self._metadata, sound)
        self._is_closed = True

    def _encode(self, pictures: Tensor) -> bytes:
        buffer = io.BytesIO()
        options = {"movflags": _FRAGMENT, "fragment_index": str(self.pixel_frames + 1)}
        with _opened(buffer, options, self._metadata) as target:
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


def finish_video(source: Path, target: Path, metadata: Mapping[str, str], sound: Sound | None = None) -> None:
    """Make an ordinary MP4 of the pictures of another one, without encoding them again, and of a sound, which is as
    long as they are or shorter. Until it is whole `target`, which may be `source`, stays. Whatever the disk refuses is
    a RuntimeError."""
    whole = temporary_of(target)
    with disk_errors(target.parent, f"{target.name} could not be finished", _SAFE):
        try:
            with av.open(source) as pictures, _opened(whole, {"movflags": ORDINARY}, metadata) as made:
                _copy(pictures, made, sound)
            os.replace(whole, target)
        finally:
            with suppress(OSError):  # what ended it is to be told, not this
                whole.unlink(missing_ok=True)


def _copy(source: InputContainer, target: OutputContainer, sound: Sound | None) -> None:
    stream = target.add_stream_from_template(source.streams.video[0])
    track = None if sound is None else SoundTrack(target, sound)
    for packet in source.demux(video=0):
        if packet.dts is None:  # the last one only says that it ends
            continue
        if track is not None:
            track.write_until(packet.dts * packet.time_base)
        packet.stream = stream
        target.mux(packet)
    if track is not None:
        track.finish()


def _opened(file: Path | io.BytesIO, options: dict[str, str], metadata: Mapping[str, str]) -> OutputContainer:
    target = av.open(file, "w", format="mp4", options=options)
    target.metadata.update(metadata)
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
