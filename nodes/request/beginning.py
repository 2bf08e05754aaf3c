"""What a video begins with: a start image, or another video's latent."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...headforcing_core.families.family import CLAMP, CONCAT, PREFIX, Family
from ...headforcing_core.geometry import LatentSpace, latent_size
from ...headforcing_core.rollout.passes import Concat
from ..host.finite import check_finite
from ..host.model import latent_in
from ..video.image import fitted_image
from ..video.source_video import image_and_grey
from .carried_memory import sha256

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import VAE

_FRAMES_AT_ONCE = 16
_ENCODED = "start_image, encoded by this vae,"
NO_CAMERA = (
    "The model was made to be led by a camera, which this pack leaves out: what the picture is like without is not "
    "known."
)
ENCODING = "encoding the picture and what comes after it"
"""What a node says while it makes `Beginning.beside`, the encoding of seconds of video."""
_MASK_CHANNELS = 4  # of those that a model of 36 channels is given
_COLOURS = (3, 4)  # the fourth, how far a picture covers what is behind it, is never read


def no_start_image() -> ValueError:
    """The error where a model that is given a picture beside every chunk would be run without one."""
    return ValueError(
        "start_image is not connected. The model is given a picture beside every chunk, and without one it would be "
        "given zeros, which it never saw. Connect the picture that the video begins with."
    )


@dataclass(frozen=True)
class Beginning:
    """What a video goes on from: a start image, which a VAE encodes, another video's LATENT, or nothing."""

    start_image: Tensor | None
    previous: dict[str, Tensor] | None
    vae: VAE | None
    family: Family

    @cached_property
    def previous_hash(self) -> str:
        """SHA-256 of the samples of `previous`, of which an hour has gigabytes; "" without."""
        return "" if self.previous is None else sha256(self.previous["samples"])

    @property
    def inputs(self) -> str:
        """What is connected of start_image and previous, in words."""
        given = {"start_image": self.start_image, "previous": self.previous}
        return " or ".join(name for name, value in given.items() if value is not None)

    @property
    def hashes(self) -> tuple[str, ...]:
        """SHA-256 of what is used of it, as a kept run notes it; after it those that older versions noted for the same.
        None at all for a video that begins with nothing."""
        if self.start_image is None:
            return (self.previous_hash,) if self.previous_hash else ()
        used = sha256(self.start_image[:1, ..., :3])
        if self.previous is not None:
            both = f"{self.previous_hash} {used}"
            return (hashlib.sha256(both.encode()).hexdigest(),)
        whole = sha256(self.start_image)  # until 0.1.0: pictures and channels that are never used, too
        return (used,) if whole == used else (used, whole)

    @property
    def frames(self) -> int:
        """How many frames are there before the first chunk."""
        if self.previous is not None:
            return self.previous["samples"].shape[2]
        return int(self.start_image is not None and self.family.image == PREFIX)

    def check(self, width: int, height: int) -> None:
        """ValueError for what cannot begin a video of this size, before anything is encoded."""
        is_beside = self.family.image == CONCAT
        if self.start_image is None and is_beside:
            raise no_start_image()
        if self.start_image is not None and self.previous is not None and not is_beside:
            raise ValueError(
                "Both start_image and previous are connected. A video begins with one of them. Disconnect one."
            )
        if self.previous is not None:
            if self.previous.get("noise_mask") is not None:
                raise ValueError(
                    "previous carries a noise mask. A continued video is kept whole, so nothing can be masked. Connect "
                    "the latent without Set Latent Noise Mask."
                )
            _check(self.previous["samples"], "previous", (width, height), self.family.space)
        if self.start_image is not None:
            if self.vae is None:
                raise ValueError(
                    "start_image is connected without vae. The image cannot be encoded. Connect the "
                    f"{self.family.space.models} VAE."
                )
            if self.start_image.ndim != 4 or self.start_image.shape[-1] not in _COLOURS or 0 in self.start_image.shape:
                raise ValueError(
                    f"start_image has shape {tuple(self.start_image.shape)}. An image is (batch, height, width, 3 "
                    "colours). Connect Load Image or another node that gives a picture."
                )

    def samples(self, width: int, height: int) -> Tensor | None:
        """The frames before the first chunk as a LATENT holds them, (1, channels, frames, height, width)."""
        if self.previous is not None:
            return self.previous["samples"]
        return self._encoded(width, height) if self.family.image == PREFIX else None

    def image(self, width: int, height: int) -> Tensor | None:
        """The first frame of the first chunk, which is held in place, as a LATENT holds it."""
        return self._encoded(width, height) if self.family.image == CLAMP else None

    def beside(self, width: int, height: int) -> Tensor | None:
        """The picture that the model is given beside every chunk, and the grey after it, as a LATENT holds them."""
        if self.start_image is None or self.vae is None or self.family.image != CONCAT:
            return None
        samples = image_and_grey(self.vae, self.start_image, width, height)
        _check(samples, _ENCODED, (width, height), self.family.space)
        return samples

    def _encoded(self, width: int, height: int) -> Tensor | None:
        if self.start_image is None or self.vae is None:
            return None
        samples = self.vae.encode(fitted_image(self.start_image[:1], width, height))
        _check(samples, _ENCODED, (width, height), self.family.space)
        return samples


@dataclass(frozen=True)
class BesideChunks:
    """What a model of 36 channels is given beside the frames of a pass: whether a frame is that of the picture, four
    times, and the frame itself, of `latents` in model space; the last one from there on."""

    latents: Tensor

    def __call__(self, frames: range) -> Tensor:
        latents = self.latents
        last, size = latents.shape[2] - 1, latents.shape[3:]
        is_picture = torch.tensor([float(frame == 0) for frame in frames]).to(latents)
        mask = is_picture.view(1, 1, -1, 1, 1).expand(1, _MASK_CHANNELS, -1, *size)
        return torch.cat([mask, latents[:, :, [min(frame, last) for frame in frames]]], dim=1)


def beside_chunks(model: ModelPatcher, samples: Tensor | None) -> Concat | None:
    """What a model is given beside its chunks, of a picture and grey as `Beginning.beside` has them."""
    return None if samples is None else BesideChunks(latent_in(model, samples))


def _check(samples: Tensor, name: str, size: tuple[int, int], space: LatentSpace) -> None:
    if not isinstance(samples, Tensor):  # the host's models of video and sound have both in one
        raise ValueError(
            f"{name} is a {type(samples).__name__}, of a model that makes video and sound together. A {space.models} "
            f"video is one tensor. Connect a latent of {space.models}."
        )
    wanted = (space.channels, *latent_size(*size, space))
    fits = samples.ndim == 5 and samples.shape[0] == 1 and samples.shape[2] >= 1
    if not fits or (samples.shape[1], *samples.shape[3:]) != wanted:
        raise ValueError(
            f"{name} has shape {tuple(samples.shape)}. At {size[0]} x {size[1]} a {space.models} video is (1, "
            f"{wanted[0]}, frames, {wanted[1]}, {wanted[2]}). Set width and height to those of the video, and use the "
            f"{space.models} VAE."
        )
    check_finite(
        samples.split(_FRAMES_AT_ONCE, dim=2), name, "Start ComfyUI with --fp32-vae, or make it anew in another type."
    )
