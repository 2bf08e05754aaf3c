"""Training windows of the grown world: scripts from worker processes, everything else where the network is."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor
from torch.utils.data import Dataset

from headforcing_core.families.self_forcing import SELF_FORCING
from headforcing_core.geometry import WAN21

from ..batches import FIRST_TRAINING_SEED, REREAD, Batch, draw_levels, reread, spoil
from ..latents import LATENT_SIZE
from .deciding import decide
from .films import CHUNK_FRAMES, Frames, frames_of
from .scripts import training_prompts
from .words import GrownPrompt, load_words, word_numbers

CHUNKS = SELF_FORCING.trained_frames // CHUNK_FRAMES


@dataclass(frozen=True)
class Scripts:
    """What the windows of a step show, the words of their clean and noisy chunks (films, 2, chunks, words), and what
    the loss of every noisy chunk counts (films, chunks): nothing where a place has just changed, for nobody can know
    to what."""

    step: int
    frames: Frames
    words: Tensor
    weights: Tensor

    def pin_memory(self) -> "Scripts":
        """The same in memory that a device can fetch while it works."""
        frames = Frames(*(each.pin_memory() for each in self.frames.__dict__.values()))
        return Scripts(self.step, frames, self.words.pin_memory(), self.weights.pin_memory())


@dataclass(frozen=True)
class ScriptSource(Dataset[Scripts]):
    """The scripts of a training, by step."""

    size: int

    def __getitem__(self, step: int) -> Scripts:
        films = [training_prompts(FIRST_TRAINING_SEED + step * self.size + place, CHUNKS) for place in range(self.size)]
        rng = Random(f"reread {step}")
        words = []
        for film in films:
            said = [word_numbers(prompt) for prompt in film]
            words.append((reread(said) if rng.random() < REREAD else said, said))
        weights = [[0.0 if chunk in _changes(film) else 1.0 for chunk in range(CHUNKS)] for film in films]
        return Scripts(step, frames_of(films), torch.tensor(words), torch.tensor(weights))


def make_batch(scripts: Scripts, device: torch.device) -> tuple[Batch, Tensor]:
    """The batch of a step and its weights; the same for the same scripts on one kind of device."""
    films = len(scripts.words)
    generator = torch.Generator(device).manual_seed(scripts.step)
    sigmas = draw_levels((films, CHUNKS), generator)
    shape = (films, WAN21.channels, SELF_FORCING.trained_frames, *LATENT_SIZE)
    noise = torch.randn(shape, generator=generator, device=device)
    made = decide(scripts.frames.to(device), noise, sigmas, generator)
    texts = load_words(device)[scripts.words.to(device, non_blocking=True)]
    clean = spoil(made.truth, sigmas.shape, generator)
    return Batch(made.truth, clean, noise, made.noisy, sigmas, texts), scripts.weights.to(device, non_blocking=True)


def _changes(film: Sequence[GrownPrompt]) -> set[int]:
    """Chunks in which a place is seen changed for the first time, after it was seen before."""
    found: set[int] = set()
    seen: set[tuple[str, int]] = set()
    for chunk, prompt in enumerate(film):
        here = (prompt.place, prompt.version)
        if here not in seen and (prompt.place, 0) in seen:
            found.add(chunk)
        seen.add(here)
    return found
