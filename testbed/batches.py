"""Training windows: worlds under random scripts as latents, at noise levels near those that the sampler uses."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.utils.data import Dataset

from headforcing_core.checkpoint import FOUR_STEPS
from headforcing_core.geometry import TRAINED_FRAMES

from .latents import Basis, world_latent
from .prompts import prompt_at, training_script
from .text_encoder import Texts
from .world import World

FIRST_TRAINING_SEED = 1_000_000  # seeds below are for tuning and reporting
LEVELS = FOUR_STEPS[:-1]
_ANY_LEVEL = 0.2  # share of chunks at a noise level between those of the sampler
_SPOILED, _MOST_SPOILED = 0.5, 0.15  # share of clean chunks with some noise, and how much at most
_REREAD, _REREAD_CHUNKS = 0.3, 2  # share of windows in which the chunks before a change stand under the new prompt


@dataclass(frozen=True)
class Batch:
    """`truth`, `clean`, `noise` (batch, 16, frames, height, width); `sigmas` (batch, chunks); `texts` (batch, 2,
    chunks, words, text_dim) of clean and of noisy chunks."""

    truth: Tensor
    clean: Tensor
    noise: Tensor
    sigmas: Tensor
    texts: Tensor

    @property
    def noisy(self) -> Tensor:
        """Truth at the noise level of each chunk."""
        return torch.lerp(self.truth, self.noise, spread(self.sigmas, self.truth))

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        return Batch(*(each.to(device) for each in self.__dict__.values()))


def make_batch(seed: int, step: int, size: int, chunk_frames: int, basis: Basis, texts: Texts) -> Batch:
    """The batch of a step; the same for the same arguments."""
    chunks = TRAINED_FRAMES // chunk_frames
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    truths, rows = [], []
    for place in range(size):
        world_seed = FIRST_TRAINING_SEED + (seed * 10_000_000 + step) * size + place
        script = training_script(world_seed, chunk_frames)
        truths.append(world_latent(World(world_seed, script), range(TRAINED_FRAMES), basis))
        noisy = [texts.index(prompt_at(script, chunk * chunk_frames)) for chunk in range(chunks)]
        reread = torch.rand((), generator=generator).item() < _REREAD
        rows.append((_reread(noisy) if reread else noisy, noisy))
    truth = torch.stack(truths)
    exact = torch.tensor(LEVELS)[torch.randint(len(LEVELS), (size, chunks), generator=generator)]
    anywhere = torch.rand((size, chunks), generator=generator)
    sigmas = torch.where(torch.rand((size, chunks), generator=generator) < _ANY_LEVEL, anywhere, exact)
    spoiled = torch.rand((size, chunks), generator=generator) < _SPOILED
    amount = spoiled * _MOST_SPOILED * torch.rand((size, chunks), generator=generator)
    clean = torch.lerp(truth, torch.randn(truth.shape, generator=generator), spread(amount, truth))
    noise = torch.randn(truth.shape, generator=generator)
    return Batch(truth, clean, noise, sigmas, texts.tokens[torch.tensor(rows)])


@dataclass(frozen=True)
class Windows(Dataset[Batch]):
    """The batches of a training, by step."""

    seed: int
    size: int
    chunk_frames: int
    basis: Basis
    texts: Texts

    def __getitem__(self, step: int) -> Batch:
        return make_batch(self.seed, step, self.size, self.chunk_frames, self.basis, self.texts)


def spread(values: Tensor, video: Tensor) -> Tensor:
    """One number a chunk, (batch, chunks), as one number a frame that multiplies a video."""
    return values.repeat_interleave(video.shape[2] // values.shape[1], dim=1)[:, None, :, None, None]


def _reread(rows: list[int]) -> list[int]:
    # as the sampler's recache does at a prompt change: the last chunks are committed again with the new text
    again = list(rows)
    for index, (before, after) in enumerate(pairwise(rows)):
        if before != after:
            first = max(0, index + 1 - _REREAD_CHUNKS)
            again[first : index + 1] = [after] * (index + 1 - first)
    return again
