"""Training windows: worlds under random scripts as latents, at noise levels near those that the sampler uses."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.data import Dataset

from headforcing_core.families.family import FOUR_STEPS
from headforcing_core.families.self_forcing import SELF_FORCING
from headforcing_core.geometry import WAN21

from .deciding import decide
from .latents import LATENT_SIZE
from .prompts import prompt_at, training_script
from .text_encoder import Texts
from .world import World

FIRST_TRAINING_SEED = 1_000_000  # seeds below are for tuning and reporting
LEVELS = FOUR_STEPS.sigmas[:-1]
_ANY_LEVEL, _LEAST = 0.2, 0.02  # share of chunks at a noise level between those of the sampler
_SPOILED, _MOST_SPOILED = 0.5, 0.15  # share of clean chunks with some noise, and how much at most
REREAD, _REREAD_CHUNKS = 0.3, 2  # share of windows in which the chunks before a change stand under the new prompt


Words = TypeVar("Words")


@dataclass(frozen=True)
class Batch:
    """`truth`, `clean`, `noise`, `noisy` (batch, 16, frames, height, width); `sigmas` (batch, chunks); `texts` (batch,
    2, chunks, words, text_dim) of clean and of noisy chunks."""

    truth: Tensor
    clean: Tensor
    noise: Tensor
    noisy: Tensor
    sigmas: Tensor
    texts: Tensor

    @property
    def flow(self) -> Tensor:
        """From the truth to the noisy chunks, for a whole step of noise."""
        return (self.noisy - self.truth) / spread(self.sigmas, self.truth)

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        return Batch(*(each.to(device) for each in self.__dict__.values()))


def make_batch(seed: int, step: int, size: int, chunk_frames: int, texts: Texts) -> Batch:
    """The batch of a step; the same for the same arguments."""
    chunks = SELF_FORCING.trained_frames // chunk_frames
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    sigmas = draw_levels((size, chunks), generator)
    noise = torch.randn((size, WAN21.channels, SELF_FORCING.trained_frames, *LATENT_SIZE), generator=generator)
    windows, rows = [], []
    for place in range(size):
        world_seed = FIRST_TRAINING_SEED + (seed * 10_000_000 + step) * size + place
        script = training_script(world_seed, chunk_frames)
        windows.append(decide(World(world_seed, script), noise[place], sigmas[place].tolist(), generator))
        row = [texts.index(prompt_at(script, chunk * chunk_frames)) for chunk in range(chunks)]
        again = torch.rand((), generator=generator).item() < REREAD
        rows.append((reread(row) if again else row, row))
    truth, noisy = (torch.stack(each) for each in zip(*windows, strict=True))
    clean = spoil(truth, sigmas.shape, generator)
    return Batch(truth, clean, noise, noisy, sigmas, texts.tokens[torch.tensor(rows)])


@dataclass(frozen=True)
class Windows(Dataset[Batch]):
    """The batches of a training, by step."""

    seed: int
    size: int
    chunk_frames: int
    texts: Texts

    def __getitem__(self, step: int) -> Batch:
        return make_batch(self.seed, step, self.size, self.chunk_frames, self.texts)


def spread(values: Tensor, video: Tensor) -> Tensor:
    """One number a chunk, (batch, chunks), as one number a frame that multiplies a video."""
    return values.repeat_interleave(video.shape[2] // values.shape[1], dim=1)[:, None, :, None, None]


@cache
def levels(device: torch.device) -> Tensor:
    """The sampler's noise levels, on a device."""
    return torch.tensor(LEVELS, device=device)


def draw_levels(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Noise levels of chunks, mostly the sampler's own, where the generator is."""
    place = {"generator": generator, "device": generator.device}
    exact = levels(generator.device)[torch.randint(len(LEVELS), shape, **place)]
    anywhere = torch.rand(shape, **place).clamp(min=_LEAST)
    return torch.where(torch.rand(shape, **place) < _ANY_LEVEL, anywhere, exact)


def spoil(truth: Tensor, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """The clean chunks of (windows, chunks), some of them with a little noise."""
    place = {"generator": generator, "device": generator.device}
    spoiled = torch.rand(shape, **place) < _SPOILED
    amount = spoiled * _MOST_SPOILED * torch.rand(shape, **place)
    return torch.lerp(truth, torch.randn(truth.shape, **place), spread(amount, truth))


def reread(rows: Sequence[Words]) -> list[Words]:
    """The texts of clean chunks as the sampler's recache leaves them at a prompt change: the last ones before it are
    committed again with the new text."""
    again = list(rows)
    for index, (before, after) in enumerate(pairwise(rows)):
        if before != after:
            first = max(0, index + 1 - _REREAD_CHUNKS)
            again[first : index + 1] = [after] * (index + 1 - first)
    return again
