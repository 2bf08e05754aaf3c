"""Measures a video picture by picture: colour, contrast, sharpness, motion and likeness, second by second."""

import torch
import torch.nn.functional as F
from kornia.color import rgb_to_lab
from kornia.filters import laplacian
from kornia.metrics import ssim
from torch import Tensor

from .result import SIMILARITY_SIDE, Drift, Jump, Second

FPS_RANGE = (1.0, 240.0)
LONGEST_SIDE = 512
_SSIM_WINDOW = 11


class DriftMeter:
    """Measures a video picture by picture, and holds two of them at most, whatever its length.

    The last second counts if it has two pictures, or as many as a whole one. Pictures whose longer side is more than
    LONGEST_SIDE are measured at that. ValueError for a rate outside of FPS_RANGE.
    """

    def __init__(self, fps: float) -> None:
        if not FPS_RANGE[0] <= fps <= FPS_RANGE[1]:
            raise ValueError(
                f"fps is {fps:g}. A second needs {FPS_RANGE[0]:g} to {FPS_RANGE[1]:g} pictures to be measured. Set fps "
                "within that; a video of another rate has to be converted first."
            )
        self._fps = fps
        self._pictures = 0
        self._size = self._measured_size = (0, 0)
        self._seconds: list[Second] = []
        self._jump = Jump(0.0, 0.0)
        self._previous: Tensor | None = None  # (1, 3, height, width), as are all pictures here
        self._first_mean: Tensor | None = None
        self._previous_mean: Tensor | None = None
        self._begin()

    def add(self, picture: Tensor) -> None:
        """The next picture, (height, width, 3 or more channels) in 0 to 1; of more than 3, the first are the colours.
        ValueError for another shape, and when a second ends in which a picture held NaN."""
        if picture.ndim != 3 or picture.shape[2] < 3 or 0 in picture.shape:
            raise ValueError(
                f"A picture has shape {tuple(picture.shape)}. It must be (height, width, 3 colours). Connect Load "
                "Video, VAE Decode or another node that gives pictures in colour."
            )
        if self._pictures >= (len(self._seconds) + 1) * self._fps:
            self._end()
        small = self._measured(picture)
        if self._previous is not None:
            difference = 100 * float((small - self._previous).abs().mean())
            self._differences.append(Jump(self._pictures / self._fps, difference))
        self._previous = small
        self._values += _values(small)
        self._sum = self._sum + F.interpolate(small, size=(SIMILARITY_SIDE, SIMILARITY_SIDE), mode="area")
        self._count += 1
        self._pictures += 1

    def finish(self) -> Drift:
        """All that was measured. ValueError for fewer than two pictures."""
        if self._pictures < 2:
            raise ValueError(
                f"The video has {self._pictures} picture{'' if self._pictures else 's'}. Change over time needs at "
                "least 2. Connect a longer video, or a batch of pictures."
            )
        if self._count >= min(2, int(self._fps)):
            self._end()
        return Drift(self._fps, self._pictures, self._size, self._measured_size, tuple(self._seconds), self._jump)

    def _begin(self) -> None:
        self._count = 0
        self._values = torch.zeros(6, dtype=torch.float64)
        self._sum = torch.zeros(())  # of pictures at SIMILARITY_SIDE
        self._differences: list[Jump] = []

    def _end(self) -> None:
        number, count = len(self._seconds), self._count
        if self._values.isnan().any():
            raise ValueError(
                f"The pictures of second {number} hold NaN. Nothing can be measured on them. Find the node that makes "
                "them; often it is a VAE in 16 bit."
            )
        mean = self._sum / count
        if self._first_mean is None:
            self._first_mean = mean
        lightness, a, b, contrast, saturation, sharpness = (self._values / count).tolist()
        differences = [jump.difference for jump in self._differences]
        self._seconds.append(
            Second(
                second=number,
                middle_seconds=(self._pictures - (count + 1) / 2) / self._fps,
                pictures=count,
                lightness=lightness,
                a=a,
                b=b,
                contrast=contrast,
                saturation=saturation,
                sharpness=sharpness,
                motion=sum(differences) / len(differences) if differences else None,
                similarity_to_first=_similarity(mean, self._first_mean),
                similarity_to_previous=None if self._previous_mean is None else _similarity(mean, self._previous_mean),
            )
        )
        self._jump = max([self._jump, *self._differences], key=lambda jump: jump.difference)
        self._previous_mean = mean
        self._begin()

    def _measured(self, picture: Tensor) -> Tensor:
        height, width = picture.shape[:2]
        if not self._pictures:
            scale = min(1.0, LONGEST_SIDE / max(height, width))
            self._size = width, height
            self._measured_size = max(1, round(width * scale)), max(1, round(height * scale))
        # on the processor: not every card has float64, nor all of what follows
        rgb = picture[..., :3].cpu().float().clamp(0, 1).movedim(-1, 0)[None].contiguous()  # (1, 3, height, width)
        wanted = self._measured_size[::-1]
        return rgb if wanted == (height, width) else F.interpolate(rgb, size=wanted, mode="bilinear", antialias=True)


def _values(picture: Tensor) -> Tensor:
    """Lightness, a, b, contrast, saturation and sharpness of (1, 3, height, width)."""
    lab = rgb_to_lab(picture)
    lightness, colour = lab[:, :1], lab[:, 1:]
    chroma = torch.linalg.vector_norm(colour, dim=1).mean()
    edges = laplacian(lightness, 3, border_type="replicate")
    spread = (lightness.std(correction=0), chroma, edges.var(correction=0))
    return torch.stack([*lab.mean(dim=(0, 2, 3)), *spread]).double()


def _similarity(one: Tensor, other: Tensor) -> float:
    return float(ssim(one, other, _SSIM_WINDOW).mean())
