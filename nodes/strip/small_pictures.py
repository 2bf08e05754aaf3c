"""The small picture of a chunk on the film strip: a JPEG of at most MOST_PICTURE bytes."""

from __future__ import annotations

import io

import torch
from comfy import latent_formats
from PIL import Image
from torch import Tensor

from ...headforcing_core.run_store.strip_entry import MOST_PICTURE

_LONGEST_SIDE = 96
_QUALITIES = (80, 60, 40, 25, 12, 5)
_SPACES = {16: latent_formats.Wan21, 48: latent_formats.Wan22}  # by channels


def of_pictures(pictures: Tensor) -> bytes:
    """Of decoded pictures, (pictures, height, width, 3) in 0 to 1, the one in the middle; empty without any."""
    return _jpeg(pictures[len(pictures) // 2]) if len(pictures) else b""


def of_latent(latent: Tensor) -> bytes:
    """Of a chunk in model space, (1, channels, frames, height, width), the frame in the middle, by the colours that the
    host knows of its latent space: one product, no decoder."""
    space = _SPACES[latent.shape[1]]()
    frame = latent[0, :, latent.shape[2] // 2].float().movedim(0, -1)
    factors, bias = (
        torch.tensor(each, device=frame.device) for each in (space.latent_rgb_factors, space.latent_rgb_factors_bias)
    )
    return _jpeg((frame @ factors + bias + 1) / 2)


def _jpeg(picture: Tensor) -> bytes:
    """(height, width, 3) in 0 to 1, small; in less quality where it would be too large, empty if no quality helps."""
    small = picture.movedim(-1, 0)[None].float()
    scale = _LONGEST_SIDE / max(small.shape[-2:])
    if scale < 1:
        size = [max(1, round(scale * side)) for side in small.shape[-2:]]
        small = torch.nn.functional.interpolate(small, size=size, mode="area")
    numbers = small[0].movedim(0, -1).nan_to_num().clamp(0, 1).mul(255).to("cpu", torch.uint8).numpy()
    image = Image.fromarray(numbers)
    for quality in _QUALITIES:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality, optimize=True)
        if file.tell() <= MOST_PICTURE:
            return file.getvalue()
    return b""
