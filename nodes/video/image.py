"""Pictures as the host hands them on."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image


def to_image(picture: Image.Image) -> torch.Tensor:
    """A picture as an IMAGE: float32 (1, height, width, 3) in 0 to 1."""
    return torch.from_numpy(np.divide(np.asarray(picture), 255, dtype=np.float32))[None]
