"""VIDEO that is decoded when somebody takes it: a finished run is never lost to a failing decode, and a kept result
serves whatever is connected later."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import folder_paths
from comfy_api.latest import Input, InputImpl, Types
from torch import Tensor
from typing_extensions import override

from ...headforcing_core.geometry import WAN21, LatentSpace
from ..host.chunk_decoder import can_stream
from ..status.node_status import NodeStatus
from .growing_video import VideoStream, three_colours
from .sound import Sound

if TYPE_CHECKING:
    from comfy.sd import VAE


def no_vae(space: LatentSpace) -> ValueError:
    """The error where pictures are wanted of a latent and nothing can make them."""
    return ValueError(
        "vae is not connected, but the video output is used. Pictures cannot be made without it. Connect the "
        f"{space.models} VAE, or use the latent output with VAE Decode."
    )


def check_vae(vae: VAE, space: LatentSpace) -> None:
    """ValueError unless a VAE decodes what models of a latent space make."""
    if (vae.latent_channels, vae.latent_dim) != (space.channels, 3):
        kind = "video" if vae.latent_dim == 3 else "picture"
        raise ValueError(
            f"vae is a {kind} VAE of {vae.latent_channels} channels. {space.models} makes video of {space.channels}. "
            f"Load {space.vae_file}."
        )


def temporary_video() -> Path:
    """A new empty file in the host's folder for what need not be kept."""
    folder = folder_paths.get_temp_directory()
    os.makedirs(folder, exist_ok=True)
    handle, path = tempfile.mkstemp(".mp4", "head_forcing_", folder)
    os.close(handle)
    return Path(path)


class LatentVideo(Input.Video):
    """A video as its latent and the VAE that decodes it; cut to `pixel_frames` pictures, with a sound. Whatever a
    VIDEO is asked is asked of what it decodes to, by the method of that name: which there are differs between the
    host's versions."""

    def __init__(
        self,
        latent: Tensor,
        vae: VAE | None,
        pixel_frames: int,
        fps: float,
        space: LatentSpace = WAN21,
        sound: Sound | None = None,
    ) -> None:
        self._latent = latent
        self._vae = vae
        self._pixel_frames = pixel_frames
        self._fps = fps
        self._space = space
        self._sound = sound
        self._decoded: Input.Video | None = None

    @override
    def get_components(self) -> Types.VideoComponents:
        return self._decode().get_components()

    @override
    def save_to(self, *args: object, **kwargs: object) -> None:
        self._decode().save_to(*args, **kwargs)  # type: ignore[arg-type]

    @override
    def as_trimmed(self, *args: object, **kwargs: object) -> Input.Video | None:
        return self._decode().as_trimmed(*args, **kwargs)  # type: ignore[arg-type]

    def _decode(self) -> Input.Video:
        if self._decoded is None:
            if self._vae is None:
                raise no_vae(self._space)
            self._decoded = self._stream(self._vae) if can_stream(self._vae) else self._whole(self._vae)
        return self._decoded

    def _stream(self, vae: VAE) -> Input.Video:
        with closing(VideoStream(vae, temporary_video(), self._fps, self._pixel_frames, {}, self._sound)) as stream:
            stream.append_all(self._latent, NodeStatus(None).decoded)
        return video_of(stream)

    def _whole(self, vae: VAE) -> Input.Video:
        images = three_colours(vae.decode(self._latent))
        images = images.reshape(-1, *images.shape[-3:])[: self._pixel_frames]
        audio = None if self._sound is None else self._sound.as_audio()
        components = Types.VideoComponents(images=images, frame_rate=Fraction(self._fps), audio=audio)
        return InputImpl.VideoFromComponents(components)


def video_of(stream: VideoStream) -> Input.Video:
    """The video of a stream that is closed. RuntimeError if it is not whole."""
    if stream.failure is not None and not stream.is_whole:
        raise RuntimeError(stream.failure)
    return InputImpl.VideoFromFile(str(stream.path))


def _handed_on(name: str) -> Callable[..., object]:
    return lambda video, *args, **kwargs: getattr(video._decode(), name)(*args, **kwargs)


# The defaults of the host's class would hold all pictures in memory, to count them for example.
for _name, _member in vars(Input.Video).items():
    if callable(_member) and not _name.startswith("_") and _name not in vars(LatentVideo):
        setattr(LatentVideo, _name, _handed_on(_name))
