"""What the model is told beside a noisy chunk and its noise level."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Told:
    """`timesteps` (frames,) are told in place of 1000 times the noise level, one for each frame. `concat` holds
    channels that the model is given beside those of the chunk: (1, channels, frames, height, width), model space."""

    timesteps: Tensor | None = None
    concat: Tensor | None = None


NOTHING = Told()


class Predict(Protocol):
    """The model under the text in force."""

    def __call__(self, x: Tensor, sigma: Tensor, told: Told = NOTHING) -> Tensor:
        """x0, the clean chunk as the model sees it now, as one noise level makes it of the flow in all frames: (batch,
        channels, frames, height, width)."""
        ...
