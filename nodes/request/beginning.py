"""The frames that a video goes on from: a start image, or another video's latent."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import comfy.utils
from torch import Tensor

from ...headforcing_core.geometry import LATENT_CHANNELS, latent_size

if TYPE_CHECKING:
    from comfy.sd import VAE


def check_prefix(
    start_image: Tensor | None, previous: dict[str, Tensor] | None, vae: VAE | None, width: int, height: int
) -> None:
    """ValueError for a prefix that cannot begin the video, before anything is encoded."""
    if start_image is not None and previous is not None:
        raise ValueError(
            "Both start_image and previous are connected. A video begins with one of them. Disconnect one."
        )
    if previous is not None:
        if previous.get("noise_mask") is not None:
            raise ValueError(
                "previous carries a noise mask. A continued video is kept whole, so nothing can be masked. Connect the "
                "latent without Set Latent Noise Mask."
            )
        _check(previous["samples"], "previous", width, height)
    if start_image is not None:
        if vae is None:
            raise ValueError(
                "start_image is connected without vae. The image cannot be encoded. Connect the Wan 2.1 VAE."
            )
        if start_image.ndim != 4 or start_image.shape[-1] < 3 or 0 in start_image.shape:
            raise ValueError(
                f"start_image has shape {tuple(start_image.shape)}. An image is (batch, height, width, 3 colours). "
                "Connect Load Image or another node that gives a picture."
            )


def prefix_samples(
    start_image: Tensor | None, previous: dict[str, Tensor] | None, vae: VAE | None, width: int, height: int
) -> Tensor | None:
    """The frames before the first chunk as a LATENT holds them, (1, channels, frames, height, width)."""
    if start_image is None or vae is None:
        return None if previous is None else previous["samples"]
    # as the host's own image-to-video node does it
    fitted = comfy.utils.common_upscale(start_image[:1].movedim(-1, 1), width, height, "bilinear", "center")
    samples = vae.encode(fitted.movedim(1, -1)[..., :3])
    _check(samples, "start_image, encoded by this vae,", width, height)
    return samples


def beginning_hashes(start_image: Tensor | None, previous: dict[str, Tensor] | None) -> tuple[str, ...]:
    """SHA-256 of what a video begins with, as a kept run notes it; after it those that older versions noted for the
    same beginning. None at all for a video that begins with nothing."""
    if previous is not None:
        return (_sha256(previous["samples"]),)
    if start_image is None:
        return ()
    used = _sha256(start_image[:1, ..., :3])
    whole = _sha256(start_image)  # until 0.1.0: pictures and channels that are never used, too
    return (used,) if whole == used else (used, whole)


def _sha256(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.float().cpu().numpy().tobytes()).hexdigest()


def _check(samples: Tensor, name: str, width: int, height: int) -> None:
    wanted = (LATENT_CHANNELS, *latent_size(width, height))
    fits = samples.ndim == 5 and samples.shape[0] == 1 and samples.shape[2] >= 1
    if not fits or (samples.shape[1], *samples.shape[3:]) != wanted:
        raise ValueError(
            f"{name} has shape {tuple(samples.shape)}. At {width} x {height} a Wan 2.1 video is (1, {wanted[0]}, "
            f"frames, {wanted[1]}, {wanted[2]}). Set width and height to those of the video, and use the Wan 2.1 VAE."
        )
