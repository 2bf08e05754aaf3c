"""The frames that a video goes on from: a start image, or another video's latent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import comfy.utils
from torch import Tensor

from ..headforcing_core.geometry import LATENT_CHANNELS, latent_size

if TYPE_CHECKING:
    from comfy.sd import VAE


@dataclass(frozen=True)
class PrefixLatent:
    """Finished frames as a LATENT holds them, (1, channels, frames, height, width), and whether they are a start
    image, which the asked length counts."""

    samples: Tensor
    is_image: bool

    @property
    def frames(self) -> int:
        """Frames before the first chunk."""
        return self.samples.shape[2]


def prefix_of(
    start_image: Tensor | None, previous: dict[str, Tensor] | None, vae: VAE | None, width: int, height: int
) -> PrefixLatent | None:
    """The prefix that is connected, if any. ValueError for both at once, or one that does not fit the video."""
    if start_image is not None and previous is not None:
        raise ValueError(
            "Both start_image and previous are connected. A video begins with one of them. Disconnect one."
        )
    if start_image is not None:
        return _image(start_image, vae, width, height)
    return None if previous is None else _latent(previous, width, height)


def _image(image: Tensor, vae: VAE | None, width: int, height: int) -> PrefixLatent:
    if vae is None:
        raise ValueError("start_image is connected without vae. The image cannot be encoded. Connect the Wan 2.1 VAE.")
    if image.ndim != 4 or image.shape[0] < 1 or image.shape[-1] < 3 or 0 in image.shape:
        raise ValueError(
            f"start_image has shape {tuple(image.shape)}. An image is (batch, height, width, 3 colours). Connect Load "
            "Image or another node that gives a picture."
        )
    # as the host's own image-to-video node does it
    fitted = comfy.utils.common_upscale(image[:1].movedim(-1, 1), width, height, "bilinear", "center")
    samples = vae.encode(fitted.movedim(1, -1)[..., :3])
    _check(samples, "start_image, encoded by this vae,", width, height)
    return PrefixLatent(samples, is_image=True)


def _latent(previous: dict[str, Tensor], width: int, height: int) -> PrefixLatent:
    if previous.get("noise_mask") is not None:
        raise ValueError(
            "previous carries a noise mask. A continued video is kept whole, so nothing can be masked. Connect the "
            "latent without Set Latent Noise Mask."
        )
    _check(previous["samples"], "previous", width, height)
    return PrefixLatent(previous["samples"], is_image=False)


def _check(samples: Tensor, name: str, width: int, height: int) -> None:
    wanted = (LATENT_CHANNELS, *latent_size(width, height))
    fits = samples.ndim == 5 and samples.shape[0] == 1 and samples.shape[2] >= 1
    if not fits or (samples.shape[1], *samples.shape[3:]) != wanted:
        raise ValueError(
            f"{name} has shape {tuple(samples.shape)}. At {width} x {height} a Wan 2.1 video is (1, {wanted[0]}, "
            f"frames, {wanted[1]}, {wanted[2]}). Set width and height to those of the video, and use the Wan 2.1 VAE."
        )
