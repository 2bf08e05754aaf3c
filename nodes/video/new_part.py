"""The new part of a video that continues another one, as a video of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from comfy_api.latest import Input, InputImpl, Types
from torch import Tensor
from typing_extensions import override

from ...headforcing_core.geometry import VideoShape
from ..status.node_status import NodeStatus
from .growing_video import VideoStream
from .latent_video import LatentVideo, temporary_video, video_of
from .mp4_writer import ORDINARY
from .sound import Sound

if TYPE_CHECKING:
    from comfy.sd import VAE


class NewPartStream(VideoStream):
    """As VideoStream, of the new part alone."""

    @override
    def begin(self, latent: Tensor, on_frames: Callable[[int, int], None]) -> None:
        self.go_on_after(latent, on_frames)


class NewPart(LatentVideo):
    """What a video has beyond the one that it continues, made when somebody takes it: cut out of `file`, the whole
    video, if there is one and a key frame lies there, else decoded. `whole` is the whole one in any case."""

    def __init__(
        self,
        latent: Tensor,
        vae: VAE | None,
        length: VideoShape,
        whole: Input.Video,
        file: Path | None,
        sound: Sound | None,
    ) -> None:
        pictures = length.pixel_frames - length.pixel_frames_before
        super().__init__(latent, vae, pictures, length.fps, length.space, _of_new_part(sound, length))
        self._length = length
        self._all = whole
        self._file = file

    @override
    def _decode(self) -> Input.Video:
        if self._decoded is None and self._file is not None:
            cut = cut_after(self._file, self._length.pixel_frames_before)
            self._decoded = None if cut is None else InputImpl.VideoFromFile(str(cut))
        return super()._decode()

    @override
    def _stream(self, vae: VAE) -> Input.Video:
        first, decoded = self._length.prefix_frames, NodeStatus(None).decoded
        with closing(NewPartStream(vae, temporary_video(), self._fps, self._pixel_frames, {}, self._sound)) as stream:
            stream.begin(self._latent[:, :, :first], decoded)
            stream.append_all(self._latent[:, :, first:], decoded)
        return video_of(stream)

    @override
    def _whole(self, vae: VAE) -> Input.Video:
        whole = self._all.get_components()
        images = whole.images[self._length.pixel_frames_before :]
        audio = None if self._sound is None else self._sound.as_audio()
        components = Types.VideoComponents(images=images, frame_rate=whole.frame_rate, audio=audio)
        return InputImpl.VideoFromComponents(components)


def video_stream(
    vae: VAE,
    path: Path,
    length: VideoShape,
    metadata: Mapping[str, str],
    is_new_alone: bool,
    sound: Sound | None = None,
) -> VideoStream:
    """The stream of a whole video, which has this sound, or of its new part alone."""
    if is_new_alone:
        pictures = length.pixel_frames - length.pixel_frames_before
        return NewPartStream(vae, path, length.fps, pictures, metadata, _of_new_part(sound, length))
    return VideoStream(vae, path, length.fps, length.pixel_frames, metadata, sound)


def video_outputs(
    latent: Tensor,
    vae: VAE | None,
    length: VideoShape,
    file: Path | None,
    is_new_alone: bool,
    sound: Sound | None = None,
) -> tuple[Input.Video, Input.Video]:
    """A whole video, which has this sound, and its new part, which is all of it where it continues none. In `file` lies
    what was made of them already: the new part alone, or the whole."""
    made = None if file is None else InputImpl.VideoFromFile(str(file))
    whole = LatentVideo(latent, vae, length.pixel_frames, length.fps, length.space, sound)
    if is_new_alone:
        return whole, made or NewPart(latent, vae, length, whole, None, sound)
    whole = made or whole
    return whole, NewPart(latent, vae, length, whole, file, sound) if length.pixel_frames_before else whole


def _of_new_part(sound: Sound | None, length: VideoShape) -> Sound | None:
    return None if sound is None else sound.after(length.pixel_frames_before / length.fps)


def cut_after(path: Path, pictures: int) -> Path | None:
    """What comes after so many pictures of an MP4, in a file in the host's folder for what need not be kept, without
    encoding anew; None if no key frame lies there, or the file cannot be read."""
    try:
        with av.open(path) as source:
            start = _key_time(source, pictures)
            return None if start is None else _copied_from(source, start)
    except FFmpegError:
        return None


def _key_time(source: InputContainer, pictures: int) -> Fraction | None:
    packet = next(islice(source.demux(video=0), pictures, None), None)
    return _time(packet) if packet is not None and packet.is_keyframe else None


def _time(packet: Packet) -> Fraction | None:
    return None if packet.pts is None or packet.time_base is None else packet.pts * packet.time_base


def _copied_from(source: InputContainer, start: Fraction) -> Path:
    path = temporary_video()
    try:
        _copy(source, path, start)
    except FFmpegError:
        path.unlink()
        raise
    return path


def _copy(source: InputContainer, path: Path, start: Fraction) -> None:
    source.seek(0)
    with av.open(path, "w", format="mp4", options={"movflags": ORDINARY}) as target:
        target.metadata.update(source.metadata)
        streams = (*source.streams.video[:1], *source.streams.audio[:1])
        copies = {each.index: target.add_stream_from_template(each) for each in streams}
        for packet in source.demux(streams):
            time = _time(packet)
            if time is not None and packet.time_base is not None and time >= start:
                packet.pts = packet.dts = round((time - start) / packet.time_base)  # no picture waits for a later one
                packet.stream = copies[packet.stream.index]
                target.mux(packet)
