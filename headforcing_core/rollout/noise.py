"""Where a rollout's randomness comes from: a generator per draw, never a global seed (method.md section 1)."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

NOISE_MODES = ("per_chunk", "native", "whole_video")


class Noise(Protocol):
    """Gaussian noise of a rollout."""

    def initial(self, chunk: int) -> Tensor:
        """What a chunk is denoised from: float32 (batch, channels, frames, height, width), on the CPU."""
        ...

    def fresh(self, chunk: int, step: int, like: Tensor) -> Tensor:
        """What is added after a step, with the shape and device of `like`."""
        ...


class PerChunkNoise:
    """Noise that depends on seed, chunk and step alone, so that a chunk can be made again by itself. `pins` says
    whether main memory may be pinned on its way to a card, which then is not waited for; `before` is how many chunks of
    the same noise lie before chunk 0."""

    def __init__(self, seed: int, chunk_shape: tuple[int, ...], pins: bool = False, before: int = 0) -> None:
        self._seed = seed
        self._shape = chunk_shape
        self._pins = pins
        self._before = before

    def initial(self, chunk: int) -> Tensor:
        return self._draw(chunk, 0)

    def fresh(self, chunk: int, step: int, like: Tensor) -> Tensor:
        noise = self._draw(chunk, step + 1).to(like.dtype)
        if self._pins and like.device.type == "cuda":
            return noise.pin_memory().to(like.device, non_blocking=True)
        return noise.to(like.device)

    def _draw(self, chunk: int, draw: int) -> Tensor:
        number = self._before + chunk
        generator = torch.Generator("cpu").manual_seed((self._seed * 1000003 + number * 64 + draw) % 2**63)
        return torch.randn(self._shape, generator=generator)


class SplicedNoise:
    """Per-chunk noise whose seed may change on the way, as when a run is made anew from a chunk on. `seed_for` gives
    the seed of a chunk; `pins` and `before` as above."""

    def __init__(
        self, seed_for: Callable[[int], int], chunk_shape: tuple[int, ...], pins: bool = False, before: int = 0
    ) -> None:
        self._seed_for = seed_for
        self._shape = chunk_shape
        self._pins = pins
        self._before = before

    def initial(self, chunk: int) -> Tensor:
        return self.of(chunk).initial(chunk)

    def fresh(self, chunk: int, step: int, like: Tensor) -> Tensor:
        return self.of(chunk).fresh(chunk, step, like)

    def of(self, chunk: int) -> PerChunkNoise:
        """Noise of any chunk by the seed of this one."""
        return PerChunkNoise(self._seed_for(chunk), self._shape, self._pins, self._before)


def noise_of_pass(noise: Noise, chunk: int) -> Noise:
    """The noise of a pass that makes a chunk and works on later ones beside it: all of it by that chunk's seed. So what
    was done before a seed changed is not of the new one."""
    return noise.of(chunk) if isinstance(noise, SplicedNoise) else noise


class NativeNoise:
    """The numbers of the host's own AR sampler, for parity: one draw for the whole video, then one seed per step."""

    def __init__(self, seed: int, video_shape: tuple[int, ...], chunk_frames: int, prefix_frames: int = 0) -> None:
        self._seed = seed
        self._chunk_frames = chunk_frames
        self._prefix_frames = prefix_frames
        self._video = torch.randn(video_shape, generator=torch.Generator("cpu").manual_seed(seed))

    def initial(self, chunk: int) -> Tensor:
        first = self._prefix_frames + chunk * self._chunk_frames
        return self._video[:, :, first : first + self._chunk_frames]

    def fresh(self, chunk: int, step: int, like: Tensor) -> Tensor:
        generator = torch.Generator(like.device).manual_seed((self._seed + chunk * 1000 + step) % 2**64)
        return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)
