"""Pictures as the host hands them on."""

from __future__ import annotations

import comfy.utils
import numpy as np
import torch
from PIL import Image


def to_image(picture: Image.Image) -> torch.Tensor:
    """A picture as an IMAGE: float32 (1, height, width, 3) in 0 to 1."""
    return torch.from_numpy(np.divide(np.asarray(picture), 255, dtype=np.float32))[None]


def fitted_image(images: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """The colours of an IMAGE in another size, cut around the middle, as the host's own image-to-video node does it."""
    fitted = comfy.utils.common_upscale(images.movedim(-1, 1), width, height, "bilinear", "center")
    return fitted.movedim(1, -1)[..., :3]
