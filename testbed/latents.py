"""From pictures to latents: a linear map of 8 x 8 pixels of a frame's last picture onto 16 channels.

The map is a principal component analysis of this world, with the spread of the channels halfway evened out and a mean
square of 1. What lies between two frames' last pictures is for the decoder to find from both.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from headforcing_core.geometry import WAN21

from .prompts import training_script
from .world import HEIGHT, WIDTH, World, last_picture

BASIS_FILE = Path(__file__).parent / "models" / "latent_basis.safetensors"
LATENT_SIZE = (HEIGHT // WAN21.stride, WIDTH // WAN21.stride)


@dataclass(frozen=True)
class Basis:
    """`encode` is (16, 192), `decode` (192, 16), `mean` (192,)."""

    encode: Tensor
    decode: Tensor
    mean: Tensor

    def latent(self, pictures: Tensor) -> Tensor:
        """Pictures (frames, height, width, 3) of 0 to 1, one a frame -> model space (16, frames, height/8, width/8)."""
        return ((_patches(pictures) - self.mean) @ self.encode.T).movedim(-1, 0)

    def pictures(self, latent: Tensor) -> Tensor:
        """The nearest pictures to a latent, frame by frame, without what lies between; may leave 0 to 1 a little."""
        return _from_patches(latent.movedim(0, -1) @ self.decode.T + self.mean)

    def weights(self, latent: Tensor) -> Tensor:
        """What a change of each pixel counts towards a latent: the product of the latents of any pictures, less the
        mean, with this one is the product of the pictures with these weights, (frames, height, width, 3)."""
        return _from_patches(latent.movedim(0, -1) @ self.encode)


@cache
def load_basis() -> Basis:
    """The basis that the shipped model was trained with."""
    return Basis(**load_file(BASIS_FILE))


def fit_basis(worlds: int = 2000) -> Basis:
    """Find the basis in pictures of the worlds of training."""
    pictures = [torch.from_numpy(_training_picture(seed)) for seed in range(worlds)]
    patches = _patches(torch.stack(pictures)).flatten(0, -2).double()
    mean = patches.mean(dim=0)
    _, spread, directions = torch.linalg.svd(patches - mean, full_matrices=False)
    spread, directions = spread[: WAN21.channels] / len(patches) ** 0.5, directions[: WAN21.channels]
    directions = directions * directions.abs().max(dim=1, keepdim=True).values.sign()
    scale = spread.sqrt() / spread.mean().sqrt() / spread  # halfway: the square root of the spread is left
    encode, decode = directions * scale[:, None], directions.T / scale
    return Basis(encode.float().contiguous(), decode.float().contiguous(), mean.float())


def world_latent(world: World, frames: range, basis: Basis) -> Tensor:
    """Truth in model space, (16, frames, height/8, width/8)."""
    return basis.latent(torch.from_numpy(np.stack([world.picture(last_picture(frame)) for frame in frames])))


def _training_picture(seed: int) -> np.ndarray:
    return World(seed, training_script(seed, 3)).picture(7 * (seed % 10))


def _patches(pictures: Tensor) -> Tensor:
    split = pictures.unflatten(1, (-1, WAN21.stride)).unflatten(3, (-1, WAN21.stride))
    return split.permute(0, 1, 3, 2, 4, 5).flatten(3)  # (frames, rows, columns, 192)


def _from_patches(patches: Tensor) -> Tensor:
    split = patches.unflatten(-1, (WAN21.stride, WAN21.stride, 3))
    return split.permute(0, 1, 3, 2, 4, 5).flatten(1, 2).flatten(2, 3)


def main() -> None:
    """Write the basis file anew."""
    basis = fit_basis()
    BASIS_FILE.parent.mkdir(exist_ok=True)
    save_file(basis.__dict__, BASIS_FILE)


if __name__ == "__main__":
    main()
