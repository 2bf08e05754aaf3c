"""The frames that a video goes on from: a start image, or another video's latent."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from ...headforcing_core.families.family import PREFIX, Family
from ...headforcing_core.geometry import LatentSpace, latent_size
from ..host.finite import check_finite
from ..video.image import fitted_image

if TYPE_CHECKING:
    from comfy.sd import VAE

_FRAMES_AT_ONCE = 16
_COLOURS = (3, 4)  # the fourth, how far a picture covers what is behind it, is never read


@dataclass(frozen=True)
class Beginning:
    """What a video goes on from: a start image, which a VAE encodes, another video's LATENT, or nothing."""

    start_image: Tensor | None
    previous: dict[str, Tensor] | None
    vae: VAE | None
    family: Family

    @property
    def hashes(self) -> tuple[str, ...]:
        """SHA-256 of what is used of it, as a kept run notes it; after it those that older versions noted for the same.
        None at all for a video that begins with nothing."""
        if self.previous is not None:
            return (_sha256(self.previous["samples"]),)
        if self.start_image is None:
            return ()
        used = _sha256(self.start_image[:1, ..., :3])
        whole = _sha256(self.start_image)  # until 0.1.0: pictures and channels that are never used, too
        return (used,) if whole == used else (used, whole)

    @property
    def frames(self) -> int:
        """How many frames are there before the first chunk."""
        if self.start_image is not None:
            return int(self.family.image == PREFIX)
        return 0 if self.previous is None else self.previous["samples"].shape[2]

    def check(self, width: int, height: int) -> None:
        """ValueError for what cannot begin a video of this size, before anything is encoded."""
        if self.start_image is not None and self.previous is not None:
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
        if self.start_image is None or self.vae is None:
            return None if self.previous is None else self.previous["samples"]
        samples = self.vae.encode(fitted_image(self.start_image[:1], width, height))
        _check(samples, "start_image, encoded by this vae,", (width, height), self.family.space)
        return samples


def _sha256(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.float().cpu().numpy().tobytes()).hexdigest()


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
