"""A video picture by picture, however long, from whatever the host hands over as one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

import av
import numpy as np
import torch
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from comfy.model_management import throw_exception_if_processing_interrupted
from comfy_api.latest import Input, InputImpl
from torch import Tensor

COLOURS = 3  # the fourth, how far a picture covers what is behind it, is never read
_ROUNDING = 1e-6  # seconds


@dataclass(frozen=True)
class Film:
    """Pictures in order, and about how many. `moments` are the seconds from the first to each, as exact as `slack`,
    and what makes it, (height, width, channels) in 0 to 1."""

    fps: float
    expected_pictures: int
    moments: Iterable[tuple[float, Callable[[], Tensor]]]
    slack: float = _ROUNDING

    @property
    def pictures(self) -> Iterator[Tensor]:
        """All of them."""
        return (make() for _, make in self.moments)


@contextmanager
def opened_film(images: Tensor | None, video: Input.Video | None, fps: float) -> Iterator[Film]:
    """What is to be measured. ValueError unless exactly one is connected."""
    if images is not None and video is not None:
        raise ValueError("Both images and video are connected. The report is of one video. Disconnect one of them.")
    source = video if images is None else images
    if source is None:
        raise ValueError("Neither images nor video is connected. There is nothing to measure. Connect one of them.")
    with opened_source(source, fps) as film:
        yield film


def film_sha256(source: Tensor | Input.Video) -> str:
    """SHA-256 of what can be seen of an IMAGE or a VIDEO, and when: of a file its pictures as they are stored, whatever
    else is in it, read piece by piece. RuntimeError for a file that cannot be read."""
    found = hashlib.sha256()
    if isinstance(source, InputImpl.VideoFromComponents):
        components = source.get_components()
        source = components.images
        found.update(str(components.frame_rate).encode())
    if isinstance(source, Tensor):
        for picture in source:
            throw_exception_if_processing_interrupted()
            found.update(picture[..., :COLOURS].float().cpu().numpy().tobytes())
        return found.hexdigest()
    with _opened(source) as container:
        found.update(str(source.get_active_trim_window()).encode())
        for packet in container.demux(container.streams.video[:1]):
            throw_exception_if_processing_interrupted()
            found.update(f"{packet.pts} {packet.time_base} {packet.size} ".encode())
            found.update(packet)
    return found.hexdigest()


@contextmanager
def opened_source(source: Tensor | Input.Video, fps: float) -> Iterator[Film]:
    """The pictures of an IMAGE, at so many a second, or of a VIDEO at its own speed. Only a video that is in memory
    already, as VideoFromComponents is, is taken from there. Any other is decoded picture by picture from its stream
    source: a file, or an encoded copy in memory that the host makes."""
    if isinstance(source, InputImpl.VideoFromComponents):
        components = source.get_components()
        source, fps = components.images, float(components.frame_rate)
    if isinstance(source, Tensor):
        yield Film(fps, len(source), ((place / fps, partial(source.select, 0, place)) for place in range(len(source))))
        return
    with _opened(source) as container:
        yield _film(container, *source.get_active_trim_window())


@contextmanager
def _opened(source: Input.Video) -> Iterator[InputContainer]:
    try:
        with av.open(source.get_stream_source(), "r") as container:
            if not container.streams.video:
                raise ValueError("The video has no pictures, only sound. Connect another video.")
            yield container
    except FFmpegError as error:
        raise RuntimeError(
            f"The video cannot be read: {error}. The file is missing, damaged or cut off. Make it again, or cut it to "
            "what plays with Trim Video."
        ) from error


def _film(container: InputContainer, start_seconds: float, most_seconds: float) -> Film:
    stream = container.streams.video[0]
    fps = float(stream.average_rate or 1)  # 1: as the host takes it
    tick = float(stream.time_base or 0)
    seconds = max(0.0, _seconds(container, stream, fps) - start_seconds)
    if most_seconds:
        seconds = min(seconds, most_seconds)
    moments = _moments(_decoded(container, stream, start_seconds, most_seconds), fps)
    return Film(fps, max(1, round(seconds * fps)), moments, max(_ROUNDING, min(tick, 0.25 / fps)))


def _seconds(container: InputContainer, stream: VideoStream, fps: float) -> float:
    """How long a file plays; where it does not say, as what a browser records, its packets are counted."""
    if container.duration:
        return container.duration / av.time_base
    packets = sum(packet.pts is not None for packet in container.demux(stream))
    container.seek(0)
    return packets / fps


def _moments(frames: Iterable[VideoFrame], fps: float) -> Iterator[tuple[float, Callable[[], Tensor]]]:
    start = 0.0
    for place, frame in enumerate(frames):
        seconds = place / fps if frame.time is None else frame.time
        start = start if place else seconds
        yield seconds - start, partial(_picture, frame)


def _decoded(
    container: InputContainer, stream: VideoStream, start_seconds: float, most_seconds: float
) -> Iterator[VideoFrame]:
    time_base = stream.time_base or Fraction(1, av.time_base)
    start, end = int(start_seconds / time_base), int((start_seconds + most_seconds) / time_base)  # as the host cuts
    if start:
        container.seek(start, stream=stream)
    for frame in container.decode(stream):
        if frame.pts is not None and frame.pts < start:
            continue
        if most_seconds and frame.pts is not None and frame.pts >= end:
            return
        yield frame


def _picture(frame: VideoFrame) -> Tensor:
    # the host's values, which come through gbrpf32le; rgb24 is half a step darker
    picture = frame.to_ndarray(format="gbrp16le").astype(np.float32) / 65535  # (height, width, 3)
    return torch.rot90(torch.from_numpy(picture), frame.rotation // 90)
