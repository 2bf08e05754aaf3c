"""A video picture by picture, however long, from whatever the host hands over as one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
import torch
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream
from comfy_api.latest import Input, InputImpl
from torch import Tensor


@dataclass(frozen=True)
class Film:
    """Pictures in order, (height, width, channels) in 0 to 1, and about how many."""

    fps: float
    expected_pictures: int
    pictures: Iterable[Tensor]


@contextmanager
def opened_film(images: Tensor | None, video: Input.Video | None, fps: float) -> Iterator[Film]:
    """What is to be measured. Only a video that is in memory already, as VideoFromComponents is, is taken from there.
    Any other is decoded picture by picture from its stream source: a file, or an encoded copy in memory that the host
    makes. ValueError unless exactly one is connected."""
    if images is not None and video is not None:
        raise ValueError("Both images and video are connected. The report is of one video. Disconnect one of them.")
    if isinstance(video, InputImpl.VideoFromComponents):
        components = video.get_components()
        images, fps = components.images, float(components.frame_rate)
    if images is not None:
        yield Film(fps, len(images), images)
        return
    if video is None:
        raise ValueError("Neither images nor video is connected. There is nothing to measure. Connect one of them.")
    try:
        with av.open(video.get_stream_source(), "r") as container:
            yield _film(container, *video.get_active_trim_window())
    except FFmpegError as error:
        raise RuntimeError(
            f"The video cannot be read: {error}. The file is missing, damaged or cut off. Make it again, or cut it to "
            "what plays with Trim Video."
        ) from error


def _film(container: InputContainer, start_seconds: float, most_seconds: float) -> Film:
    if not container.streams.video:
        raise ValueError("The video has no pictures, only sound. There is nothing to measure. Connect another video.")
    stream = container.streams.video[0]
    fps = float(stream.average_rate or 1)  # 1: as the host takes it
    seconds = max(0.0, (container.duration or 0) / av.time_base - start_seconds)
    if most_seconds:
        seconds = min(seconds, most_seconds)
    return Film(fps, max(1, round(seconds * fps)), _decoded(container, stream, start_seconds, most_seconds))


def _decoded(
    container: InputContainer, stream: VideoStream, start_seconds: float, most_seconds: float
) -> Iterator[Tensor]:
    time_base = stream.time_base or Fraction(1, av.time_base)
    start, end = int(start_seconds / time_base), int((start_seconds + most_seconds) / time_base)  # as the host cuts
    if start:
        container.seek(start, stream=stream)
    for frame in container.decode(stream):
        if frame.pts is not None and frame.pts < start:
            continue
        if most_seconds and frame.pts is not None and frame.pts >= end:
            return
        # the host's values, which come through gbrpf32le; rgb24 is half a step darker
        picture = frame.to_ndarray(format="gbrp16le").astype(np.float32) / 65535  # (height, width, 3)
        yield torch.rot90(torch.from_numpy(picture), frame.rotation // 90)
